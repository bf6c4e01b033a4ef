//! Text for many rows: blocks of them are written by all threads and come out in order.
//!
//! No more than a few blocks wait at a time, so that a list of millions of lines takes no room for its text.

use super::threads;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::ops::Range;

/// Rows of a block.
const BLOCK: usize = 4096;
/// Blocks that are written before the first of them goes out.
const WAVE: usize = 64;

/// Text for each block of so many rows, which `of` adds to a string; so many threads (0: one for each processor).
pub(crate) fn texts(
    rows: usize,
    threads: usize,
    of: impl Fn(Range<usize>, &mut String) + Sync,
) -> impl Iterator<Item = String> {
    each(rows, threads, move |block| {
        let mut text = String::new();
        of(block, &mut text);
        text
    })
}

/// Something of each block, in order.
pub(crate) fn each<T: Send>(
    rows: usize,
    threads: usize,
    of: impl Fn(Range<usize>) -> T + Sync,
) -> impl Iterator<Item = T> {
    let blocks: Vec<Range<usize>> =
        (0..rows).step_by(BLOCK).map(|begin| begin..rows.min(begin + BLOCK)).collect();
    let waves: Vec<Vec<Range<usize>>> = blocks.chunks(WAVE).map(<[_]>::to_vec).collect();
    waves.into_iter().flat_map(move |wave| -> Vec<T> {
        // One block is written before a thread is awake.
        match threads::pool(threads) {
            Ok(pool) if wave.len() > 1 => pool.install(|| wave.into_par_iter().map(&of).collect()),
            _ => wave.into_iter().map(&of).collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn blocks_come_in_order_whoever_writes_them() {
        for rows in [0, 1, BLOCK, BLOCK + 1, 3 * WAVE * BLOCK + 5] {
            let of = |block: Range<usize>, to: &mut String| {
                block.for_each(|row| writeln!(to, "{row}").expect("a String grows"));
            };
            let mut expected = String::new();
            of(0..rows, &mut expected);
            for threads in [1, 2, 5] {
                assert!(texts(rows, threads, of).collect::<String>() == expected, "{rows} {threads}");
            }
        }
    }
}
