//! Text for many rows: blocks of them are written by all threads and come out in order.
//!
//! A few blocks for each thread wait at a time, so that a list of millions of lines takes room for the text of some ten
//! thousand.

use super::threads;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::ops::Range;

/// Rows of a block.
const BLOCK: usize = 4096;
/// Blocks for each thread that are written before the first of them goes out.
const WAVE: usize = 4;

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
    // One block is written before a thread is awake.
    let pool = if blocks.len() > 1 { threads::pool(threads).ok() } else { None };
    let together = pool.as_ref().map_or(1, |pool| WAVE * pool.current_num_threads());
    let waves: Vec<Vec<Range<usize>>> = blocks.chunks(together).map(<[_]>::to_vec).collect();
    waves.into_iter().flat_map(move |wave| -> Vec<T> {
        match &pool {
            Some(pool) => pool.install(|| wave.into_par_iter().map(&of).collect()),
            None => wave.into_iter().map(&of).collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn blocks_come_in_order_whoever_writes_them() {
        for rows in [0, 1, BLOCK, BLOCK + 1, 11 * WAVE * BLOCK + 5] {
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
