//! What ids mean: the rows of an identity table, found by key and moment.
//!
//! A thread id is used again and a thread changes its name, so `task` is asked for a moment: the
//! latest row up to it, else the earliest. Other ids are used once: their latest row knows most.
//!
//! There may be more rows than events, and most questions need a column or two: each is read when it is needed.

use super::distinct::{Distinct, Id, Said};
use super::rows::{Rows, Value};
use super::trace::Trace;
use crate::schema::hash::{FastMap, FastSet};
use crate::schema::{Batch, Column, ColumnType, TableDef};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// One identity table.
#[derive(Debug)]
pub(crate) struct Identity {
    def: Arc<TableDef>,
    rows: Distinct,
    /// Per column, what was said, once it was needed.
    columns: Vec<OnceLock<Values>>,
    by_moment: bool,
    /// Rows by key and time; those of threads without repetitions.
    order: Vec<u32>,
    parts: Parts,
}

/// What rows have in a column.
#[derive(Debug)]
struct Values {
    rows: Rows,
    /// Rows of damaged frames of which nobody else says what they have.
    unsaid: FastSet<u32>,
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

/// Where each key's part begins, from the lowest key on, and where the last one ends; `None` where they are too far apart.
fn starts(keys: impl Iterator<Item = u64> + Clone) -> Option<(u64, Vec<u32>)> {
    let (low, high) = (keys.clone().min()?, keys.clone().max()?);
    if high - low >= 4 * keys.clone().count() as u64 {
        return None;
    }
    let mut starts = vec![0; (high - low) as usize + 2];
    keys.for_each(|key| starts[(key - low) as usize + 1] += 1);
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    Some((low, starts))
}

/// Rows by key and moment.
fn in_order(trace: &Trace, ids: &[Id]) -> (Vec<u32>, Parts) {
    let Some((low, starts)) = starts(ids.iter().map(|id| id.0)) else {
        let mut places: Vec<(Id, u32)> = ids.iter().copied().zip(0..).collect();
        trace.install(|| places.par_sort_unstable());
        let keys: Vec<u64> = places.iter().map(|place| place.0.0).collect();
        return (places.into_iter().map(|place| place.1).collect(), Parts::new(&keys));
    };
    let (mut order, mut next) = (vec![0; ids.len()], starts.clone());
    for (row, id) in (0..).zip(ids) {
        let at = &mut next[(id.0 - low) as usize];
        order[*at as usize] = row;
        *at += 1;
    }
    for part in starts.windows(2).filter(|part| part[1] - part[0] > 1) {
        order[part[0] as usize..part[1] as usize].sort_unstable_by_key(|&row| (ids[row as usize].1, row));
    }
    (order, Parts::Dense { low, starts })
}

impl Parts {
    /// From keys in order.
    fn new(keys: &[u64]) -> Self {
        if let Some((low, starts)) = starts(keys.iter().copied()) {
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
    /// Finds the rows of a table.
    pub fn load(trace: &Trace, table: &str) -> Option<Self> {
        let def = Arc::clone(trace.table(table)?);
        let rows = Distinct::of(trace, &def, def.key()?);
        let (order, parts) = in_order(trace, rows.ids());
        let columns = def.columns.iter().map(|_| OnceLock::new()).collect();
        let mut identity = Self { def, rows, columns, by_moment: false, order, parts };
        if table == "task" {
            identity.need_all(trace);
            identity.leave_out_repetitions();
            let keys: Vec<u64> = identity.order.iter().map(|&row| identity.key(row)).collect();
            // Where no thread took another name, the moment says nothing and need not be decoded.
            identity.by_moment = keys.windows(2).any(|keys| keys[0] == keys[1]);
            identity.parts = Parts::new(&keys);
        }
        Some(identity)
    }

    /// Rows that differ only in when and where they were written say nothing new, nor do those of which a part is damaged
    /// where others of the key are whole.
    fn leave_out_repetitions(&mut self) {
        let mut order = std::mem::take(&mut self.order);
        let skip = [self.def.time(), self.def.column("cpu")];
        let told: Vec<usize> = (0..self.columns.len()).filter(|&at| !skip.contains(&Some(at))).collect();
        let whole = |row: &u32| told.iter().all(|&at| !self.values(at).unsaid.contains(row));
        if !order.iter().all(whole) {
            let known: FastSet<u64> =
                order.iter().filter(|row| whole(row)).map(|&row| self.key(row)).collect();
            order.retain(|row| whole(row) || !known.contains(&self.key(*row)));
        }
        let same = |a: u32, b: u32| told.iter().all(|&at| self.of(at).same(at, a as usize, b as usize));
        order.dedup_by(|later, earlier| same(*later, *earlier));
        self.order = order;
    }

    /// Reads columns that were not read yet.
    pub fn need(&self, trace: &Trace, wanted: &[usize]) {
        let unread = |at: &usize| self.columns[*at].get().is_none();
        let mut missing: Vec<usize> = wanted.iter().copied().filter(unread).collect();
        missing.sort_unstable();
        missing.dedup();
        // How an address is printed depends on its family.
        let is_address = |&at: &usize| self.def.columns[at].kind == ColumnType::Ip;
        let family = self.column("family").filter(|_| missing.iter().any(is_address));
        missing.extend(family.filter(|at| unread(at) && !missing.contains(at)));
        if missing.is_empty() {
            return;
        }
        let mut said: Vec<(usize, Said)> =
            missing.iter().copied().zip(self.rows.read(trace, &missing)).collect();
        // The family first, since the others take it from there.
        said.sort_by_key(|(at, _)| Some(*at) != family);
        for (at, Said { column, unsaid }) in said {
            let mut columns = vec![Column::Absent; self.columns.len()];
            if let Some(family) = family.filter(|_| is_address(&at)) {
                columns[family] = self.of(family).column(family).clone();
            }
            columns[at] = column;
            let batch = Batch { rows: self.len(), columns, ..Batch::default() };
            let rows = Rows::new(Arc::clone(&self.def), batch);
            self.columns[at].get_or_init(|| Values { rows, unsaid });
        }
    }

    /// Reads all columns.
    pub fn need_all(&self, trace: &Trace) {
        self.need(trace, &(0..self.columns.len()).collect::<Vec<_>>());
    }

    fn values(&self, column: usize) -> &Values {
        self.columns[column].get().expect("who asks for a column has said that it is needed")
    }

    /// The values of a column.
    fn of(&self, column: usize) -> &Rows {
        &self.values(column).rows
    }

    /// Number of rows that [`Identity::find`] can point at, repetitions among them.
    pub fn len(&self) -> usize {
        self.rows.ids().len()
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

    /// Every key and its latest row, by key.
    pub fn latest(&self) -> Box<dyn Iterator<Item = (u64, u32)> + '_> {
        match &self.parts {
            Parts::Dense { low, starts } => {
                let parts = (*low..).zip(starts.windows(2)).filter(|(_, part)| part[0] < part[1]);
                Box::new(parts.map(|(key, part)| (key, self.order[part[1] as usize - 1])))
            }
            Parts::Sparse(_) => {
                let parts = self.order.chunk_by(|&a, &b| self.key(a) == self.key(b));
                Box::new(parts.filter_map(|rows| Some((self.key(rows[0]), *rows.last()?))))
            }
        }
    }

    /// All rows, by key and time.
    pub fn all(&self) -> &[u32] {
        &self.order
    }

    /// When a row was written.
    pub fn moment(&self, row: u32) -> u64 {
        self.rows.ids()[row as usize].1
    }

    /// Position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.def.column(name)
    }

    /// Every key, in order.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.latest().map(|(key, _)| key)
    }

    /// The bytes of a text or an address of a row.
    pub fn bytes(&self, column: usize, row: u32) -> &[u8] {
        self.of(column).bytes(column, row as usize)
    }

    /// The ids in a column that refers to an identity table: one, or a list of four bytes each in a text.
    pub fn ids(&self, column: usize, row: u32) -> impl Iterator<Item = u64> {
        let one = self.get(column, row).map(i64::cast_unsigned);
        let list = self.bytes(column, row).chunks_exact(4);
        let list = list.map(|id| u32::from_le_bytes(id.try_into().expect("four bytes")).into());
        one.filter(|_| self.def.columns[column].kind != ColumnType::Text).into_iter().chain(list)
    }

    /// The key of a row.
    pub fn key(&self, row: u32) -> u64 {
        self.rows.ids()[row as usize].0
    }

    /// A number of a row.
    pub fn get(&self, column: usize, row: u32) -> Option<i64> {
        let Values { rows, unsaid } = self.values(column);
        if unsaid.contains(&row) { None } else { rows.get(column, row as usize) }
    }

    /// A cell of a row as reports show it.
    pub fn value(&self, trace: &Trace, column: usize, row: u32) -> Value {
        let Values { rows, unsaid } = self.values(column);
        if unsaid.contains(&row) { Value::Null } else { rows.value(trace.labels(), column, row as usize) }
    }

    /// Whether a row says the same as a row of another trace's table of the same columns.
    pub fn says_as(&self, row: u32, other: &Self, its: u32) -> bool {
        let same = |at| {
            let (ours, theirs) = (self.of(at), other.of(at));
            ours.raw(at, row as usize) == theirs.raw(at, its as usize)
                && ours.bytes(at, row as usize) == theirs.bytes(at, its as usize)
        };
        (0..self.columns.len()).all(same)
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
