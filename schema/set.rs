//! Several files of one recording, read as one.
//!
//! A recording may go from file to file. Each is a whole trace with the same tables and ids, so the set needs
//! no translation: the files are laid end to end, and their frames go on counting where those of the file before
//! ended. Of files that are not there (the numbers of their parts are skipped) it is known which time they tell of. A file
//! that was made of a set without some of its parts says so in its footer ([`super::absent`]).

use super::absent::Absent;
use super::error::{FormatError, Result};
use super::frame::Kind;
use super::reader::{Damage, Frame, TraceReader};
use super::singles::Footer;
use super::source::Source;
use std::collections::HashMap;

impl TraceReader {
    /// Whether two files are parts of one recording. Parts are numbered from 1: what has none is a whole, or was
    /// cut from one, and two of those stand for themselves.
    #[must_use]
    pub fn is_of_the_recording_of(&self, other: &Self) -> bool {
        let part = |trace: &Self| trace.host.part > 0 && !trace.host.recording.is_empty();
        part(self) && part(other) && self.host.recording == other.host.recording
    }

    /// One trace of the files of one recording, in any order.
    ///
    /// # Errors
    /// When there is no file, or two of them are the same part or define other tables.
    pub fn join(mut files: Vec<Self>) -> Result<Self> {
        files.sort_by_key(|file| file.host.part);
        let wrong =
            |what: String| Err(FormatError::Batch(format!("the files are not one recording: {what}")));
        for pair in files.windows(2) {
            let part = pair[1].host.part;
            if pair[0].host.part == part {
                return wrong(format!("two of them are part {part}"));
            }
            if pair[0].tables != pair[1].tables {
                return wrong(format!("part {part} has other tables than the part before"));
            }
        }
        let mut files = files.into_iter();
        let Some(mut all) = files.next() else { return wrong("there is none".into()) };
        let (mut last, mut counts) = (all.host.part, Counts::default());
        counts.go_on(&mut all.frames);
        for mut file in files {
            counts.go_on(&mut file.frames);
            all.append(file, &mut last);
        }
        Ok(all)
    }

    /// Lays a file behind the others, of which the last was part `last`.
    fn append(&mut self, file: Self, last: &mut u32) {
        let base = self.source.length();
        let part = file.host.part;
        if part > *last + 1 {
            let (from, parts) = (self.last_event(), (*last + 1, part - 1));
            self.absent
                .push(Absent { parts, times: (from, file.host.start_mono.max(from.saturating_add(1))) });
        }
        self.absent.extend(file.absent);
        *last = part;
        let frame = |frame: Frame| Frame { offset: base + frame.offset, ..frame };
        self.frames.extend(file.frames.into_iter().map(frame));
        self.cut.extend(file.cut.into_iter().map(frame));
        let damage = |damage: Damage| Damage { offset: base + damage.offset, ..damage };
        self.damage.extend(file.damage.into_iter().map(damage));
        // The end is that of the last file, if those before it came to theirs or may still.
        self.growing = file.growing && (self.growing || self.footer.is_some());
        // Without the last footer the recording did not end cleanly, whatever the files before say.
        self.footer = self.footer.take().zip(file.footer).map(|(all, more)| all.with(more));
        let first = std::mem::replace(&mut self.source, Source::Set(Vec::new()));
        self.source = first.followed_by(file.source);
    }

    /// Later ones may have been in a ring when the file ended: they are in the next one.
    fn last_event(&self) -> u64 {
        let events = self.frames.iter().filter(|frame| frame.header.kind == Kind::Events);
        events.map(|frame| frame.header.max_time).max().unwrap_or(self.host.start_mono)
    }
}

impl Footer {
    /// The totals of both; why and when the later one ended.
    fn with(mut self, later: Self) -> Self {
        for (table, more) in later.totals {
            let all = self.totals.entry(table).or_default();
            all.rows = all.rows.saturating_add(more.rows);
            all.raw_bytes = all.raw_bytes.saturating_add(more.raw_bytes);
            all.stored_bytes = all.stored_bytes.saturating_add(more.stored_bytes);
        }
        for (column, more) in later.histograms {
            let all = self.histograms.entry(column).or_default();
            more.buckets().for_each(|(bucket, count)| all.add_bucket(bucket, count));
        }
        for (column, more) in later.tops {
            self.tops.entry(column).or_default().merge(more);
        }
        Self { reason: later.reason, end_mono: later.end_mono, ..self }
    }
}

/// What the frames before have come to, per stream, and per table and stream.
#[derive(Default)]
struct Counts {
    sequences: HashMap<u16, u64>,
    rows: HashMap<(u16, u16), u64>,
}

impl Counts {
    /// Numbers the frames of a file on from those before it: gaps inside the file stay gaps.
    fn go_on(&mut self, frames: &mut [Frame]) {
        let before = (self.sequences.clone(), self.rows.clone());
        for Frame { header, .. } in frames {
            let base = before.0.get(&header.stream).copied().unwrap_or(0);
            header.sequence = header.sequence.saturating_add(base);
            self.sequences.insert(header.stream, header.sequence.saturating_add(1));
            if header.kind.has_rows() {
                let key = (header.table, header.stream);
                let base = before.1.get(&key).copied().unwrap_or(0);
                header.rows_before = header.rows_before.saturating_add(base);
                self.rows.insert(key, header.rows_before.saturating_add(header.rows.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::absent::Absent;
    use crate::schema::reader::Scratch;
    use crate::schema::{
        Batch, Column, ColumnDef, ColumnType, Host, Kind, Role, TableDef, TraceReader, TraceWriter,
    };

    fn part(part: u32, times: std::ops::Range<u64>, end: bool) -> TraceReader {
        let table = TableDef {
            number: 0,
            name: "t".into(),
            role: Role::Event,
            group: String::new(),
            doc: String::new(),
            columns: vec![ColumnDef::new("ts", ColumnType::Number { width: 8, signed: false })],
        };
        let host = Host { recording: "r".into(), part, start_mono: times.start, ..Host::default() };
        let mut writer = TraceWriter::new(Vec::new(), 1, &host, vec![table]).expect("a Vec takes all");
        for time in times {
            let batch = Batch { rows: 1, columns: vec![Column::U64(vec![time])], ..Batch::default() };
            writer.append(Kind::Events, 0, &batch).expect("a Vec takes all");
        }
        let bytes =
            if end { writer.finish("done").expect("a Vec takes all").0 } else { writer.sink().clone() };
        TraceReader::from_bytes(bytes).expect("a trace")
    }

    fn times(trace: &TraceReader) -> Vec<u64> {
        let mut scratch = Scratch::new();
        let read = |frame| trace.read(frame, None, &mut scratch).expect("whole").columns[0].u64s().to_vec();
        trace.frames_of(0).flat_map(read).collect()
    }

    #[test]
    fn a_set_is_one_trace_whatever_the_order_of_its_files() {
        let all = TraceReader::join(vec![part(2, 3..5, true), part(3, 5..6, true), part(1, 0..3, true)]);
        let all = all.expect("a set");
        assert_eq!(times(&all), [0, 1, 2, 3, 4, 5]);
        assert_eq!((all.missing(), all.damage.len()), (Vec::new(), 0));
        let footer = all.footer.as_ref().expect("all ended");
        assert_eq!((footer.totals[&0].rows, footer.end_mono, all.host.part), (6, 5, 1));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let all = TraceReader::join(vec![part(2, 0..1, true), part(5, 4..5, true)]).expect("a set");
        let absent = Absent { parts: (3, 4), times: (0, 4) };
        assert_eq!((&all.absent[..], all.damage.len()), (&[absent][..], 0));
        assert_eq!(times(&all), [0, 4], "the first part may be gone because only the last few were kept");
        let mut copy = part(7, 6..7, true);
        copy.absent.push(Absent { parts: (1, 1), times: (6, 7) });
        let own = copy.absent.clone();
        let all = TraceReader::join(vec![copy, part(5, 4..5, true)]).expect("a set");
        assert_eq!(all.absent, [vec![Absent { parts: (6, 6), times: (4, 6) }], own].concat());
        let all = TraceReader::join(vec![part(1, 0..1, true), part(2, 1..2, false)]).expect("a set");
        assert!(all.footer.is_none(), "killed while it wrote the last file");
        for files in [vec![], vec![part(1, 0..1, true), part(1, 0..1, true)]] {
            assert!(TraceReader::join(files).is_err());
        }
    }

    #[test]
    fn a_gap_in_a_file_of_a_set_stays_a_gap() {
        let mut second = part(2, 3..6, true);
        let at =
            second.frames.iter().position(|frame| frame.header.sequence == 1 && frame.header.stream == 0);
        second.frames.remove(at.expect("three frames"));
        let all = TraceReader::join(vec![part(1, 0..3, true), second]).expect("a set");
        let missing = all.missing();
        assert_eq!(missing.iter().map(|gap| (gap.frames, gap.rows)).collect::<Vec<_>>(), [(1, 0), (0, 1)]);
    }
}
