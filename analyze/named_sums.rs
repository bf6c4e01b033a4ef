//! What hits of the user's own probes add up to (`{count}`, `{hist}`), beside hits that were recorded one by one: a
//! row of the one stands for many of the other.

use super::coarse::Place;
use super::error::Failure;
use super::group::{Group, Grouping, Merge};
use super::input::{Input, Inputs};
use super::load::Scan;
use super::named::{HITS, adds_up};
use super::quantile::Keep;
use super::report::Context;
use super::rows::Rows;
use super::spread::Spread;
use anyhow::Result;

/// How many.
#[derive(Default)]
pub(crate) struct Hits(pub u64);

impl Merge for Hits {
    fn merge(&mut self, later: Self) {
        self.0 = self.0.saturating_add(later.0);
    }
}

/// Counts the hits in the rows of a scan.
///
/// # Errors
/// When the trace does not have what they add up to.
pub(crate) fn count(grouping: &Grouping, scan: &mut Scan) -> Result<Vec<Group<Hits>>> {
    Ok(match Weight::of(scan)?.0 {
        None => grouping.sum(scan, [], |hits: &mut Hits, []| hits.0 += 1),
        Some(column) => grouping.sum(scan, [column], |hits: &mut Hits, [more]| {
            hits.0 = hits.0.saturating_add(more.unwrap_or(0).cast_unsigned());
        }),
    })
}

/// How many hits a row stands for.
pub(crate) struct Weight(Option<usize>);

impl Weight {
    /// In the rows of a scan.
    ///
    /// # Errors
    /// When the trace does not have the column.
    pub fn of(scan: &mut Scan) -> Result<Self> {
        Ok(Self(if adds_up(&scan.def) { Some(scan.column(HITS)?) } else { None }))
    }

    /// In one.
    pub fn of_row(&self, rows: &Rows, row: usize) -> u64 {
        self.0.map_or(1, |hits| rows.raw(hits, row))
    }
}

/// Where a number is in the rows of a scan.
pub(crate) enum Measure {
    /// Itself, in each row of so many hits.
    Value(Box<Input>, Weight),
    /// Hits, the sum and the largest, and the power of two if that was asked for.
    Sums { weight: Weight, slot: Option<usize>, sum: usize, most: usize },
}

impl Measure {
    /// Finds it by name.
    ///
    /// # Errors
    /// When the table has neither the number nor its sums, or it is text.
    pub fn of(context: &Context, scan: &mut Scan, name: &str) -> Result<Self> {
        let weight = Weight::of(scan)?;
        if weight.0.is_some() && scan.def.column(&format!("{name}_sum")).is_some() {
            let slot = format!("{name}_log2");
            let slot = if scan.def.column(&slot).is_some() { Some(scan.column(&slot)?) } else { None };
            let sum = scan.column(&format!("{name}_sum"))?;
            return Ok(Self::Sums { weight, slot, sum, most: scan.column(&format!("{name}_max"))? });
        }
        let input = Inputs::of(context.trace, &scan.def).find(name)?.clone();
        if input.text {
            return Err(Failure::usage(format!("{name} is text, which has no histogram")).into());
        }
        input.needs(&scan.def).into_iter().for_each(|column| scan.add(column));
        Ok(Self::Value(Box::new(input), weight))
    }

    /// Adds a row's, and returns how many hits had a negative number, which are not added.
    pub fn add(&self, spread: &mut Spread, rows: &Rows, row: usize, keep: &Keep) -> u64 {
        match self {
            Self::Value(input, weight) => {
                match (input.number(rows, row).map(u64::try_from), weight.of_row(rows, row)) {
                    (Some(Ok(value)), 1) if weight.0.is_none() => spread.add(value, value, keep),
                    (Some(Ok(value)), hits) => {
                        spread.add_up(Place::At(value), hits, (value.saturating_mul(hits), value));
                    }
                    (Some(Err(_)), hits) => return hits,
                    (None, _) => {}
                }
            }
            Self::Sums { weight, slot, sum, most } => {
                let place = match slot.map(|slot| rows.get(slot, row)) {
                    None => Place::Unknown,
                    Some(Some(slot)) => Place::Slot(slot.cast_unsigned()),
                    Some(None) => return weight.of_row(rows, row),
                };
                spread.add_up(place, weight.of_row(rows, row), (rows.raw(*sum, row), rows.raw(*most, row)));
            }
        }
        0
    }
}
