//! From header to header through a file that may be damaged, and what its numbers prove to be gone.

use super::error::{FormatError, Result};
use super::frame::{self, FrameHeader, Kind, MAX_HEADER};
use super::reader::{Damage, Frame, TraceReader};
use super::spool;
use std::collections::HashMap;

/// Rows that the sequence numbers prove to be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Stream of the frames; [`frame::RECORDER`] for rows of which only the footer knows.
    pub stream: u16,
    /// Table, where a later frame of it tells how many rows are gone.
    pub table: Option<u16>,
    /// Frames, counted over all tables of the stream; 0 in an entry for rows.
    pub frames: u64,
    /// Rows.
    pub rows: u64,
    /// Position of the frame that tells; `None`: the footer does.
    pub told_at: Option<u64>,
}

const OTHER_TRACE: &str =
    "a trace ended before this byte, and one file holds one: cut off the rest and analyze it by itself";

/// Where a frame stands among those before it.
enum Place {
    Next,
    /// Its number, or a later one, was there already.
    Before(String),
    /// In another trace.
    Elsewhere,
}

/// What the sequence numbers of a file allow next.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    next: HashMap<u16, u64>,
    host: bool,
}

impl Order {
    /// Whether a frame may follow those before it.
    pub(super) fn is_next(&mut self, header: &FrameHeader) -> bool {
        matches!(self.check(header), Place::Next)
    }

    fn check(&mut self, header: &FrameHeader) -> Place {
        if header.kind == Kind::Host && std::mem::replace(&mut self.host, true) {
            return Place::Elsewhere;
        }
        let next = self.next.entry(header.stream).or_default();
        if header.sequence < *next {
            let (stream, found, next) = (header.stream, header.sequence, *next);
            return Place::Before(format!(
                "frame {found} of stream {stream} where {next} or a later one was expected"
            ));
        }
        *next = header.sequence.saturating_add(1);
        Place::Next
    }
}

impl TraceReader {
    /// From header to header to the end of the trace. Where the file is `growing`, what is cut at its end is not
    /// there yet.
    pub(super) fn walk(&mut self, growing: bool) -> Result<()> {
        let end = self.source.length();
        while self.walked < end {
            let offset = self.walked;
            self.walked = match self.header_at(offset)? {
                Ok(header) if offset + header.length() <= end => match self.order.check(&header) {
                    Place::Next => self.add_frame(offset, header),
                    Place::Before(what) => self.add_damage(offset, header.length(), what),
                    Place::Elsewhere => self.add_damage(offset, end - offset, OTHER_TRACE.into()),
                },
                Ok(_) if growing => return Ok(()),
                Ok(header) => self.add_cut(offset, header)?,
                Err(_) if self.is_trailer(offset)? => self.end_trace(offset + frame::TRAILER as u64),
                Err(_) if growing && end - offset < MAX_HEADER as u64 => return Ok(()),
                Err(what) => self.skip(offset, what)?,
            };
        }
        Ok(())
    }

    fn add_frame(&mut self, offset: u64, header: FrameHeader) -> u64 {
        let next = offset + header.length();
        self.frames.push(Frame { offset, header });
        next
    }

    /// A frame that reaches past the end. Its header still says what is gone with it.
    fn add_cut(&mut self, offset: u64, header: FrameHeader) -> Result<u64> {
        let missing = offset + header.length() - self.source.length();
        if header.kind.has_rows() && self.order.is_next(&header) {
            self.cut.push(Frame { offset, header });
        }
        self.skip(offset, format!("a frame is cut: {missing} bytes are missing"))
    }

    /// To the next place where a header may be. A frame that claims to reach past the end is searched too:
    /// the file may have lost a piece inside it.
    fn skip(&mut self, offset: u64, what: String) -> Result<u64> {
        let next = self.next_header(offset + 1)?.unwrap_or(self.source.length());
        Ok(self.add_damage(offset, next - offset, what))
    }

    fn end_trace(&mut self, offset: u64) -> u64 {
        let rest = self.source.length() - offset;
        if rest > 0 { self.add_damage(offset, rest, OTHER_TRACE.into()) } else { offset }
    }

    /// Notes it, and returns where it ends. What adjoins the damage before is one with it, so that a
    /// file of nothing but false headers does not take more memory than it has bytes.
    fn add_damage(&mut self, offset: u64, length: u64, what: String) -> u64 {
        match self.damage.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => self.damage.push(Damage { offset, length, what }),
        }
        offset + length
    }

    pub(super) fn header_at(&self, offset: u64) -> Result<std::result::Result<FrameHeader, String>> {
        let mut bytes = [0; 512];
        let length = self.source.read(offset, &mut bytes).map_err(FormatError::io("read the trace"))?;
        let Some(announced) = FrameHeader::announced_length(&bytes[..length]) else {
            return Ok(Err("expected a frame header".into()));
        };
        let mut long = Vec::new();
        let mut header = &bytes[..length];
        if announced > length {
            long.resize(announced.min(MAX_HEADER), 0);
            let length = self.source.read(offset, &mut long).map_err(FormatError::io("read the trace"))?;
            header = &long[..length];
        }
        match FrameHeader::parse(header, offset) {
            Ok(header) => Ok(Ok(header)),
            Err(error @ FormatError::TooNew { .. }) => Err(error),
            Err(FormatError::Damaged { what, .. }) => Ok(Err(what)),
            Err(other) => Ok(Err(other.to_string())),
        }
    }

    /// Whether here is the trailer that belongs to the footer just read.
    fn is_trailer(&self, offset: u64) -> Result<bool> {
        let mut bytes = [0; frame::TRAILER];
        let length = self.source.read(offset, &mut bytes).map_err(FormatError::io("read the trace"))?;
        let footer = self.frames.last().filter(|frame| frame.header.kind == Kind::Footer);
        Ok(frame::footer_offset(&bytes[..length])
            .is_some_and(|at| footer.is_some_and(|frame| frame.offset == at)))
    }

    /// The next place from `offset` on where a header can begin.
    fn next_header(&self, mut offset: u64) -> Result<Option<u64>> {
        // Short at first: where headers are near each other, reading far ahead each time would be quadratic.
        let mut bytes = vec![0; 1 << 9];
        loop {
            let length = self.source.read(offset, &mut bytes).map_err(FormatError::io("read the trace"))?;
            if let Some(at) = spool::header_in(&bytes[..length]) {
                return Ok(Some(offset + at as u64));
            }
            if length < bytes.len() {
                return Ok(None);
            }
            offset += (length - 15) as u64;
            bytes.resize((2 * length).min(1 << 16), 0);
        }
    }

    /// What the sequence numbers prove to be gone, besides what [`TraceReader::damage`] names.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = self.gaps();
        let Some(footer) = &self.footer else { return missing };
        // No later frame of its stream tells of the last one of a table; the totals do.
        let mut seen: HashMap<u16, u64> = HashMap::new();
        for Frame { header, .. } in self.frames.iter().filter(|frame| frame.header.kind.may_have_rows()) {
            *seen.entry(header.table).or_default() += u64::from(header.rows);
        }
        for gap in &missing {
            if let Some(table) = gap.table {
                let rows = seen.entry(table).or_default();
                *rows = rows.saturating_add(gap.rows);
            }
        }
        let mut totals: Vec<_> = footer.totals.iter().collect();
        totals.sort_unstable_by_key(|&(&table, _)| table);
        for (&table, totals) in totals {
            let rows = totals.rows.saturating_sub(seen.get(&table).copied().unwrap_or(0));
            if rows > 0 {
                missing.push(Missing {
                    stream: frame::RECORDER,
                    table: Some(table),
                    frames: 0,
                    rows,
                    told_at: None,
                });
            }
        }
        missing
    }

    fn gaps(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut sequence: HashMap<u16, u64> = HashMap::new();
        let mut rows: HashMap<(u16, u16), u64> = HashMap::new();
        for Frame { offset, header } in &self.frames {
            let next = sequence.entry(header.stream).or_default();
            if header.sequence > *next {
                missing.push(Missing {
                    stream: header.stream,
                    table: None,
                    frames: header.sequence - *next,
                    rows: 0,
                    told_at: Some(*offset),
                });
            }
            *next = header.sequence.saturating_add(1);
            if header.kind.may_have_rows() {
                let before = rows.entry((header.stream, header.table)).or_default();
                if header.rows_before > *before {
                    let gone = header.rows_before - *before;
                    missing.push(Missing {
                        stream: header.stream,
                        table: Some(header.table),
                        frames: 0,
                        rows: gone,
                        told_at: Some(*offset),
                    });
                }
                *before = header.rows_before.saturating_add(header.rows.into());
            }
        }
        missing
    }
}
