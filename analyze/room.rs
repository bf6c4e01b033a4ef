//! Whether `--memory` has room for rows that are held as they are, known before one is decoded; and what to do if not.
//!
//! A list is of rows, where other reports are of sums. One that has no room is answered slice by slice of its span, if its
//! rows are each of one event ([`super::slices`]); else it is refused. How much a row takes is an estimate by its columns,
//! from what lists and queries were measured to take at their peak: rows, table, order and text together.

use super::error::Failure;
use super::load::Scan;
use super::window::Window;
use crate::schema::reader::Frame;

/// What a row takes at the peak, by what it is made of.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Columns with numbers.
    pub numbers: usize,
    /// Columns with text.
    pub texts: usize,
}

/// What a slice of a list takes that can be printed as it comes: enough to keep all threads at work, and its first lines
/// are there at once.
pub(crate) const SLICE: u64 = if cfg!(any(test, fuzzing)) { 40 << 10 } else { 32 << 20 };

/// Bytes of a row, of each number in it, and of each text, in a table that is queried.
const QUERY: [u64; 3] = [16, 40, 70];
/// The same in a list, which is written as it comes.
const LIST: [u64; 3] = [24, 20, 70];
/// … and as JSON that is compared as a whole with another.
const COMPARED: [u64; 3] = [64, 290, 340];

impl Row {
    /// Bytes of a row of a list; `compared`: with a stored one.
    pub fn listed(self, compared: bool) -> u64 {
        self.bytes(if compared { COMPARED } else { LIST })
    }

    /// Bytes of a row of a table that is queried.
    pub fn queried(self) -> u64 {
        self.bytes(QUERY)
    }

    fn bytes(self, [row, number, text]: [u64; 3]) -> u64 {
        row + self.numbers as u64 * number + self.texts as u64 * text
    }
}

/// What to do about a list whose rows are each of one event. Where nothing is `in_the_way` of slices it is replayed,
/// interval by interval.
pub(crate) fn instead(in_the_way: Option<&str>) -> String {
    let first = match in_the_way {
        Some(instead) => format!("{instead}: then rows need no room"),
        None => "take a shorter --interval".to_owned(),
    };
    format!(
        "{first}; or take --top N, count with --by, narrow with --from, --to or --where, or allow more with --memory"
    )
}

/// What to do about any other.
pub(crate) const AS_A_WHOLE: &str = "narrow with --from, --to or --where, or allow more with --memory";

/// How many rows there are, and how large they are together; an error if that is more than `--memory`.
pub(crate) fn check(what: &str, rows: u64, bytes: u64, memory: u64, hint: &str) -> Result<(), Failure> {
    if bytes <= memory {
        return Ok(());
    }
    let (needed, allowed) = (size(bytes), size(memory));
    Err(Failure::usage(format!("{what}: {rows} rows take about {needed}, and --memory allows {allowed}"))
        .hint(hint))
}

fn size(bytes: u64) -> String {
    match bytes {
        ..=0xf_ffff => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// A span that is cut where frames begin, slice by slice.
pub(crate) struct Slices {
    /// Where frames begin, and how many rows they can have; in order.
    frames: std::vec::IntoIter<(u64, u64)>,
    span: Window,
    /// Rows of a slice: so many are enough, and so many have room.
    rows: (u64, u64),
    /// What the next one may hold, or the rows of one frame more.
    next: u64,
}

impl Slices {
    /// Of the frames of some scans.
    pub fn of(scans: &[&Scan], span: Window, rows: (u64, u64)) -> Self {
        let begin = |scan: &Scan, frame: &Frame| (span.from.max(frame.header.min_time), scan.rows_in(frame));
        let mut frames: Vec<(u64, u64)> =
            scans.iter().flat_map(|scan| scan.frames().into_iter().map(|frame| begin(scan, frame))).collect();
        frames.sort_unstable();
        Self { frames: frames.into_iter(), span, rows, next: rows.0 }
    }

    /// Whether the span can be cut at all.
    pub fn are_several(&self) -> bool {
        let frames = self.frames.as_slice();
        frames.first().map(|frame| frame.0) != frames.last().map(|frame| frame.0)
    }

    /// Takes notice of how many rows were left of the last slice: where conditions leave few, the next is longer.
    pub fn left(&mut self, rows: u64) {
        let (enough, most) = self.rows;
        self.next = if rows < enough / 2 { self.next.saturating_mul(2).min(most) } else { enough };
    }
}

impl Iterator for Slices {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        let from = self.span.from;
        if from >= self.span.to {
            return None;
        }
        let mut held = 0;
        let to = loop {
            match self.frames.as_slice().first() {
                None => break self.span.to,
                Some(&(begin, more)) if held > 0 && held + more > self.next && begin > from => break begin,
                Some(&(_, more)) => held += more,
            }
            self.frames.next();
        };
        self.span.from = to;
        Some(Window { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(frames: &[(u64, u64)], rows: (u64, u64)) -> Slices {
        let frames = Vec::from(frames).into_iter();
        Slices { frames, span: Window { from: 5, to: 100 }, rows, next: rows.0 }
    }

    #[test]
    fn slices_are_the_span_and_hold_what_they_may() {
        let ten: Vec<(u64, u64)> = (0..10).map(|at| (5 + at * 9, 10)).collect();
        let ends = |slices: Slices| slices.map(|slice| slice.to).collect::<Vec<_>>();
        assert_eq!(ends(slices(&ten, (30, 30))), [32, 59, 86, 100]);
        assert_eq!(ends(slices(&ten, (1, 1))), [14, 23, 32, 41, 50, 59, 68, 77, 86, 100]);
        // Frames that begin together cannot be taken apart.
        assert_eq!(ends(slices(&[(5, 10), (5, 10), (9, 10), (9, 10)], (10, 10))), [9, 100]);
        assert!(slices(&ten, (1, 1)).are_several() && !slices(&[(5, 1), (5, 9)], (1, 1)).are_several());
        assert_eq!(ends(slices(&[], (1, 1))), [100]);
    }

    #[test]
    fn where_little_is_left_of_a_slice_the_next_is_longer() {
        let many: Vec<(u64, u64)> = (0..90).map(|at| (5 + at, 10)).collect();
        let mut slices = slices(&many, (20, 75));
        let lengths: Vec<u64> = [0, 9, 10, 9, 0, 0, 0]
            .into_iter()
            .map_while(|left| {
                let slice = slices.next()?;
                slices.left(left);
                Some(slice.to - slice.from)
            })
            .collect();
        assert_eq!(lengths, [2, 4, 7, 2, 4, 7, 7]);
    }
}
