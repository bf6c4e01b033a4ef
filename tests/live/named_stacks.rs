//! Stacks of probes that the user names, of single hits and of what the kernel adds up: on a program whose ways are known,
//! and beside bpftrace.

use super::named::{Observer, able, column, program, record};
use super::profile::analyze;
use super::support::{CAPTURE, has, kernel_is, text};
use super::trace::{number, rows};
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
    let frames = seen.lines().filter_map(|line| Some(line.strip_prefix("    ")?.split_once('+')?.0));
    let mut frames: Vec<String> = frames.map(|name| format!("{name}_[k]")).collect();
    assert!(!frames.is_empty() && seen.contains("]: 2000"), "one stack, of all calls: {seen}");
    frames.reverse();
    let folded = |probe| analyze(&trace, &["stackcount", "--folded", "--probe", probe, "--by", "none"]);
    assert_eq!(folded("sys_enter_getppid"), format!("{} 2000\n", frames.join(";")));
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
    assert!(seen.contains("]: 20000"), "one stack, of all calls: {seen}");
    let folded = |probe| analyze(&trace, &["stackcount", "--folded", "--probe", probe, "--by", "none"]);
    let sums = folded("sys_enter_getppid");
    assert!(sums.ends_with(" 20000\n") && sums.lines().count() == 1, "{sums}");
    assert_eq!(sums, folded("each"));
    let rows = rows(&trace, "sys_enter_getppid");
    assert!((2..20000).contains(&rows.len()), "of several intervals: {}", rows.len());
}
