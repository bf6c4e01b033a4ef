//! Log-linear histograms: exact below 32, then 32 buckets for each power of two, so that a bucket is
//! at most 1/32 of its value wide. Two of them merge by adding counts.

const BITS: u32 = 5;
const LINEAR: u64 = 1 << BITS;

/// Bucket of a value. At most 1919.
#[must_use]
pub fn bucket(value: u64) -> u32 {
    if value < LINEAR {
        return value as u32;
    }
    let exponent = value.ilog2();
    let mantissa = (value >> (exponent - BITS)) & (LINEAR - 1);
    (exponent - BITS + 1) * LINEAR as u32 + mantissa as u32
}

/// Smallest value of a bucket.
#[must_use]
pub fn lower_bound(bucket: u32) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < LINEAR {
        return bucket;
    }
    let exponent = (bucket / LINEAR - 1).min(63 - u64::from(BITS));
    (LINEAR + bucket % LINEAR) << exponent
}

/// Number of buckets.
pub const BUCKETS: usize = 1920;

/// Counts per bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn add(&mut self, value: u64) {
        self.counts[bucket(value) as usize] += 1;
    }

    /// Adds `count` values to a bucket; a bucket that cannot exist is ignored.
    pub fn add_bucket(&mut self, bucket: u32, count: u64) {
        if let Some(slot) = self.counts.get_mut(bucket as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    /// The buckets that were hit, with their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (u32, u64)> {
        (0u32..).zip(self.counts.iter().copied()).filter(|&(_, count)| count > 0)
    }

    /// Number of values; at most `u64::MAX`, since a file can claim any counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |total, &count| total.saturating_add(count))
    }

    /// Lower bound of the bucket that holds the value of rank ceil(q × n) (inverse CDF); `None` without values.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let total = self.total();
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0u64;
        self.buckets().find_map(|(bucket, count)| {
            seen = seen.saturating_add(count);
            (seen >= rank).then(|| lower_bound(bucket))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_lower_bound_and_is_narrow() {
        for value in (0..200_000).chain((0..64).map(|bit| 1u64 << bit)).chain([u64::MAX, u64::MAX / 3]) {
            let low = lower_bound(bucket(value));
            assert!(low <= value, "{value} is in the bucket from {low}");
            assert!(value - low <= value / 32, "{value} is far above {low}");
            assert_eq!(bucket(low), bucket(value));
        }
    }

    #[test]
    fn the_quantile_is_a_value_that_occurred() {
        let mut h = Histogram::default();
        (1..=10).for_each(|value| h.add(value));
        assert_eq!((h.quantile(0.5), h.quantile(0.99), h.quantile(0.0)), (Some(5), Some(10), Some(1)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn counts_that_no_trace_can_have_do_not_overflow() {
        let mut h = Histogram::default();
        h.add_bucket(3, u64::MAX);
        h.add_bucket(4, u64::MAX);
        h.add_bucket(u32::MAX, 1);
        assert_eq!((h.total(), h.quantile(0.5), h.quantile(1.0)), (u64::MAX, Some(3), Some(3)));
    }
}
