//! Decoded rows as columns of polars: for conditions, and for SQL.

use super::input::{Input, Source};
use super::rows::{Rows, Value};
use super::trace::Trace;
use crate::schema::hash::FastMap;
use polars::prelude::{NamedFrom, PlSmallStr, Series};
use std::sync::Arc;

/// The values of a column in one frame.
pub(crate) enum Cells {
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Text(Vec<Option<Arc<str>>>),
}

/// A column's values in some rows of a frame.
pub(crate) fn cells(trace: &Trace, input: &Input, rows: &Rows, each: impl Iterator<Item = usize>) -> Cells {
    let int = |row| input.number(rows, row);
    match (input.divisor, &input.source) {
        (_, Source::Via { link, column }) if input.text => {
            // Most rows refer to what others have referred to.
            let mut known: FastMap<u32, Option<Arc<str>>> = FastMap::default();
            let name = |row| text(link.identity.value(trace, *column, row));
            let mut of = |row| known.entry(row).or_insert_with(|| name(row)).clone();
            Cells::Text(each.map(|row| of(link.find(rows, row)?)).collect())
        }
        _ if input.text => Cells::Text(each.map(|row| text(input.value(trace, rows, row))).collect()),
        (Some(divisor), _) => {
            Cells::Float(each.map(|row| int(row).map(|value| value as f64 / divisor)).collect())
        }
        (None, _) => Cells::Int(each.map(int).collect()),
    }
}

fn text(value: Value) -> Option<Arc<str>> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

/// Column `at` of all frames.
pub(crate) fn series(input: &Input, parts: &[Vec<Cells>], at: usize) -> Series {
    let name = PlSmallStr::from_str(&input.name);
    let cells = || parts.iter().map(|part| &part[at]);
    if input.text {
        let texts: Vec<Option<&str>> = cells()
            .flat_map(|cells| if let Cells::Text(v) = cells { &v[..] } else { &[] })
            .map(Option::as_deref)
            .collect();
        return Series::new(name, texts);
    }
    if input.divisor.is_some() {
        let floats: Vec<Option<f64>> = cells()
            .flat_map(|cells| if let Cells::Float(v) = cells { &v[..] } else { &[] })
            .copied()
            .collect();
        return Series::new(name, floats);
    }
    let ints: Vec<Option<i64>> =
        cells().flat_map(|cells| if let Cells::Int(v) = cells { &v[..] } else { &[] }).copied().collect();
    Series::new(name, ints)
}
