//! Values that were added up where they happened (`bpf/aggregate.bpf.h`): of many together there is the power of two, if that,
//! and their sum.
//!
//! Counts, sums and the largest are exact. A quantile is the mean of the values in the power of two that holds it, so the true
//! one is less than a factor of two away.

use super::group::Merge;
use super::quantile::{Samples, supported};
use std::collections::BTreeMap;

/// What to say of such quantiles.
pub(crate) const NOTE: &str =
    "added up in the kernel: a percentile is the mean of its power of two, less than a factor of 2 off";

/// What is known of the place of values that were added up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// All are this one.
    At(u64),
    /// The power of two below them.
    Slot(u64),
    /// Nothing.
    Unknown,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coarse {
    /// How many and their sum, by the least that they can be.
    steps: BTreeMap<u64, (u64, u64)>,
    unplaced: u64,
    rounded: bool,
    len: u64,
    most: Option<u64>,
}

impl Coarse {
    /// So many more, with their sum and the largest of them.
    pub fn add(&mut self, place: Place, count: u64, sum: u64, most: u64) {
        let least = match place {
            Place::At(value) => value,
            Place::Slot(slot) => {
                1u64.checked_shl(u32::try_from(slot).unwrap_or(u32::MAX)).unwrap_or(u64::MAX)
            }
            Place::Unknown => {
                self.unplaced = self.unplaced.saturating_add(count);
                0
            }
        };
        self.rounded |= matches!(place, Place::Slot(_));
        if !matches!(place, Place::Unknown) {
            self.step(least, (count, sum));
        }
        self.len = self.len.saturating_add(count);
        self.most = self.most.max(Some(most));
    }

    fn step(&mut self, least: u64, (count, sum): (u64, u64)) {
        let step = self.steps.entry(least).or_default();
        *step = (step.0.saturating_add(count), step.1.saturating_add(sum));
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The largest.
    pub fn max(&self) -> Option<u64> {
        self.most
    }

    /// Whether quantiles are means of a power of two.
    pub fn rounded(&self) -> bool {
        self.rounded
    }

    /// The quantile of these and of `exact` ones beside them; `None` where not all have a place, or they are too few.
    pub fn quantile(&self, exact: &Samples, q: f64) -> Option<f64> {
        let all = self.len.saturating_add(exact.len() as u64);
        if self.unplaced > 0 || q > 0.5 && !supported(all as usize, q) {
            return None;
        }
        let mut steps = self.steps.clone();
        exact.each(|value, count| {
            let step = steps.entry(value).or_default();
            *step = (step.0.saturating_add(count), step.1.saturating_add(value.saturating_mul(count)));
        });
        let rank = (all as f64 * q).ceil() as u64;
        let mut below = 0u64;
        let (count, sum) = steps.into_values().find(|step| {
            below = below.saturating_add(step.0);
            below >= rank
        })?;
        Some(sum as f64 / count.max(1) as f64)
    }
}

impl Merge for Coarse {
    fn merge(&mut self, later: Self) {
        for (least, sums) in later.steps {
            self.step(least, sums);
        }
        self.unplaced = self.unplaced.saturating_add(later.unplaced);
        self.rounded |= later.rounded;
        self.len = self.len.saturating_add(later.len);
        self.most = self.most.max(later.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::quantile::Keep;

    #[test]
    fn a_quantile_is_the_mean_of_its_power_of_two_or_the_value_itself() {
        let (mut coarse, mut exact) = (Coarse::default(), Samples::default());
        coarse.add(Place::Slot(3), 4, 40, 12);
        coarse.add(Place::Slot(10), 6, 9000, 1900);
        let of = |coarse: &Coarse, exact: &Samples, q| coarse.quantile(exact, q);
        assert_eq!((of(&coarse, &exact, 0.4), of(&coarse, &exact, 0.5)), (Some(10.0), Some(1500.0)));
        assert_eq!(of(&coarse, &exact, 0.99), None, "ten are too few");
        assert!(coarse.rounded());
        (0..10).for_each(|_| exact.add(1, &Keep::All));
        assert_eq!(of(&coarse, &exact, 0.5), Some(1.0));
        let mut same = Coarse::default();
        same.add(Place::At(7), 5, 35, 7);
        assert_eq!((of(&same, &Samples::default(), 0.5), same.rounded()), (Some(7.0), false));
        same.add(Place::Unknown, 1, 100, 100);
        assert_eq!((of(&same, &Samples::default(), 0.5), same.len(), same.max()), (None, 6, Some(100)));
        // What no kernel writes does no harm.
        same.add(Place::Slot(200), u64::MAX, u64::MAX, 1);
        assert_eq!(same.len(), u64::MAX);
    }
}
