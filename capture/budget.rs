//! The bound on what grows with the load: rings, batches that fill, and batches on their way to the writer.
//!
//! `--memory SIZE` bounds all three together (16 MiB unless told otherwise). Half of it are the rings, a quarter
//! each the other two; `--rings KIB` sets the first by itself. The bound is kept, not hoped for: a ring's batcher
//! seals early when its share is full ([`Batcher`]), and a drain thread that has something for the writer waits
//! until [`Gauge`] has room for it. While it waits its ring fills, and when that is full the probes count what
//! they drop: nothing is lost in silence, and how long was waited is in table `cost` and in the summary.
//!
//! Not in the bound: the rings of sampling programs (256 KiB a processor, only with groups that sample), the
//! program itself with libbpf and the kernel's types (about 12 MiB), and the identity of tasks, sockets and files,
//! which grows with their number and not with their events.
//!
//! [`Batcher`]: super::batch::Batcher

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

const KIB: u64 = 1 << 10;
/// Unless told otherwise, KiB: rings of 8 MiB.
const MEMORY: u64 = 16 << 10;
/// Less than this makes batches so small that they do not compress.
const SMALLEST_SHARE: u64 = 1 << 10;

/// How memory is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of all rings together, KiB.
    pub rings_kib: u32,
    /// Of all batches that are being filled, bytes.
    pub filling: usize,
    /// Of all sealed batches, bytes.
    pub queued: usize,
}

impl Budget {
    /// From `--memory` (bytes) and `--rings` (KiB), as far as given.
    #[must_use]
    pub fn new(memory: Option<u64>, rings_kib: Option<u32>) -> Self {
        let total =
            memory.map_or(MEMORY.max(u64::from(rings_kib.unwrap_or(0)) + MEMORY / 2), |bytes| bytes / KIB);
        let rings = rings_kib.map_or(total / 2, u64::from);
        let share = (total.saturating_sub(rings) / 2).max(SMALLEST_SHARE) * KIB;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        Self { rings_kib: u32::try_from(rings).unwrap_or(u32::MAX), filling: share, queued: share }
    }
}

/// Admits so many bytes at a time.
#[derive(Debug)]
pub struct Gauge {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
    waits: AtomicU64,
    waited_ns: AtomicU64,
}

/// Room in a [`Gauge`]; dropping it makes room.
#[derive(Debug)]
pub struct Permit {
    gauge: Arc<Gauge>,
    bytes: usize,
}

impl Gauge {
    /// Of this many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let (waits, waited_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { limit, used: Mutex::new(0), freed: Condvar::new(), waits, waited_ns })
    }

    /// Waits until there is room. What is larger than the whole gauge is admitted when nothing else is in it.
    #[must_use]
    pub fn admit(self: &Arc<Self>, bytes: usize) -> Permit {
        // A count cannot be left half changed, so that of a thread that panicked is as good as any.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if *used > 0 && *used + bytes > self.limit {
            let began = Instant::now();
            self.waits.fetch_add(1, Ordering::Relaxed);
            while *used > 0 && *used + bytes > self.limit {
                used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
            }
            let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.waited_ns.fetch_add(waited, Ordering::Relaxed);
        }
        *used += bytes;
        Permit { gauge: Arc::clone(self), bytes }
    }

    /// How often somebody had to wait, and how long in all, ns.
    #[must_use]
    pub fn waits(&self) -> (u64, u64) {
        (self.waits.load(Ordering::Relaxed), self.waited_ns.load(Ordering::Relaxed))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.gauge.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.gauge.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn shares_add_up_to_the_bound() {
        let usual = Budget::new(None, None);
        assert_eq!((usual.rings_kib, usual.filling, usual.queued), (8192, 4 << 20, 4 << 20));
        let small = Budget::new(Some(8 << 20), None);
        assert_eq!((small.rings_kib, small.filling, small.queued), (4096, 2 << 20, 2 << 20));
        let rings = Budget::new(None, Some(65536));
        assert_eq!((rings.rings_kib, rings.filling), (65536, 4 << 20));
        let both = Budget::new(Some(10 << 20), Some(4096));
        assert_eq!((both.rings_kib, both.filling), (4096, 3 << 20));
    }

    #[test]
    fn who_finds_no_room_waits_and_is_counted() {
        let gauge = Gauge::new(100);
        let first = gauge.admit(80);
        let other = Arc::clone(&gauge);
        let second = std::thread::spawn(move || drop(other.admit(80)));
        while gauge.waits().0 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!second.is_finished());
        drop(first);
        second.join().expect("it gets its room");
        assert_eq!(gauge.waits().0, 1);
        assert!(gauge.waits().1 > 0);
    }

    #[test]
    fn what_is_larger_than_the_gauge_passes_alone() {
        let gauge = Gauge::new(10);
        drop(gauge.admit(1000));
        assert_eq!(gauge.waits().0, 0);
    }
}
