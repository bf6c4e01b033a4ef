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

/// Cuts a span where frames begin, into pieces that hold at most so many rows, or those of one frame more.
pub(crate) fn slices(scans: &[&Scan], window: Window, rows: u64) -> Vec<Window> {
    let begin = |scan: &Scan, frame: &Frame| (window.from.max(frame.header.min_time), scan.rows_in(frame));
    let mut frames: Vec<(u64, u64)> =
        scans.iter().flat_map(|scan| scan.frames().into_iter().map(|frame| begin(scan, frame))).collect();
    frames.sort_unstable();
    let (mut slices, mut from, mut held) = (Vec::new(), window.from, 0);
    for (begin, more) in frames {
        if held + more > rows && begin > from {
            slices.push(Window { from, to: begin });
            (from, held) = (begin, 0);
        }
        held += more;
    }
    slices.push(Window { from, to: window.to });
    slices
}
