//! What is looked up again and again while the recording runs, and when.

use super::host::{clock, now};
use super::record::Row;
use std::fs;
use std::time::Duration;

/// Moments at whole multiples of an interval by the wall clock, so that what lies between two of them is one
/// interval of a report.
#[derive(Debug)]
pub struct Ticks {
    every: u64,
    due: u64,
}

impl Ticks {
    /// The first one is the next multiple.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        let mut ticks = Self { every: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1), due: 0 };
        ticks.pass();
        ticks
    }

    /// When the next is due.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the next multiple from now on.
    pub fn pass(&mut self) {
        self.due = now().saturating_add(self.every - clock(libc::CLOCK_REALTIME) % self.every);
    }
}

/// The row for table `load`; none where /proc is not as expected.
#[must_use]
pub fn load() -> Vec<Vec<u8>> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    load_row(now(), &read("/proc/loadavg"), &read("/proc/meminfo")).into_iter().collect()
}

fn load_row(ts: u64, loadavg: &str, meminfo: &str) -> Option<Vec<u8>> {
    let mut words = loadavg.split_whitespace();
    let mut row = Row::new().u64(ts);
    for _ in 0..3 {
        let load: f64 = words.next()?.parse().ok()?;
        row = row.u64((load * 100.0).round() as u64);
    }
    let (runnable, tasks) = words.next()?.split_once('/')?;
    row = row.u64(runnable.parse().ok()?).u64(tasks.parse().ok()?);
    for name in ["MemTotal:", "MemFree:", "MemAvailable:", "Buffers:", "Cached:"] {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        row = row.u64(kib * 1024);
    }
    Some(row.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_or_there_is_no_row() {
        let memory = "MemTotal: 100 kB\nMemFree: 20 kB\nMemAvailable: 50 kB\nBuffers: 1 kB\nCached: 2 kB\n";
        let row = load_row(7, "0.25 1.00 2.50 3/412 999\n", memory).expect("a row");
        let number = |at: usize| u64::from_le_bytes(row[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        assert_eq!((number(0), number(1), number(4), number(5)), (7, 25, 3, 412));
        assert_eq!((number(6), number(10)), (100 * 1024, 2048));
        assert_eq!(load_row(7, "", memory), None);
        assert_eq!(load().len(), 1, "of this machine");
    }

    #[test]
    fn ticks_are_ahead_and_aligned() {
        let mut ticks = Ticks::every(Duration::from_secs(1));
        assert!(ticks.due() > now() && ticks.due() <= now() + 1_000_000_000);
        ticks.pass();
        let wall = clock(libc::CLOCK_REALTIME) + (ticks.due() - now());
        let off = (wall % 1_000_000_000).min(1_000_000_000 - wall % 1_000_000_000);
        assert!(off < 50_000_000, "{off} ns from a whole second");
    }
}
