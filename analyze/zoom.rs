//! Exact percentiles of more values than memory holds: the report runs again, and looks closer where the ranks fell.
//!
//! The first pass counts values in the buckets of a log-linear histogram, which says in which bucket a rank lies. The
//! next one counts in pieces of those buckets, and so on, until each piece that holds a rank is one value: that is the percentile,
//! a value that occurred. What is held are counts, so memory does not depend on the number of values. Where there are so many
//! groups that their counts would not fit `--memory` either, what was found so far has to do, and the answer says so.

use crate::schema::histogram::{BUCKETS, bucket, lower_bound};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Pieces that a range is cut into at most, and at least.
const PIECES: (u64, u64) = (1024, 4);
/// States of a group that are in memory together, each asked for about four ranks: see [`super::load`].
const STATES_PER_RANK: u64 = 2;
/// A range of 2^58 values takes so many passes with the fewest pieces; it never does.
const PASSES: u32 = 32;

/// How closely one pass looks, and what its ranks fell on.
#[derive(Debug, Default)]
pub(crate) struct Zoom {
    /// Where ranges begin, from 0 on; empty: those of the histogram.
    edges: Vec<u64>,
    /// Passes before this one.
    pub passes: u32,
    asked: Mutex<Asked>,
}

/// Ranks, and the ranges that they fell in: first and last value.
#[derive(Debug, Default)]
struct Asked {
    ranks: u64,
    ranges: BTreeMap<u64, u64>,
}

impl Zoom {
    /// How many ranges there are besides those of the histogram.
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// The range of a value.
    pub fn slot(&self, value: u64) -> usize {
        if self.edges.is_empty() {
            return bucket(value) as usize;
        }
        self.edges.partition_point(|&edge| edge <= value) - 1
    }

    /// A rank fell in a range; returns the range's first value.
    pub fn ask(&self, slot: usize) -> u64 {
        let edge = |slot: usize| match self.edges.get(slot) {
            None if self.edges.is_empty() && slot < BUCKETS => Some(lower_bound(slot as u32)),
            edge => edge.copied(),
        };
        let first = edge(slot).unwrap_or(0);
        let last = edge(slot + 1).map_or(u64::MAX, |next| next - 1);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.ranks += 1;
        asked.ranges.insert(first, last);
        first
    }

    /// Whether each rank fell on one value.
    pub fn is_exact(&self) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.ranges.iter().all(|(first, last)| first == last)
    }

    /// What the next pass looks at; `None`: there is nothing to look closer at, or no memory for it.
    pub fn closer(&self, memory: u64) -> Option<Self> {
        if self.is_exact() || self.passes == PASSES {
            return None;
        }
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let room = memory / (size_of::<u64>() as u64 * STATES_PER_RANK * asked.ranks);
        let open = asked.ranges.iter().filter(|(first, last)| first < last).count() as u64;
        let pieces = (room.saturating_sub(2 * asked.ranges.len() as u64) / open).min(PIECES.0);
        if pieces < PIECES.1 {
            return None;
        }
        let mut edges = vec![0];
        for (&first, &last) in &asked.ranges {
            let step = (last - first) / pieces + 1;
            let starts = std::iter::successors(Some(first), |edge| {
                edge.checked_add(step).filter(|&edge| edge <= last)
            });
            edges.extend(starts.chain(last.checked_add(1)));
        }
        edges.dedup();
        Some(Self { edges, passes: self.passes + 1, asked: Mutex::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_one_value_in_a_few_passes() {
        for value in [0, 1, 77, 1 << 20, (1 << 33) + 12_345, u64::MAX] {
            let mut zoom = Zoom::default();
            while let Some(closer) = {
                let first = zoom.ask(zoom.slot(value));
                assert!(first <= value, "{first} for {value}");
                zoom.closer(1 << 20)
            } {
                assert!(closer.passes <= 7, "{value}");
                zoom = closer;
            }
            assert!(zoom.is_exact());
            assert_eq!(zoom.ask(zoom.slot(value)), value);
        }
    }

    #[test]
    fn ranges_are_in_order_and_what_was_found_stays_found() {
        let zoom = Zoom::default();
        for value in [5u64, 1000, 1001, 1_000_000] {
            zoom.ask(zoom.slot(value));
        }
        let closer = zoom.closer(1 << 20).expect("there is room");
        assert!(closer.edges.is_sorted_by(|a, b| a < b));
        assert_eq!(closer.ask(closer.slot(5)), 5);
        assert!(closer.is_exact());
        assert!(zoom.closer(100).is_none(), "no room");
    }
}
