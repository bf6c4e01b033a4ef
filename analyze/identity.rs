//! What ids mean: the rows of an identity table, found by key and moment.
//!
//! A thread id is used again and a thread changes its name, so `task` is asked for a moment: the
//! latest row up to it, else the earliest. Other ids are used once: their latest row knows most.

use super::distinct;
use super::rows::{Rows, Value};
use super::trace::Trace;
use crate::schema::ColumnType;
use crate::schema::hash::FastMap;
use rayon::prelude::*;

/// One identity table.
#[derive(Debug)]
pub(crate) struct Identity {
    rows: Rows,
    key: usize,
    time: Option<usize>,
    by_moment: bool,
    /// Rows by key and time, without repetitions.
    order: Vec<u32>,
    parts: Parts,
}

/// Per key, its part of the order.
#[derive(Debug)]
enum Parts {
    /// Ids that count up: where each of them begins, from the lowest on.
    Dense {
        low: u64,
        starts: Vec<u32>,
    },
    Sparse(FastMap<u64, (u32, u32)>),
}

impl Parts {
    /// From keys in order.
    fn new(keys: &[u64]) -> Self {
        let (low, high) = (keys.first().copied().unwrap_or(0), keys.last().copied().unwrap_or(0));
        if high - low < 4 * keys.len() as u64 {
            let mut starts = vec![0; (high - low) as usize + 2];
            for key in keys {
                starts[(key - low) as usize + 1] += 1;
            }
            for at in 1..starts.len() {
                starts[at] += starts[at - 1];
            }
            return Self::Dense { low, starts };
        }
        let mut parts: FastMap<u64, (u32, u32)> = FastMap::default();
        for (at, &key) in (0..).zip(keys) {
            parts.entry(key).or_insert((at, at)).1 = at + 1;
        }
        Self::Sparse(parts)
    }

    #[inline]
    fn of(&self, key: u64) -> (usize, usize) {
        let (from, to) = match self {
            Self::Dense { low, starts } => {
                let at = usize::try_from(key.wrapping_sub(*low)).unwrap_or(usize::MAX);
                match starts.get(at..at.saturating_add(2)) {
                    Some(&[from, to]) => (from, to),
                    _ => (0, 0),
                }
            }
            Self::Sparse(parts) => parts.get(&key).copied().unwrap_or((0, 0)),
        };
        (from as usize, to as usize)
    }
}

impl Identity {
    /// Reads a table.
    pub fn load(trace: &Trace, table: &str) -> Option<Self> {
        let def = trace.table(table)?;
        let key = def.columns.iter().position(|column| column.key)?;
        let rows = distinct::rows(trace, def, key);
        let time = rows.def.time();
        let moment = |row: u32| time.map_or(0, |time| rows.raw(time, row as usize));
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        trace.install(|| order.par_sort_by_key(|&row| (rows.raw(key, row as usize), moment(row), row)));
        // Rows that differ only in when and where they were written say nothing new.
        let skip = [time, rows.def.column("cpu")];
        let told: Vec<usize> = (0..rows.def.columns.len()).filter(|&at| !skip.contains(&Some(at))).collect();
        order.dedup_by(|later, earlier| rows.same(&told, *later as usize, *earlier as usize));
        let keys: Vec<u64> = order.iter().map(|&row| rows.raw(key, row as usize)).collect();
        // Where no thread took another name, the moment says nothing and need not be decoded.
        let by_moment = table == "task" && keys.windows(2).any(|keys| keys[0] == keys[1]);
        Some(Self { by_moment, rows, key, time, order, parts: Parts::new(&keys) })
    }

    /// Number of rows that [`Identity::find`] can point at, repetitions among them.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether an id means different things at different moments.
    pub fn by_moment(&self) -> bool {
        self.by_moment
    }

    /// The row that says what `key` was at `moment`.
    pub fn find(&self, key: u64, moment: u64) -> Option<u32> {
        let part = self.versions(key);
        if !self.by_moment {
            return part.last().copied();
        }
        if let &[only] = part {
            return Some(only);
        }
        let at = part.partition_point(|&row| self.moment(row) <= moment);
        part.get(at.saturating_sub(1)).copied()
    }

    /// Every row of a key, by time.
    pub fn versions(&self, key: u64) -> &[u32] {
        let (from, to) = self.parts.of(key);
        &self.order[from..to]
    }

    /// The latest row of every key, by key.
    pub fn latest(&self) -> impl Iterator<Item = u32> {
        self.order.chunk_by(|&a, &b| self.key(a) == self.key(b)).filter_map(|rows| rows.last().copied())
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

    /// The ids in a column that refers to an identity table: one, or a list of four bytes each in a text.
    pub fn ids(&self, column: usize, row: u32) -> impl Iterator<Item = u64> {
        let one = self.get(column, row).map(i64::cast_unsigned);
        let list = self.bytes(column, row).chunks_exact(4);
        let list = list.map(|id| u32::from_le_bytes(id.try_into().expect("four bytes")).into());
        one.filter(|_| self.rows.def.columns[column].kind != ColumnType::Text).into_iter().chain(list)
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

    /// Whether a row says the same as a row of another trace's table of the same columns.
    pub fn says_as(&self, row: u32, other: &Self, its: u32) -> bool {
        let (row, its) = (row as usize, its as usize);
        let same = |at| {
            self.rows.raw(at, row) == other.rows.raw(at, its)
                && self.rows.bytes(at, row) == other.rows.bytes(at, its)
        };
        (0..self.rows.def.columns.len()).all(same)
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
