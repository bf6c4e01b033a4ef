//! The ids that most rows of a column have, with a bound on what this leaves out.
//!
//! A table of counts that may not grow: when it holds too many ids, the count of the largest that must go is taken
//! from all, and what is left with nothing is dropped (Misra and Gries, "Finding repeated elements", 1982, with
//! weights, and in batches as Agarwal et al. describe in "Mergeable summaries", 2012). So the count of an id is never
//! too large, and never too small by more than [`Top::error`]. With few ids nothing is dropped and the counts are exact.

use super::column::{Batch, Column};
use super::hash::FastMap;
use super::table::{ColumnDef, TableDef};
use super::transform::Span;
use std::hash::BuildHasherDefault;

/// Ids that stay when there are too many, which is from twice as many on.
const KEPT: usize = 4096;

/// What [`super::ColumnDef::totals`] says where rows are counted and nothing is added up.
pub const ROWS: &str = "rows";

/// What rows with one id come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// What decides which ids stay: the sum of a column, or the number of rows.
    pub weight: u64,
    /// Rows. Where ids were dropped, some may be missing here too.
    pub rows: u64,
    /// An epoch that has such rows, and so says what the id means: the latest.
    pub epoch: u32,
}

/// Totals by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    totals: FastMap<u32, Total>,
    /// No weight is too small by more than this, and no id that is not here has more.
    pub error: u64,
}

impl Top {
    /// Nothing yet, with room for so many ids, and with the error that what will be added has already.
    #[must_use]
    pub fn new(error: u64, ids: usize) -> Self {
        Self {
            totals: FastMap::with_capacity_and_hasher(ids.min(2 * KEPT), BuildHasherDefault::default()),
            error,
        }
    }

    /// Adds what rows with an id come to.
    pub fn add(&mut self, id: u32, more: Total) {
        let all = self.totals.entry(id).or_default();
        all.weight = all.weight.saturating_add(more.weight);
        all.rows = all.rows.saturating_add(more.rows);
        all.epoch = all.epoch.max(more.epoch);
        if self.totals.len() >= 2 * KEPT {
            self.trim();
        }
    }

    /// Adds another one.
    pub fn merge(&mut self, more: Self) {
        self.error = self.error.saturating_add(more.error);
        for (id, total) in more.totals {
            self.add(id, total);
        }
    }

    fn trim(&mut self) {
        let mut weights: Vec<u64> = self.totals.values().map(|total| total.weight).collect();
        let (_, &mut largest_gone, _) = weights.select_nth_unstable_by(KEPT, |a, b| b.cmp(a));
        self.error = self.error.saturating_add(largest_gone);
        self.totals.retain(|_, total| {
            total.weight = total.weight.saturating_sub(largest_gone);
            total.weight > 0
        });
    }

    /// The ids with their totals, by id.
    #[must_use]
    pub fn list(&self) -> Vec<(u32, Total)> {
        let mut list: Vec<_> = self.totals.iter().map(|(&id, &total)| (id, total)).collect();
        list.sort_unstable_by_key(|&(id, _)| id);
        list
    }
}

/// Totals of a batch, per column that has any.
pub(super) fn totals(def: &TableDef, epoch: u32, batch: &Batch) -> Vec<(u16, Vec<(u32, Total)>)> {
    let wanted = def.columns.iter().enumerate().filter(|(_, column)| !column.totals.is_empty());
    let sums = |(index, column): (usize, &ColumnDef)| {
        let ids = batch.columns[index].u32s();
        let summed = def.column(&column.totals).map(|at| positive(&def.columns[at], &batch.columns[at]));
        let weight = |row| summed.as_ref().map_or(1, |values| values.get(row).copied().unwrap_or(0));
        let rows = ids.iter().enumerate().map(|(row, &id)| (id, weight(row)));
        let totals = by_id(ids, rows.filter(|&(id, _)| column.null != Some(id.into()))).into_iter();
        let number = u16::try_from(index).expect("at most MAX_PARTS columns");
        (number, totals.map(|(id, weight, rows)| (id, Total { weight, rows, epoch })).collect())
    };
    wanted.map(sums).collect()
}

/// The values, 0 for what is negative or null.
fn positive(def: &ColumnDef, column: &Column) -> Vec<u64> {
    let mut values = Vec::with_capacity(column.len());
    column
        .each_number(|raw| values.push(def.value(raw).map_or(0, |value| u64::try_from(value).unwrap_or(0))));
    values
}

/// Weight and rows of each id. Ids are dense, so a table with a place for each is short, and fast.
fn by_id(ids: &[u32], rows: impl Iterator<Item = (u32, u64)>) -> Vec<(u32, u64, u64)> {
    let Some(span) = Span::of(ids) else {
        let mut totals: FastMap<u32, (u64, u64)> = FastMap::default();
        for (id, weight) in rows {
            let total = totals.entry(id).or_default();
            *total = (total.0.saturating_add(weight), total.1 + 1);
        }
        return totals.into_iter().map(|(id, (weight, rows))| (id, weight, rows)).collect();
    };
    let mut totals = span.table((0u64, 0u64));
    for (id, weight) in rows {
        let total = &mut totals[span.place(id)];
        *total = (total.0.saturating_add(weight), total.1 + 1);
    }
    let found = (0u32..).zip(totals).filter(|(_, total)| total.1 > 0);
    found.map(|(place, (weight, rows))| (span.id(place), weight, rows)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn one(weight: u64) -> Total {
        Total { weight, rows: 1, epoch: 0 }
    }

    #[test]
    fn few_ids_are_counted_exactly() {
        let mut top = Top::default();
        for id in 0..KEPT as u32 {
            (0..3).for_each(|_| top.add(id, one(u64::from(id))));
        }
        assert_eq!(top.error, 0);
        assert!(top.list().iter().all(|&(id, total)| total.weight == 3 * u64::from(id) && total.rows == 3));
    }

    #[test]
    fn with_many_ids_the_large_ones_stay_and_the_error_has_a_bound() {
        let (mut top, mut truth) = (Top::default(), HashMap::<u32, u64>::new());
        let mut state = 1u64;
        for _ in 0..400_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = (state >> 33) as u32;
            let (id, weight) =
                if random.is_multiple_of(4) { (random % 7, 1000) } else { (random % 100_000, 1) };
            top.add(id, one(weight));
            *truth.entry(id).or_default() += weight;
        }
        let sum: u64 = truth.values().sum();
        assert!(top.error > 0 && top.error <= sum / KEPT as u64, "{} of {sum}", top.error);
        let found: HashMap<u32, Total> = top.list().into_iter().collect();
        for (id, weight) in truth {
            let counted = found.get(&id).map_or(0, |total| total.weight);
            assert!(counted <= weight && weight <= counted + top.error, "{id}: {counted} of {weight}");
        }
        assert!((0..7).all(|id| found.contains_key(&id)));
    }

    #[test]
    fn two_of_them_are_one_of_both() {
        let (mut all, mut a, mut b) = (Top::default(), Top::default(), Top::default());
        for id in 0..100u32 {
            all.add(id % 30, one(id.into()));
            if id % 3 == 0 { a.add(id % 30, one(id.into())) } else { b.add(id % 30, one(id.into())) }
        }
        a.merge(b);
        assert_eq!(a, all);
    }
}
