//! Identity: what ids mean, kept in memory and written where events refer to them.
//!
//! Probes announce every task and socket that they come to know. Only those that recorded rows refer
//! to reach the file, followed transitively (a socket's owner, a task's ancestors): names survive
//! filters, and nobody else's leak. Each epoch repeats what it uses, so that it can be read alone.

use super::batch::trailing;
use super::layout::{Field, FieldKind, Layout};
use crate::schema::{Batch, Role};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// A version that has been replaced may still be asked for by a stream that lags this far, ns.
const LAG: u64 = 5_000_000_000;
/// A row that is not renewed for this long is not used any more, ns: what `RENEWAL_SHIFT` of `bpf/file.bpf.h` stands for.
const RENEWAL: u64 = 1 << 35;
/// Ids above this are not tracked by bit: no kernel hands them out.
const MAX_ID: u64 = 1 << 28;

/// Identity rows by table and id.
pub struct Identity {
    layouts: Arc<Vec<Layout>>,
    /// Per table: where its rows refer to identity (column position, field offset, table, null).
    references: Vec<Vec<Reference>>,
    stores: BTreeMap<usize, Store>,
    epoch: u32,
    newest: u64,
}

#[derive(Clone, Copy)]
struct Reference {
    column: usize,
    offset: usize,
    /// Text is a list of ids, four bytes each.
    kind: FieldKind,
    table: usize,
    null: Option<u64>,
}

#[derive(Default)]
struct Store {
    entries: HashMap<u64, Entry>,
    /// Ids that rows of this epoch refer to.
    used: Vec<u64>,
    /// Used ids with something to write.
    pending: Vec<u64>,
    // What an epoch's end has to look at; all other entries are left as they are.
    /// Ids with more than one version.
    several: Vec<u64>,
    /// Ids whose end has been said.
    ended: Vec<u64>,
    /// When which id was renewed.
    renewals: VecDeque<(u64, u64)>,
}

#[derive(Default)]
struct Entry {
    /// Records by their time; only the last is valid now.
    versions: Vec<Version>,
    /// How many of them that epoch has.
    written: usize,
    epoch: u32,
    ended: Option<u64>,
    /// It stands among those whose end has been said, where it stands once however often it ends.
    ends: bool,
}

struct Version {
    ts: u64,
    record: Box<[u8]>,
}

impl Identity {
    /// For the tables of one recording.
    #[must_use]
    pub fn new(layouts: &Arc<Vec<Layout>>) -> Self {
        let identity =
            |name: &str| layouts.iter().position(|l| l.def.role == Role::Identity && l.def.name == name);
        let references = layouts.iter().map(|layout| {
            let columns = layout.def.columns.iter().enumerate();
            let brings = columns.filter(|(column, _)| !layout.others.contains(column));
            let reference = brings.filter_map(|(column, def)| {
                let table = identity(&def.references)?;
                let Field { offset, kind } = layout.fields[column];
                Some(Reference { column, offset, kind, table, null: def.null })
            });
            reference.collect()
        });
        let stores = (0..layouts.len())
            .filter(|&i| layouts[i].def.role == Role::Identity)
            .map(|i| (i, Store::default()));
        Self {
            references: references.collect(),
            stores: stores.collect(),
            layouts: Arc::clone(layouts),
            epoch: 0,
            newest: 0,
        }
    }

    /// Takes an identity record of table number `table`.
    pub fn define(&mut self, table: usize, record: &[u8]) {
        let Some(layout) = self.layouts.get(table) else { return };
        let value = |condition: fn(&crate::schema::ColumnDef) -> bool| {
            let field = layout.find(condition)?;
            number(record, field.offset, field.kind)
        };
        let (key, ends) = (value(|column| column.key), value(|column| column.ends));
        let (Some(key), Some(ts)) = (key, value(|column| column.name == "ts")) else { return };
        let Some(store) = self.stores.get_mut(&table) else { return };
        self.newest = self.newest.max(ts);
        if ends.is_some_and(|ends| ends != 0) {
            store.end(key, ts); // only says so: the kernel has begun to take the object apart
        } else {
            store.add(key, ts, record, layout.renewed);
        }
    }

    /// Notes the ids that the rows of a batch refer to.
    pub fn mark(&mut self, batch: &Batch) {
        for reference in &self.references[usize::from(batch.table)] {
            let Some(store) = self.stores.get_mut(&reference.table) else { continue };
            let null = reference.null.unwrap_or(u64::MAX);
            let mut last = None;
            for &id in batch.columns[reference.column].u32s() {
                if Some(id) != last && u64::from(id) != null {
                    store.mark(id.into());
                }
                last = Some(id);
            }
        }
    }

    /// The records that the file lacks for what has been marked, as (table, record), each once per epoch. Rows that
    /// were marked together come by id: what was met together lies together, and is told in fewer bytes.
    pub fn take_pending(&mut self, mut to: impl FnMut(usize, &[u8])) {
        loop {
            let mut used = Vec::new();
            for (&table, store) in &mut self.stores {
                store.take_pending(self.epoch, |record| {
                    follow(&self.references[table], record, &mut used);
                    to(table, record);
                });
            }
            if used.is_empty() {
                return;
            }
            for (table, id) in used {
                self.stores.entry(table).or_default().mark(id);
            }
        }
    }

    /// Begins a new epoch: everything used in it will be written again.
    pub fn next_epoch(&mut self) -> u32 {
        let horizon = self.newest.saturating_sub(LAG);
        for store in self.stores.values_mut() {
            store.forget(horizon);
        }
        self.epoch += 1;
        self.epoch
    }

    /// The epoch that rows now belong to.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

/// Rows of one id come from several rings (a task is forked on one processor and executes on another), and
/// rings are emptied one after the other: the order of arrival is not that of time.
impl Entry {
    fn add(&mut self, ts: u64, record: &[u8]) {
        let at = self.versions.partition_point(|version| version.ts <= ts);
        if self.versions.is_empty() {
            self.versions.reserve_exact(1); // nearly all have one
        }
        self.versions.insert(at, Version { ts, record: record.into() });
        // What comes after it is written once more, which readers know how to take.
        self.written = self.written.min(at);
        self.ended = self.ended.filter(|&ended| ended >= ts);
    }

    fn end(&mut self, ts: u64) {
        if self.versions.last().is_none_or(|last| last.ts <= ts) {
            self.ended = Some(ts);
        }
    }

    /// Drops what no row after the horizon can mean: the last version from before it still counts for those.
    /// True: more than one is left.
    fn forget(&mut self, horizon: u64) -> bool {
        let old = self.versions.partition_point(|version| version.ts <= horizon);
        self.versions.drain(..old.saturating_sub(1));
        self.written = 0;
        self.versions.len() > 1
    }

    /// When the last version was made.
    fn last(&self) -> u64 {
        self.versions.last().map_or(0, |version| version.ts)
    }
}

impl Store {
    fn add(&mut self, id: u64, ts: u64, record: &[u8], renewed: bool) {
        let entry = self.entries.entry(id).or_default();
        entry.add(ts, record);
        if entry.versions.len() == 2 {
            self.several.push(id);
        }
        if renewed {
            self.renewals.push_back((ts, id));
        }
        if is_used(&self.used, id) {
            self.pending.push(id);
        }
    }

    fn end(&mut self, id: u64, ts: u64) {
        let entry = self.entries.entry(id).or_default();
        entry.end(ts);
        if entry.ended.is_some() && !std::mem::replace(&mut entry.ends, true) {
            self.ended.push(id);
        }
    }

    fn mark(&mut self, id: u64) {
        let (word, bit) = ((id / 64) as usize, 1 << (id % 64));
        if id > MAX_ID {
            return;
        }
        if self.used.len() <= word {
            self.used.resize(word + 1, 0);
        }
        if self.used[word] & bit == 0 {
            self.used[word] |= bit;
            self.pending.push(id);
        }
    }

    fn take_pending(&mut self, epoch: u32, mut to: impl FnMut(&[u8])) {
        let mut unknown = Vec::new();
        self.pending.sort_unstable();
        self.pending.dedup();
        for id in self.pending.drain(..) {
            let Some(entry) = self.entries.get_mut(&id) else {
                unknown.push(id);
                continue;
            };
            if entry.epoch != epoch {
                entry.epoch = epoch;
                entry.written = 0;
            }
            entry.versions[entry.written..].iter().for_each(|version| to(&version.record));
            entry.written = entry.versions.len();
        }
        self.pending = unknown;
    }

    /// Drops what no row can refer to any more, and the marks of the epoch.
    fn forget(&mut self, horizon: u64) {
        self.ended.retain(|id| {
            let Some(entry) = self.entries.get_mut(id) else { return false };
            entry.ends = entry.ended.is_some_and(|ended| ended > horizon);
            if entry.ended.is_some_and(|ended| ended <= horizon) {
                self.entries.remove(id);
                return false;
            }
            entry.ends
        });
        let stale = horizon.saturating_sub(RENEWAL);
        while let Some(&(_, id)) = self.renewals.front().filter(|(ts, _)| *ts <= stale) {
            if self.entries.get(&id).is_some_and(|entry| entry.last() <= stale) {
                self.entries.remove(&id);
            }
            self.renewals.pop_front();
        }
        self.several.retain(|id| self.entries.get_mut(id).is_some_and(|entry| entry.forget(horizon)));
        self.used.fill(0);
        self.pending.retain(|id| !self.entries.contains_key(id));
        for id in std::mem::take(&mut self.pending) {
            self.mark(id); // not twice, however many epochs it is waited for
        }
    }
}

/// Adds what the ids in a row's columns refer to, as (table, id).
fn follow(references: &[Reference], record: &[u8], to: &mut Vec<(usize, u64)>) {
    for reference in references {
        let ids = match reference.kind {
            FieldKind::Trailing => trailing(record, reference.offset),
            _ => record.get(reference.offset..reference.offset + 4).unwrap_or(&[]),
        };
        let ids = ids.chunks_exact(4).map(|id| u32::from_le_bytes(id.try_into().expect("four")).into());
        to.extend(ids.filter(|&id| Some(id) != reference.null).map(|id| (reference.table, id)));
    }
}

fn is_used(used: &[u64], id: u64) -> bool {
    used.get((id / 64) as usize).is_some_and(|word| word & (1 << (id % 64)) != 0)
}

fn number(record: &[u8], offset: usize, kind: FieldKind) -> Option<u64> {
    let FieldKind::Number(width) = kind else { return None };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(record.get(offset..offset + width)?);
    Some(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;
    use crate::schema::Column;

    const SECOND: u64 = 1_000_000_000;

    /// Thread 7 and what is said of it.
    struct Tasks {
        identity: Identity,
        layouts: Arc<Vec<Layout>>,
        table: usize,
    }

    impl Tasks {
        fn new() -> Self {
            let layouts = Arc::new(Plan::new(&["proc".into()]).expect("a group").layouts);
            let table = layouts.iter().position(|layout| layout.def.name == "task").expect("a table");
            Self { identity: Identity::new(&layouts), layouts, table }
        }

        fn says(&mut self, ts: u64, comm: &str) {
            let layout = &self.layouts[self.table];
            let mut record = vec![0; layout.size];
            let mut set = |name: &str, value: &[u8]| {
                let field = layout.find(|column| column.name == name).expect("a column");
                record[field.offset..field.offset + value.len()].copy_from_slice(value);
            };
            set("ts", &ts.to_le_bytes());
            set("tid", &7u32.to_le_bytes());
            set("comm", comm.as_bytes());
            set("ended", &[u8::from(comm.is_empty())]);
            self.identity.define(self.table, &record);
        }

        /// What is written where rows refer to the thread.
        fn written(&mut self) -> Vec<String> {
            let layouts = Arc::clone(&self.layouts);
            let fork = layouts.iter().position(|layout| layout.def.name == "process_exit").expect("a table");
            let column = |def: &crate::schema::ColumnDef| match def.name.as_str() {
                "tid" => Column::U32(vec![7]),
                _ => Column::U32(vec![0]),
            };
            let columns = layouts[fork].def.columns.iter().map(column).collect();
            let batch = Batch { table: fork as u16, rows: 1, columns, ..Batch::default() };
            self.identity.mark(&batch);
            let comm = layouts[self.table].find(|column| column.name == "comm").expect("a column").offset;
            let mut found = Vec::new();
            self.identity.take_pending(|_, record| {
                let name = record[comm..comm + 16].split(|&byte| byte == 0).next().unwrap_or(&[]);
                found.push(String::from_utf8_lossy(name).into_owned());
            });
            found.sort(); // readers go by the rows' times
            found
        }
    }

    #[test]
    fn a_fork_that_arrives_after_the_exec_does_not_replace_it() {
        let mut tasks = Tasks::new();
        tasks.says(SECOND + 200, "sleep");
        assert_eq!(tasks.written(), ["sleep"]);
        tasks.says(SECOND, "bash");
        assert_eq!(tasks.written(), ["bash", "sleep"], "and once more what comes after it");
        tasks.says(20 * SECOND, "sleeper");
        tasks.identity.next_epoch();
        assert_eq!(tasks.written(), ["sleep", "sleeper"], "bash was over before any row that may still come");
        for _ in 0..3 {
            tasks.identity.next_epoch();
        }
        tasks.identity.newest = 40 * SECOND;
        tasks.identity.next_epoch();
        assert_eq!(tasks.written(), ["sleeper"]);
    }

    #[test]
    fn an_end_that_arrives_late_is_the_end_of_the_one_before() {
        let mut tasks = Tasks::new();
        tasks.says(SECOND, "first");
        tasks.says(3 * SECOND, "second");
        tasks.says(2 * SECOND, "");
        tasks.identity.newest = 40 * SECOND;
        tasks.identity.next_epoch();
        assert_eq!(tasks.written(), ["second"]);
        tasks.says(41 * SECOND, "");
        tasks.says(39 * SECOND, "renamed");
        tasks.identity.newest = 80 * SECOND;
        tasks.identity.next_epoch();
        assert!(tasks.written().is_empty(), "what was said before the end does not undo it");
    }

    #[test]
    fn an_epoch_forgets_what_ended_or_was_not_renewed_and_nothing_else() {
        let mut store = Store::default();
        let known = |store: &Store| {
            let mut ids: Vec<u64> = store.entries.keys().copied().collect();
            ids.sort_unstable();
            ids
        };
        for id in 1..=4 {
            store.add(id, SECOND, &[0], id > 2);
        }
        store.end(1, 2 * SECOND);
        store.end(1, 3 * SECOND); // said twice
        assert_eq!(store.ended, [1]);
        store.end(2, 2 * SECOND);
        store.add(2, 3 * SECOND, &[0], false); // and there again
        store.add(4, 20 * SECOND, &[0], true);
        store.forget(2 * SECOND);
        assert_eq!(known(&store), [1, 2, 3, 4], "rows from before the second end may still come");
        store.forget(4 * SECOND);
        assert_eq!(known(&store), [2, 3, 4]);
        store.forget(SECOND + RENEWAL);
        assert_eq!(known(&store), [2, 4]);
        store.forget(20 * SECOND + RENEWAL);
        assert_eq!(known(&store), [2]);
        assert_eq!((store.ended.len(), store.several.len(), store.renewals.len()), (0, 0, 0));
        store.mark(7);
        store.forget(0);
        store.mark(7);
        assert_eq!(store.pending, [7], "waited for once");
    }
}
