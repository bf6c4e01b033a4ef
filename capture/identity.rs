//! Identity: what ids mean, kept in memory and written where events refer to them.
//!
//! Probes announce every task and socket that they come to know. Only those that recorded rows refer
//! to reach the file, followed transitively (a socket's owner, a task's ancestors): names survive
//! filters, and nobody else's leak. Each epoch repeats what it uses, so that it can be read alone.

use super::batch::trailing;
use super::layout::{Field, FieldKind, Layout};
use crate::schema::{Batch, Role};
use std::collections::HashMap;
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
    stores: HashMap<usize, Store>,
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
}

#[derive(Default)]
struct Entry {
    /// Records, oldest first; only the last is valid now.
    versions: Vec<Box<[u8]>>,
    /// How many of them this epoch has.
    written: usize,
    epoch: u32,
    ended: Option<u64>,
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
        let entry = store.entries.entry(key).or_default();
        entry.ended = ends.filter(|&ends| ends != 0).map(|_| ts);
        if entry.ended.is_some() {
            return; // only says so: the kernel has begun to take the object apart
        }
        entry.versions.push(record.into());
        if is_used(&store.used, key) {
            store.pending.push(key);
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

    /// The records that the file lacks for what has been marked, as (table, record), each once per epoch.
    pub fn take_pending(&mut self, mut to: impl FnMut(usize, &[u8])) {
        loop {
            let mut found = Vec::new();
            for (&table, store) in &mut self.stores {
                store.take_pending(self.epoch, |record| found.push((table, record.to_vec())));
            }
            if found.is_empty() {
                return;
            }
            found.sort();
            for (table, record) in found {
                self.follow(table, &record);
                to(table, &record);
            }
        }
    }

    /// What an identity row itself refers to is used too.
    fn follow(&mut self, table: usize, record: &[u8]) {
        for reference in &self.references[table] {
            let Some(store) = self.stores.get_mut(&reference.table) else { continue };
            let ids = match reference.kind {
                FieldKind::Trailing => trailing(record, reference.offset),
                _ => record.get(reference.offset..reference.offset + 4).unwrap_or(&[]),
            };
            let ids = ids.chunks_exact(4).map(|id| u32::from_le_bytes(id.try_into().expect("four")).into());
            ids.filter(|&id| Some(id) != reference.null).for_each(|id| store.mark(id));
        }
    }

    /// Begins a new epoch: everything used in it will be written again.
    pub fn next_epoch(&mut self) -> u32 {
        let horizon = self.newest.saturating_sub(LAG);
        for (&table, store) in &mut self.stores {
            let layout = &self.layouts[table];
            let ts = layout.find(|column| column.name == "ts").map_or(0, |field| field.offset);
            store.forget(horizon, ts, layout.renewed);
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

impl Store {
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
        for id in std::mem::take(&mut self.pending) {
            let Some(entry) = self.entries.get_mut(&id) else {
                unknown.push(id);
                continue;
            };
            if entry.epoch != epoch {
                entry.epoch = epoch;
                entry.written = 0;
            }
            entry.versions[entry.written..].iter().for_each(|record| to(record));
            entry.written = entry.versions.len();
        }
        self.pending = unknown;
    }

    /// Drops what no row can refer to any more, and the marks of the epoch.
    fn forget(&mut self, horizon: u64, ts: usize, renewed: bool) {
        let stale = |entry: &Entry| {
            let last = entry.versions.last().and_then(|record| number(record, ts, FieldKind::Number(8)));
            renewed && last.unwrap_or(0) <= horizon.saturating_sub(RENEWAL)
        };
        let ended = |entry: &Entry| entry.ended.is_some_and(|ended| ended <= horizon);
        self.entries.retain(|_, entry| !ended(entry) && !stale(entry));
        for entry in self.entries.values_mut() {
            let time = |record: &[u8]| number(record, ts, FieldKind::Number(8)).unwrap_or(0);
            // The last version from before the horizon still counts for rows after it.
            let old = entry.versions.iter().take_while(|record| time(record) <= horizon).count();
            entry.versions.drain(..old.saturating_sub(1));
            entry.written = 0;
            entry.epoch = u32::MAX;
        }
        self.used.fill(0);
        self.pending.retain(|id| !self.entries.contains_key(id));
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
