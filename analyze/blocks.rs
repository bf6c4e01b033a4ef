//! Text for many rows: blocks of them are written by all threads and come out in order.
//!
//! A few blocks for each thread are written while those before them go out, so that a list of millions of lines takes
//! room for the text of some ten thousand.

use super::threads;
use rayon::ThreadPool;
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelIterator as _, IntoParallelRefMutIterator as _,
    ParallelIterator as _,
};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

/// Rows of a block.
const BLOCK: usize = 1024;
/// Blocks for each thread that are written before the first of them goes out.
const WAVE: usize = 8;

/// Writes text for each block of so many rows, which `of` adds to a string; so many threads (0: one for each processor).
pub(crate) fn write(
    rows: usize,
    threads: usize,
    of: impl Fn(Range<usize>, &mut String) + Sync,
    out: &mut dyn Write,
) -> io::Result<()> {
    let blocks = blocks(rows);
    let fill = |(text, block): (&mut String, &Range<usize>)| {
        text.clear();
        of(block.clone(), text);
    };
    let put = |texts: &[String], out: &mut dyn Write| {
        texts.iter().try_for_each(|text| out.write_all(text.as_bytes()))
    };
    let Some(pool) = pool(&blocks, threads) else {
        let mut text = String::new();
        return blocks.iter().try_for_each(|block| {
            fill((&mut text, block));
            out.write_all(text.as_bytes())
        });
    };
    // What is written goes out while the next is written. The strings are used again: each page that the system hands out
    // anew costs as much as the lines on it.
    let together = WAVE * pool.current_num_threads();
    let (mut ready, mut next) = (vec![String::new(); together], vec![String::new(); together]);
    let mut full = 0;
    for wave in blocks.chunks(together) {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| next.par_iter_mut().zip(wave).for_each(fill));
            put(&ready[..full], out)
        })?;
        full = wave.len();
        std::mem::swap(&mut ready, &mut next);
    }
    put(&ready[..full], out)
}

fn blocks(rows: usize) -> Vec<Range<usize>> {
    (0..rows).step_by(BLOCK).map(|begin| begin..rows.min(begin + BLOCK)).collect()
}

/// The threads for these blocks. One block is written before a thread is awake.
fn pool(blocks: &[Range<usize>], threads: usize) -> Option<Arc<ThreadPool>> {
    Some(threads).filter(|_| blocks.len() > 1).and_then(|threads| threads::pool(threads).ok())
}

/// Something small of each block, in order.
pub(crate) fn each<T: Send>(rows: usize, threads: usize, of: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let blocks = blocks(rows);
    match pool(&blocks, threads) {
        Some(pool) => pool.install(|| blocks.into_par_iter().map(&of).collect()),
        None => blocks.into_iter().map(of).collect(),
    }
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
                let mut text = Vec::new();
                write(rows, threads, of, &mut text).expect("a Vec takes everything");
                assert!(text == expected.as_bytes(), "{rows} {threads}");
            }
        }
    }
}
