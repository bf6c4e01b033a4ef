//! Intervals. Bins begin at whole multiples of the interval by the host's wall clock, as a live tool
//! that started on the second would have had them, or count from the start of the span.

use super::clock::{Clock, SECOND};
use super::error::Failure;
use super::window::Window;
use std::sync::Arc;

/// More bins than anybody reads.
const MOST: u64 = 1_000_000;

/// A span cut into intervals.
#[derive(Clone, Debug)]
pub(crate) struct Bins {
    /// Monotonic ns: bin i is from edge i up to edge i + 1; the outer edges are those of the span.
    edges: Arc<[u64]>,
    /// Wall ns at which each bin begins by the clock.
    starts: Arc<[i64]>,
    /// Length of a bin, ns; `None`: one bin is all.
    pub interval: Option<u64>,
}

/// The bin of the last moment that was asked for: neighbours are nearly always in one.
#[derive(Debug, Default)]
pub(crate) struct Run {
    bin: u32,
    window: Window,
}

impl Run {
    /// The bin of a moment.
    #[inline]
    pub fn bin(&mut self, bins: &Bins, moment: u64) -> u32 {
        if !self.window.contains(moment) {
            self.bin = bins.of(moment);
            self.window = bins.window(self.bin);
        }
        self.bin
    }
}

impl Bins {
    /// Cuts `window` every `interval` ns; `None` leaves it whole.
    pub fn new(
        window: Window,
        clock: &Clock,
        interval: Option<u64>,
        from_start: bool,
    ) -> Result<Self, Failure> {
        let first = clock.wall(window.from);
        let Some(step) = interval else {
            return Ok(Self { edges: [window.from, window.to].into(), starts: [first].into(), interval });
        };
        let too_many = || {
            Failure::usage(format!("an interval of {step} ns makes more than {MOST} rows"))
                .hint("take a longer --interval, or a shorter span with --from and --to")
        };
        if step == 0 || (window.to - window.from) / step > MOST {
            return Err(too_many());
        }
        let length = step.cast_signed();
        let origin = if from_start { first } else { midnight(clock, first) };
        // A file can claim any time, also one at the end of all numbers.
        let aligned = |wall: i64| {
            let whole =
                (i128::from(wall) - i128::from(origin)).div_euclid(length.into()) * i128::from(length);
            (i128::from(origin) + whole).clamp(i64::MIN.into(), i64::MAX.into()) as i64
        };
        let begin = aligned(first);
        let (mut edges, mut starts) = (vec![window.from], vec![begin]);
        let mut at = begin.saturating_add(length);
        while clock.mono(at) < window.to && at < i64::MAX {
            let edge = clock.mono(at).max(*edges.last().unwrap_or(&0));
            // Where the wall clock was set forward, the bins that it jumped over are none.
            at = at.max(aligned(clock.wall(edge)));
            edges.push(edge);
            starts.push(at);
            // A file can also claim that years by the clock went by in a second.
            if starts.len() as u64 > MOST {
                return Err(too_many());
            }
            at = at.saturating_add(length);
        }
        edges.push(window.to);
        Ok(Self { edges: edges.into(), starts: starts.into(), interval })
    }

    /// Number of bins.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// The bin of a moment inside the span.
    #[inline]
    pub fn of(&self, moment: u64) -> u32 {
        if self.starts.len() == 1 {
            return 0;
        }
        let after = self.edges.partition_point(|&edge| edge <= moment);
        after.saturating_sub(1).min(self.len() - 1) as u32
    }

    /// When a bin begins by the clock, wall ns.
    pub fn start(&self, bin: u32) -> i64 {
        self.starts.get(bin as usize).copied().unwrap_or(0)
    }

    /// The part of the span that a bin covers.
    pub fn window(&self, bin: u32) -> Window {
        let edge = |at: usize| self.edges.get(at).copied().unwrap_or(0);
        Window { from: edge(bin as usize), to: edge(bin as usize + 1) }
    }

    /// Digits of a second's fraction that tell bins apart.
    pub fn digits(&self) -> usize {
        match self.interval {
            Some(step) if step % SECOND != 0 => {
                3 * (1 + usize::from(step % 1_000_000 != 0) + usize::from(step % 1_000 != 0))
            }
            _ => 0,
        }
    }
}

/// Begin of the host's day, so that 10-minute bins begin at ten past.
fn midnight(clock: &Clock, wall: i64) -> i64 {
    clock.wall_of(clock.civil(wall).date().to_datetime(jiff::civil::Time::midnight())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_begin_on_the_second_and_know_their_true_length() {
        let clock = Clock::new((1_000 * SECOND, 1_795_345_267_250_000_000), [], 0);
        let window = Window { from: 1_000 * SECOND, to: 1_002 * SECOND };
        let bins = Bins::new(window, &clock, Some(SECOND), false).expect("few bins");
        assert_eq!(bins.len(), 3);
        let lengths: Vec<f64> = (0..3).map(|bin| bins.window(bin).seconds()).collect();
        assert_eq!(lengths, [0.75, 1.0, 0.25]);
        assert_eq!(clock.time_of_day(bins.start(0), 0), "11:01:07");
        let of = |ms: u64| bins.of(1_000 * SECOND + ms * 1_000_000);
        assert_eq!((of(0), of(749), of(750), of(1_749), of(1_750), of(1_999)), (0, 0, 1, 1, 2, 2));
    }

    #[test]
    fn a_clock_that_is_set_from_one_end_of_all_numbers_to_the_other_makes_few_bins() {
        let clock = Clock::new((1_000 * SECOND, i64::MIN + 9), [(2_000 * SECOND, i64::MAX - 9)], 0);
        let window = Window { from: 1_000 * SECOND, to: 2_001 * SECOND };
        let bins = Bins::new(window, &clock, Some(SECOND), false).expect("few bins");
        assert!((1_000..1_005).contains(&bins.len()), "{}", bins.len());
    }

    #[test]
    fn a_clock_that_was_set_forward_makes_no_bins_of_what_it_jumped_over() {
        // From 1970 to 2026, as on a machine without a battery.
        let clock = Clock::new((0, 0), [(2 * SECOND, 1_795_345_267_250_000_000)], 0);
        let window = Window { from: 0, to: 4 * SECOND };
        let bins = Bins::new(window, &clock, Some(SECOND), false).expect("few bins");
        assert_eq!(bins.len(), 5);
        assert!((0..5).all(|bin| bins.window(bin).seconds() > 0.2));
        let total: f64 = (0..bins.len() as u32).map(|bin| bins.window(bin).seconds()).sum();
        assert!((total - 4.0).abs() < 1e-6, "{total}");
        assert_eq!(clock.time_of_day(bins.start(bins.of(3 * SECOND)), 0), "11:01:08");
        for wall in [i64::MIN, i64::MAX, -1] {
            let clock = Clock::new((0, wall), [], 0);
            assert!(Bins::new(window, &clock, Some(SECOND), false).expect("few bins").len() <= 6);
        }
    }

    #[test]
    fn a_span_can_stay_whole_or_count_from_its_start() {
        let clock = Clock::new((0, 250_000_000), [], 0);
        let window = Window { from: 0, to: 2 * SECOND };
        assert_eq!(Bins::new(window, &clock, None, false).expect("one").len(), 1);
        assert_eq!(Bins::new(window, &clock, Some(SECOND), true).expect("two").len(), 2);
        assert!(Bins::new(window, &clock, Some(1), false).is_err());
    }
}
