//! Decoded rows of one table, and what is in a cell.

use super::escape;
use super::strip::{STRIP, Strip};
use crate::schema::{Batch, Column, ColumnDef, ColumnType, TableDef};
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// A cell as reports show and compare it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    /// Not known.
    Null,
    /// A number; 64-bit ids are far below the sign bit.
    Int(i64),
    /// A name, an address, a path.
    Text(Arc<str>),
}

impl Value {
    /// Text from bytes of any origin.
    pub fn text(bytes: &[u8]) -> Self {
        Self::Text(escape::lossless(bytes).into())
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }
}

/// Names of numbers, from table `enum`.
pub(crate) type Labels = HashMap<String, HashMap<i64, Arc<str>>>;

/// Rows of one table; columns that were not asked for are absent.
#[derive(Debug)]
pub(crate) struct Rows {
    /// What the columns mean.
    pub def: Arc<TableDef>,
    batch: Batch,
    /// Per text column, where each value begins.
    starts: Vec<Vec<u32>>,
    /// Position of the moment; looked up once, since folds ask for it in every row.
    time: Option<usize>,
    /// Per column, what turns its raw number into the number, in one place for the same reason.
    cells: Vec<Cell>,
}

/// How a column's numbers are read.
#[derive(Clone, Copy, Debug)]
struct Cell {
    absent: bool,
    null: Option<u64>,
    /// Bits above a signed number.
    shift: u32,
}

impl Rows {
    /// Rows as the reader decoded them.
    pub fn new(def: Arc<TableDef>, batch: Batch) -> Self {
        let starts = batch.columns.iter().map(Column::starts).collect();
        let time = def.time();
        let cell = |(def, column): (&ColumnDef, &Column)| Cell {
            absent: !def.absent.is_empty() || matches!(column, Column::Absent),
            null: def.null,
            shift: match def.kind {
                ColumnType::Number { width, signed: true } => 64 - 8 * u32::from(width.clamp(1, 8)),
                _ => 0,
            },
        };
        let cells = def.columns.iter().zip(&batch.columns).map(cell).collect();
        Self { def, batch, starts, time, cells }
    }

    /// The rows as the reader decoded them.
    pub fn into_batch(self) -> Batch {
        self.batch
    }

    /// When the row's event was; 0 where the table has no times.
    #[inline]
    pub fn moment(&self, row: usize) -> u64 {
        self.time.map_or(0, |time| self.raw(time, row))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.batch.rows
    }

    /// The number as it is stored, without its sign.
    #[inline]
    pub fn raw(&self, column: usize, row: usize) -> u64 {
        match &self.batch.columns[column] {
            Column::U64(values) => values[row],
            Column::U32(values) => values[row].into(),
            Column::U16(values) => values[row].into(),
            Column::U8(values) => values[row].into(),
            Column::Absent | Column::Text(_) => 0,
        }
    }

    /// The number; `None` where this row or this trace has none.
    #[inline]
    pub fn get(&self, column: usize, row: usize) -> Option<i64> {
        let Cell { absent, null, shift } = self.cells[column];
        let raw = self.raw(column, row);
        if absent || null == Some(raw) {
            return None;
        }
        Some((raw << shift).cast_signed() >> shift)
    }

    /// The numbers of a strip's rows; what is returned among them stands for "none".
    pub fn numbers(&self, column: usize, strip: &Strip, to: &mut [i64; STRIP]) -> Option<i64> {
        let Cell { absent, null, shift } = self.cells[column];
        match &self.batch.columns[column] {
            _ if absent => strip.fill(0, to),
            Column::U64(values) => strip.copy(values, to, u64::cast_signed),
            Column::U32(values) if shift > 0 => strip.copy(values, to, |value| value.cast_signed().into()),
            Column::U16(values) if shift > 0 => strip.copy(values, to, |value| value.cast_signed().into()),
            Column::U8(values) if shift > 0 => strip.copy(values, to, |value| value.cast_signed().into()),
            Column::U32(values) => strip.copy(values, to, i64::from),
            Column::U16(values) => strip.copy(values, to, i64::from),
            Column::U8(values) => strip.copy(values, to, i64::from),
            Column::Absent | Column::Text(_) => strip.fill(0, to),
        }
        if absent { Some(0) } else { null.map(|null| (null << shift).cast_signed() >> shift) }
    }

    /// The numbers of a strip's rows as they are stored, and `none` where a row has none.
    pub fn raws(&self, column: usize, none: u64, strip: &Strip, to: &mut [u64; STRIP]) {
        let Cell { absent, null, .. } = self.cells[column];
        match &self.batch.columns[column] {
            _ if absent => strip.fill(none, to),
            Column::U64(values) => strip.copy(values, to, |value| value),
            Column::U32(values) => strip.copy(values, to, u64::from),
            Column::U16(values) => strip.copy(values, to, u64::from),
            Column::U8(values) => strip.copy(values, to, u64::from),
            Column::Absent | Column::Text(_) => strip.fill(0, to),
        }
        if let Some(null) = null {
            to.iter_mut().filter(|raw| **raw == null).for_each(|raw| *raw = none);
        }
    }

    /// The moments of a strip's rows; 0 where the table has no times.
    pub fn moments(&self, strip: &Strip, to: &mut [u64; STRIP]) {
        match self.time {
            Some(time) => strip.copy(self.u64s(time), to, |moment| moment),
            None => strip.fill(0, to),
        }
    }

    /// Whether moments were decoded.
    pub fn has_moments(&self) -> bool {
        self.time.is_some_and(|time| !self.cells[time].absent)
    }

    /// The bytes of a text or an address; empty for numbers.
    pub fn bytes(&self, column: usize, row: usize) -> &[u8] {
        let Column::Text(text) = &self.batch.columns[column] else { return &[] };
        let start = self.starts[column][row] as usize;
        &text.bytes[start..start + text.lengths[row] as usize]
    }

    /// Some rows of all columns.
    pub fn pick(&self, rows: &[u32]) -> Batch {
        let column = |(column, starts): (&Column, &Vec<u32>)| column.pick(starts, rows);
        let columns = self.batch.columns.iter().zip(&self.starts).map(column).collect();
        Batch { table: self.batch.table, stream: self.batch.stream, rows: rows.len(), columns }
    }

    /// The values of a column as they are stored.
    pub fn column(&self, column: usize) -> &Column {
        &self.batch.columns[column]
    }

    /// All values of an eight-byte column; empty for any other.
    pub fn u64s(&self, column: usize) -> &[u64] {
        self.batch.columns[column].u64s()
    }

    /// Whether two rows have the same value in a column.
    pub fn same(&self, column: usize, a: usize, b: usize) -> bool {
        self.raw(column, a) == self.raw(column, b) && self.bytes(column, a) == self.bytes(column, b)
    }

    /// The cell as a report shows it: numbers that have names as those, addresses as text.
    pub fn value(&self, labels: &Labels, column: usize, row: usize) -> Value {
        let def = &self.def.columns[column];
        if !def.absent.is_empty() {
            return Value::Null;
        }
        match def.kind {
            ColumnType::Text => Value::text(self.bytes(column, row)),
            ColumnType::Unknown(_) => Value::Null,
            ColumnType::Ip => address(self.bytes(column, row), self.family(row)),
            ColumnType::Number { .. } => {
                self.get(column, row).map_or(Value::Null, |number| named(labels, &def.enumeration, number))
            }
        }
    }

    /// Whether [`Rows::value`] gives text.
    pub fn is_text(def: &TableDef, column: usize) -> bool {
        let def = &def.columns[column];
        !def.enumeration.is_empty() || !matches!(def.kind, ColumnType::Number { .. })
    }

    fn family(&self, row: usize) -> Option<i64> {
        self.get(self.def.column("family")?, row)
    }
}

/// A number as its enumeration calls it.
pub(crate) fn named(labels: &Labels, enumeration: &str, number: i64) -> Value {
    if enumeration.is_empty() {
        return Value::Int(number);
    }
    let label = labels.get(enumeration).and_then(|labels| labels.get(&number));
    Value::Text(label.cloned().unwrap_or_else(|| number.to_string().into()))
}

/// An address; family 10 keeps a mapped IPv4 address as `::ffff:a.b.c.d`, since that socket is an IPv6 one.
pub(crate) fn address(bytes: &[u8], family: Option<i64>) -> Value {
    let Ok(bytes) = <[u8; 16]>::try_from(bytes) else { return Value::Null };
    let v6 = Ipv6Addr::from(bytes);
    let v4 = v6.to_ipv4_mapped().filter(|_| family != Some(10));
    Value::Text(v4.map_or_else(|| v6.to_string(), |v4| v4.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_its_socket_has_it() {
        let mapped = Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]).octets();
        assert_eq!(address(&mapped, Some(2)), Value::Text("10.0.0.1".into()));
        assert_eq!(address(&mapped, Some(10)), Value::Text("::ffff:10.0.0.1".into()));
        assert_eq!(address(&Ipv6Addr::LOCALHOST.octets(), Some(10)), Value::Text("::1".into()));
        assert_eq!(address(&[1, 2], None), Value::Null);
    }
}
