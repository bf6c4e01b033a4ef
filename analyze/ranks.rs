//! Values at some ranks among many: counted first, so that few are left to be put in order.
//!
//! All threads count and gather, where one alone would go through all values several times to put them in order
//! around the ranks; and parts need not be put together.

use crate::schema::histogram::{BUCKETS, bucket};
use rayon::prelude::*;

/// From so many values on this is faster, with threads that have nothing else to do.
pub(crate) const MANY: usize = 1 << 16;
/// Values that a thread takes at a time.
const PIECE: usize = 1 << 15;

/// The bucket that a rank is in, and the ranks of all values before that.
type Found = (u32, usize);

/// The values at ranks from 0, each of which must be less than the number of values. Runs on the threads of the caller's
/// pool.
pub(crate) fn at(parts: &[&[u32]], ranks: &[usize]) -> Vec<u32> {
    let pieces: Vec<&[u32]> = parts.iter().flat_map(|part| part.chunks(PIECE)).collect();
    let counts = counts(&pieces);
    let found: Vec<Found> = ranks.iter().map(|&rank| find(&counts, rank)).collect();
    let mut gathered = gather(&pieces, found.iter().map(|found| found.0));
    let value = |(&rank, (bucket, before)): (&usize, Found)| {
        let values = &mut gathered[bucket as usize];
        *values.select_nth_unstable(rank - before).1
    };
    ranks.iter().zip(found).map(value).collect()
}

fn counts(pieces: &[&[u32]]) -> Vec<usize> {
    let add = |mut counts: Vec<usize>, piece: &&[u32]| {
        piece.iter().for_each(|&value| counts[bucket(value.into()) as usize] += 1);
        counts
    };
    let merge = |mut counts: Vec<usize>, more: Vec<usize>| {
        counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        counts
    };
    let none = || vec![0; BUCKETS];
    pieces.par_iter().fold(none, add).reduce(none, merge)
}

fn find(counts: &[usize], rank: usize) -> Found {
    let mut before = 0;
    for (bucket, count) in (0..).zip(counts) {
        if rank < before + count {
            return (bucket, before);
        }
        before += count;
    }
    unreachable!("rank {rank} of {before} values")
}

/// The values in some buckets, by bucket.
fn gather(pieces: &[&[u32]], buckets: impl Iterator<Item = u32>) -> Vec<Vec<u32>> {
    let mut wanted = [false; BUCKETS];
    buckets.for_each(|bucket| wanted[bucket as usize] = true);
    let values = pieces
        .par_iter()
        .flat_map_iter(|piece| piece.iter().copied().filter(|&value| wanted[bucket(value.into()) as usize]));
    let mut gathered = vec![Vec::new(); BUCKETS];
    for value in values.collect::<Vec<u32>>() {
        gathered[bucket(value.into()) as usize].push(value);
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_those_of_sorted_values(
            parts in prop::collection::vec(prop::collection::vec(0u32..500_000, 0..200), 1..5),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut sorted = parts.concat();
            sorted.sort_unstable();
            let picks = if sorted.is_empty() { Vec::new() } else { picks };
            let ranks: Vec<usize> = picks.iter().map(|pick| pick.index(sorted.len())).collect();
            let expected: Vec<u32> = ranks.iter().map(|&rank| sorted[rank]).collect();
            let parts: Vec<&[u32]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(at(&parts, &ranks), expected);
        }
    }
}
