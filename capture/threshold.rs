//! `--min-latency GROUP=TIME`: of a group's calls, only those that took long.
//!
//! Programs compare when a call returns, before they ask for a place in the ring; what is shorter counts as filtered. So a
//! group is able to if its programs have the knob (`bpf/threshold.bpf.h`). A table whose calls are not measured as it is
//! attached (`--list`) has all of them; `analyze` learns of the rest from the words of the filter.

use super::filter::Filter;
use super::knobs::Variables;
use super::limit::parse_duration;
use super::plan::Plan;
use anyhow::{Result, bail};
use std::time::Duration;

/// The knob of the programs.
pub const KNOB: &str = "min_latency";

/// `file=1ms`.
///
/// # Errors
/// With what is expected.
pub fn parse(text: &str) -> Result<(String, Duration), String> {
    let (group, time) =
        text.trim().split_once('=').filter(|(group, _)| !group.is_empty()).ok_or_else(|| {
            format!("'{text}': expected GROUP=TIME, as in file=1ms; several are separated by commas")
        })?;
    let least = parse_duration(time)?;
    // Elsewhere a number alone is seconds, which of a call is hardly what is meant.
    if !least.is_zero() && !time.ends_with(char::is_alphabetic) {
        return Err(format!("'{text}': a time needs its unit: write {group}={time}ms, or {group}={time}s"));
    }
    Ok((group.to_owned(), least))
}

/// Takes in what the command line says.
///
/// # Errors
/// When it says two things of one group.
pub fn set(filter: &mut Filter, asked: &[(String, Duration)]) -> Result<()> {
    for (group, time) in asked {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if filter.least.insert(group.clone(), ns).is_some() {
            bail!("--min-latency {group}: two times are given for this group: give one");
        }
        if ns > 0 {
            filter.words.push(format!("{WORD} {group}={time:?}"));
        }
    }
    Ok(())
}

/// How the trace states it, as `analyze/threshold.rs` reads it.
const WORD: &str = "min-latency";

/// Whether each group that has a threshold is recorded, and knows how long its calls take.
///
/// # Errors
/// For one that is not, or does not.
pub fn check(filter: &Filter, plan: &Plan) -> Result<()> {
    let mut able = Vec::new();
    for family in plan.families.iter().filter(|family| family.enabled) {
        if Variables::of(family.group, family.object)?.offset(KNOB).is_some() {
            able.push(family.group);
        }
    }
    for group in filter.least.keys() {
        if !able.contains(&group.as_str()) {
            bail!("--min-latency {group}: {}", not_able(group, &able));
        }
        if group == "syscalls" && !filter.uses("each_syscall") {
            bail!(
                "--min-latency syscalls: calls are added up, by the power of two of their latency: there is nothing to \
                 leave out; --syscalls each records single ones"
            );
        }
    }
    Ok(())
}

fn not_able(group: &str, able: &[&str]) -> String {
    let able = if able.is_empty() { "none".to_owned() } else { able.join(", ") };
    let instead = match group {
        "sched" => "; its runs, sleeps and waits have --min-wait",
        "block" => {
            "; the parts of a request are recorded as they happen, and --trigger biolatency>TIME looks for long ones"
        }
        "named" => "; a probe of your own has its threshold with it, as in 'fx:vfs_fsync {thr=1ms}'",
        _ => "",
    };
    format!("of the groups that are recorded, those with calls that can be compared are: {able}{instead}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(words: &[&str]) -> Result<Filter> {
        let line = [&["capture", "-o", "t.bin"], words].concat();
        let args = <crate::capture::args::Args as clap::Parser>::try_parse_from(line)?;
        Filter::new(&args, None)
    }

    #[test]
    fn a_threshold_is_a_group_and_a_time() {
        assert_eq!(parse("net=1.5ms"), Ok(("net".into(), Duration::from_micros(1500))));
        assert_eq!(parse(" file=20\u{b5}s"), Ok(("file".into(), Duration::from_micros(20))));
        assert_eq!(parse("file=0"), Ok(("file".into(), Duration::ZERO)));
        for bare in ["file=1", "file=1."] {
            assert!(parse(bare).unwrap_err().contains("a time needs its unit"), "{bare}");
        }
        assert!(parse("file=1").unwrap_err().contains("write file=1ms, or file=1s"));
        assert!(parse("1ms").unwrap_err().contains("file=1ms"));
        assert!(parse("=1ms").is_err());
        assert!(parse("net=soon").unwrap_err().contains("not a time"));
    }

    #[test]
    fn each_group_has_its_own_and_the_trace_says_so() {
        let found =
            filter(&["--min-latency", "net=1ms,file=20us", "--min-latency", "syscalls=0"]).expect("fine");
        assert_eq!(found.words, ["min-latency net=1ms", "min-latency file=20µs"]);
        assert_eq!((found.least["file"], found.least["syscalls"]), (20_000, 0));
        assert!(!found.uses("any_filter"), "who is recorded is not the matter");
        let twice = filter(&["--min-latency", "net=1ms,net=2ms"]).unwrap_err().to_string();
        assert!(twice.contains("two times"), "{twice}");
    }

    #[test]
    fn what_has_no_length_is_refused() {
        let checked = |groups: &[&str], words: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
            let plan = Plan::new(&groups).expect("a plan");
            check(&filter(words).expect("words"), &plan).map_err(|error| error.to_string())
        };
        assert_eq!(checked(&["net", "file"], &["--min-latency", "net=1ms,file=1ms"]), Ok(()));
        let other = checked(&["net", "proc"], &["--min-latency", "file=1ms"]).unwrap_err();
        assert!(other.ends_with("can be compared are: net"), "{other}");
        let waits = checked(&["sched"], &["--min-latency", "sched=1ms"]).unwrap_err();
        assert!(waits.contains("none") && waits.contains("--min-wait"), "{waits}");
        let sums = checked(&["syscalls"], &["--min-latency", "syscalls=1ms"]).unwrap_err();
        assert!(sums.contains("--syscalls each"), "{sums}");
        let each = ["--syscalls", "each", "--min-latency", "syscalls=1ms"];
        assert_eq!(checked(&["syscalls"], &each), Ok(()));
    }
}
