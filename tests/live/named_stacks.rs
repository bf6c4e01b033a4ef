//! Stacks of probes that the user names, of single hits and of what the kernel adds up: on a program whose ways are known,
//! and beside bpftrace.

use super::named::{Observer, able, column, program, record};
use super::profile::analyze;
use super::support::{CAPTURE, has, kernel_is, text};
use super::trace::{number, rows};
use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn user_stacks_lead_from_main_to_the_function_and_of_calls_to_the_caller() {
    if !able() {
        return;
    }
    let probes = ["u:@:add {ustack}", "ur:@:factorial {ustack}"];
    let trace = record("named-ustack", &probes, 300);
    let folded = |probe| analyze(&trace, &["stackcount", "--folded", "--probe", probe, "--by", "none"]);
    let inside_main =
        |line: &str| line.split_once(";main").unwrap_or_else(|| panic!("not in main: {line}")).1.to_owned();
    let entries: Vec<String> = folded("add").lines().map(inside_main).collect();
    assert_eq!(entries, [";add 300"]);
    if !kernel_is(6, 11) {
        return super::support::aloud(
            "callers of calls in flight have no name before Linux 6.11: the kernel hides their addresses",
        );
    }
    // The stack of a return begins with the caller: of the outermost that is main.
    let returns: Vec<String> = folded("factorial").lines().map(inside_main).collect();
    let depths = (0..10).map(|depth| format!("{} 1", ";factorial".repeat(depth))).collect::<Vec<_>>();
    assert_eq!(returns, depths);
}

/// The kernel stacks that bpftrace counted, as folded lines.
fn kernel_stacks(seen: &str) -> String {
    let (mut frames, mut lines) = (Vec::new(), Vec::new());
    for line in seen.lines() {
        match (line.strip_prefix("    ").and_then(|frame| frame.split_once('+')), line.strip_prefix("]: ")) {
            (Some((name, _)), _) => frames.insert(0, format!("{name}_[k]")),
            (_, Some(count)) => {
                lines.push(format!("{} {count}", frames.join(";")));
                frames.clear();
            }
            _ => {}
        }
    }
    lines.join("\n")
}

/// Folded lines without the function between a tracepoint and those who listen: it is there while several do, and
/// other tests come and go.
fn steady(folded: &str) -> String {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a stack and a count");
        let frames: Vec<&str> = stack.split(';').filter(|frame| !frame.starts_with("__traceiter_")).collect();
        *sums.entry(frames.join(";")).or_default() += count.parse::<u64>().expect("a count");
    }
    let lines = sums.iter().map(|(stack, count)| format!("{stack} {count}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
#[cfg(target_arch = "x86_64")] // bpftrace counts calls of one name, raw tracepoints by number
fn kernel_stacks_are_those_that_bpftrace_sees() {
    if !able() || !has("bpftrace") {
        return;
    }
    let (program, trace) = program("named-kstack");
    let observer = Observer::start(
        "tracepoint:syscalls:sys_enter_getppid /comm == \"storm-stacks\"/ { @stacks[kstack] = count(); }",
    );
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-e", "t:syscalls:sys_enter_getppid {kstack}"]);
    capture.args(["-e", "raw=rt:sys_enter(id) /id == 110/ {kstack}", "--"]).arg(&program);
    let output = capture.args(["2000", "storm-stacks"]).output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let seen = observer.stop();
    let theirs = steady(&kernel_stacks(&seen));
    assert!(theirs.ends_with(" 2000") && theirs.lines().count() == 1, "one stack, of all calls: {seen}");
    let folded = |probe| analyze(&trace, &["stackcount", "--folded", "--probe", probe, "--by", "none"]);
    assert_eq!(steady(&folded("sys_enter_getppid")), theirs);
    let raw = folded("raw");
    assert!(
        raw.ends_with(" 2000\n") && !raw.contains("bpf_prog") && !raw.contains("bpf_trace_run"),
        "none of our own frames: {raw}"
    );
}

#[test]
fn stacks_that_are_added_up_are_those_of_the_hits() {
    if !able() {
        return;
    }
    let probes = [
        "each=u:@:add {ustack}",
        "sum=u:@:add {count, ustack}",
        "by=u:@:add(b=arg2:i32, a=arg1) {hist=a, ustack}",
        "calls=ur:@:factorial {ustack}",
        "lasting=ur:@:factorial {hist, ustack}",
    ];
    let trace = record("named-sum-ustack", &probes, 300);
    let folded = |probe| analyze(&trace, &["stackcount", "--folded", "--probe", probe, "--by", "none"]);
    assert!(folded("each").contains(";main;add 300\n"), "{}", folded("each"));
    assert_eq!((folded("sum"), folded("by")), (folded("each"), folded("each")));
    assert_eq!(folded("lasting"), folded("calls"));
    // Each hit is in one row: with its power of two of a, of which 0 to 299 have nine.
    let by = rows(&trace, "by");
    assert_eq!(column(&by, "hits").iter().sum::<i128>(), 300);
    assert!(by.len() >= 9 && by.iter().all(|row| number(row, "ustack") > 0), "{}", by.len());
    let counted = analyze(&trace, &["funccount", "--probe", "sum", "--format", "csv"]);
    assert!(counted.lines().nth(1).is_some_and(|line| line.contains(",300,")), "{counted}");
}

#[test]
#[cfg(target_arch = "x86_64")] // bpftrace counts calls of one name, raw tracepoints by number
fn kernel_stacks_add_up_to_what_bpftrace_counts() {
    if !able() || !has("bpftrace") {
        return;
    }
    let (program, trace) = program("named-sum-kstack");
    let observer = Observer::start(
        "tracepoint:syscalls:sys_enter_getppid /comm == \"storm-sums\"/ { @[kstack, ustack] = count(); }",
    );
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["--agg-interval", "10ms"]);
    capture.args(["-e", "t:syscalls:sys_enter_getppid {count, kstack, ustack}"]);
    capture.args(["-e", "each=t:syscalls:sys_enter_getppid {kstack, ustack}", "--"]).arg(&program);
    let output = capture.args(["20000", "storm-sums"]).output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let seen = observer.stop();
    let theirs = steady(&kernel_stacks(&seen));
    assert!(theirs.ends_with(" 20000") && theirs.lines().count() == 1, "one stack, of all calls: {seen}");
    let folded = |probe| analyze(&trace, &["stackcount", "--folded", "--probe", probe, "--by", "none"]);
    let sums = steady(&folded("sys_enter_getppid"));
    assert!(sums.ends_with(" 20000") && sums.lines().count() == 1, "{sums}");
    assert_eq!(sums, steady(&folded("each")));
    let rows = rows(&trace, "sys_enter_getppid");
    assert!((2..20000).contains(&rows.len()), "of several intervals: {}", rows.len());
}
