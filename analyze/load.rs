//! From frames to answers: only the tables, columns and times that are asked for, on all processors.
//!
//! A [`Scan`] names a table and its columns. [`Scan::fold`] hands decoded rows, a frame at a time, to
//! a native fold, those of several tables to one: its memory is that of the state, not of the events. Neighbouring frames share a
//! state, one for each thread and few more ([`super::shares`]), and states are merged in file order: as
//! long as merging is associative, the result does not depend on how many there were.

use super::bins::Bins;
use super::error::Failure;
use super::mask::Mask;
use super::progress::Pass;
use super::rows::Rows;
use super::shares::Shares;
use super::strip::{Selection, Strip};
use super::trace::Trace;
use super::window::Window;
use crate::schema::TableDef;
use crate::schema::reader::{Frame, Scratch};
use rayon::prelude::*;
use std::sync::Arc;

/// So many rows are decoded in the time that it takes to wake threads for them.
const FEW: u64 = 4096;

/// A condition that a report has of its own: it leaves out rows of a frame.
type Condition<'a> = dyn Fn(&Rows, &mut Selection) + Send + Sync + 'a;

/// What to read.
#[derive(Clone)]
pub(crate) struct Scan<'a> {
    trace: &'a Trace,
    /// The table.
    pub def: Arc<TableDef>,
    columns: Vec<usize>,
    window: Window,
    bins: Option<Bins>,
    mask: Option<Arc<Mask>>,
    conditions: Vec<Arc<Condition<'a>>>,
}

/// Decoded rows of a frame, of which some are asked for.
pub(crate) struct Chunk<'a> {
    rows: &'a Rows,
    wanted: Selection,
    /// Where they are from.
    pub frame: &'a Frame,
}

impl Chunk<'_> {
    /// The columns.
    pub fn rows(&self) -> &Rows {
        self.rows
    }

    /// The rows that are asked for.
    pub fn each(&self) -> impl Iterator<Item = usize> {
        self.wanted.each()
    }

    /// The same, to be worked on column by column.
    pub fn strips(&self) -> impl Iterator<Item = Strip<'_>> {
        self.wanted.strips()
    }

    /// The rows that another scan asks for, whose columns must have been decoded too.
    pub fn asked_by(&self, scan: &Scan) -> Chunk<'_> {
        Chunk { rows: self.rows, wanted: scan.wanted(self.frame, self.rows), frame: self.frame }
    }
}

impl<'a> Scan<'a> {
    /// All rows of a table within a span; columns are added one by one.
    pub fn new(trace: &'a Trace, def: &Arc<TableDef>, window: Window) -> Self {
        Self {
            trace,
            def: Arc::clone(def),
            columns: Vec::new(),
            window,
            bins: None,
            mask: None,
            conditions: Vec::new(),
        }
    }

    /// Only the rows that a condition left.
    #[must_use]
    pub fn masked(mut self, mask: Option<Arc<Mask>>) -> Self {
        self.mask = mask;
        self
    }

    /// Only the rows that a report is about, by what they have in some columns. What was kept before stays a
    /// condition.
    #[must_use]
    pub fn only<const N: usize>(
        self,
        columns: [usize; N],
        keep: impl Fn([Option<i64>; N]) -> bool + Send + Sync + 'a,
    ) -> Self {
        self.with(columns).limited(move |rows, wanted| wanted.retain_by(rows, columns, &keep))
    }

    /// The same for conditions on more than numbers; the columns that they look at must have been asked for.
    #[must_use]
    pub fn keeping(self, keep: impl Fn(&Rows, usize) -> bool + Send + Sync + 'a) -> Self {
        self.limited(move |rows, wanted| wanted.retain(|row| keep(rows, row)))
    }

    fn limited(mut self, condition: impl Fn(&Rows, &mut Selection) + Send + Sync + 'a) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// With the moments of rows, but for frames that lie within one bin: a moment costs as much to decode as all
    /// else together.
    #[must_use]
    pub fn binned(self, bins: &Bins) -> Self {
        Self { bins: Some(bins.clone()), ..self }
    }

    /// Asks for columns and returns their positions.
    pub fn columns<const N: usize>(&mut self, names: [&str; N]) -> Result<[usize; N], Failure> {
        let mut positions = [0; N];
        for (position, name) in positions.iter_mut().zip(names) {
            *position = self.column(name)?;
        }
        Ok(positions)
    }

    /// Asks for a column and returns its position; a column that this trace lacks is an error.
    pub fn column(&mut self, name: &str) -> Result<usize, Failure> {
        let table = &self.def.name;
        let Some(position) = self.def.column(name) else {
            return Err(Failure::cannot(format!("this trace's table {table} has no column {name}"))
                .hint("record it again with a newer capture"));
        };
        let absent = &self.def.columns[position].absent;
        if !absent.is_empty() {
            return Err(Failure::cannot(format!("this trace has no {table}.{name}: {absent}")));
        }
        self.columns.push(position);
        Ok(position)
    }

    /// Asks for a column that may be missing: then every row has null there.
    pub fn column_or_null(&mut self, name: &str) -> Result<usize, Failure> {
        let position = self.def.column(name);
        let absent = position.filter(|&position| !self.def.columns[position].absent.is_empty());
        absent.map_or_else(|| self.column(name), Ok)
    }

    /// Asks for a column by position.
    pub fn add(&mut self, column: usize) {
        self.columns.push(column);
    }

    /// All rows of the same frames, whatever the conditions, and none of the columns.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self { columns: Vec::new(), mask: None, conditions: Vec::new(), ..self.clone() }
    }

    /// Asks for columns by position.
    #[must_use]
    pub fn with(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.columns.extend(columns);
        self
    }

    /// The frames that can hold rows of the span, in file order.
    pub fn frames(&self) -> Vec<&'a Frame> {
        let touches = |frame: &&Frame| self.window.touches(frame.header.min_time, frame.header.max_time);
        let timed = self.def.time().is_some();
        self.trace.frames_of(self.def.number).filter(|frame| !timed || touches(frame)).collect()
    }

    /// How many rows there can be: what headers know, and a condition where there is one.
    pub fn most_rows(&self) -> u64 {
        self.frames().into_iter().map(|frame| self.rows_in(frame)).sum()
    }

    /// How many rows of a frame there can be.
    pub fn rows_in(&self, frame: &Frame) -> u64 {
        match &self.mask {
            None => frame.header.rows.into(),
            Some(mask) => mask
                .bits(frame.offset)
                .map_or(0, |bits| bits.iter().map(|word| u64::from(word.count_ones())).sum()),
        }
    }

    /// How many rows there are: they are decoded for that, as far as conditions and the span ask for it.
    pub fn count(&self) -> u64 {
        self.fold(
            u64::default,
            |rows, chunk| *rows += chunk.each().count() as u64,
            |rows, more| *rows += more,
        )
    }

    /// Decodes a frame and gives it to `each`.
    pub fn visit(&self, frame: &Frame, scratch: &mut Scratch, each: impl FnOnce(&Chunk)) {
        // Where nothing is wanted, nothing more is decoded.
        if self.masked_rows(frame).is_some_and(|bits| bits.iter().all(|&word| word == 0)) {
            return;
        }
        let (first, last) = (frame.header.min_time, frame.header.max_time);
        let edges = self.bins.as_ref().is_some_and(|bins| bins.of(first) != bins.of(last));
        let time = self.def.time().filter(|_| edges || !self.window.covers(first, last));
        let columns: Vec<usize> = self.columns.iter().copied().chain(time).collect();
        let Some(rows) = self.trace.read(frame, Some(&columns), scratch) else { return };
        let wanted = self.wanted(frame, &rows);
        each(&Chunk { rows: &rows, wanted, frame });
        scratch.reuse(rows.into_batch());
    }

    /// The rows of a frame that a condition left; none where it could not be evaluated because the frame is damaged.
    fn masked_rows(&self, frame: &Frame) -> Option<&[u64]> {
        self.mask.as_ref().map(|mask| mask.bits(frame.offset).unwrap_or(&[]))
    }

    fn wanted(&self, frame: &Frame, rows: &Rows) -> Selection {
        let mut wanted = match self.masked_rows(frame) {
            None => Selection::all(rows.len()),
            Some([]) => Selection::all(0),
            Some(bits) => Selection::of_bits(rows.len(), bits),
        };
        let covered = self.window.covers(frame.header.min_time, frame.header.max_time);
        if self.def.time().is_some() && !covered {
            wanted.retain(|row| self.window.contains(rows.moment(row)));
        }
        self.conditions.iter().for_each(|condition| condition(rows, &mut wanted));
        wanted
    }

    /// With the columns of another scan of the same table.
    #[must_use]
    pub fn beside(self, other: &Self) -> Self {
        self.with(other.columns.iter().copied())
    }

    /// Folds all rows; `merge` adds a later state to an earlier one and must be associative.
    pub fn fold<S: Send>(
        &self,
        init: impl Fn() -> S + Sync + Send,
        each: impl Fn(&mut S, &Chunk) + Sync + Send,
        merge: impl Fn(&mut S, S) + Sync + Send,
    ) -> S {
        Self::fold_all(&[self], init, |state, _, chunk| each(state, chunk), merge)
    }

    /// Folds the rows of several tables into one state, one table after the other; `each` gets the table's position.
    pub fn fold_all<S: Send>(
        scans: &[&Self],
        init: impl Fn() -> S + Sync + Send,
        each: impl Fn(&mut S, usize, &Chunk) + Sync + Send,
        merge: impl Fn(&mut S, S) + Sync + Send,
    ) -> S {
        let of = |(at, scan): (usize, &&Self)| scan.frames().into_iter().map(move |frame| (at, frame));
        let (tables, frames): (Vec<usize>, Vec<&Frame>) = scans.iter().enumerate().flat_map(of).unzip();
        let visit = |at: usize, scratch: &mut Scratch, state: &mut S| {
            let table = tables[at];
            scans[table].visit(frames[at], scratch, |chunk| each(state, table, chunk));
        };
        let Some(first) = scans.first() else { return init() };
        if are_few(&frames) {
            let (mut scratch, mut state) = (first.trace.scratch(), init());
            (0..frames.len()).for_each(|at| visit(at, &mut scratch, &mut state));
            return state;
        }
        let names: Vec<&str> = scans.iter().map(|scan| scan.def.name.as_str()).collect();
        let pass = Pass::over(&names.join(", "), frames.len());
        let piece = |begin: usize, shares: &Shares| {
            let (mut scratch, mut state) = (first.trace.scratch(), init());
            shares.run(begin, |at| {
                visit(at, &mut scratch, &mut state);
                pass.step();
            });
            state
        };
        let join = |mut a: S, b: S| {
            merge(&mut a, b);
            a
        };
        let pieces = || Shares::each(frames.len(), piece).into_par_iter();
        first.trace.install(|| pieces().reduce_with(join)).unwrap_or_else(&init)
    }

    /// Something from each frame, in file order.
    pub fn map<R: Send>(
        &self,
        frames: &[&Frame],
        each: impl Fn(&Chunk) -> R + Sync + Send,
    ) -> Vec<Option<R>> {
        let pass = Pass::over(&self.def.name, frames.len());
        let one = |scratch: &mut Scratch, frame: &&Frame| {
            let mut result = None;
            self.visit(frame, scratch, |chunk| result = Some(each(chunk)));
            pass.step();
            result
        };
        if are_few(frames) {
            let mut scratch = self.trace.scratch();
            return frames.iter().map(|frame| one(&mut scratch, frame)).collect();
        }
        self.trace.each(frames, one)
    }
}

/// Whether it is not worth while to wake threads for them, as for a short interval of a recording.
fn are_few(frames: &[&Frame]) -> bool {
    frames.len() < 2 || frames.iter().map(|frame| u64::from(frame.header.rows)).sum::<u64>() <= FEW
}

#[cfg(test)]
mod tests {
    use crate::analyze::clock::SECOND;
    use crate::analyze::load::Scan;
    use crate::analyze::testkit::Tape;
    use crate::analyze::window::Window;

    #[test]
    fn only_the_asked_span_is_folded_whatever_the_number_of_threads() {
        let mut tape = Tape::new();
        for at in 0..10_000u64 {
            tape.send(at * 1_000_000, 7, 1, 100, at as i32 % 50);
        }
        tape.rows_per_frame(300);
        let bytes = tape.bytes();
        let sum = |threads| {
            let trace = Tape::open_bytes(bytes.clone(), threads);
            let from = trace.span.from;
            let def = trace.table("sock_send").expect("the table is there");
            let mut scan = Scan::new(&trace, def, Window { from: from + SECOND, to: from + 7 * SECOND });
            let ret = scan.column("ret").expect("the column is there");
            // Order shows in the state, so that a wrong order of merging would too.
            let order = scan.fold(
                Vec::new,
                |all: &mut Vec<i64>, chunk| {
                    all.extend(chunk.each().filter_map(|row| chunk.rows().get(ret, row)));
                },
                Vec::extend,
            );
            assert_eq!(order.len(), 6000);
            order
        };
        let one = sum(1);
        assert_eq!(one[..3], [0, 1, 2]);
        assert_eq!(one, sum(2));
        assert_eq!(one, sum(5));
    }
}
