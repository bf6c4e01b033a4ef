//! Going through events in the order of time without holding them all: what reports share that join events
//! of one socket or request which lie apart in the file.
//!
//! Frames are read some at a time, by their earliest moment. What lies before the earliest moment of all
//! frames that are still to come is complete, and can be joined. Sockets or requests fall into fixed shares
//! that are joined side by side.

use super::ids::Key;
use super::load::Scan;
use super::progress::Pass;
use super::report::Context;
use crate::schema::hash::FastMap;
use crate::schema::reader::Frame;
use anyhow::Result;

/// Frames that are read together.
const WAVE: usize = 32;
/// Shares of what is joined: their number does not depend on that of the threads.
pub(crate) const SHARES: usize = 16;

/// A frame, by the earliest moment of its events, and what kind it is.
pub(crate) type Begin<'a, K> = (u64, K, &'a Frame);

/// Calls `each` with some frames and the moment before which nothing comes after them.
pub(crate) fn waves<'a, K>(mut frames: Vec<Begin<'a, K>>, mut each: impl FnMut(&[Begin<'a, K>], u64)) {
    frames.sort_unstable_by_key(|(begin, _, frame)| (*begin, frame.offset));
    let pass = Pass::over("events in the order of time", frames.len());
    let mut rest = &frames[..];
    while !rest.is_empty() {
        let (wave, later) = rest.split_at(rest.len().min(WAVE));
        rest = later;
        each(wave, rest.first().map_or(u64::MAX, |frame| frame.0));
        pass.steps(wave.len());
    }
}

/// Takes out what is before a moment, in the order of time; what is of one moment stays in its order.
pub(crate) fn before<T>(list: &mut Vec<T>, until: u64, time: impl Fn(&T) -> u64) -> Vec<T> {
    list.sort_by_key(&time);
    let later = list.split_off(list.partition_point(|event| time(event) < until));
    std::mem::replace(list, later)
}

/// Groups, numbered as they are met.
#[derive(Default)]
pub(crate) struct Numbers {
    by_key: FastMap<Key, u32>,
    /// By number.
    pub keys: Vec<Key>,
}

impl Numbers {
    /// For groups that were numbered apart from these, by that number the number here.
    pub fn adopt(&mut self, others: &[Key]) -> Vec<u32> {
        others.iter().map(|&key| self.of(key)).collect()
    }

    fn of(&mut self, key: Key) -> u32 {
        let next = self.keys.len() as u32;
        let number = *self.by_key.entry(key).or_insert(next);
        self.keys.extend((number == next).then_some(key));
        number
    }
}

/// Spans in which events were lost, sorted and disjoint.
pub(crate) struct Gaps(pub Vec<(u64, u64)>);

impl Gaps {
    /// Whether events were lost between two moments.
    pub fn touch(&self, start: u64, end: u64) -> bool {
        let next = self.0.partition_point(|gap| gap.1 < start);
        self.0.get(next).is_some_and(|gap| gap.0 <= end)
    }
}

/// Where events of the report's tables were lost.
pub(crate) fn gaps(context: &Context) -> Gaps {
    let mut lossy: Vec<(u64, u64)> = context.lossy().iter().map(|w| (w.from, w.to)).collect();
    lossy.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for gap in lossy {
        match merged.last_mut() {
            Some(last) if gap.0 <= last.1 => last.1 = last.1.max(gap.1),
            _ => merged.push(gap),
        }
    }
    Gaps(merged)
}

/// Asks a scan for several columns.
pub(crate) fn columns<const N: usize>(scan: &mut Scan, names: [&str; N]) -> Result<[usize; N]> {
    let mut found = [0; N];
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = scan.column(name)?;
    }
    Ok(found)
}
