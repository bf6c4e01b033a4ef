//! Some rows at a time, column by column.
//!
//! What type a column has is known only when a trace is read. To ask for it in every row costs more than most
//! reports do with the row; so it is asked for once per strip, and one loop for that type widens the values into
//! an array that stays in the processor's nearest cache.

use super::rows::Rows;
use std::ops::Range;

/// Rows of a strip: a few columns of so many numbers fit the nearest cache.
pub(crate) const STRIP: usize = 1024;

/// Rows that are worked on together, at most [`STRIP`].
pub(crate) enum Strip<'a> {
    /// Neighbours.
    Run(Range<usize>),
    /// Those that conditions left.
    List(&'a [u32]),
}

impl Strip<'_> {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Run(rows) => rows.len(),
            Self::List(rows) => rows.len(),
        }
        .min(STRIP)
    }

    /// The row at a place of the strip.
    #[inline]
    pub fn row(&self, at: usize) -> usize {
        match self {
            Self::Run(rows) => rows.start + at,
            Self::List(rows) => rows[at] as usize,
        }
    }

    /// The same value for every row.
    pub fn fill<W: Copy>(&self, value: W, to: &mut [W; STRIP]) {
        to[..self.len()].fill(value);
    }

    /// Values of a column, each changed in the same way.
    #[inline]
    pub fn copy<T: Copy, W>(&self, values: &[T], to: &mut [W; STRIP], change: impl Fn(T) -> W) {
        match self {
            Self::Run(rows) => {
                to.iter_mut().zip(&values[rows.clone()]).for_each(|(to, &value)| *to = change(value));
            }
            Self::List(rows) => {
                to.iter_mut().zip(*rows).for_each(|(to, &row)| *to = change(values[row as usize]));
            }
        }
    }
}

/// The rows of a frame that are asked for.
#[derive(Debug)]
pub(crate) struct Selection {
    all: usize,
    /// Their positions in order; `None`: all of them.
    list: Option<Vec<u32>>,
}

impl Selection {
    /// All rows of a frame.
    pub fn all(rows: usize) -> Self {
        Self { all: rows, list: None }
    }

    /// Those whose bit is set.
    pub fn of_bits(rows: usize, bits: &[u64]) -> Self {
        let set = |&row: &usize| bits[row / 64] >> (row % 64) & 1 == 1;
        Self { all: rows, list: Some((0..rows).filter(set).map(|row| row as u32).collect()) }
    }

    fn run(&self) -> Range<usize> {
        0..if self.list.is_some() { 0 } else { self.all }
    }

    /// One by one.
    pub fn each(&self) -> impl Iterator<Item = usize> {
        self.run().chain(self.list.iter().flatten().map(|&row| row as usize))
    }

    /// By strips.
    pub fn strips(&self) -> impl Iterator<Item = Strip<'_>> {
        let run = self.run();
        let end = run.end;
        let runs = run.step_by(STRIP).map(move |from| Strip::Run(from..end.min(from + STRIP)));
        runs.chain(self.list.iter().flat_map(|list| list.chunks(STRIP)).map(Strip::List))
    }

    /// Leaves out rows one by one.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        if !self.each().all(&keep) {
            self.list = Some(self.each().filter(|&row| keep(row)).map(|row| row as u32).collect());
        }
    }

    /// Leaves out rows by what they have in some columns.
    pub fn retain_by<const N: usize>(
        &mut self,
        rows: &Rows,
        columns: [usize; N],
        keep: impl Fn([Option<i64>; N]) -> bool,
    ) {
        let mut numbers = Numbers::new();
        let whole = |strip: Strip| numbers.read(rows, columns, &strip).all(&keep);
        // Most conditions leave whole frames, and then there is no list to make.
        if self.strips().all(whole) {
            return;
        }
        let (mut list, mut kept) = (Vec::new(), [0; STRIP]);
        for strip in self.strips() {
            // Which rows are kept no processor predicts: each is written, and the next in its place if it is not.
            let mut count = 0;
            for (at, values) in numbers.read(rows, columns, &strip).enumerate() {
                kept[count] = strip.row(at) as u32;
                count += usize::from(keep(values));
            }
            list.extend_from_slice(&kept[..count]);
        }
        self.list = Some(list);
    }
}

/// The numbers that the rows of a strip have in some columns.
pub(crate) struct Numbers<const N: usize> {
    values: [[i64; STRIP]; N],
    /// Per column, what stands for "not known".
    null: [Option<i64>; N],
}

impl<const N: usize> Numbers<N> {
    /// Room for them.
    pub fn new() -> Self {
        Self { values: [[0; STRIP]; N], null: [None; N] }
    }

    /// Those of a strip, row by row.
    #[inline]
    pub fn read(
        &mut self,
        rows: &Rows,
        columns: [usize; N],
        strip: &Strip,
    ) -> impl Iterator<Item = [Option<i64>; N]> {
        for ((values, null), column) in self.values.iter_mut().zip(&mut self.null).zip(columns) {
            *null = rows.numbers(column, strip, values);
        }
        let (values, null) = (&self.values, self.null);
        let number = move |at: usize, column: usize| {
            let value = values[column][at];
            (null[column] != Some(value)).then_some(value)
        };
        (0..strip.len()).map(move |at| std::array::from_fn(|column| number(at, column)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::testkit::Tape;
    use crate::schema::reader::Scratch;

    /// 2,500 rows, so that the last strip is a part of one: every width, a sign, a null, a column without values.
    fn rows() -> Rows {
        let mut tape = Tape::new();
        tape.table("made", &["ts:u64", "cpu:u16", "small:u8", "back:i32", "time:u64^ns"]);
        for at in 0..2_500i64 {
            tape.event("made", at.cast_unsigned(), [at % 256, at - 1_000, at % 3]);
        }
        tape.rows_per_frame(10_000);
        let trace = Tape::open_bytes(tape.bytes(), 1);
        let number = trace.table("made").expect("the table is there").number;
        let frame = trace.reader.frames_of(number).next().expect("a frame");
        trace.read(frame, Some(&[0, 2, 3, 4]), &mut Scratch::new()).expect("it decodes")
    }

    #[test]
    fn a_strip_reads_what_rows_have_one_by_one() {
        let rows = rows();
        assert_eq!(rows.len(), 2_500);
        let columns = [0, 1, 2, 3, 4];
        let mut odd = Selection::all(rows.len());
        odd.retain(|row| row % 7 == 1);
        for selection in [Selection::all(rows.len()), odd] {
            let mut numbers = Numbers::new();
            let mut found = Vec::new();
            for strip in selection.strips() {
                found.extend(numbers.read(&rows, columns, &strip));
            }
            let single = |row: usize| columns.map(|column| rows.get(column, row));
            let expected: Vec<_> = selection.each().map(single).collect();
            assert_eq!(found, expected);
            assert!(found.iter().any(|values| values[3].is_some_and(|number| number < 0)));
            assert!(found.iter().all(|values| values[1].is_none()), "cpu was not asked for");
            assert!(found.iter().any(|values| values[4].is_none()), "0 stands for not known");
        }
    }

    #[test]
    fn conditions_leave_the_same_rows_by_column_and_by_row() {
        let rows = rows();
        let mut by_row = Selection::all(rows.len());
        by_row.retain(|row| rows.get(3, row).is_some_and(|number| number >= 0));
        by_row.retain(|row| rows.raw(2, row) < 100);
        let mut by_column = Selection::all(rows.len());
        by_column.retain_by(&rows, [3], |[number]| number.is_some_and(|number| number >= 0));
        assert_eq!(by_column.each().next(), Some(1_000));
        by_column.retain_by(&rows, [2], |[small]| small < Some(100));
        assert_eq!(by_column.each().collect::<Vec<_>>(), by_row.each().collect::<Vec<_>>());
        let before = by_column.each().count();
        by_column.retain_by(&rows, [0], |[ts]| ts.is_some());
        assert_eq!(by_column.each().count(), before);
    }
}
