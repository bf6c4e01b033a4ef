//! What the recording costs: our own CPU time, and an estimate of the BPF programs' run time.
//!
//! Leaving the kernel's run-time statistics on costs about as much as a probe, so they are on for
//! short slices only: the mean time per event from the slices, times all events, is the estimate.

use super::budget::Gauge;
use super::host::now;
use super::record::Row;
use anyhow::{Result, bail};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::Arc;

const SLICE: u64 = 100_000_000;
const BETWEEN: u64 = 10_000_000_000;
const CLOSELY: u64 = 1_000_000_000;
const FIRST: u64 = 200_000_000;

/// Accumulated over the slices.
#[derive(Debug)]
pub struct Cost {
    /// Where drain threads wait when the writer is slower than they.
    queue: Arc<Gauge>,
    slice: Option<Slice>,
    refused: bool,
    next: u64,
    between: u64,
    /// (ns, events) of the last slice that saw events.
    recent: Option<(u64, u64)>,
    /// What the programs of each family took in it, ns.
    shares: Vec<u64>,
    /// (events, ns) that [`Cost::spent`] has accounted for.
    charged: (u64, u64),
    ns: u64,
    runs: u64,
    events: u64,
}

#[derive(Debug)]
struct Slice {
    /// Statistics are on while this is open.
    _on: OwnedFd,
    began: u64,
    before: Vec<(u64, u64)>,
    events: u64,
}

impl Slice {
    /// (ns, runs) of each family since it began.
    fn took(&self, now: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let less = |(now, before): (&(u64, u64), &(u64, u64))| {
            (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
        };
        now.iter().zip(&self.before).map(less).collect()
    }
}

impl Cost {
    /// Begins when the recording does.
    #[must_use]
    pub fn new(start: u64, queue: Arc<Gauge>) -> Self {
        Self {
            queue,
            slice: None,
            refused: false,
            next: start + FIRST,
            between: BETWEEN,
            recent: None,
            shares: Vec::new(),
            charged: (0, 0),
            ns: 0,
            runs: 0,
            events: 0,
        }
    }

    /// Measures more often, for one who decides by the last slice.
    #[must_use]
    pub fn closely(self) -> Self {
        Self { between: CLOSELY, ..self }
    }

    /// Processor time so far, ns: our own, and that of the programs by what an event took in the last slice.
    pub fn spent(&mut self, events: u64) -> u64 {
        let (ns, seen) = self.recent.unwrap_or((0, 1));
        let news = events.saturating_sub(std::mem::replace(&mut self.charged.0, events));
        self.charged.1 += (news as f64 * ns as f64 / seen as f64) as u64;
        let own = own_usage();
        self.charged.1 + own.user_ns + own.system_ns
    }

    /// How often a drain thread had to wait for the writer, and how long in all, ns.
    #[must_use]
    pub fn waits(&self) -> (u64, u64) {
        self.queue.waits()
    }

    /// Whether the kernel did not let the run time be measured.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether [`Cost::tick`] has something to do, for which the counts of events must be fresh.
    #[must_use]
    pub fn is_due(&self) -> bool {
        now() >= self.slice.as_ref().map_or(self.next, |slice| slice.began + SLICE)
    }

    /// What each family's programs took in the last slice that saw events, ns.
    #[must_use]
    pub fn shares(&self) -> &[u64] {
        &self.shares
    }

    /// Opens or closes a slice when it is time. `run_time` is (ns, runs) of each family's programs, `events` all
    /// that the probes attempted so far.
    pub fn tick(&mut self, run_time: impl Fn() -> Vec<(u64, u64)>, events: u64) {
        let time = now();
        match &self.slice {
            None if time >= self.next => {
                self.slice =
                    statistics_on().map(|on| Slice { _on: on, began: time, before: run_time(), events });
                self.refused = self.slice.is_none();
                self.next = time + self.between;
            }
            Some(slice) if time >= slice.began + SLICE => {
                let took = slice.took(&run_time());
                let seen = events.saturating_sub(slice.events);
                let ns = took.iter().map(|family| family.0).sum();
                if seen > 0 {
                    self.recent = Some((ns, seen));
                    self.shares = took.iter().map(|family| family.0).collect();
                }
                self.ns += ns;
                self.runs += took.iter().map(|family| family.1).sum::<u64>();
                self.events += seen;
                self.slice = None;
            }
            _ => {}
        }
    }

    /// Estimated (ns, runs) of the programs for `events` attempted events; nothing without a slice that saw any.
    #[must_use]
    pub fn estimate(&self, events: u64) -> Option<(u64, u64)> {
        let scale = |total: u64| (total as f64 / self.events as f64 * events as f64) as u64;
        (self.events > 0).then(|| (scale(self.ns), scale(self.runs)))
    }

    /// The row for table `cost`.
    #[must_use]
    pub fn row(&self, events: u64) -> Vec<u8> {
        let (ns, runs) = self.estimate(events).unwrap_or((0, 0));
        let own = own_usage();
        let row = Row::new().u64(now()).u64(ns).u64(runs).u64(own.user_ns).u64(own.system_ns);
        row.u64(own.rss).u64(self.waits().1).bytes()
    }
}

/// Checks that a bound on the cost can be kept: without the kernel's run-time statistics what the programs take is unknown.
///
/// # Errors
/// With the capability that this takes.
pub(super) fn require(bound: Option<f64>) -> Result<()> {
    if bound.is_some() && statistics_on().is_none() {
        bail!(
            "--max-overhead: the kernel does not let this process measure what probes take, which needs CAP_SYS_ADMIN: add \
             that, or bound events instead, as in --max-rate net=100000"
        );
    }
    Ok(())
}

/// Run-time statistics of BPF programs are on while this is open.
pub(super) fn statistics_on() -> Option<OwnedFd> {
    // SAFETY: no memory is involved; the result is checked.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    // SAFETY: a new descriptor that nobody else owns.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What this process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User time, ns.
    pub user_ns: u64,
    /// System time, ns.
    pub system_ns: u64,
    /// Largest resident size, bytes.
    pub rss: u64,
}

/// Reads it from the kernel.
#[must_use]
pub fn own_usage() -> Usage {
    // SAFETY: zero is valid for every field of rusage, and the pointer is valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let ns = |time: libc::timeval| u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap_or(0) * 1000;
    Usage { user_ns: ns(usage.ru_utime), system_ns: ns(usage.ru_stime), rss: peak_memory() }
}

/// The most that was resident since this program began. The kernel's `ru_maxrss` will not do: it keeps what the process
/// had before it executed this program, such as a large parent's memory.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_has_what_each_family_took_in_it() {
        let on = std::fs::File::open("/dev/null").expect("it is everywhere").into();
        let slice = Slice { _on: on, began: 0, before: vec![(10, 1), (500, 50)], events: 0 };
        assert_eq!(slice.took(&[(17, 2), (500, 50)]), [(7, 1), (0, 0)]);
    }
}
