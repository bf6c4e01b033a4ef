//! `--having`, `--sort`, `--top`: what is done with a result before it is printed.
//!
//! Rows of a result with intervals stand by time, and `--top` takes the first of each interval, as a
//! live tool's screens would show them. An explicit `--sort` orders, and `--top` then cuts, the
//! whole. Ties are broken by all keys and then by all columns, so there is only one order.

use super::cells::Cells;
use super::error::Failure;
use super::table::{TIME, Table};
use super::{mask, threads};
use anyhow::Result;
use polars::prelude::{
    BooleanChunked, Column, DataFrame, DataType, IdxCa, IdxSize, IntoColumn, IntoLazy, NewChunkedArray,
    PolarsResult,
};
use rayon::slice::ParallelSliceMut as _;
use std::collections::HashMap;

/// So many rows are sorted before a thread is awake.
const FEW: usize = 1000;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape<'a> {
    /// A condition on rows of the result.
    pub having: Option<&'a str>,
    /// `column[:asc|desc],…` as asked for.
    pub sort: Option<&'a str>,
    /// The report's own order within an interval.
    pub default_sort: &'a str,
    /// At most so many rows.
    pub top: Option<usize>,
    /// Rows are single events and not of intervals.
    pub events: bool,
    /// So many threads sort; 0: one for each processor.
    pub threads: usize,
}

impl Shape<'_> {
    /// Filters, sorts, cuts.
    pub fn apply(self, mut table: Table) -> Result<Table> {
        // Each column in one piece, one after the other: whoever asks for cells would make a copy of all of them.
        table.frame.rechunk_mut();
        if let Some(condition) = self.having {
            table.frame = having(&table, condition)?;
        }
        let timed = !self.events && self.sort.is_none() && table.heading(TIME).is_ok();
        let order = order(&table, timed, self.sort.unwrap_or(self.default_sort))?;
        sort(&mut table, &order, self.top.filter(|_| !timed), self.threads)?;
        if let Some(top) = self.top.filter(|&top| top < table.height()) {
            table.frame = table.frame.filter(&top_of_each(&table, top)?)?;
        }
        Ok(table)
    }
}

fn having(table: &Table, condition: &str) -> Result<polars::prelude::DataFrame> {
    let expr = mask::parse("--having", condition)?;
    mask::names(&expr).iter().try_for_each(|name| table.heading(name).map(drop))?;
    let wrong =
        |error: polars::prelude::PolarsError| Failure::usage(format!("--having '{condition}': {error}"));
    Ok(table.frame.clone().lazy().filter(expr).collect().map_err(wrong)?)
}

/// What rows are ordered by, and whether from the largest on. Numbers start with the largest, names with the first,
/// unless the option says otherwise.
fn order(table: &Table, timed: bool, by: &str) -> Result<Vec<(String, bool)>> {
    let mut order: Vec<(String, bool)> = Vec::new();
    if timed {
        order.push((TIME.to_owned(), false));
    }
    for word in by.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, direction) = word.split_once(':').unwrap_or((word, ""));
        let heading = table.heading(name)?;
        let number = *table.frame.column(name)?.dtype() != DataType::String;
        let descending = match direction {
            "desc" => true,
            "asc" => false,
            "" => number && !heading.key,
            other => {
                return Err(Failure::usage(format!(
                    "--sort {word}: expected {name}:asc or {name}:desc, found '{other}'"
                ))
                .into());
            }
        };
        order.push((name.to_owned(), descending));
    }
    let (keys, rest): (Vec<_>, Vec<_>) = table.headings.iter().partition(|heading| heading.key);
    order.extend(keys.into_iter().chain(rest).map(|heading| (heading.name.clone(), false)));
    let mut seen = std::collections::HashSet::new();
    order.retain(|(name, _)| seen.insert(name.clone()));
    Ok(order)
}

/// The rows in order; with `top`, only so many of them, and the others are not put into any.
fn sort(table: &mut Table, order: &[(String, bool)], top: Option<usize>, threads: usize) -> Result<()> {
    let at = |name: &String| table.headings.iter().position(|heading| heading.name == *name);
    let order: Vec<(usize, bool)> =
        order.iter().filter_map(|(name, down)| Some((at(name)?, *down))).collect();
    let cells = Cells::of(table);
    let compare = |a: &IdxSize, b: &IdxSize| {
        let columns =
            order.iter().map(|&(column, down)| cells.compare(column, down, *a as usize, *b as usize));
        columns.into_iter().find(|found| found.is_ne()).unwrap_or_else(|| a.cmp(b))
    };
    let mut rows: Vec<IdxSize> = (0..IdxSize::try_from(table.height())?).collect();
    if let Some(top) = top.filter(|&top| top < rows.len()) {
        rows.select_nth_unstable_by(top, compare);
        rows.truncate(top);
    }
    if rows.len() > FEW {
        // Lists are of stretches that are in order: a merge sort finds them.
        threads::pool(threads)?.install(|| rows.par_sort_by(compare));
    } else {
        rows.sort_unstable_by(compare);
    }
    if !rows.is_sorted() || rows.len() < table.height() {
        // Column by column: to take rows of all at once would start threads of polars' own.
        let (height, rows) = (rows.len(), IdxCa::from_vec("rows".into(), rows));
        let taken =
            |column: &Column| column.as_materialized_series().take(&rows).map(IntoColumn::into_column);
        let columns = table.frame.columns().iter().map(taken).collect::<PolarsResult<Vec<Column>>>()?;
        table.frame = DataFrame::new(height, columns)?;
    }
    Ok(())
}

fn top_of_each(table: &Table, top: usize) -> Result<BooleanChunked> {
    let mut seen: HashMap<Option<i64>, usize> = HashMap::new();
    let take = |time| {
        let seen = seen.entry(time).or_default();
        *seen += 1;
        *seen <= top
    };
    let kept: Vec<bool> = table.frame.column(TIME)?.i64()?.iter().map(take).collect();
    Ok(BooleanChunked::from_slice("kept".into(), &kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::rows::Value;
    use crate::analyze::table::{Builder, Output};

    #[test]
    fn a_program_is_told_that_there_may_be_more_and_gets_all_if_it_asks() {
        let mut tape = crate::analyze::testkit::Tape::new();
        tape.receives();
        for at in 0..25 {
            let comm = format!("p{at}");
            tape.task(0, 100 + at, 100 + at, &comm).sock(0, at, 2, 1, 1).send(at, 100 + at, at, 10, 10);
        }
        let run = |words: &str| {
            let line = format!("tcptop --interval all --by comm {words}");
            let (_, out, messages) = tape.run(&line.split(' ').collect::<Vec<_>>());
            (out.lines().count(), messages.contains("no more than 20 rows are printed: --top 0 prints all"))
        };
        assert_eq!(run("--format csv"), (21, true));
        assert_eq!(run("--format csv --top 20"), (21, false), "it asked");
        assert_eq!(run("--format csv --top 0"), (26, false));
        assert!(!run("--format table").1, "people see a page");
    }

    #[test]
    fn the_first_rows_are_the_same_however_many_are_cut() {
        const CALLS: Output = Output::count("calls", "", "with ties, and where nothing is known");
        let rows = 0..i64::try_from(3 * FEW).expect("it is small");
        let mut table = Builder::default();
        table.key(
            "name",
            "",
            true,
            rows.clone().map(|at| Value::Text(format!("{:04}", at * 7 % 997).into())),
        );
        table.key("id", "", false, rows.clone().map(Value::Int));
        table.ints(&CALLS, rows.map(|at| (at % 5 != 0).then_some((at % 50).cast_unsigned())));
        let table = table.build().expect("a table");
        for sort in ["calls", "calls:asc", "name", "name:desc", "id", "calls,name:desc", ""] {
            let all = Shape { sort: Some(sort), ..Shape::default() };
            let whole = all.apply(table.clone()).expect("it is sorted");
            for top in [0, 1, 3, 999, FEW, 2 * FEW + 500, 3 * FEW - 1] {
                let cut = Shape { top: Some(top), ..all }.apply(table.clone()).expect("it is cut");
                assert!(cut.frame.equals_missing(&whole.frame.slice(0, top)), "{sort} {top}");
            }
        }
    }
}
