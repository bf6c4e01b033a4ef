//! `--having`, `--sort`, `--top`: what is done with a result before it is printed.
//!
//! Rows of a result with intervals stand by time, and `--top` takes the first of each interval, as a
//! live tool's screens would show them. An explicit `--sort` orders, and `--top` then cuts, the
//! whole. Ties are broken by all keys and then by all columns, so there is only one order.

use super::error::Failure;
use super::mask;
use super::table::{TIME, Table};
use anyhow::Result;
use polars::prelude::{
    BooleanChunked, ChunkCompareIneq, DataType, IntoLazy, NewChunkedArray, SortMultipleOptions, SortOptions,
};
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
}

impl Shape<'_> {
    /// Filters, sorts, cuts.
    pub fn apply(self, mut table: Table) -> Result<Table> {
        if let Some(condition) = self.having {
            table.frame = having(&table, condition)?;
        }
        let timed = !self.events && self.sort.is_none() && table.heading(TIME).is_ok();
        let order = order(&table, timed, self.sort.unwrap_or(self.default_sort))?;
        if let Some(top) = self.top.filter(|_| !timed) {
            preselect(&mut table, &order, top)?;
        }
        sort(&mut table, order)?;
        match self.top {
            Some(top) if table.height() <= top => {}
            Some(top) if timed => table.frame = table.frame.filter(&top_of_each(&table, top)?)?,
            Some(top) => table.frame = table.frame.slice(0, top),
            None => {}
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

fn sort(table: &mut Table, order: Vec<(String, bool)>) -> Result<()> {
    let (names, descending): (Vec<String>, Vec<bool>) = order.into_iter().unzip();
    if names.is_empty() || table.height() < 2 {
        return Ok(());
    }
    let options = SortMultipleOptions::default()
        .with_order_descending_multi(descending)
        .with_nulls_last(true)
        .with_maintain_order(true)
        .with_multithreaded(table.height() > FEW);
    table.frame = table.frame.sort(names, options)?;
    Ok(())
}

/// Leaves out what cannot be among the first rows, by the first column alone: to break ties by all columns costs as
/// much as some reports do.
fn preselect(table: &mut Table, order: &[(String, bool)], top: usize) -> Result<()> {
    let (Some((first, descending)), Some(last)) = (order.first(), top.checked_sub(1)) else { return Ok(()) };
    if table.height() <= FEW.max(top) {
        return Ok(());
    }
    let values = table.frame.column(first)?.as_materialized_series();
    let options = SortOptions::default().with_order_descending(*descending).with_nulls_last(true);
    let bound = values.sort(options)?.slice(i64::try_from(last)?, 1);
    if bound.null_count() == 0 {
        let within = if *descending { values.gt_eq(&bound)? } else { values.lt_eq(&bound)? };
        table.frame = table.frame.filter(&within)?;
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
