//! What identity rows say, for the rows of a list that refer to them.

use super::identity::Identity;
use super::rows::Value;
use super::trace::Trace;
use crate::schema::hash::FastMap;
use polars::prelude::{DataType, NamedFrom as _, PlSmallStr, Series};
use std::sync::Arc;

/// Number of no row.
pub(crate) const NONE: u32 = u32::MAX;

/// The identity rows of one table that the rows of a list refer to.
pub(crate) struct LookedUp<'a> {
    trace: &'a Trace,
    identity: Option<Arc<Identity>>,
    rows: Vec<u32>,
}

impl<'a> LookedUp<'a> {
    /// By ids and moments.
    pub fn of(trace: &'a Trace, table: &str, ids: impl Iterator<Item = (u64, u64)>) -> Self {
        let identity = trace.identity(table);
        let find = |(id, moment)| identity.as_ref().and_then(|identity| identity.find(id, moment));
        let rows = ids.map(|id| find(id).unwrap_or(NONE)).collect();
        Self { trace, identity, rows }
    }

    /// A column by its name; null where the trace does not have it.
    pub fn series(&self, name: &str, text: bool) -> Series {
        let rows = self.rows.iter().copied();
        let column = self.identity.as_ref().and_then(|identity| Some((identity, identity.column(name)?)));
        match column {
            Some((identity, column)) => series(self.trace, identity, column, text, rows),
            None => Series::full_null(
                PlSmallStr::EMPTY,
                rows.len(),
                &if text { DataType::String } else { DataType::Int64 },
            ),
        }
    }
}

/// A column of an identity table, as text or as numbers. Most rows of a list refer to few identity rows, so each is
/// asked once.
pub(crate) fn series(
    trace: &Trace,
    identity: &Identity,
    column: usize,
    text: bool,
    rows: impl Iterator<Item = u32>,
) -> Series {
    let mut known: FastMap<u32, u32> = FastMap::default();
    let (mut values, mut last) = (vec![Value::Null], (NONE, 0));
    let mut number = |row: u32| {
        if row != last.0 {
            let next = values.len() as u32;
            last = (row, *known.entry(row).or_insert(if row == NONE { 0 } else { next }));
            if last.1 == next {
                values.push(identity.value(trace, column, row));
            }
        }
        last.1
    };
    let numbers: Vec<u32> = rows.map(&mut number).collect();
    let values = numbers.iter().map(|&number| &values[number as usize]);
    if text {
        return Series::new(PlSmallStr::EMPTY, values.map(Value::as_text).collect::<Vec<_>>());
    }
    Series::new(PlSmallStr::EMPTY, values.map(Value::as_int).collect::<Vec<_>>())
}
