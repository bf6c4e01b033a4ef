//! A host that sleeps, and one whose clock is set: what follows has the time that the host's clock shows. Only on a
//! machine that is ours: in a guest (tests/guests/live.sh says so). Some guests' disks do not wake up, and with them go all
//! results, so that they sleep only when asked to: `make test-kernels KERNELS=6.12 MAY_SLEEP=1`.

use super::support::{CAPTURE, aloud, live, report, scratch, text};
use super::trace::{Row, bytes, distance, number, rows};
use std::path::{Path, PathBuf};
use std::process::Command;

const SECOND: i128 = 1_000_000_000;

/// Whether the environment allows it.
fn may(what: &str) -> bool {
    let may = live() && std::env::var_os(what).is_some();
    if !may {
        aloud(&format!("this machine is not to do that ({what} is not set)"));
    }
    may
}

/// Records a shell script that runs `/bin/true`, and then says what the clock shows, in whole seconds.
fn record(name: &str, script: &str) -> (PathBuf, i128) {
    let trace = scratch(name).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-g", "proc", "--", "sh", "-c"]).arg(script);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let shown = said.lines().last().and_then(|line| line.trim().parse().ok());
    (trace, shown.unwrap_or_else(|| panic!("{said}")))
}

/// By how much a clock was further at the end than at the start, beyond the time that passed.
fn gained(clocks: &[Row], clock: &str) -> i128 {
    let (first, last) = (&clocks[0], &clocks[clocks.len() - 1]);
    number(last, clock) - number(first, clock) - (number(last, "ts") - number(first, "ts"))
}

/// Whole seconds since 1970 at which the last program that is called `true` began, as a report prints it.
fn began(trace: &Path) -> i128 {
    let execs = report(trace, &["execsnoop"]);
    let at = execs.iter().rev().find(|row| row["args"] == "true").expect("it was run");
    let text = at["time"].as_str().expect("a time");
    let date = Command::new("date").args(["-u", "-d", &text[..19].replace('T', " "), "+%s"]).output();
    let shown = String::from_utf8(date.expect("date runs").stdout).expect("text");
    shown.trim().parse().expect("seconds")
}

#[test]
fn what_follows_a_sleep_has_the_time_that_the_clock_shows() {
    if !may("MAY_SLEEP") {
        return;
    }
    let sleep = "sleep 1; cd /sys/class/rtc/rtc0 && echo 0 >wakealarm && echo +4 >wakealarm && \
        echo mem >/sys/power/state; sleep 0.3; env true; date +%s";
    let (trace, shown) = record("clocks-sleep", sleep);
    let clocks = rows(&trace, "clock");
    let (real, boot) = (gained(&clocks, "realtime"), gained(&clocks, "boottime"));
    assert!(boot > SECOND / 2 && distance(real, boot) < SECOND, "asleep for {boot} ns, {real}");
    assert!(distance(began(&trace), shown) <= 1, "{} and {shown}", began(&trace));
    let (line, mut said) =
        (["analyze", trace.to_str().expect("UTF-8"), "check"].map(str::to_owned), Vec::new());
    tapedeck::analyze::run(&line, &mut said, &mut std::io::sink(), false).expect("it closes");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("the host was suspended for"), "{said}");
    let longest = rows(&trace, "process_exec").iter().map(|row| number(row, "ts")).max().expect("rows");
    assert!(longest <= number(&clocks[clocks.len() - 1], "ts"));
}

#[test]
fn a_clock_that_is_set_moves_what_follows_and_no_duration() {
    if !may("MAY_SET_CLOCK") {
        return;
    }
    let set = "sleep 1; date -s @$(($(date +%s) + 7200)) >/dev/null; sleep 0.3; env true; date +%s";
    let (trace, shown) = record("clocks-set", set);
    let clocks = rows(&trace, "clock");
    assert!(distance(gained(&clocks, "realtime"), 7200 * SECOND) < 2 * SECOND);
    // An emulated processor may be away for a good while between two clocks.
    assert!(gained(&clocks, "boottime").abs() < SECOND, "{} ns", gained(&clocks, "boottime"));
    assert!(distance(began(&trace), shown) <= 1, "{} and {shown}", began(&trace));
    let first = rows(&trace, "process_exec").into_iter().find(|row| bytes(row, "args").starts_with(b"sh"));
    assert!(first.is_some(), "before it was set");
    let ends = rows(&trace, "process_exit");
    let ages: Vec<i128> = ends.iter().map(|row| number(row, "age")).collect();
    assert!(ages.iter().all(|age| *age < 60 * SECOND), "{ages:?}");
}
