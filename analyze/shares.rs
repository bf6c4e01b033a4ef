//! Who works on which frames.
//!
//! Every run of neighbouring frames has a state that must be merged into the one before it, and merging the
//! states of many flows costs as much as some of the frames. So each thread begins with one run, as long as the
//! others'; whoever is done takes the second half of what is left of the longest, while that is worth a state.

use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is left of a run is worth a state of its own while it is this part of a thread's share.
const WORTH: usize = 12;

/// Runs of items that are worked on, by where each begins.
pub(crate) struct Shares {
    /// Of each run, the next item and the end.
    runs: Mutex<BTreeMap<usize, (usize, usize)>>,
    least: usize,
}

impl Shares {
    /// Lets the threads of this pool work on so many items. `piece` gets where a run begins, and calls
    /// [`Shares::run`]; what it returns comes in the order of the items.
    pub fn each<S: Send>(items: usize, piece: impl Fn(usize, &Self) -> S + Sync) -> Vec<S> {
        let threads = rayon::current_num_threads().min(items).max(1);
        let begin = |thread: usize| items * thread / threads;
        let runs = (0..threads).map(|thread| (begin(thread), (begin(thread), begin(thread + 1))));
        let least = (items / threads / WORTH).max(2);
        let shares = Self { runs: Mutex::new(runs.collect()), least };
        let work = |thread: usize| {
            let mut found = Vec::new();
            let mut next = Some(begin(thread));
            while let Some(first) = next {
                found.push((first, piece(first, &shares)));
                next = shares.split();
            }
            found
        };
        // One job for each thread: none is split further.
        let mut found: Vec<(usize, S)> =
            (0..threads).into_par_iter().with_max_len(1).flat_map_iter(work).collect();
        found.sort_unstable_by_key(|piece| piece.0);
        found.into_iter().map(|piece| piece.1).collect()
    }

    /// Works on a run until nothing is left of it.
    pub fn run(&self, first: usize, mut each: impl FnMut(usize)) {
        while let Some(item) = self.next(first) {
            each(item);
        }
    }

    fn next(&self, first: usize) -> Option<usize> {
        let mut runs = self.runs();
        let (next, end) = runs.get_mut(&first)?;
        let item = (next < end).then_some(*next)?;
        *next += 1;
        Some(item)
    }

    /// Where a new run begins: in the middle of what is left of another.
    fn split(&self) -> Option<usize> {
        let mut runs = self.runs();
        let (next, end) = runs.values_mut().max_by_key(|(next, end)| *end - *next)?;
        if *end - *next < self.least {
            return None;
        }
        let (middle, last) = (usize::midpoint(*next, *end), *end);
        *end = middle;
        runs.insert(middle, (middle, last));
        Some(middle)
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<usize, (usize, usize)>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_item_is_worked_on_once_and_pieces_are_in_order() {
        for (items, threads) in [(0, 2), (1, 4), (7, 2), (1000, 1), (1000, 3)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let pieces = pool.install(|| {
                Shares::each(items, |first, shares| {
                    let mut mine = Vec::new();
                    shares.run(first, |item| {
                        // The first half is slow: others must take some of it.
                        let slow = item < items / 2 && item % 50 == 0;
                        std::thread::sleep(Duration::from_millis(slow.into()));
                        mine.push(item);
                    });
                    mine
                })
            });
            assert!(pieces.len() <= 20 * threads, "{} pieces", pieces.len());
            assert_eq!(pieces.concat(), (0..items).collect::<Vec<_>>(), "{threads} threads");
        }
    }
}
