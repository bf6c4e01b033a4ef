//! Which allocations were not released: pairs what the user's own probes saw of allocators.
//!
//! A probe with a column `size` is of an allocation: of `size` bytes, times `count` if there is one; at `address` if there is
//! one, else where the call returned (`{ret=ptr}`). What it calls `old` it releases when it begins (realloc). A probe with an `address`
//! and no `size` is of a release.

use super::group::{Group, Grouping, Merge, join};
use super::ids::Key;
use super::input::{Input, Inputs};
use super::load::{Chunk, Scan};
use super::named::STACKS;
use super::report::Context;
use super::rows::Rows;
use crate::schema::hash::FastMap;
use crate::schema::{ColumnType, TableDef};
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kernel stack and user stack, 0: none.
type Pair = (u32, u32);

/// What is outstanding by stack: bytes, and in how many allocations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outstanding(pub BTreeMap<Pair, (u64, u64)>);

impl Merge for Outstanding {
    fn merge(&mut self, later: Self) {
        for (pair, (bytes, count)) in later.0 {
            let sum = self.0.entry(pair).or_default();
            *sum = (sum.0 + bytes, sum.1 + count);
        }
    }
}

/// What was found.
pub(crate) struct Found<'a> {
    /// How it is grouped.
    pub grouping: Grouping<'a>,
    /// What is outstanding.
    pub groups: Vec<Group<Outstanding>>,
    /// And what led there.
    pub remarks: Remarks,
}

/// How much was seen.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// Allocations that were seen, and those of them that were released.
    pub allocated: u64,
    /// See above.
    pub released: u64,
    /// Releases of what was not seen allocated.
    pub unknown: u64,
}

/// The tables of an allocator.
pub(crate) struct Tables<'a> {
    allocating: Vec<&'a Arc<TableDef>>,
    releasing: Vec<&'a Arc<TableDef>>,
}

impl<'a> Tables<'a> {
    /// Tells them apart; `None`: nothing allocates.
    pub fn of(tables: Vec<&'a Arc<TableDef>>) -> Option<Self> {
        let allocates = |table: &&Arc<TableDef>| table.column("size").is_some();
        let (allocating, releasing): (Vec<_>, Vec<_>) = tables.into_iter().partition(allocates);
        (!allocating.is_empty()).then_some(Self { allocating, releasing })
    }
}

/// Whether a table is of allocations or releases.
pub(crate) fn concerns(table: &TableDef) -> bool {
    let column = |name| table.column(name).map(|column| &table.columns[column]);
    // Others return a number of bytes, or an error number.
    let address = ColumnType::Number { width: 8, signed: false };
    column("address").is_some()
        || column("size").is_some() && column("ret").is_some_and(|ret| ret.kind == address)
}

/// One thing that happened to an address of a process.
struct Act {
    at: u64,
    pid: i64,
    address: u64,
    /// None: it was released.
    allocated: Option<New>,
}

#[derive(Clone, Copy)]
struct New {
    bytes: u64,
    /// The call's begin: an allocator that calls another one allocates once.
    since: u64,
    pair: Pair,
    key: Key,
}

/// Where a table has what is needed.
struct Columns {
    pid: Option<Input>,
    size: Option<usize>,
    count: Option<usize>,
    address: Option<usize>,
    old: Option<usize>,
    ret: Option<usize>,
    latency: Option<usize>,
    stacks: [Option<usize>; 2],
}

impl Columns {
    fn of(context: &Context, scan: &mut Scan) -> Self {
        let def = Arc::clone(&scan.def);
        let inputs = Inputs::of(context.trace, &def);
        let pid = inputs.get("pid").cloned();
        pid.iter().flat_map(|pid| pid.needs(&def)).for_each(|column| scan.add(column));
        let mut column = |name: &str| {
            let found = def.column(name);
            if let Some(column) = found {
                scan.add(column);
            }
            found
        };
        Self {
            pid,
            size: column("size"),
            count: column("count"),
            address: column("address"),
            old: column("old"),
            ret: column("ret"),
            latency: column("latency"),
            stacks: STACKS.map(&mut column),
        }
    }

    fn acts(&self, rows: &Rows, row: usize, key: impl FnOnce() -> Key, acts: &mut Vec<Act>) {
        let raw = |column: Option<usize>| column.map(|column| rows.raw(column, row));
        let pid = self.pid.as_ref().and_then(|pid| pid.number(rows, row)).unwrap_or(-1);
        let at = rows.moment(row);
        let since = at - raw(self.latency).unwrap_or(0).min(at);
        let Some(size) = raw(self.size) else {
            acts.extend(raw(self.address).map(|address| Act { at, pid, address, allocated: None }));
            return;
        };
        let (address, ret) = (raw(self.address), raw(self.ret));
        // With an address of its own, what it returns is 0 or an error number.
        let address =
            if address.is_some() && ret.is_some_and(|ret| ret != 0) { None } else { address.or(ret) };
        let address = address.filter(|&address| address != 0);
        // To make something as large as nothing is to release it; else what fails leaves the old as it was.
        if let Some(old) = raw(self.old).filter(|&old| old != 0 && (address.is_some() || size == 0)) {
            acts.push(Act { at: since, pid, address: old, allocated: None });
        }
        let bytes = size.saturating_mul(raw(self.count).unwrap_or(1));
        let [kernel, user] = self.stacks.map(|column| raw(column).unwrap_or(0) as u32);
        acts.extend(address.map(|address| {
            let new = New { bytes, since, pair: (kernel, user), key: key() };
            Act { at, pid, address, allocated: Some(new) }
        }));
    }
}

/// What was allocated in the span, and not released in it; by table, since the keys of each are its own. Allocations
/// younger than `age` at the end are left out.
///
/// # Errors
/// When `--where` or `--by` cannot be understood.
pub(crate) fn find<'a>(context: &Context<'a>, tables: &Tables, by: &str, age: u64) -> Result<Found<'a>> {
    let mut groupings = Vec::new();
    let mut acts: Vec<(usize, Act)> = Vec::new();
    for table in &tables.releasing {
        // A condition is about allocations: whatever releases them counts.
        let mut scan = context.scan_all(table);
        let columns = Columns::of(context, &mut scan);
        let found = gather(&scan, |rows, row, acts| columns.acts(rows, row, Key::default, acts));
        acts.extend(found.into_iter().map(|act| (0, act)));
    }
    for (index, table) in tables.allocating.iter().enumerate() {
        let mut scan = context.scan_of(table)?;
        let columns = Columns::of(context, &mut scan);
        let grouping = context.grouping_by(&scan, by)?;
        let each = |rows: &Rows, row, acts: &mut Vec<Act>| {
            columns.acts(rows, row, || grouping.key(rows, row), acts);
        };
        let found = gather(&grouping.with_keys(&scan), each);
        acts.extend(found.into_iter().map(|act| (index, act)));
        groupings.push(grouping);
    }
    // Stable: of one moment what was there is released before something else takes its place.
    acts.sort_by_key(|(_, act)| act.at);
    let (left, remarks) = replay(acts);
    let old = context.window.to.saturating_sub(age);
    let mut groups = Vec::new();
    for (index, grouping) in groupings.iter().enumerate() {
        let of_table = left.iter().filter(|(table, at, _)| *table == index && *at <= old);
        let part = |new: &New| Outstanding(BTreeMap::from([(new.pair, (new.bytes, 1))]));
        groups.push(grouping.collect(of_table.map(|(_, _, new)| (new.key, part(new)))));
    }
    let grouping = groupings.into_iter().next().expect("something allocates");
    Ok(Found { grouping, groups: join(groups), remarks })
}

fn gather(scan: &Scan, each: impl Fn(&Rows, usize, &mut Vec<Act>) + Sync) -> Vec<Act> {
    let fold = |acts: &mut Vec<Act>, chunk: &Chunk| {
        chunk.each().for_each(|row| each(chunk.rows(), row, acts));
    };
    scan.fold(Vec::new, fold, Extend::extend)
}

/// In the order of time: what is left at the end, with its table and moment.
fn replay(acts: Vec<(usize, Act)>) -> (Vec<(usize, u64, New)>, Remarks) {
    let mut live: FastMap<(i64, u64), (usize, u64, New)> = FastMap::default();
    let mut remarks = Remarks::default();
    for (table, act) in acts {
        let place = (act.pid, act.address);
        let Some(new) = act.allocated else {
            match live.remove(&place) {
                Some(_) => remarks.released += 1,
                None => remarks.unknown += 1,
            }
            continue;
        };
        let before = live.insert(place, (table, act.at, new));
        // The same address again: by an allocator inside this one, or its release was not seen.
        remarks.allocated += u64::from(before.is_none_or(|(_, at, _)| at < new.since));
    }
    (live.into_values().collect(), remarks)
}
