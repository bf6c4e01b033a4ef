//! What the programs stored against what arrived: at any moment the difference is in a ring, or in a reading
//! of the ledger that is still to come. Where one file of a set ends, that is what the next one inherits.

use super::ledger::{carried_row, stored_of};
use std::collections::BTreeMap;

/// Per event table: records that the ledger says were stored, rows that arrived.
#[derive(Debug, Default)]
pub struct Books(BTreeMap<u16, (u64, u64)>);

impl Books {
    /// Rows of an event table arrived.
    pub fn arrived(&mut self, table: u16, rows: u64) {
        self.0.entry(table).or_default().1 += rows;
    }

    /// A row of the ledger.
    pub fn counted(&mut self, row: &[u8]) {
        if let Some((table, stored)) = stored_of(row) {
            self.0.entry(table).or_default().0 += stored;
        }
    }

    /// The ledger rows that close one file, and those that open the next, for tables for which `is_event` holds.
    #[must_use]
    pub fn border(&self, at: u64, is_event: impl Fn(u16) -> bool) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let open = self.0.iter().filter(|&(&table, &(stored, rows))| is_event(table) && stored != rows);
        let rows = |(&table, &(stored, rows)): (&u16, &(u64, u64))| {
            let (ahead, behind) = (stored.saturating_sub(rows), rows.saturating_sub(stored));
            (carried_row(at, table, (behind, ahead)), carried_row(at, table, (ahead, behind)))
        };
        open.map(rows).unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_file_lends_the_next_one_pays_back() {
        let mut books = Books::default();
        books.arrived(3, 10);
        books.arrived(4, 5);
        books.counted(&super::super::ledger::carried_row(0, 3, (0, 0)));
        let (closing, opening) = books.border(77, |table| table == 3);
        assert_eq!(closing, [carried_row(77, 3, (10, 0))], "ten rows came before the ledger was read");
        assert_eq!(opening, [carried_row(77, 3, (0, 10))]);
        assert_eq!(Books::default().border(1, |_| true), (Vec::new(), Vec::new()));
    }
}
