//! What ids mean: the rows of an identity table, found by key and moment.
//!
//! A thread id is used again and a thread changes its name, so `task` is asked for a moment: the
//! latest row up to it, else the earliest. Other ids are used once: their latest row knows most.

use super::hash::FastMap;
use super::rows::{Rows, Value};
use super::trace::Trace;

/// One identity table.
#[derive(Debug)]
pub(crate) struct Identity {
    rows: Rows,
    key: usize,
    time: Option<usize>,
    by_moment: bool,
    /// Rows by key and time, without repetitions.
    order: Vec<u32>,
    /// Per key, its part of `order`.
    parts: FastMap<u64, (u32, u32)>,
}

impl Identity {
    /// Reads a table whole: it repeats per epoch, and a report may need any row.
    pub fn load(trace: &Trace, table: &str) -> Option<Self> {
        let rows = trace.gather(table)?;
        let key = rows.def.columns.iter().position(|column| column.key)?;
        let time = rows.def.time();
        let moment = |row: u32| time.map_or(0, |time| rows.raw(time, row as usize));
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|&row| (rows.raw(key, row as usize), moment(row), row));
        // Each epoch repeats what it uses; and rows that differ only in when and where they were written
        // say nothing new.
        let skip = [time, rows.def.column("cpu")];
        let told: Vec<usize> = (0..rows.def.columns.len()).filter(|&at| !skip.contains(&Some(at))).collect();
        let repeated =
            |a: u32, b: u32| rows.raw(key, a as usize) == rows.raw(key, b as usize) && moment(a) == moment(b);
        order.dedup_by(|later, earlier| {
            repeated(*later, *earlier) || rows.same(&told, *later as usize, *earlier as usize)
        });
        let mut parts: FastMap<u64, (u32, u32)> = FastMap::default();
        for (at, &row) in (0..).zip(&order) {
            parts.entry(rows.raw(key, row as usize)).or_insert((at, at)).1 = at + 1;
        }
        Some(Self { by_moment: table == "task", rows, key, time, order, parts })
    }

    /// The row that says what `key` was at `moment`.
    pub fn find(&self, key: u64, moment: u64) -> Option<u32> {
        let part = self.versions(key);
        if !self.by_moment {
            return part.last().copied();
        }
        let at = part.partition_point(|&row| self.moment(row) <= moment);
        part.get(at.saturating_sub(1)).copied()
    }

    /// Every row of a key, by time.
    pub fn versions(&self, key: u64) -> &[u32] {
        self.parts.get(&key).map_or(&[], |&(from, to)| &self.order[from as usize..to as usize])
    }

    /// The rows without repetitions, by key and time.
    pub fn all(&self) -> &[u32] {
        &self.order
    }

    /// When a row was written.
    pub fn moment(&self, row: u32) -> u64 {
        self.time.map_or(0, |time| self.rows.raw(time, row as usize))
    }

    /// Position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.rows.def.column(name)
    }

    /// Every key, in order.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.order.chunk_by(|&a, &b| self.key(a) == self.key(b)).map(|rows| self.key(rows[0]))
    }

    /// The bytes of a text or an address of a row.
    pub fn bytes(&self, column: usize, row: u32) -> &[u8] {
        self.rows.bytes(column, row as usize)
    }

    /// The key of a row.
    pub fn key(&self, row: u32) -> u64 {
        self.rows.raw(self.key, row as usize)
    }

    /// A number of a row.
    pub fn get(&self, column: usize, row: u32) -> Option<i64> {
        self.rows.get(column, row as usize)
    }

    /// A cell of a row as reports show it.
    pub fn value(&self, trace: &Trace, column: usize, row: u32) -> Value {
        self.rows.value(trace.labels(), column, row as usize)
    }

    /// A cell by id and column name; null where either is not known.
    pub fn look_up(&self, trace: &Trace, key: u64, moment: u64, column: &str) -> Value {
        let found = self.find(key, moment).zip(self.column(column));
        found.map_or(Value::Null, |(row, column)| self.value(trace, column, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::testkit::{START, Tape};

    #[test]
    fn a_thread_is_who_it_was_at_that_moment() {
        let mut tape = Tape::new();
        tape.task(100, 7, 70, "sh").task(200, 7, 70, "make").task(900, 7, 71, "later").task(100, 7, 70, "sh");
        let trace = tape.open();
        let tasks = trace.identity("task").expect("the table is there");
        let name = |at| tasks.look_up(&trace, 7, START + at, "comm");
        assert_eq!(tasks.versions(7).len(), 3, "repetitions are one row");
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(
            (name(50), name(150), name(200), name(5_000)),
            (text("sh"), text("sh"), text("make"), text("later"))
        );
        assert_eq!(tasks.look_up(&trace, 8, START, "comm"), Value::Null);
    }

    #[test]
    fn the_latest_row_of_a_socket_counts() {
        let mut tape = Tape::new();
        tape.sock(100, 1, 2, 0, 80).sock(200, 1, 2, 4711, 80);
        let trace = tape.open();
        let socks = trace.identity("sock").expect("the table is there");
        assert_eq!(socks.look_up(&trace, 1, 0, "lport"), Value::Int(4711));
    }
}
