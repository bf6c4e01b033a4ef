//! When the state of the host and of its threads is looked up while the recording runs.

use super::host::{clock, now};
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

#[cfg(test)]
mod tests {
    use super::*;

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
