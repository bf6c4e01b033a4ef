//! The ledger of the new file: it closes, and it owns up to what its source had lost.
//!
//! Ledger rows are copied, with tables by their new numbers. Of a slice they keep only what was lost, whole
//! ticks as ever. Rows that the source could not give (damaged frames, gaps) are entered as `discarded` in
//! their span. One more row for each table says how many of its rows are here, so that
//!
//! ```text
//! rows in the file = stored - discarded + carried_in - carried_out
//! ```

use super::Part;
use crate::analyze::ledger::overlap;
use crate::analyze::rows::Rows;
use crate::analyze::trace::Trace;
use crate::analyze::window::Window;
use crate::schema::{Batch, Column, ColumnType, Role, TableDef, Text, frame};
use std::collections::BTreeMap;
use std::sync::Arc;

const LEDGER: &str = "ledger";

/// What is written, and what the ledger says of it.
pub(super) struct Books<'a> {
    part: &'a Part<'a>,
    tables: &'a [TableDef],
    /// Number of the ledger in the source.
    ledger: Option<u16>,
    /// Per table of the new file: rows written, and rows that its ledger rows account for.
    counts: BTreeMap<u16, (u64, i128)>,
}

/// A ledger row by column name; other columns are 0.
type Row = Vec<(&'static str, u64)>;

impl<'a> Books<'a> {
    pub fn new(part: &'a Part, tables: &'a [TableDef]) -> Self {
        let ledger = part.trace.table(LEDGER).map(|def| def.number);
        Self { part, tables, ledger, counts: BTreeMap::new() }
    }

    /// A batch on its way into the new file: its table gets its new number. `None` where nothing is left.
    pub fn enter(&mut self, mut batch: Batch) -> Option<Batch> {
        if Some(batch.table) == self.ledger {
            batch = self.carry(batch)?;
        }
        batch.table = self.number(batch.table)?;
        if self.is_event(batch.table) {
            self.counts.entry(batch.table).or_default().0 += batch.rows as u64;
        }
        (batch.rows > 0).then_some(batch)
    }

    /// Identity rows are written where they are referred to: no sum is due to close.
    fn is_event(&self, table: u16) -> bool {
        self.tables[usize::from(table)].role == Role::Event
    }

    fn number(&self, table: u16) -> Option<u16> {
        self.part.numbers.get(usize::from(table)).copied().flatten()
    }

    /// Ledger rows under the new numbers of their tables.
    fn carry(&mut self, batch: Batch) -> Option<Batch> {
        let def = self.part.trace.table(LEDGER)?;
        let column = |name| def.column(name);
        let (ts, until, table) = (column("ts")?, column("until")?, column("table")?);
        let (stored, discarded) = (column("stored")?, column("discarded")?);
        let number = |column: usize, row| batch.columns[column].number(row).unwrap_or(0);
        let told = |row: &usize| {
            let window = Window { from: number(ts, *row), to: number(until, *row) };
            self.part.sliced.is_none_or(|span| overlap(window, span))
                && self.number(number(table, *row) as u16).is_some()
        };
        let rows: Vec<usize> = (0..batch.rows).filter(told).collect();
        let tables: Vec<u16> =
            rows.iter().filter_map(|&row| self.number(number(table, row) as u16)).collect();
        let lost: Vec<u64> = rows.iter().map(|&row| number(discarded, row)).collect();
        let picked: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let mut carried = Rows::new(Arc::clone(def), batch).pick(&picked);
        if self.part.sliced.is_some() {
            // What was counted is no longer what is here; what was lost still is.
            for name in ["filtered", "carried_in", "carried_out"] {
                if let Some(column) = column(name) {
                    carried.columns[column] = Column::U64(vec![0; rows.len()]);
                }
            }
            carried.columns[stored] = Column::U64(lost);
        }
        carried.columns[table] = Column::U16(tables);
        let fits = carried.columns.iter().zip(&def.columns).all(|(values, column)| values.fits(column.kind));
        if !fits {
            return None;
        }
        self.count(def, &carried);
        Some(carried)
    }

    /// Adds up how many rows a part of the ledger accounts for.
    fn count(&mut self, def: &TableDef, rows: &Batch) {
        let of =
            |name, row| def.column(name).and_then(|column| rows.columns[column].number(row)).unwrap_or(0);
        for row in 0..rows.rows {
            let table = of("table", row) as u16;
            if self.is_event(table) {
                let more = i128::from(of("stored", row)) + i128::from(of("carried_in", row));
                let less = i128::from(of("discarded", row)) + i128::from(of("carried_out", row));
                self.counts.entry(table).or_default().1 += more - less;
            }
        }
    }

    /// The rows that make the ledger close, once everything is written.
    pub fn close(mut self, trace: &Trace) -> Option<Batch> {
        let def = self.tables.iter().find(|def| def.name == LEDGER)?;
        let mut rows = self.gone(trace);
        let span = self.part.sliced.unwrap_or(trace.span);
        for (&table, &(written, due)) in &self.counts {
            let short = i128::from(written) - due;
            let name = if short > 0 { "stored" } else { "discarded" };
            let knows = self.part.sliced.is_some() || due != 0;
            if short != 0 && knows {
                let count = u64::try_from(short.unsigned_abs()).unwrap_or(u64::MAX);
                rows.push(row(span, table, name, count));
            }
        }
        (!rows.is_empty()).then(|| batch(def, &rows))
    }

    /// What the source lost after it was recorded.
    fn gone(&mut self, trace: &Trace) -> Vec<Row> {
        let mut rows = Vec::new();
        for (window, table, count) in trace.ledger().gone(trace) {
            let inside = self.part.sliced.is_none_or(|span| overlap(window, span));
            let Some(table) = self.number(table).filter(|_| inside) else { continue };
            rows.push(row(window, table, "discarded", count));
            if self.is_event(table) {
                self.counts.entry(table).or_default().1 -= i128::from(count);
            }
        }
        rows
    }
}

fn row(span: Window, table: u16, name: &'static str, count: u64) -> Row {
    let cpu = u64::from(u16::MAX);
    vec![("ts", span.from), ("until", span.to), ("cpu", cpu), ("table", table.into()), (name, count)]
}

/// Rows of a table whose other columns are 0.
fn batch(def: &TableDef, rows: &[Row]) -> Batch {
    let values = |name: &str| -> Vec<u64> {
        let value = |row: &Row| row.iter().find(|cell| cell.0 == name).map_or(0, |cell| cell.1);
        rows.iter().map(value).collect()
    };
    let column = |(name, kind): (&str, ColumnType)| match kind {
        ColumnType::Number { width: 1, .. } => Column::U8(values(name).iter().map(|&v| v as u8).collect()),
        ColumnType::Number { width: 2, .. } => Column::U16(values(name).iter().map(|&v| v as u16).collect()),
        ColumnType::Number { width: 4, .. } => Column::U32(values(name).iter().map(|&v| v as u32).collect()),
        ColumnType::Unknown(_) => Column::Absent,
        ColumnType::Number { .. } => Column::U64(values(name)),
        ColumnType::Text => Column::Text(Text { lengths: vec![0; rows.len()], bytes: Vec::new() }),
        ColumnType::Ip => {
            Column::Text(Text { lengths: vec![16; rows.len()], bytes: vec![0; 16 * rows.len()] })
        }
    };
    let columns = def.columns.iter().map(|def| column((&def.name, def.kind))).collect();
    Batch { table: def.number, stream: frame::RECORDER, rows: rows.len(), columns }
}
