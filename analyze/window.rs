//! The span of time that is asked for: `--from`, `--to`, `--at`.
//!
//! A moment is an offset from the start (`10s`, `1m30s`, `+500ms`), an offset from the end (`-5s`),
//! or the recording host's wall clock (`12:01:07`, `2026-11-22T12:01:07.5`).

use super::clock::{Clock, SECOND};
use super::error::Failure;

/// From `from` up to but not including `to`, `CLOCK_MONOTONIC` ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// First moment.
    pub from: u64,
    /// First moment after it.
    pub to: u64,
}

impl Window {
    /// Whether a moment is inside.
    pub fn contains(self, moment: u64) -> bool {
        self.from <= moment && moment < self.to
    }

    /// Whether any moment of `first..=last` is inside.
    pub fn touches(self, first: u64, last: u64) -> bool {
        first < self.to && last >= self.from
    }

    /// Whether `first..=last` is wholly inside.
    pub fn covers(self, first: u64, last: u64) -> bool {
        self.from <= first && last < self.to
    }

    /// Its length in seconds.
    pub fn seconds(self) -> f64 {
        self.to.saturating_sub(self.from) as f64 / SECOND as f64
    }

    /// The part between two moments as the options name them.
    pub fn narrow(
        self,
        clock: &Clock,
        from: Option<&str>,
        to: Option<&str>,
        at: Option<(&str, u64)>,
    ) -> Result<Self, Failure> {
        let moment = |text: &str| self.moment(clock, text);
        let (from, to) = match at {
            Some((at, length)) => {
                let from = moment(at)?;
                (from, from.saturating_add(length))
            }
            None => (from.map_or(Ok(self.from), moment)?, to.map_or(Ok(self.to), moment)?),
        };
        if from >= to || !self.touches(from, to - 1) {
            let span =
                format!("{} to {}", clock.rfc3339(clock.wall(self.from)), clock.rfc3339(clock.wall(self.to)));
            return Err(Failure::usage(format!(
                "no moment lies between those times: the trace spans {span}"
            )));
        }
        Ok(Self { from: from.max(self.from), to: to.min(self.to) })
    }

    fn moment(self, clock: &Clock, text: &str) -> Result<u64, Failure> {
        if let Some(wall) = self.wall_clock(clock, text) {
            return Ok(clock.mono(wall));
        }
        let (number, from_end) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text.strip_prefix('+').unwrap_or(text), false),
        };
        let expected = "expected an offset (10s, 1m30s, +500ms, -5s from the end) or a time (12:01:07, 2026-11-22T12:01:07)";
        let offset = duration(number)
            .ok_or_else(|| Failure::usage(format!("'{text}' is not a moment: {expected}")))?;
        Ok(if from_end { self.to.saturating_sub(offset) } else { self.from.saturating_add(offset) })
    }

    /// A time without a date is the first such time from the start on.
    fn wall_clock(self, clock: &Clock, text: &str) -> Option<i64> {
        if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
            return i64::try_from(stamp.as_nanosecond()).ok();
        }
        if text.contains('T') {
            return clock.wall_of(text.parse().ok()?);
        }
        let time: jiff::civil::Time = text.contains(':').then(|| text.parse().ok())??;
        let start = clock.civil(clock.wall(self.from));
        let second = |time: jiff::civil::Time| time.with().subsec_nanosecond(0).build().unwrap_or(time);
        let date = if time < second(start.time()) { start.date().tomorrow().ok()? } else { start.date() };
        clock.wall_of(date.to_datetime(time))
    }
}

/// `1m30s`, `500ms`, `1.5s`, `2h`; a number alone is seconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ns" => 1.0,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" | "min" => 6e10,
            "h" => 3.6e12,
            "" if digits == text.len() => 1e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && total <= 9e18).then_some(total.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 12:01:07.25 in the host's zone.
    fn clock() -> Clock {
        Clock::new((0, 1_795_345_267_250_000_000), [], 3600)
    }

    #[test]
    fn durations_are_written_as_people_do() {
        let of = |text| duration(text);
        assert_eq!(
            (of("10s"), of("1m30s"), of("500ms")),
            (Some(10 * SECOND), Some(90 * SECOND), Some(SECOND / 2))
        );
        assert_eq!(
            (of("1.5s"), of("2"), of("1h")),
            (Some(3 * SECOND / 2), Some(2 * SECOND), Some(3600 * SECOND))
        );
        assert_eq!((of("20\u{b5}s"), of("20\u{3bc}s")), (Some(20_000), Some(20_000)));
        assert_eq!((of(""), of("s"), of("1x"), of("1.2.3s"), of("1s2")), (None, None, None, None, None));
    }

    #[test]
    fn moments_are_offsets_or_wall_clock() {
        let all = Window { from: 0, to: 100 * SECOND };
        let narrow = |from, to| all.narrow(&clock(), from, to, None).map(|w| (w.from, w.to));
        assert_eq!(narrow(Some("10s"), Some("-5s")).expect("a span"), (10 * SECOND, 95 * SECOND));
        assert_eq!(narrow(Some("12:01:08"), None).expect("a span"), (750_000_000, 100 * SECOND));
        assert_eq!(narrow(Some("2026-11-22T12:01:17.25"), None).expect("a span").0, 10 * SECOND);
        assert_eq!(narrow(Some("2026-11-22T11:01:17.25Z"), None).expect("a span").0, 10 * SECOND);
        assert_eq!(narrow(Some("12:01:07"), None).expect("a span").0, 0);
        for (from, to) in [(Some("x"), None), (Some("5s"), Some("5s")), (Some("200s"), None)] {
            assert_eq!(narrow(from, to).expect_err("nothing").exit, super::super::error::Exit::Usage);
        }
    }
}
