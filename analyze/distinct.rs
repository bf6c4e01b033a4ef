//! The rows of an identity table without their repetitions.
//!
//! Each epoch repeats what it uses, so most rows of a long trace are there many times. Key and moment
//! tell repetitions apart: only these two are decoded everywhere, and the rest where a row is new. Where
//! the rows of a key never change, the key alone does.

use super::progress::Pass;
use super::rows::Rows;
use super::trace::Trace;
use crate::schema::hash::FastSet;
use crate::schema::reader::{Frame, Scratch};
use crate::schema::{Batch, TableDef};
use std::sync::Arc;

/// So many frames are looked at together: all repetitions of a billion events are some gigabytes of keys and moments.
const RUN: usize = 64;
/// Of the first run.
const FIRST: usize = 4;

/// Tables whose ids mean the same from the first row on: a place in code, and a list of places.
const FIXED: [&str; 2] = ["frame", "stack"];

/// Key and moment of a row; the moment is 0 where the key alone tells.
type Id = (u64, u64);
/// A row that runs before have not: where it is in its frame, and its id.
type New = (u32, Id);

/// Keys below this that tell alone are found in a list: they are given out one by one.
const DENSE: u64 = 1 << 20;

/// What was met.
#[derive(Default)]
struct Seen {
    /// By key.
    list: Vec<bool>,
    others: FastSet<Id>,
}

impl Seen {
    fn has(&self, id: &Id) -> bool {
        match *id {
            (key @ ..DENSE, 0) => self.list.get(key as usize).is_some_and(|&seen| seen),
            _ => self.others.contains(id),
        }
    }

    /// Whether it was not met before.
    fn insert(&mut self, id: Id) -> bool {
        let (key @ ..DENSE, 0) = id else { return self.others.insert(id) };
        let key = key as usize;
        self.list.resize(self.list.len().max(key + 1), false);
        !std::mem::replace(&mut self.list[key], true)
    }
}

/// The distinct rows of a table, in the order of the file.
pub(crate) fn rows(trace: &Trace, def: &Arc<TableDef>, key: usize) -> Rows {
    let mut frames: Vec<&Frame> = trace.frames_of(def.number).collect();
    loop {
        let (parts, damaged) = read(trace, &frames, &first_seen(trace, def, key, &frames));
        if damaged.is_empty() {
            return trace.join(def, parts);
        }
        // What a damaged frame was the first to say, a later one may say again.
        frames.retain(|frame| !damaged.contains(&frame.offset));
    }
}

/// Per frame, the rows that no frame before has.
fn first_seen(trace: &Trace, def: &TableDef, key: usize, frames: &[&Frame]) -> Vec<Vec<u32>> {
    let pass = Pass::over(&def.name, frames.len());
    let time = def.time().filter(|_| !FIXED.contains(&def.name.as_str()));
    let wanted: Vec<usize> = std::iter::once(key).chain(time).collect();
    let mut seen = Seen::default();
    let mut chosen: Vec<Vec<u32>> = Vec::with_capacity(frames.len());
    while chosen.len() < frames.len() {
        // What earlier runs have is left out by all threads, so little is left to go through one by one: short runs first.
        let run = (chosen.len() + FIRST).min(RUN).min(frames.len() - chosen.len());
        let new = |scratch: &mut Scratch, frame: &&Frame| {
            let rows = trace.read(frame, Some(&wanted), scratch)?;
            let moment = |row: usize| time.map_or(0, |time| rows.raw(time, row));
            let id = |row: u32| (row, (rows.raw(key, row as usize), moment(row as usize)));
            let new: Vec<New> = (0..rows.len() as u32).map(id).filter(|(_, id)| !seen.has(id)).collect();
            scratch.reuse(rows.into_batch());
            Some(new)
        };
        let of_run = &frames[chosen.len()..][..run];
        let read: Vec<Option<Vec<New>>> = trace.each(of_run, new);
        let first =
            |new: Vec<New>| new.into_iter().filter(|(_, id)| seen.insert(*id)).map(|new| new.0).collect();
        chosen.extend(read.into_iter().map(Option::unwrap_or_default).map(first));
        pass.steps(run);
    }
    chosen
}

/// Those rows with all their columns, and the frames that cannot be decoded.
fn read<'f>(
    trace: &Trace,
    frames: &[&'f Frame],
    chosen: &[Vec<u32>],
) -> (Vec<(&'f Frame, Batch)>, FastSet<u64>) {
    let pick = |scratch: &mut Scratch, &(frame, rows): &(&'f Frame, &Vec<u32>)| {
        let all = trace.read(frame, None, scratch);
        (frame, all.map(|all| all.pick(rows)))
    };
    let new = frames.iter().copied().zip(chosen).filter(|(_, rows)| !rows.is_empty());
    let read = trace.each(&new.collect::<Vec<_>>(), pick);
    let damaged = read.iter().filter(|(_, rows)| rows.is_none()).map(|(frame, _)| frame.offset).collect();
    (read.into_iter().filter_map(|(frame, rows)| Some((frame, rows?))).collect(), damaged)
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn what_a_damaged_frame_said_first_is_taken_from_a_later_one() {
        let mut tape = Tape::new();
        for _ in 0..2 {
            (0..3).for_each(|row| {
                tape.task(100 + row, 7 + row, 70, "sh");
            });
        }
        tape.rows_per_frame(3);
        let mut bytes = tape.bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let task = trace.table("task").expect("the table is there").number;
        let frames: Vec<_> = trace.reader.frames_of(task).collect();
        assert_eq!(frames.len(), 2);
        let whole = trace.identity("task").expect("the table is there");
        assert_eq!(whole.len(), 3);
        bytes[frames[0].offset as usize + frames[0].header.header_length() + 40] ^= 0x10;
        let trace = Tape::open_bytes(bytes, 1);
        assert_eq!(trace.identity("task").expect("the table is there").all().len(), 3);
        assert_eq!(trace.unreadable().len(), 1);
    }
}
