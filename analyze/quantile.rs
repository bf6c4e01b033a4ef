//! Order statistics and histograms.
//!
//! A quantile is the inverse CDF: the value of rank ceil(q × n), a value that occurred. It always
//! goes with n, and n can be too small for it: p99.9 of 200 values is just their maximum.
//!
//! Values are kept as they are while `--memory` has room for as many as there can be, which frame
//! headers tell before any is read; else as counts, and the report runs again to look closer ([`super::zoom`]).

use super::buckets::Buckets;
use super::group::Merge;
use super::ranks::{self, MANY};
use super::zoom::Zoom;
use std::fmt::Write as _;
use std::sync::Arc;

/// The quantiles that latency reports print.
pub(crate) const USUAL: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// The value of rank ceil(q × n) of sorted values; `None` without values.
pub(crate) fn inverse_cdf<T: Copy>(sorted: &[T], q: f64) -> Option<T> {
    sorted.get(rank(sorted.len(), q)).copied()
}

/// Where the value of rank ceil(q × n) stands, from 0.
fn rank(n: usize, q: f64) -> usize {
    ((n as f64 * q.clamp(0.0, 1.0)).ceil() as usize).clamp(1, n.max(1)) - 1
}

/// Whether n values say more about this quantile than that it is near their maximum: at least one lies beyond it.
pub(crate) fn supported(n: usize, q: f64) -> bool {
    n as f64 * (1.0 - q) >= 1.0 - 1e-9
}

/// What is kept of values: [`super::report::Context::keep`] decides by how many there can be.
#[derive(Clone, Debug)]
pub(crate) enum Keep {
    /// All of them: quantiles are exact.
    All,
    /// Where a group has many, how many there are in each bucket of a log-linear histogram, and in each range of a closer
    /// look.
    Buckets(Arc<Zoom>),
}

/// With [`Keep::Buckets`] a group of so many values is still exact: it takes less memory than buckets.
const FEW: usize = 64;

/// Values whose quantiles are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    /// Those below 2^32, as nearly all nanoseconds are: half the memory, and half of what moves as they become more.
    values: Vec<u32>,
    more: Option<Box<More>>,
}

/// What most groups do not have.
#[derive(Clone, Debug, Default)]
struct More {
    /// The values from 2^32 on.
    large: Vec<u64>,
    /// Of those below, what was merged and is long: put behind the others when a quantile is asked for, by whatever
    /// thread asks.
    parts: Vec<Vec<u32>>,
    /// Many values are counted, and so closely.
    zoom: Option<Arc<Zoom>>,
    buckets: Option<Box<Buckets>>,
}

/// Values of which a part of its own is made; copying fewer costs less than an allocation.
const LONG: usize = FEW;

impl Samples {
    /// One more.
    pub fn add(&mut self, value: u64, keep: &Keep) {
        match keep {
            Keep::All => self.hold(value),
            Keep::Buckets(zoom) => self.count(value, zoom),
        }
    }

    fn hold(&mut self, value: u64) {
        match u32::try_from(value) {
            Ok(value) => self.values.push(value),
            Err(_) => self.more.get_or_insert_default().large.push(value),
        }
    }

    fn count(&mut self, value: u64, zoom: &Arc<Zoom>) {
        let more = self.more.get_or_insert_default();
        if let Some(buckets) = &mut more.buckets {
            return buckets.add(value);
        }
        more.zoom.get_or_insert_with(|| Arc::clone(zoom));
        self.hold(value);
        self.pour();
    }

    /// From values to counts, where they are many and shall be counted.
    fn pour(&mut self) {
        let few = self.len() <= FEW;
        let Some(more) = &mut self.more else { return };
        let Some(zoom) = more.zoom.as_ref().filter(|_| more.buckets.is_some() || !few) else { return };
        let buckets = more.buckets.get_or_insert_with(|| Box::new(Buckets::new(zoom)));
        self.values.drain(..).for_each(|value| buckets.add(value.into()));
        more.large.drain(..).for_each(|value| buckets.add(value));
    }

    fn buckets(&self) -> Option<&Buckets> {
        self.more.as_ref()?.buckets.as_deref()
    }

    /// The values below 2^32.
    fn parts(&self) -> impl Iterator<Item = &[u32]> {
        let more = self.more.iter().flat_map(|more| &more.parts);
        std::iter::once(&self.values).chain(more).map(Vec::as_slice)
    }

    fn large(&self) -> &[u64] {
        self.more.as_ref().map_or(&[], |more| &more.large)
    }

    fn values(&self) -> impl Iterator<Item = u64> {
        self.parts().flatten().map(|&value| value.into()).chain(self.large().iter().copied())
    }

    /// How many.
    pub fn len(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| {
            let counted = more.buckets.as_ref().map_or(0, |buckets| buckets.n as usize);
            more.parts.iter().map(Vec::len).sum::<usize>() + more.large.len() + counted
        });
        self.values.len() + more
    }

    /// Each value, or each bucket's lower end, with how many there are; in no order.
    pub fn each(&self, mut take: impl FnMut(u64, u64)) {
        self.values().for_each(|value| take(value, 1));
        if let Some(buckets) = self.buckets() {
            buckets.each(take);
        }
    }

    /// The smallest.
    pub fn min(&self) -> Option<u64> {
        let parts = self.parts().filter_map(|part| part.iter().min().map(|&value| value.into()));
        let large = self.large().iter().copied().min();
        parts.chain(large).chain(self.buckets().map(|buckets| buckets.least)).min()
    }

    /// The largest.
    pub fn max(&self) -> Option<u64> {
        let parts = self.parts().filter_map(|part| part.iter().max().map(|&value| value.into()));
        let large = self.large().iter().copied().max();
        parts.chain(large).chain(self.buckets().map(|buckets| buckets.most)).max()
    }

    /// The value of rank ceil(q × n), or the lower end of its range, at most 1/32 below it: then the report should run
    /// again, closer. Values are put in order only as far as that needs.
    pub fn quantile(&mut self, q: f64) -> Option<u64> {
        self.select(q, &mut 0)
    }

    /// Values before `from` are known to be no larger than those from there on, and the wanted one is among the latter.
    fn select(&mut self, q: f64, from: &mut usize) -> Option<u64> {
        let rank = rank(self.len(), q);
        if let Some(buckets) = self.buckets() {
            return buckets.at(rank as u64);
        }
        if let Some(more) = &mut self.more {
            more.parts.drain(..).for_each(|part| self.values.extend(part));
        }
        let begin = std::mem::replace(from, rank);
        if let Some(above) = rank.checked_sub(self.values.len()) {
            return self.large_at(above);
        }
        Some((*self.values[begin..].select_nth_unstable(rank - begin).1).into())
    }

    fn large_at(&mut self, rank: usize) -> Option<u64> {
        let large = &mut self.more.as_mut()?.large;
        Some(*large.select_nth_unstable(rank).1)
    }

    /// Several, from the lowest on; `None` where n says no more than the maximum does.
    pub fn all<const N: usize>(&mut self, all: [f64; N]) -> [Option<u64>; N] {
        let n = self.len();
        let known = all.map(|q| q <= 0.5 || supported(n, q));
        let small: usize = self.parts().map(<[u32]>::len).sum();
        // Only where the caller runs on threads of a trace: others would be woken for it.
        if small >= MANY && rayon::current_thread_index().is_some() {
            return self.count_all(std::array::from_fn(|at| known[at].then(|| rank(n, all[at]))), small);
        }
        let mut from = 0;
        std::array::from_fn(|at| known[at].then(|| self.select(all[at], &mut from)).flatten())
    }

    /// The values at ranks, of which so many are below 2^32.
    fn count_all<const N: usize>(&mut self, wanted: [Option<usize>; N], small: usize) -> [Option<u64>; N] {
        let parts: Vec<&[u32]> = self.parts().collect();
        let among: Vec<usize> = wanted.into_iter().flatten().filter(|&rank| rank < small).collect();
        let mut found = ranks::at(&parts, &among).into_iter();
        wanted.map(|rank| match rank?.checked_sub(small) {
            Some(above) => self.large_at(above),
            None => found.next().map(u64::from),
        })
    }

    /// The same in microseconds.
    pub fn all_us<const N: usize>(&mut self, all: [f64; N]) -> [Option<f64>; N] {
        self.all(all).map(|value| value.map(us))
    }

    /// One of them.
    pub fn us(&mut self, q: f64) -> Option<f64> {
        self.all_us([q])[0]
    }
}

impl Merge for Samples {
    fn merge(&mut self, mut later: Self) {
        // In no order, so the fewer ones are moved. Most states have seen nothing when the first values come.
        if later.values.len() > self.values.len() {
            std::mem::swap(&mut later.values, &mut self.values);
        }
        if later.values.len() > LONG {
            self.more.get_or_insert_default().parts.push(later.values);
        } else {
            self.values.append(&mut later.values);
        }
        if let Some(later) = later.more {
            self.more.get_or_insert_default().merge(*later);
        }
        self.pour();
    }
}

impl More {
    fn merge(&mut self, mut later: Self) {
        self.large.append(&mut later.large);
        self.parts.append(&mut later.parts);
        self.zoom = self.zoom.take().or(later.zoom);
        match (&mut self.buckets, later.buckets) {
            (Some(buckets), Some(later)) => buckets.merge(&later),
            (None, later) => self.buckets = later,
            (Some(_), None) => {}
        }
    }
}

/// Microseconds.
pub(crate) fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
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
        self.counts
            .iter_mut()
            .zip(other.counts)
            .for_each(|(count, more)| *count = count.saturating_add(more));
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
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
    fn buckets_are_near_and_merge_in_any_grouping() {
        let values: Vec<u64> = (1..5000u64).map(|n| n * n % 100_003 + 40).collect();
        let buckets = Keep::Buckets(Arc::default());
        let samples = |values: &[u64], keep: &Keep| {
            let mut samples = Samples::default();
            for &value in values {
                samples.add(value, keep);
            }
            samples
        };
        let mut exact = samples(&values, &Keep::All);
        let mut whole = samples(&values, &buckets);
        for cut in [1, 30, 2000, 4990] {
            let mut parts = samples(&values[..cut], &buckets);
            parts.merge(samples(&values[cut..], &buckets));
            assert!(
                (0..=10).all(|q| parts.quantile(f64::from(q) / 10.0) == whole.quantile(f64::from(q) / 10.0))
            );
            assert_eq!((parts.len(), parts.min(), parts.max()), (values.len(), exact.min(), exact.max()));
        }
        for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (exact, near) = (exact.quantile(q).expect("a value"), whole.quantile(q).expect("a value"));
            assert!(near <= exact && exact - near <= exact / 32, "{q}: {near} for {exact}");
        }
        assert_eq!(samples(&values[..FEW], &buckets).values, samples(&values[..FEW], &Keep::All).values);
    }

    #[test]
    fn a_group_that_is_many_only_when_merged_is_counted_too() {
        let values: Vec<u64> = (0..80).map(|n| 1_000 + n * 7).collect();
        let of = |parts: &[&[u64]], keep: &Keep| {
            let mut all = Samples::default();
            for part in parts {
                let mut samples = Samples::default();
                for &value in *part {
                    samples.add(value, keep);
                }
                all.merge(samples);
            }
            all.all_us([0.5, 0.9, 1.0])
        };
        let buckets = Keep::Buckets(Arc::default());
        let (one, two) = (of(&[&values], &buckets), of(&[&values[..40], &values[40..]], &buckets));
        assert_eq!(one, two);
        assert_ne!(one, of(&[&values], &Keep::All));
        let few: [&[u64]; 2] = [&values[..30], &values[30..60]];
        assert_eq!(of(&few, &buckets), of(&few, &Keep::All));
    }

    #[test]
    fn values_of_any_size_have_one_order() {
        let values: Vec<u64> = (0..40u64).map(|n| (1 << 32) - 20_000 + n * 17 % 40 * 1000).collect();
        let mut samples = Samples::default();
        for &value in &values {
            samples.add(value, &Keep::All);
        }
        let mut sorted = values.clone();
        sorted.sort_unstable();
        for q in [0.0, 0.3, 0.5, 0.51, 0.9, 1.0] {
            assert_eq!(samples.quantile(q), inverse_cdf(&sorted, q), "{q}");
        }
        let of = |q| inverse_cdf(&sorted, q).map(us);
        assert_eq!(samples.all_us([0.3, 0.5, 0.9]), [of(0.3), of(0.5), of(0.9)]);
        assert_eq!((samples.min(), samples.max(), samples.len()), (Some(sorted[0]), Some(sorted[39]), 40));
    }

    #[test]
    fn long_parts_that_were_merged_are_all_asked() {
        let values: Vec<u64> = (0..1000u64).map(|n| n * 7919 % 1000).collect();
        let mut parts = Samples::default();
        for part in values.chunks(150) {
            let mut samples = Samples::default();
            for &value in part {
                samples.add(value, &Keep::All);
            }
            parts.merge(samples);
        }
        assert_eq!((parts.len(), parts.min(), parts.max()), (1000, Some(0), Some(999)));
        assert_eq!(parts.all_us([0.5, 0.9, 0.99]), [Some(0.499), Some(0.899), Some(0.989)]);
        assert_eq!(parts.quantile(0.1), Some(99), "lower than what was asked before");
        assert_eq!((parts.len(), parts.quantile(1.0)), (1000, Some(999)));
    }

    #[test]
    fn a_closer_look_finds_what_all_values_say() {
        const RANKS: [f64; 6] = [0.0, 0.01, 0.5, 0.9, 0.999, 1.0];
        let values: Vec<u64> = (1..20_000u64).map(|n| n.wrapping_mul(n) << (n % 40)).collect();
        let found = |keep: &Keep| {
            let (mut a, mut b) = (Samples::default(), Samples::default());
            values[..7000].iter().for_each(|&value| a.add(value, keep));
            values[7000..].iter().for_each(|&value| b.add(value, keep));
            a.merge(b);
            RANKS.map(|q| a.quantile(q))
        };
        let mut zoom = Arc::<Zoom>::default();
        let mut last = found(&Keep::Buckets(Arc::clone(&zoom)));
        while let Some(closer) = zoom.closer(1 << 20) {
            zoom = Arc::new(closer);
            last = found(&Keep::Buckets(Arc::clone(&zoom)));
        }
        assert!(zoom.is_exact());
        assert_eq!(last, found(&Keep::All));
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
