//! Order statistics and histograms.
//!
//! A quantile is the inverse CDF: the value of rank ceil(q × n), a value that occurred. It always
//! goes with n, and n can be too small for it: p99.9 of 200 values is just their maximum.

use super::group::Merge;
use std::fmt::Write as _;

/// The quantiles that latency reports print.
pub(crate) const USUAL: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// The value of rank ceil(q × n) of sorted values; `None` without values.
pub(crate) fn inverse_cdf<T: Copy>(sorted: &[T], q: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * q.clamp(0.0, 1.0)).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Whether n values say more about this quantile than that it is near their maximum: at least one lies beyond it.
pub(crate) fn supported(n: usize, q: f64) -> bool {
    n as f64 * (1.0 - q) >= 1.0 - 1e-9
}

/// Values whose exact quantiles are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// One more.
    pub fn add(&mut self, value: u64) {
        self.0.push(value);
    }

    /// The values in order, once all of them are there.
    pub fn sorted(&mut self) -> &[u64] {
        self.0.sort_unstable();
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Merge for Samples {
    fn merge(&mut self, later: Self) {
        // Most states have seen nothing when the first values come.
        if self.0.is_empty() {
            self.0 = later.0;
        } else {
            self.0.extend(later.0);
        }
    }
}

/// A quantile in microseconds of sorted nanoseconds; `None` where n says no more than the maximum does.
pub(crate) fn us(sorted: &[u64], q: f64) -> Option<f64> {
    let known = q <= 0.5 || supported(sorted.len(), q);
    inverse_cdf(sorted, q).filter(|_| known).map(|ns| ns as f64 / 1e3)
}

/// Counts per power of two, as bcc's histograms have them: slot 0 holds 0 and 1, slot i holds 2^i to 2^(i+1) - 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log2 {
    counts: [u64; 64],
}

impl Default for Log2 {
    fn default() -> Self {
        Self { counts: [0; 64] }
    }
}

impl Log2 {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.counts[value.max(1).ilog2() as usize] += 1;
    }

    /// Counts `count` values of which only the slot is known.
    pub fn add_slot(&mut self, slot: usize, count: u64) {
        if let Some(slot) = self.counts.get_mut(slot) {
            *slot = slot.saturating_add(count);
        }
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
    }

    /// Low end, high end and count of each slot from the first to the last that was hit.
    pub fn slots(&self) -> Vec<(u64, u64, u64)> {
        let hit = |count: &u64| *count > 0;
        let (Some(first), Some(last)) = (self.counts.iter().position(hit), self.counts.iter().rposition(hit))
        else {
            return Vec::new();
        };
        let low = |slot: usize| if slot == 0 { 0 } else { 1 << slot };
        let high = |slot: usize| (1u64 << slot) + ((1u64 << slot) - 1);
        (first..=last).map(|slot| (low(slot), high(slot), self.counts[slot])).collect()
    }

    /// The picture that bcc prints.
    pub fn render(&self, unit: &str) -> String {
        let slots = self.slots();
        let most = slots.iter().map(|slot| slot.2).max().unwrap_or(1);
        let wide = slots.last().is_some_and(|slot| slot.1 > u64::from(u32::MAX));
        let (number, label) = if wide { (20, 43) } else { (10, 23) };
        let mut text = format!("{unit:>label$} : count     distribution\n");
        for (low, high, count) in slots {
            let stars = "*".repeat((u128::from(count) * 40 / u128::from(most)) as usize);
            writeln!(text, "{low:>number$} -> {high:<number$}: {count:<8} |{stars:<40}|")
                .expect("a String grows");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_occurred() {
        let values: Vec<u64> = (1..=200).collect();
        let of = |q| inverse_cdf(&values, q);
        assert_eq!(
            (of(0.0), of(0.5), of(0.9), of(0.99), of(0.999), of(1.0)),
            (Some(1), Some(100), Some(180), Some(198), Some(200), Some(200))
        );
        assert_eq!(inverse_cdf::<u64>(&[], 0.5), None);
    }

    #[test]
    fn few_values_do_not_support_a_high_quantile() {
        assert!(supported(1000, 0.999) && supported(100, 0.99) && supported(2, 0.5));
        assert!(!supported(999, 0.999) && !supported(99, 0.99) && !supported(1, 0.5));
    }

    #[test]
    fn the_histogram_looks_as_in_bcc() {
        let mut histogram = Log2::default();
        for value in [0, 1, 2, 3, 8, 8, 9] {
            histogram.add(value);
        }
        let expected = concat!(
            "                  usecs : count     distribution\n",
            "         0 -> 1         : 2        |**************************              |\n",
            "         2 -> 3         : 2        |**************************              |\n",
            "         4 -> 7         : 0        |                                        |\n",
            "         8 -> 15        : 3        |****************************************|\n",
        );
        assert_eq!(histogram.render("usecs"), expected);
        let mut end = Log2::default();
        end.add(u64::MAX);
        assert_eq!(end.slots(), [(1 << 63, u64::MAX, 1)]);
    }
}
