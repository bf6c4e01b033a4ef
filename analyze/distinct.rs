//! The rows of an identity table without their repetitions.
//!
//! Each epoch repeats what it uses, so most rows of a long trace are there many times. Key and moment
//! tell repetitions apart: only these two are decoded everywhere, and of the rest what is asked for, where a row is
//! new. Where the rows of a key never change, the key alone does.

use super::progress::Pass;
use super::rows::Rows;
use super::strip::{STRIP, Selection};
use super::trace::{Trace, append};
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

/// The distinct rows of a table, in the order of the file.
#[derive(Debug)]
pub(crate) struct Distinct {
    def: Arc<TableDef>,
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
        let mut distinct = Self { def: Arc::clone(def), frames: Vec::new(), ids: Vec::new() };
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

    /// What they have in some columns, a value for each of them. What a damaged frame was the first to say, a later
    /// one may say again; what none says is null, or 0 in a column that has no null.
    pub fn read(&self, trace: &Trace, wanted: &[usize]) -> Batch {
        let pick = |scratch: &mut Scratch, (at, rows): &(u32, Vec<u32>)| {
            let all = trace.read(trace.frame(*at), Some(wanted), scratch)?;
            let picked = all.pick(rows);
            scratch.reuse(all.into_batch());
            Some(picked)
        };
        let mut parts = trace.each(&self.frames, pick);
        let model: Vec<_> = parts.iter().flatten().take(1).flat_map(kinds).collect();
        for ((at, _), part) in self.frames.iter().zip(&mut parts) {
            if part.take_if(|part| !kinds(part).eq(model.iter().copied())).is_some() {
                trace.note(trace.frame(*at), "its columns differ from those of the frames before".into());
            }
        }
        let mut all = Batch { columns: vec![Column::Absent; self.def.columns.len()], ..Batch::default() };
        let damaged = parts.iter().any(Option::is_none);
        if damaged && wanted.len() > 1 {
            // It may be one column's part that is, and the others are whole.
            for &column in wanted {
                let mut one = self.read(trace, &[column]);
                all.rows = one.rows;
                all.columns[column] = std::mem::take(&mut one.columns[column]);
            }
            return all;
        }
        if damaged {
            self.say_again(trace, wanted, &mut parts);
        }
        for part in parts.into_iter().flatten() {
            append(&mut all, part);
        }
        all
    }

    /// Fills the parts of damaged frames from later ones.
    fn say_again(&self, trace: &Trace, wanted: &[usize], parts: &mut [Option<Batch>]) {
        let damaged = self.frames.iter().zip(&*parts).filter(|(_, part)| part.is_none());
        let damaged: FastSet<u32> = damaged.map(|(frame, _)| frame.0).collect();
        let Some(key) = self.def.key() else { return };
        let others = Self::without(trace, &self.def, key, &damaged);
        let mut said = others.read(trace, wanted);
        let unknown = said.rows as u32;
        for (column, def) in said.columns.iter_mut().zip(&self.def.columns) {
            column.push(def.null.unwrap_or(0));
        }
        let said = Rows::new(Arc::clone(&self.def), said);
        let rows: FastMap<Id, u32> = others.ids.iter().copied().zip(0..).collect();
        let mut ids = &self.ids[..];
        for ((_, chosen), part) in self.frames.iter().zip(parts) {
            let (here, rest) = ids.split_at(chosen.len());
            ids = rest;
            part.get_or_insert_with(|| {
                let found: Vec<u32> =
                    here.iter().map(|id| rows.get(id).copied().unwrap_or(unknown)).collect();
                said.pick(&found)
            });
        }
    }
}

/// How each column is stored.
fn kinds(batch: &Batch) -> impl Iterator<Item = std::mem::Discriminant<Column>> {
    batch.columns.iter().map(std::mem::discriminant)
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
                let ids = || keys.iter().copied().zip(moments).take(strip.len());
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

    #[test]
    fn what_only_a_damaged_frame_said_is_not_known() {
        let mut tape = Tape::new();
        // So many and so different that columns are parts of their own.
        for sock in 0..10_000 {
            tape.sock(100 + sock, sock, 2, sock * 7919 % 50_021, sock * 31 % 997);
        }
        tape.rows_per_frame(5000);
        let mut bytes = tape.bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let sock = trace.table("sock").expect("the table is there");
        let frame = trace.reader.frames_of(sock.number).next().expect("two frames");
        let part = |column| frame.header.parts.iter().position(|part| usize::from(part.column) == column);
        let lport = part(sock.column("lport").expect("the column is there")).expect("a part of its own");
        let before: u32 = frame.header.parts[..lport].iter().map(|part| part.stored).sum();
        bytes[frame.offset as usize + frame.header.header_length() + before as usize + 20] ^= 0x10;
        let trace = Tape::open_bytes(bytes, 1);
        let socks = trace.identity("sock").expect("the table is there");
        let port = |sock, column| socks.look_up(&trace, sock, 0, column);
        assert_eq!(
            [port(1, "lport"), port(5001, "lport")],
            [Value::Int(0), Value::Int(5001 * 7919 % 50_021)]
        );
        assert_eq!(port(1, "rport"), Value::Int(31), "the rest of it is known");
        assert_eq!(trace.unreadable().len(), 1);
    }
}
