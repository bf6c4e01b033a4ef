//! Moments: `CLOCK_MONOTONIC` in the file, the recording host's wall clock on paper.
//!
//! Clock rows tie the two together. Between two rows the wall clock runs evenly; before the first
//! and after the last it keeps its distance. Where it was set forward, it jumps. The zone is the host's, whose offset is in the trace,
//! so no zone database is needed and a laptop's own zone does not matter.

use jiff::Timestamp;
use jiff::tz::Offset;

/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// How the trace's clock maps to the wall clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Monotonic and wall ns of the same moments, in order; never empty.
    points: Vec<(u64, i64)>,
    /// What the host's wall clock is ahead of UTC.
    offset: Offset,
}

impl Clock {
    /// From a first pair, more pairs in any order, and seconds east of UTC.
    pub fn new(first: (u64, i64), more: impl IntoIterator<Item = (u64, i64)>, offset: i32) -> Self {
        let mut points: Vec<(u64, i64)> = std::iter::once(first).chain(more).collect();
        points.sort_unstable();
        points.dedup_by_key(|point| point.0);
        // A clock that was set back would give one wall time to two moments: keep to the part that rises.
        let mut top = None;
        points.retain(|point| {
            let rises = top.is_none_or(|top| point.1 > top);
            top = top.max(Some(point.1));
            rises
        });
        let points = with_steps(&points);
        Self { points, offset: Offset::from_seconds(offset).unwrap_or(Offset::UTC) }
    }

    /// Up to a moment what it said before, and behind it what is known by now: who has told of the time until then
    /// goes on from the same moment. What was told ahead of the clock, which was set back, goes on at half its pace until it
    /// is caught up.
    pub fn go_on(&mut self, until: u64, known: &Self) {
        let here = (until, self.wall(until));
        let ahead = here.1.saturating_sub(known.wall(until)).max(0).cast_unsigned();
        let again = until.saturating_add(ahead.saturating_mul(2)).saturating_add(1);
        let there = (again, known.wall(again));
        self.points.retain(|point| point.0 < until);
        self.points.push(here);
        let later = known.points.iter().filter(|point| point.0 > again).copied();
        for point in std::iter::once(there).chain(later) {
            if self.points.last().is_some_and(|last| last.0 < point.0 && last.1 < point.1) {
                self.points.push(point);
            }
        }
    }

    /// The same clock, printed in UTC.
    pub fn in_utc(mut self) -> Self {
        self.offset = Offset::UTC;
        self
    }

    /// Wall clock of a moment, ns since 1970.
    pub fn wall(&self, mono: u64) -> i64 {
        let after = self.points.partition_point(|point| point.0 <= mono);
        convert(i128::from(mono), after, &self.points, |p| (i128::from(p.0), i128::from(p.1))) as i64
    }

    /// The first moment at which the wall clock has come so far; 0 for times before the clock's zero.
    pub fn mono(&self, wall: i64) -> u64 {
        let after = self.points.partition_point(|point| point.1 <= wall);
        let moment = convert(i128::from(wall), after, &self.points, |p| (i128::from(p.1), i128::from(p.0)))
            .clamp(0, u64::MAX.into())
            .try_into()
            .unwrap_or(0);
        // A division that was rounded down: who goes on from there would be in the interval before.
        if self.wall(moment) < wall { moment.saturating_add(1) } else { moment }
    }

    /// A wall time as date and time of the host.
    pub fn civil(&self, wall: i64) -> jiff::civil::DateTime {
        let stamp = Timestamp::from_nanosecond(wall.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        self.offset.to_datetime(stamp)
    }

    /// A date and time of the host as wall time.
    pub fn wall_of(&self, civil: jiff::civil::DateTime) -> Option<i64> {
        i64::try_from(self.offset.to_timestamp(civil).ok()?.as_nanosecond()).ok()
    }

    /// For people: `12:01:07`, with `digits` of a second's fraction.
    pub fn time_of_day(&self, wall: i64, digits: usize) -> String {
        let mut text = String::new();
        self.stamps().push_time_of_day(wall, digits, &mut text);
        text
    }

    /// For programs: RFC 3339 with the host's offset.
    pub fn rfc3339(&self, wall: i64) -> String {
        let mut text = String::new();
        self.stamps().push_rfc3339(wall, &mut text);
        text
    }

    /// Writes one moment after the other.
    pub fn stamps(&self) -> Stamps {
        Stamps {
            offset: self.offset,
            second: None,
            date: String::new(),
            time: String::new(),
            zone: String::new(),
        }
    }
}

/// Moments as text. Most are of the same second as the one before, and differ in its fraction.
pub(crate) struct Stamps {
    offset: Offset,
    second: Option<i64>,
    /// `2026-11-22`
    date: String,
    /// `12:01:07`
    time: String,
    /// `+01:00`
    zone: String,
}

impl Stamps {
    /// Adds what [`Clock::time_of_day`] says.
    pub fn push_time_of_day(&mut self, wall: i64, digits: usize, to: &mut String) {
        let fraction = self.at(wall);
        to.push_str(&self.time);
        push_fraction(fraction, digits, to);
    }

    /// Adds what [`Clock::rfc3339`] says: the fraction without zeros at its end.
    pub fn push_rfc3339(&mut self, wall: i64, to: &mut String) {
        let fraction = self.at(wall);
        to.push_str(&self.date);
        to.push('T');
        to.push_str(&self.time);
        let zeros = (0..9).take_while(|&zeros| fraction.is_multiple_of(10_u32.pow(zeros + 1))).count();
        push_fraction(fraction, 9 - zeros, to);
        to.push_str(&self.zone);
    }

    /// Goes to a moment; what is left of it below the second, ns.
    fn at(&mut self, wall: i64) -> u32 {
        let second = wall.div_euclid(SECOND.cast_signed());
        if self.second != Some(second) {
            let stamp = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            let text = stamp.display_with_offset(self.offset).to_string();
            let (date, rest) = text.split_once('T').unwrap_or(("", &text));
            let (time, zone) = rest.split_at_checked("12:01:07".len()).unwrap_or((rest, ""));
            (self.date, self.time, self.zone) = (date.to_owned(), time.to_owned(), zone.to_owned());
            self.second = Some(second);
        }
        wall.rem_euclid(SECOND.cast_signed()) as u32
    }
}

/// A point and so many digits of nine; nothing for none.
fn push_fraction(fraction: u32, digits: usize, to: &mut String) {
    if digits > 0 {
        to.push('.');
        // Behind a one, zeros in front stay.
        to.push_str(&itoa::Buffer::new().format(1_000_000_000 + fraction)[1..=digits.min(9)]);
    }
}

/// Where the wall clock advanced much more than time did, it was set: it ran on evenly until then.
fn with_steps(points: &[(u64, i64)]) -> Vec<(u64, i64)> {
    let mut all: Vec<(u64, i64)> = Vec::with_capacity(points.len());
    for &(mono, wall) in points {
        if let Some(&before) = all.last() {
            let (time, told) = (i128::from(mono - before.0), i128::from(wall) - i128::from(before.1));
            if told > 2 * time + i128::from(SECOND) && time > 1 {
                all.push((mono - 1, before.1.saturating_add((time - 1) as i64)));
            }
        }
        all.push((mono, wall));
    }
    all
}

/// `after` is the first point behind `x`.
fn convert(x: i128, after: usize, points: &[(u64, i64)], pair: impl Fn(&(u64, i64)) -> (i128, i128)) -> i128 {
    let before = pair(&points[after.saturating_sub(1)]);
    match points.get(after).map(&pair) {
        Some(next) if after > 0 => before.1 + scaled(x - before.0, next.1 - before.1, next.0 - before.0),
        _ => before.1 + (x - before.0),
    }
}

/// `x · rise / run`, none of them below zero, rounded down. Two clocks are nearly as fast: by what one gains in a while
/// fits a machine's word, and to divide more takes as long as to print the time.
fn scaled(x: i128, rise: i128, run: i128) -> i128 {
    let gain = x.checked_mul(rise - run).and_then(|gain| i64::try_from(gain).ok());
    match (gain, i64::try_from(run)) {
        (Some(gain), Ok(run)) => x + i128::from(gain.div_euclid(run)),
        _ => x.saturating_mul(rise) / run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_scaled_is_rounded_down(
            x in prop_oneof![0..20_000_000_000_i64, 0..i64::MAX],
            run in prop_oneof![1..20_000_000_000_i64, 1..i64::MAX],
            gain in prop_oneof![-1_000..1_000_i64, -1_000_000_000..i64::MAX],
        ) {
            let rise = run.saturating_add(gain).max(0);
            let [x, rise, run] = [x, rise, run].map(i128::from);
            prop_assert_eq!(scaled(x, rise, run), x * rise / run);
        }
    }

    #[test]
    fn the_wall_clock_follows_the_clock_rows() {
        let clock = Clock::new((1_000, 5_000), [(2_000, 6_010), (3_000, 7_020)], 3600);
        assert_eq!(
            (clock.wall(500), clock.wall(1_500), clock.wall(2_000), clock.wall(4_000)),
            (4_500, 5_505, 6_010, 8_020)
        );
        assert_eq!((clock.mono(4_500), clock.mono(5_505), clock.mono(8_020)), (500, 1_500, 4_000));
    }

    #[test]
    fn the_moment_of_a_time_is_not_before_it() {
        // Between clock rows one clock is a little faster than the other, and where it was set it jumps.
        let clock = Clock::new((1_000, 5_000), [(2_000, 5_997), (3_000, 7_011), (3_001, 9_000_000_000)], 0);
        for wall in (4_990..7_020).chain([8_999_999_999, 9_000_000_000, 9_000_000_007]) {
            let moment = clock.mono(wall);
            assert!(clock.wall(moment) >= wall && clock.wall(moment - 1) < wall, "{wall}: {moment}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_still_maps_one_to_one() {
        let clock = Clock::new((0, 100), [(10, 50), (20, 120)], 0);
        assert_eq!((clock.wall(10), clock.wall(20)), (110, 120));
    }

    #[test]
    fn what_is_learned_later_changes_no_time_that_was_told() {
        let mut clock = Clock::new((1_000, 5_000), [], 0);
        let known = Clock::new((1_000, 5_000), [(2_000, 6_010), (3_000, 7_020)], 0);
        clock.go_on(1_500, &known);
        assert_eq!((clock.wall(1_200), clock.wall(1_500), clock.mono(5_500)), (5_200, 5_500, 1_500));
        assert_eq!((clock.wall(2_000), clock.wall(4_000)), (6_010, 8_020));
        // Nothing new.
        clock.go_on(4_000, &known);
        assert_eq!((clock.wall(4_000), clock.wall(4_001), clock.wall(9_000)), (8_020, 8_021, 13_020));
        // Set forward by an hour, as is known when that is past; and back by 40.
        let hour = 3_600_000_000_000;
        clock.go_on(5_000, &Clock::new((4_500, hour), [(4_900, hour + 400)], 0));
        assert_eq!(
            (clock.wall(5_000), clock.wall(5_001), clock.wall(6_000)),
            (9_020, hour + 501, hour + 1_500)
        );
        clock.go_on(6_000, &Clock::new((5_500, hour + 960), [(7_000, hour + 2_460)], 0));
        assert_eq!(
            (clock.wall(6_000), clock.wall(6_081), clock.wall(7_000)),
            (hour + 1_500, hour + 1_541, hour + 2_460)
        );
        let times: Vec<i64> = (5_900..6_200).map(|mono| clock.wall(mono)).collect();
        assert!(times.windows(2).all(|two| (0..=1).contains(&(two[1] - two[0]))), "{times:?}");
    }

    #[test]
    fn times_are_the_hosts() {
        let clock = Clock::new((0, 1_795_345_267_250_000_000), [], 3600);
        assert_eq!(clock.time_of_day(clock.wall(0), 3), "12:01:07.250");
        assert_eq!(clock.rfc3339(clock.wall(750_000_000)), "2026-11-22T12:01:08+01:00");
        assert_eq!(clock.in_utc().rfc3339(1_795_345_267_250_000_000), "2026-11-22T11:01:07.25+00:00");
    }

    #[test]
    fn stamps_one_after_the_other_are_what_the_library_prints() {
        let ends =
            [i64::MIN, -1_000_000_001, -1, 0, 1, 999_999_999, 1_000_000_000, 1_795_345_267_000_000_000];
        for offset in [0, 3600, -12_600, 20_700] {
            let clock = Clock::new((0, 0), [], offset);
            let mut stamps = clock.stamps();
            for wall in
                ends.into_iter().flat_map(|wall| [wall, wall + 1, wall + 120_000, wall + 90_000_000_000])
            {
                let (mut program, mut person) = (String::new(), String::new());
                stamps.push_rfc3339(wall, &mut program);
                stamps.push_time_of_day(wall, 6, &mut person);
                let stamp = Timestamp::from_nanosecond(wall.into()).expect("it is within its years");
                assert_eq!(program, stamp.display_with_offset(clock.offset).to_string());
                let time = clock.civil(wall).time();
                let fraction = time.subsec_nanosecond() / 1000;
                let expected =
                    format!("{:02}:{:02}:{:02}.{fraction:06}", time.hour(), time.minute(), time.second());
                assert_eq!(person, expected);
            }
        }
    }
}
