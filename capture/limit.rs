//! Sizes and times on the command line: `512MiB`, `10m`, or both.

use std::time::Duration;

/// An amount of bytes, a time, or both: what is reached first counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub size: Option<u64>,
    /// Time.
    pub time: Option<Duration>,
}

impl Limit {
    /// Whether it is reached.
    #[must_use]
    pub fn reached(&self, size: u64, time: Duration) -> bool {
        self.size.is_some_and(|limit| size >= limit) || self.time.is_some_and(|limit| time >= limit)
    }
}

/// `1GiB`, `10m`, or both, as `10m,1GiB` or `1GiB/10m`.
///
/// # Errors
/// With what is expected.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    let mut limit = Limit::default();
    for word in text.split([',', '/']) {
        let twice = if word.ends_with(['B', 'b']) {
            limit.size.replace(parse_size(word)?).is_some()
        } else {
            limit.time.replace(parse_duration(word)?).is_some()
        };
        if twice {
            return Err(format!("'{text}' has two limits of a kind: write a size, a time, or one of each"));
        }
    }
    Ok(limit)
}

/// `64KiB`, `512MiB`, `1GiB`, `1TiB`, the decimal `kB`, `MB`, `GB`, `TB`, or `4096B`.
///
/// # Errors
/// With what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let number: f64 =
        number.parse().map_err(|_| format!("'{text}' is not a size: write 64KiB, 512MiB or 1GiB"))?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000_u64,
        other => return Err(format!("'{other}' is not a unit of size: write KiB, MiB, GiB or TiB")),
    };
    let bytes = number * unit as f64;
    if !(0.0..1e18).contains(&bytes) {
        return Err(format!("'{text}' is not a size that a file can have"));
    }
    Ok(bytes as u64)
}

/// `500ms`, `30s`, `5m`, `1h`, or seconds without a unit.
///
/// # Errors
/// With what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let number: f64 =
        number.parse().map_err(|_| format!("'{text}' is not a time: write 500ms, 30s, 5m or 1h"))?;
    let seconds = match unit {
        // The micro sign, which is how times are printed, and the Greek letter that looks the same.
        "us" | "\u{b5}s" | "\u{3bc}s" => number / 1_000_000.0,
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unit => return Err(format!("'{unit}' is not a unit of time: write us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("'{text}' is not a time that can be waited for"))
}

/// A time that something is repeated after: not so short that repeating it is all that happens.
///
/// # Errors
/// With what is expected.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(10) {
        return Err(format!("{text} is too short: an interval is at least 10ms"));
    }
    Ok(interval)
}

/// A number and its unit.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.trim_end_matches(char::is_alphabetic).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        for micro in ["20us", "20\u{b5}s", "20\u{3bc}s"] {
            assert_eq!(parse_duration(micro), Ok(Duration::from_micros(20)), "{micro}");
        }
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert!(parse_duration("7 parsecs").is_err());
        assert!(parse_duration("-1s").is_err());
        assert!(parse_interval("9ms").is_err() && parse_interval("10ms").is_ok());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1.5gib"), Ok(3 << 29));
        assert_eq!(parse_size("2MB"), Ok(2_000_000));
        for wrong in ["12", "-1KiB", "MiB", "9999999TiB", "1 GiB x"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_a_size_or_a_time_or_both() {
        let both = parse_limit("10m,1GiB").expect("both");
        assert_eq!(both, Limit { size: Some(1 << 30), time: Some(Duration::from_secs(600)) });
        assert_eq!(parse_limit("1GiB/10m"), Ok(both));
        assert_eq!(parse_limit("30s"), Ok(Limit { size: None, time: Some(Duration::from_secs(30)) }));
        assert!(parse_limit("10m,20m").unwrap_err().contains("two limits"));
        assert!(both.reached(1 << 30, Duration::ZERO) && both.reached(0, Duration::from_secs(600)));
        assert!(
            !both.reached(1, Duration::from_secs(1)) && !Limit::default().reached(u64::MAX, Duration::MAX)
        );
    }
}
