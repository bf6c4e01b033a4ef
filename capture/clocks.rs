//! The clocks beside the trace's own, `CLOCK_MONOTONIC`: what they say, and when one of them jumps.
//!
//! A clock jumps when it is set, and when the host wakes up, since the trace's own stands still while it sleeps. A row from
//! before and one from after, a tenth of a second apart, tell the analyzer where; from row to row clocks go on evenly.

use super::host::clock;
use super::record::Row;

const SECOND: u64 = 1_000_000_000;
/// Rows are written at least this often.
const EVERY: u64 = 10 * SECOND;
/// A clock that is disciplined gains or loses less in the time between two looks.
const JUMP: u64 = SECOND / 50;
/// Clocks are read together if that took no longer; a thread may lose its processor between two of them.
const TOGETHER: u64 = SECOND / 1000;

/// All clocks at one moment, ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`.
    pub mono: u64,
    /// `CLOCK_REALTIME`.
    pub real: u64,
    boot: u64,
    tai: u64,
}

impl Reading {
    /// Now: as if no time had passed from clock to clock.
    #[must_use]
    pub fn now() -> Self {
        let read = || {
            let before = clock(libc::CLOCK_MONOTONIC);
            let [real, boot, tai] = [libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME, libc::CLOCK_TAI].map(clock);
            let after = clock(libc::CLOCK_MONOTONIC);
            // The middle of the two belongs to what was read between them.
            (after - before, Self { mono: u64::midpoint(before, after), real, boot, tai })
        };
        let tries = std::iter::repeat_with(read).take(5);
        let mut best = (u64::MAX, Self::default());
        for reading in tries {
            if reading.0 < best.0 {
                best = reading;
            }
            if best.0 <= TOGETHER {
                break;
            }
        }
        best.1
    }

    /// One row of the recorder's table of clocks.
    fn row(&self) -> Vec<u8> {
        Row::new().u64(self.mono).u64(self.real).u64(self.boot).u64(self.tai).bytes()
    }

    fn jumped(&self, before: &Self) -> bool {
        let passed = self.mono - before.mono;
        let differs = |now: u64, then: u64| {
            now.wrapping_sub(then).wrapping_sub(passed).cast_signed().unsigned_abs() > JUMP
        };
        differs(self.real, before.real) || differs(self.boot, before.boot)
    }
}

/// The clocks of a recording.
pub struct Clocks {
    last: Reading,
    due: u64,
}

impl Clocks {
    /// The first row is due at once.
    #[must_use]
    pub fn start() -> Self {
        Self { last: Reading::now(), due: 0 }
    }

    /// The rows that are due; to be asked a few times each second.
    pub fn look(&mut self) -> Vec<Vec<u8>> {
        self.look_at(Reading::now())
    }

    /// The last row.
    pub fn end(&mut self) -> Vec<Vec<u8>> {
        self.due = 0;
        self.look()
    }

    fn look_at(&mut self, reading: Reading) -> Vec<Vec<u8>> {
        let before = std::mem::replace(&mut self.last, reading);
        let jumped = reading.jumped(&before);
        if !jumped && reading.mono < self.due {
            return Vec::new();
        }
        self.due = reading.mono + EVERY;
        jumped.then_some(before).iter().chain([&reading]).map(Reading::row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_has_a_row_from_before_and_one_from_after() {
        let at = |tenths: u64, set: i64, asleep: u64| {
            let mono = tenths * SECOND / 10;
            let real = (mono + 50 * SECOND + asleep).saturating_add_signed(set);
            Reading { mono, real, boot: mono + asleep, tai: real }
        };
        let mut clocks = Clocks { last: at(1, 0, 0), due: 0 };
        let mut rows = |reading: Reading| clocks.look_at(reading).len();
        assert_eq!((rows(at(1, 0, 0)), rows(at(2, 0, 0))), (1, 0), "one at the start");
        assert_eq!(rows(at(3, 15_000_000, 0)), 0, "disciplined");
        assert_eq!((rows(at(4, -400_000_000, 0)), rows(at(5, -400_000_000, 0))), (2, 0), "set back");
        assert_eq!(
            (rows(at(6, -400_000_000, 3_600 * SECOND)), rows(at(7, -400_000_000, 3_600 * SECOND))),
            (2, 0),
            "woken"
        );
        assert_eq!(
            (rows(at(105, -400_000_000, 3_600 * SECOND)), rows(at(106, -400_000_000, 3_600 * SECOND))),
            (0, 1)
        );
    }

    #[test]
    fn clocks_are_read_together() {
        let (one, two) = (Reading::now(), Reading::now());
        assert!(one.mono <= two.mono && one.real > SECOND && one.boot >= one.mono);
    }
}
