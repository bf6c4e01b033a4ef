//! Which identity rows a slice keeps: those of the ids that its events refer to, and of what these refer to.
//!
//! In the epochs of its events a slice keeps every such row, so that each epoch still stands alone. Of other
//! epochs it keeps what says something new: a later row may know more of a socket, an earlier one names a thread.

use crate::analyze::load::{Chunk, Scan};
use crate::analyze::rows::Rows;
use crate::analyze::trace::Trace;
use crate::schema::reader::{Frame, Scratch};
use crate::schema::{Role, TableDef};
use std::collections::{BTreeMap, HashSet};

/// Per identity table, by name, the ids that are referred to.
type Ids = BTreeMap<String, HashSet<u64>>;

/// The identity rows that stay.
pub(super) struct Names {
    ids: Ids,
    /// Epochs that hold chosen events.
    epochs: HashSet<u32>,
    /// Rows that say something new: by file offset of the frame, and row.
    news: HashSet<(u64, usize)>,
}

impl Names {
    /// Of what the chosen events refer to.
    pub fn of(trace: &Trace, scans: &BTreeMap<u16, Scan>) -> Self {
        let mut names = Self { ids: Ids::new(), epochs: HashSet::new(), news: HashSet::new() };
        for scan in scans.values() {
            names.epochs.extend(scan.frames().iter().map(|frame| frame.header.epoch));
            for (table, ids) in referred(trace, scan) {
                names.ids.entry(table).or_default().extend(ids);
            }
        }
        names.follow(trace);
        let identities = trace.tables.iter().filter(|def| def.role == Role::Identity);
        identities.for_each(|def| names.find_news(trace, def));
        names
    }

    /// Whether a row stays.
    pub fn tell(&self, frame: &Frame, rows: &Rows, row: usize) -> bool {
        let key = rows.def.key();
        let asked =
            key.zip(self.ids.get(&rows.def.name)).is_some_and(|(key, ids)| ids.contains(&rows.raw(key, row)));
        asked && (self.epochs.contains(&frame.header.epoch) || self.news.contains(&(frame.offset, row)))
    }

    /// A socket refers to its owner, a thread to its parent: until nothing new is met.
    fn follow(&mut self, trace: &Trace) {
        let mut fresh = self.ids.clone();
        while !fresh.is_empty() {
            let mut next = Ids::new();
            for (table, ids) in &fresh {
                let (Some(identity), Some(def)) = (trace.identity(table), trace.table(table)) else {
                    continue;
                };
                for (column, to) in references(trace, def) {
                    let rows = ids.iter().flat_map(|&id| identity.versions(id));
                    let found = rows.flat_map(|&row| identity.ids(column, row));
                    next.entry(to).or_default().extend(found);
                }
            }
            for (table, ids) in &mut next {
                let known = self.ids.entry(table.clone()).or_default();
                ids.retain(|&id| known.insert(id));
            }
            next.retain(|_, ids| !ids.is_empty());
            fresh = next;
        }
    }

    /// The rows of other epochs that no row before them, nor one of our epochs, says.
    fn find_news(&mut self, trace: &Trace, def: &TableDef) {
        let Some(key) = def.key() else { return };
        let Some(ids) = self.ids.get(&def.name) else { return };
        let wanted: Vec<usize> = std::iter::once(key).chain(def.time()).collect();
        let (ours, others): (Vec<&Frame>, Vec<&Frame>) =
            trace.reader.frames_of(def.number).partition(|frame| self.epochs.contains(&frame.header.epoch));
        let (mut scratch, mut seen) = (Scratch::new(), HashSet::new());
        for frame in ours.into_iter().chain(others) {
            let Some(rows) = trace.read(frame, Some(&wanted), &mut scratch) else { continue };
            for row in (0..rows.len()).filter(|&row| ids.contains(&rows.raw(key, row))) {
                if seen.insert((rows.raw(key, row), rows.moment(row))) {
                    self.news.insert((frame.offset, row));
                }
            }
        }
    }
}

/// The columns of a table that refer to identity, with the name of their table.
fn references(trace: &Trace, def: &TableDef) -> Vec<(usize, String)> {
    let identity = |name: &str| trace.table(name).is_some_and(|def| def.role == Role::Identity);
    let columns = def.columns.iter().enumerate();
    columns
        .filter(|(_, column)| identity(&column.references))
        .map(|(at, column)| (at, column.references.clone()))
        .collect()
}

/// The ids in the chosen rows.
fn referred(trace: &Trace, scan: &Scan) -> Ids {
    let references = references(trace, &scan.def);
    let each = |ids: &mut Vec<HashSet<u64>>, chunk: &Chunk| {
        let rows = chunk.rows();
        for row in chunk.each() {
            for (ids, (column, _)) in ids.iter_mut().zip(&references) {
                ids.extend(rows.get(*column, row).map(i64::cast_unsigned));
            }
        }
    };
    let merge = |all: &mut Vec<HashSet<u64>>, more: Vec<HashSet<u64>>| {
        all.iter_mut().zip(more).for_each(|(all, more)| all.extend(more));
    };
    let sets = scan.fold(|| vec![HashSet::new(); references.len()], each, merge);
    let mut ids = Ids::new();
    for ((_, table), set) in references.iter().zip(sets) {
        ids.entry(table.clone()).or_default().extend(set);
    }
    ids
}
