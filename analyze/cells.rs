//! The cells of a result, of known types: what is sorted and printed is asked for millions of times.

use super::table::{APPROXIMATE, Heading, LOWER_BOUND, ONLY_FROM, Show, Table};
use polars::prelude::{
    BooleanChunked, ChunkedArray, Column, DataType, Float64Chunked, Int64Chunked, PolarsNumericType,
    StringChunked, UInt64Chunked,
};
use std::borrow::Cow;
use std::cmp::Ordering;

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'t> {
    /// Not known.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number that may be negative, or a moment.
    Int(i64),
    /// A number.
    UInt(u64),
    /// A number with a fraction.
    Float(f64),
    /// A name; of a type that only queries have, how polars prints it.
    Text(Cow<'t, str>),
}

/// The columns of a table.
pub(crate) struct Cells {
    columns: Vec<Values>,
    lower_bound: Option<Values>,
    approximate: Option<Values>,
    only_from: Option<Values>,
}

/// A column as it is written row after row. Most are numbers that all rows have: those are at hand, and are asked for no
/// more in each row what they are.
pub(crate) enum Field<'t> {
    /// Moments.
    Times(&'t [i64]),
    /// Numbers that may be negative.
    Ints(&'t [i64]),
    /// Numbers.
    UInts(&'t [u64]),
    /// Anything else, cell by cell.
    Others(&'t Values),
}

/// One column, its values one after the other.
pub(crate) enum Values {
    Bool(BooleanChunked),
    Int(Int64Chunked),
    UInt(UInt64Chunked),
    Float(Float64Chunked),
    Text(StringChunked),
    Other(Column),
}

impl Cells {
    /// Of all columns, and what they say of the rows.
    pub fn of(table: &Table) -> Self {
        let named = |name| table.frame.column(name).ok().map(Values::of);
        Self {
            columns: table.frame.columns().iter().map(Values::of).collect(),
            lower_bound: named(LOWER_BOUND),
            approximate: named(APPROXIMATE),
            only_from: named(ONLY_FROM),
        }
    }

    /// A cell.
    #[inline]
    pub fn get(&self, column: usize, row: usize) -> Cell<'_> {
        self.columns.get(column).map_or(Cell::Null, |values| values.get(row))
    }

    /// The columns under these headings.
    pub fn fields(&self, headings: &[Heading]) -> Vec<Field<'_>> {
        let times = headings.iter().map(|heading| matches!(heading.show, Show::Time(_)));
        self.columns.iter().zip(times).map(|(values, times)| values.field(times)).collect()
    }

    /// How two rows stand in a column: the smaller first, or with `descending` the larger, and what is not known last.
    pub fn compare(&self, column: usize, descending: bool, a: usize, b: usize) -> Ordering {
        self.columns.get(column).map_or(Ordering::Equal, |values| values.compare(descending, a, b))
    }

    /// Whether counts of any row may be lower bounds, or scaled.
    pub fn have_bounds(&self) -> bool {
        self.lower_bound.is_some() || self.approximate.is_some()
    }

    /// Whether a row's counts are lower bounds.
    pub fn is_lower_bound(&self, row: usize) -> bool {
        self.lower_bound.as_ref().is_some_and(|values| values.get(row) == Cell::Bool(true))
    }

    /// Whether a row's counts were scaled.
    pub fn is_approximate(&self, row: usize) -> bool {
        self.approximate.as_ref().is_some_and(|values| values.get(row) == Cell::Bool(true))
    }

    /// Whether a row's counts are of long calls alone.
    pub fn is_of_long_ones(&self, row: usize) -> bool {
        self.only_from.as_ref().is_some_and(|values| values.get(row) != Cell::Null)
    }
}

impl Values {
    fn of(column: &Column) -> Self {
        let series = column.as_materialized_series().rechunk();
        let typed = match series.dtype() {
            DataType::Boolean => series.bool().cloned().map(Self::Bool),
            DataType::Int64 => series.i64().cloned().map(Self::Int),
            DataType::UInt64 => series.u64().cloned().map(Self::UInt),
            DataType::Float64 => series.f64().cloned().map(Self::Float),
            DataType::String => series.str().cloned().map(Self::Text),
            // What is counted in polars.
            DataType::UInt32 => {
                series.cast(&DataType::UInt64).and_then(|wide| wide.u64().cloned().map(Self::UInt))
            }
            _ => Ok(Self::Other(column.clone())),
        };
        typed.unwrap_or_else(|_| Self::Other(column.clone()))
    }

    fn field(&self, times: bool) -> Field<'_> {
        match self {
            Self::Int(values) if times => all(values).map_or(Field::Others(self), Field::Times),
            Self::Int(values) => all(values).map_or(Field::Others(self), Field::Ints),
            Self::UInt(values) => all(values).map_or(Field::Others(self), Field::UInts),
            _ => Field::Others(self),
        }
    }

    /// A cell.
    #[inline]
    pub fn get(&self, row: usize) -> Cell<'_> {
        let cell = match self {
            Self::Bool(values) => values.get(row).map(Cell::Bool),
            Self::Int(values) => at(values, row).map(Cell::Int),
            Self::UInt(values) => at(values, row).map(Cell::UInt),
            Self::Float(values) => at(values, row).map(Cell::Float),
            Self::Text(values) => values.get(row).map(|text| Cell::Text(text.into())),
            Self::Other(column) => column
                .get(row)
                .ok()
                .filter(|value| !value.is_null())
                .map(|value| Cell::Text(value.to_string().into())),
        };
        cell.unwrap_or(Cell::Null)
    }

    fn compare(&self, descending: bool, a: usize, b: usize) -> Ordering {
        match self {
            Self::Bool(values) => stand(descending, values.get(a), values.get(b), bool::cmp),
            Self::Int(values) => stand(descending, at(values, a), at(values, b), i64::cmp),
            Self::UInt(values) => stand(descending, at(values, a), at(values, b), u64::cmp),
            Self::Float(values) => stand(descending, at(values, a), at(values, b), f64::total_cmp),
            Self::Text(values) => stand(descending, values.get(a), values.get(b), std::cmp::Ord::cmp),
            Self::Other(_) => Ordering::Equal,
        }
    }
}

/// The numbers of a column that is in one piece, if each row has one.
fn all<T: PolarsNumericType>(values: &ChunkedArray<T>) -> Option<&[T::Native]> {
    let piece = values.downcast_as_array();
    piece.validity().is_none().then(|| piece.values().as_slice())
}

/// A number of a column that is in one piece. polars' own way to it looks for the piece first.
#[inline]
fn at<T: PolarsNumericType>(values: &ChunkedArray<T>, row: usize) -> Option<T::Native> {
    let piece = values.downcast_as_array();
    let known = piece.validity().is_none_or(|known| known.get_bit(row));
    known.then(|| piece.values()[row])
}

fn stand<T>(descending: bool, a: Option<T>, b: Option<T>, cmp: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if descending => cmp(&b, &a),
        (Some(a), Some(b)) => cmp(&a, &b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}
