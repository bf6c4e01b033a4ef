//! The rows of an identity table without their repetitions.
//!
//! Each epoch repeats what it uses, so most rows of a long trace are there many times. Key and moment
//! tell repetitions apart: only these two are decoded everywhere, and of the rest what is asked for, where a row is
//! new. Where the rows of a key never change, the key alone does.

use super::progress::Pass;
use super::strip::{STRIP, Selection};
use super::trace::Trace;
use crate::schema::hash::{FastMap, FastSet};
use crate::schema::reader::Scratch;
use crate::schema::{Batch, Column, TableDef};
use std::sync::Arc;

/// So many frames are looked at together: all repetitions of a billion events are some gigabytes of keys and moments.
const RUN: usize = 64;
/// Of the first run.
const FIRST: usize = 4;

/// Tables whose ids mean the same from the first row on: a place in code, and a list of places.
const FIXED: [&str; 2] = ["frame", "stack"];

/// Key and moment of a row; the moment is 0 where the key alone tells.
pub(crate) type Id = (u64, u64);
/// A row that runs before have not: where it is in its frame, and its id.
type New = (u32, Id);

/// Keys from here on are never found in a list.
const DENSE: u64 = 1 << 23;

/// What was met.
struct Seen {
    /// Keys below this are found in the list: most are given out one by one.
    dense: u64,
    /// By key, its first moment and 1; 0: it was not met.
    list: Vec<u64>,
    others: FastSet<Id>,
}

impl Seen {
    /// Nothing, of a table of so many rows.
    fn of(rows: u64) -> Self {
        Self { dense: DENSE.min(4 * rows), list: Vec::new(), others: FastSet::default() }
    }

    /// Whether the list has it; all there is to ask of most rows, and without a branch.
    fn lists(&self, (key, moment): Id) -> bool {
        let first = self.list.get(key as usize).copied().unwrap_or(0);
        first != 0 && first == moment.wrapping_add(1)
    }

    /// Whether it was not met before.
    fn insert(&mut self, id: Id) -> bool {
        let (key, moment) = id;
        if key >= self.dense || moment == u64::MAX {
            return self.others.insert(id);
        }
        let at = key as usize;
        if at >= self.list.len() {
            self.list.resize(at + 1, 0);
        }
        match &mut self.list[at] {
            first @ 0 => *first = moment + 1,
            first if *first == moment + 1 => return false,
            _ => return self.others.insert(id),
        }
        true
    }
}

/// What rows have in a column.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// A value for each row, or none at all.
    pub column: Column,
    /// The rows whose value no frame says.
    pub unsaid: FastSet<u32>,
}

/// The distinct rows of a table, in the order of the file.
#[derive(Debug)]
pub(crate) struct Distinct {
    def: Arc<TableDef>,
    key: usize,
    /// By position in the trace, the frames that have any, and which of their rows.
    frames: Vec<(u32, Vec<u32>)>,
    ids: Vec<Id>,
}

impl Distinct {
    /// Tells them apart.
    pub fn of(trace: &Trace, def: &Arc<TableDef>, key: usize) -> Self {
        Self::without(trace, def, key, &FastSet::default())
    }

    /// The same, but for frames that are damaged.
    fn without(trace: &Trace, def: &Arc<TableDef>, key: usize, damaged: &FastSet<u32>) -> Self {
        let frames: Vec<u32> = trace.positions_of(def.number).filter(|at| !damaged.contains(at)).collect();
        let chosen = first_seen(trace, def, key, &frames);
        let mut distinct = Self { def: Arc::clone(def), key, frames: Vec::new(), ids: Vec::new() };
        for (at, new) in frames.into_iter().zip(chosen).filter(|(_, new)| !new.is_empty()) {
            distinct.frames.push((at, new.iter().map(|new| new.0).collect()));
            distinct.ids.extend(new.into_iter().map(|new| new.1));
        }
        distinct
    }

    /// Their keys and moments.
    pub fn ids(&self) -> &[Id] {
        &self.ids
    }

    /// What they have in some columns. What a damaged frame was the first to say, a later one may say again.
    pub fn read(&self, trace: &Trace, wanted: &[usize]) -> Vec<Said> {
        let parts = self.parts(trace, wanted);
        match wanted {
            _ if parts.iter().all(Option::is_some) => {
                let mut parts: Vec<Batch> = parts.into_iter().flatten().collect();
                let take = |column: usize| move |part: &mut Batch| std::mem::take(&mut part.columns[column]);
                wanted.iter().map(|&at| self.join(at, parts.iter_mut().map(take(at)).collect())).collect()
            }
            &[column] => vec![self.say_again(trace, column, parts)],
            // It may be one column's part that is damaged, and the others are whole.
            _ => wanted.iter().flat_map(|&column| self.read(trace, &[column])).collect(),
        }
    }

    /// Per frame, the rows; `None`: it is damaged.
    fn parts(&self, trace: &Trace, wanted: &[usize]) -> Vec<Option<Batch>> {
        let pick = |scratch: &mut Scratch, (at, rows): &(u32, Vec<u32>)| {
            let all = trace.read(trace.frame(*at), Some(wanted), scratch)?;
            let picked = all.pick(rows);
            scratch.reuse(all.into_batch());
            Some(picked)
        };
        trace.each(&self.frames, pick)
    }

    /// The values of a column, a part from each frame. A frame need not have it.
    fn join(&self, column: usize, parts: Vec<Column>) -> Said {
        let null = self.def.columns[column].null.unwrap_or(0);
        let stored = parts.iter().find(|part| **part != Column::Absent);
        let mut said = Said { column: stored.map_or(Column::Absent, Column::emptied), ..Said::default() };
        if said.column == Column::Absent {
            return said;
        }
        for ((_, rows), part) in self.frames.iter().zip(parts) {
            let from = said.column.len() as u32;
            if part.len() != rows.len() || !said.column.append(part) {
                said.unsaid.extend(from..from + rows.len() as u32);
                for _ in rows {
                    said.column.push(null);
                }
            }
        }
        said
    }

    /// The same where frames are damaged: from frames that are not.
    fn say_again(&self, trace: &Trace, column: usize, parts: Vec<Option<Batch>>) -> Said {
        let all: Vec<u32> = trace.positions_of(self.def.number).collect();
        let whole = |scratch: &mut Scratch, at: &u32| {
            trace.read(trace.frame(*at), Some(&[column]), scratch).is_some()
        };
        let whole = trace.each(&all, whole);
        let damaged = all.into_iter().zip(whole).filter(|(_, whole)| !whole).map(|(at, _)| at).collect();
        let others = Self::without(trace, &self.def, self.key, &damaged);
        let of =
            |part: Option<Batch>| part.map_or(Column::Absent, |mut part| part.columns.swap_remove(column));
        let said = others.join(column, others.parts(trace, &[column]).into_iter().map(of).collect());
        let known = |(_, row): &(Id, u32)| !said.unsaid.contains(row);
        let rows: FastMap<Id, u32> = others.ids.iter().copied().zip(0..).filter(known).collect();
        let starts = said.column.starts();
        let (mut from, mut unsaid, mut columns) = (0, FastSet::default(), Vec::new());
        for ((_, chosen), part) in self.frames.iter().zip(parts) {
            let ids = &self.ids[from..from + chosen.len()];
            if part.is_some() || said.column.is_empty() {
                columns.push(of(part));
            } else {
                let missing = (from as u32..).zip(ids).filter(|(_, id)| !rows.contains_key(id));
                unsaid.extend(missing.map(|(row, _)| row));
                // What stands in the place of a missing one is not looked at.
                let found: Vec<u32> = ids.iter().map(|id| rows.get(id).copied().unwrap_or(0)).collect();
                columns.push(said.column.pick(&starts, &found));
            }
            from += chosen.len();
        }
        let mut joined = self.join(column, columns);
        joined.unsaid.extend(unsaid);
        joined
    }
}

/// Per frame, the rows that no frame before has.
fn first_seen(trace: &Trace, def: &TableDef, key: usize, frames: &[u32]) -> Vec<Vec<New>> {
    let pass = Pass::over(&def.name, frames.len());
    let time = def.time().filter(|_| !FIXED.contains(&def.name.as_str()));
    let null = def.columns[key].null.unwrap_or(0);
    let wanted: Vec<usize> = std::iter::once(key).chain(time).collect();
    let mut seen = Seen::of(trace.rows_of(def.number));
    let mut chosen: Vec<Vec<New>> = Vec::with_capacity(frames.len());
    while chosen.len() < frames.len() {
        // What earlier runs have is left out by all threads, so little is left to go through one by one: short runs first.
        let run = (chosen.len() + FIRST).min(RUN).min(frames.len() - chosen.len());
        let new = |scratch: &mut Scratch, at: &u32| {
            let rows = trace.read(trace.frame(*at), Some(&wanted), scratch)?;
            let mut new: Vec<New> = Vec::new();
            let (mut keys, mut moments) = ([0; STRIP], [0; STRIP]);
            for strip in Selection::all(rows.len()).strips() {
                rows.raws(key, null, &strip, &mut keys);
                if let Some(time) = time {
                    rows.raws(time, 0, &strip, &mut moments);
                }
                let mut listed = [false; STRIP];
                let ids = || keys.iter().copied().zip(moments.iter().copied()).take(strip.len());
                listed.iter_mut().zip(ids()).for_each(|(listed, id)| *listed = seen.lists(id));
                let fresh = |(_, id): &(usize, Id)| !seen.others.contains(id);
                let unlisted = ids().enumerate().filter(|(at, _)| !listed[*at]).filter(fresh);
                new.extend(unlisted.map(|(at, id)| (strip.row(at) as u32, id)));
            }
            scratch.reuse(rows.into_batch());
            Some(new)
        };
        let of_run = &frames[chosen.len()..][..run];
        let read: Vec<Option<Vec<New>>> = trace.each(of_run, new);
        let first = |mut new: Vec<New>| {
            new.retain(|(_, id)| seen.insert(*id));
            new
        };
        chosen.extend(read.into_iter().map(Option::unwrap_or_default).map(first));
        pass.steps(run);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::Trace;
    use crate::analyze::rows::Value;
    use crate::analyze::testkit::{START, Tape};

    #[test]
    fn what_a_damaged_frame_said_first_is_taken_from_a_later_one() {
        let mut tape = Tape::new();
        for _ in 0..2 {
            (0..3).for_each(|row| {
                tape.task(100 + row, 7 + row, 70, "sh");
            });
        }
        tape.rows_per_frame(3);
        let bytes = tape.bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let task = trace.table("task").expect("the table is there").number;
        let frames: Vec<_> = trace.reader.frames_of(task).collect();
        assert_eq!(frames.len(), 2);
        let first = frames[0].offset as usize;
        let rows = first + frames[0].header.header_length()..first + frames[0].header.length() as usize;
        assert_eq!(trace.identity("task").expect("the table is there").len(), 3);
        // In the parts that tell rows apart as well as in those that are read later.
        let mut damaged = 0;
        for byte in rows.clone() {
            let mut bytes = bytes.clone();
            bytes[byte] ^= 0x10;
            let trace = Tape::open_bytes(bytes, 1);
            let tasks = trace.identity("task").expect("the table is there");
            let names = (7..10).map(|tid| tasks.look_up(&trace, tid, START + 150, "comm"));
            assert!(names.eq(std::iter::repeat_n(Value::Text("sh".into()), 3)), "byte {byte}");
            assert_eq!(tasks.all().len(), 3, "byte {byte}");
            damaged += trace.unreadable().len();
        }
        assert!(damaged > rows.len() / 2, "only {damaged} of {} bytes mattered", rows.len());
    }

    /// Sockets of so many frames of 5000 rows each, so different that columns are parts of their own.
    fn sockets(frames: u64, id: impl Fn(u64) -> u64) -> Vec<u8> {
        let mut tape = Tape::new();
        for sock in (0..frames * 5000).map(id) {
            tape.sock(100 + sock, sock, 2, sock * 7919 % 50_021, sock * 31 % 997);
        }
        tape.rows_per_frame(5000);
        tape.bytes()
    }

    /// The trace with local ports damaged in some frames.
    fn damaged(mut bytes: Vec<u8>, frames: &[usize]) -> Trace {
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let sock = trace.table("sock").expect("the table is there");
        let lport = sock.column("lport").expect("the column is there");
        for (_, frame) in trace.frames_of(sock.number).enumerate().filter(|(at, _)| frames.contains(at)) {
            let parts = &frame.header.parts;
            let at =
                parts.iter().position(|part| usize::from(part.column) == lport).expect("a part of its own");
            let before: u32 = parts[..at].iter().map(|part| part.stored).sum();
            bytes[frame.offset as usize + frame.header.header_length() + before as usize + 20] ^= 0x10;
        }
        Tape::open_bytes(bytes, 1)
    }

    fn port(trace: &Trace, sock: u64, column: &str) -> Value {
        trace.identity("sock").expect("the table is there").look_up(trace, sock, 0, column)
    }

    #[test]
    fn what_only_a_damaged_frame_said_is_not_known() {
        let trace = damaged(sockets(2, |at| at), &[0]);
        assert_eq!(port(&trace, 1, "lport"), Value::Null);
        assert_eq!(port(&trace, 5001, "lport"), Value::Int(5001 * 7919 % 50_021));
        assert_eq!(port(&trace, 1, "rport"), Value::Int(31), "the rest of it is known");
        assert_eq!(trace.unreadable().len(), 1);
    }

    #[test]
    fn what_several_damaged_frames_said_is_said_by_another_or_by_nobody() {
        let bytes = sockets(3, |at| at % 5000);
        let trace = damaged(bytes.clone(), &[0, 1]);
        assert_eq!(port(&trace, 1, "lport"), Value::Int(7919));
        let trace = damaged(bytes, &[0, 1, 2]);
        assert_eq!((port(&trace, 1, "lport"), port(&trace, 1, "rport")), (Value::Null, Value::Int(31)));
        assert_eq!(trace.unreadable().len(), 3);
    }
}
