//! Values as counts: how many there are in each bucket of a log-linear histogram, and in each range of a closer look.

use super::zoom::Zoom;
use crate::schema::histogram::{bucket, lower_bound};
use std::sync::Arc;

/// Counts from the first bucket that was hit to the last.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    first: u32,
    counts: Vec<u64>,
    zoom: Arc<Zoom>,
    /// By range of the closer look; empty where there is none.
    closer: Vec<u64>,
    /// How many values there are.
    pub n: u64,
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
}

impl Buckets {
    pub fn new(zoom: &Arc<Zoom>) -> Self {
        let closer = vec![0; zoom.len()];
        Self { first: 0, counts: Vec::new(), zoom: Arc::clone(zoom), closer, n: 0, least: 0, most: 0 }
    }

    pub fn add(&mut self, value: u64) {
        self.least = if self.n == 0 { value } else { self.least.min(value) };
        self.most = self.most.max(value);
        self.n += 1;
        *self.count(bucket(value)) += 1;
        if !self.closer.is_empty() {
            self.closer[self.zoom.slot(value)] += 1;
        }
    }

    /// Each bucket's lower end with how many there are.
    pub fn each(&self, mut take: impl FnMut(u64, u64)) {
        for (bucket, &count) in (self.first..).zip(&self.counts).filter(|bucket| *bucket.1 > 0) {
            take(lower_bound(bucket), count);
        }
    }

    fn count(&mut self, bucket: u32) -> &mut u64 {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let more = (self.first - bucket) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = bucket;
        }
        let at = (bucket - self.first) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        &mut self.counts[at]
    }

    pub fn merge(&mut self, later: &Self) {
        self.least = if self.n == 0 { later.least } else { self.least.min(later.least) };
        self.most = self.most.max(later.most);
        self.n += later.n;
        for (bucket, count) in (later.first..).zip(&later.counts) {
            *self.count(bucket) += count;
        }
        self.closer.iter_mut().zip(&later.closer).for_each(|(count, more)| *count += more);
    }

    /// By rank from 0.
    pub fn at(&self, rank: u64) -> Option<u64> {
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += count;
            seen > rank
        };
        let slot = if self.closer.is_empty() {
            self.first as usize + self.counts.iter().position(reached)?
        } else {
            self.closer.iter().position(reached)?
        };
        Some(self.zoom.ask(slot).max(self.least))
    }
}
