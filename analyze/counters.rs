//! What counters of a thing that is always there (a processor, a disk) grew by between two snapshots.

use super::group::{Group, Grouping, Merge};
use super::ids::Key;
use super::load::{Chunk, Scan};
use super::report::Context;
use super::rows::Value;
use anyhow::Result;
use std::collections::BTreeMap;

/// What the counters of a group grew by.
pub(crate) struct Growth<const N: usize> {
    /// Sums of differences, in the order of the columns.
    pub by: [u64; N],
    /// Time between the snapshots, of each thing.
    spans: BTreeMap<Value, u64>,
}

impl<const N: usize> Default for Growth<N> {
    fn default() -> Self {
        Self { by: [0; N], spans: BTreeMap::new() }
    }
}

impl<const N: usize> Merge for Growth<N> {
    fn merge(&mut self, later: Self) {
        self.by.iter_mut().zip(later.by).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        for (thing, span) in later.spans {
            let sum = self.spans.entry(thing).or_default();
            *sum = sum.saturating_add(span);
        }
    }
}

impl<const N: usize> Growth<N> {
    /// How long was looked at: what rates are divided by. None where there are no two snapshots.
    pub fn seconds(&self) -> Option<f64> {
        self.spans.values().max().filter(|span| **span > 0).map(|&span| span as f64 / 1e9)
    }

    /// The same of all things together, ns.
    pub fn time(&self) -> u64 {
        self.spans.values().fold(0, |sum, &span| sum.saturating_add(span))
    }
}

/// One row.
struct Snapshot<const N: usize> {
    thing: Value,
    ts: u64,
    key: Key,
    counters: [u64; N],
}

/// The growth of some columns by group; `thing` names the column that tells what a row is about. A difference
/// belongs to the interval of its middle.
pub(crate) fn growth<'a, const N: usize>(
    context: &Context<'a>,
    scan: &Scan,
    (thing, columns): (&str, [&str; N]),
    by: &str,
) -> Result<(Grouping<'a>, Vec<Group<Growth<N>>>)> {
    let grouping = context.grouping_by(scan, by)?;
    let mut scan = grouping.with_keys(scan);
    let [of, ts] = scan.columns([thing, "ts"])?;
    let columns = scan.columns(columns)?;
    let labels = context.trace.labels(); // read before the threads need them
    let gather = |all: &mut Vec<_>, chunk: &Chunk| {
        let rows = chunk.rows();
        all.extend(chunk.each().map(|row| Snapshot {
            thing: rows.value(labels, of, row),
            ts: rows.raw(ts, row),
            key: grouping.key(rows, row),
            counters: columns.map(|column| rows.raw(column, row)),
        }));
    };
    let mut snapshots: Vec<Snapshot<N>> = scan.fold(Vec::new, gather, Extend::extend);
    snapshots.sort_by(|a, b| (&a.thing, a.ts).cmp(&(&b.thing, b.ts)));
    let pairs = snapshots.windows(2).filter(|pair| pair[0].thing == pair[1].thing);
    let groups = grouping.collect(pairs.map(|pair| difference(&grouping, &pair[0], &pair[1])));
    Ok((grouping, groups))
}

fn difference<const N: usize>(
    grouping: &Grouping,
    before: &Snapshot<N>,
    after: &Snapshot<N>,
) -> (Key, Growth<N>) {
    // Some counters of the kernel may fall a little, and those of a disk that was replaced begin anew.
    let by = std::array::from_fn(|at| after.counters[at].saturating_sub(before.counters[at]));
    let spans = BTreeMap::from([(after.thing.clone(), after.ts - before.ts)]);
    let middle = u64::midpoint(before.ts, after.ts);
    (after.key.in_bin(grouping.bins.of(middle)), Growth { by, spans })
}
