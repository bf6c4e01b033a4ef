//! Values of rows, and rows as columns.

use crate::schema::{Batch, Column, ColumnType, TableDef, Text};

/// A value of a row.
#[derive(Clone)]
pub(crate) enum Cell {
    /// As it is stored.
    Number(u64),
    /// A text or an address.
    Bytes(Vec<u8>),
}

/// Rows as a batch of their table.
pub(super) fn batch(def: &TableDef, rows: &[Vec<Cell>]) -> Batch {
    let columns = (0..def.columns.len())
        .map(|at| values(def.columns[at].kind, rows.iter().map(|row| &row[at])))
        .collect();
    Batch { table: def.number, stream: def.number, rows: rows.len(), columns }
}

fn values<'a>(kind: ColumnType, cells: impl Iterator<Item = &'a Cell>) -> Column {
    let number = |cell: &Cell| if let Cell::Number(number) = cell { *number } else { panic!("a number") };
    match kind {
        ColumnType::Number { width: 1, .. } => Column::U8(cells.map(|cell| number(cell) as u8).collect()),
        ColumnType::Number { width: 2, .. } => Column::U16(cells.map(|cell| number(cell) as u16).collect()),
        ColumnType::Number { width: 4, .. } => Column::U32(cells.map(|cell| number(cell) as u32).collect()),
        ColumnType::Number { .. } | ColumnType::Unknown(_) => Column::U64(cells.map(number).collect()),
        ColumnType::Text | ColumnType::Ip => {
            let mut text = Text::default();
            cells.for_each(
                |cell| if let Cell::Bytes(bytes) = cell { text.push(bytes) } else { panic!("bytes") },
            );
            Column::Text(text)
        }
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}
