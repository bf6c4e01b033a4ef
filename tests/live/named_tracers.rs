//! Other tracers of functions beside ours, in the same run: what they count, we count.

use super::named::{able, column, program};
use super::support::{CAPTURE, has, text};
use super::trace::rows;
use std::process::Command;

/// perf's own probe on the same function, and `perf stat`, which counts it, in the same run.
#[test]
fn perf_counts_the_same_calls() {
    if !able() || !has("perf") {
        return;
    }
    let (program, trace) = program("named-perf-probe");
    let path = program.to_str().expect("plain");
    let perf = |words: &[&str]| Command::new("perf").args(words).output().expect("perf runs");
    let event = format!("tapedeck_live_{}:add", std::process::id());
    let made = perf(&["probe", "-q", "-x", path, "--add", &format!("{event}=add")]);
    if !made.status.success() {
        super::support::skip(&format!("perf probe does not work here: {}", text(&made)));
        return;
    }
    let _remove = super::support::Undo(|| drop(perf(&["probe", "-q", "--del", &event])));
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args([
        "-e",
        &format!("u:{path}:add"),
        "-e",
        &format!("sums=u:{path}:add {{count}}"),
    ]);
    let output = capture
        .args(["--", "perf", "stat", "-x,", "-e", &event, path, "777"])
        .output()
        .expect("capture runs");
    let said = text(&output);
    assert!(output.status.success() && said.contains(" 0 lost"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("777,") && line.contains(&event)), "{said}");
    assert_eq!(rows(&trace, "add").len(), 777);
    assert_eq!(column(&rows(&trace, "sums"), "hits").iter().sum::<i128>(), 777);
}

/// The program calls uftrace at each entry, inside of what our probes measure.
#[test]
fn uftrace_counts_the_same_calls_and_its_times_lie_within_ours() {
    if !able() || !has("uftrace") || !has("cc") {
        return;
    }
    let (program, trace) = program("named-uftrace");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/truth/named.c");
    let built = Command::new("cc").args(["-O1", "-pg", "-o"]).arg(&program).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "cc compiles the program to be probed");
    let (path, data) = (program.to_str().expect("plain"), trace.with_file_name("uftrace.data"));
    let functions = ["add", "factorial", "nap", "greet"];
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace);
    capture.args(functions.iter().flat_map(|name| ["-e".to_owned(), format!("ur:{path}:{name}")]));
    let output = capture.args(["--", "uftrace", "record", "-d"]).arg(&data).args([path, "700"]).output();
    let output = output.expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let report = Command::new("uftrace").args(["report", "-f", "call,total", "-d"]).arg(&data).output();
    let page = String::from_utf8(report.expect("uftrace runs").stdout).expect("text");
    for name in functions {
        let line =
            page.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap_or_else(|| panic!("{page}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let [total, unit, calls, _] = words[..] else { panic!("{line}") };
        let ours = rows(&trace, name);
        assert_eq!(ours.len().to_string(), calls, "{name}: {page}");
        let ns = match unit {
            "us" => 1e3,
            "ms" => 1e6,
            _ => 1e9,
        };
        // Of calls inside each other it counts the time once.
        let theirs = total.parse::<f64>().expect("a number") * ns;
        let sum = column(&ours, "latency").iter().sum::<i128>() as f64;
        assert!(sum >= theirs * 0.999, "{name}: {sum} ns, {page}");
    }
}
