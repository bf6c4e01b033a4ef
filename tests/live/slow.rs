//! How long calls took and files lived, beside what strace timed of the same calls.

use super::support::{CAPTURE, has, live, patiently, report, scratch, text, truth};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Records what strace traces, with `words` after strace's own; the trace, and strace's lines.
fn straced(name: &str, options: &[&str], calls: &str, words: &[&str]) -> (PathBuf, Vec<Call>) {
    let directory = scratch(name);
    let (path, log) = (directory.join("trace.bin"), directory.join("log"));
    let mut capture = Command::new(CAPTURE);
    capture
        .arg("-o")
        .arg(&path)
        .args(["-g", "file"])
        .args(options)
        .args(["--", "strace", "-y", "-T", "-ttt"]);
    let output = capture.arg("-e").arg(calls).arg("-o").arg(&log).args(words).output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let lines = std::fs::read_to_string(log).expect("strace's lines");
    (path, lines.lines().filter_map(Call::of).collect())
}

/// A line of strace's: `1700000000.123456 read(3</tmp/f>, "…", 1024) = 1024 <0.000012>`.
#[derive(Debug)]
struct Call {
    begin: f64,
    took: f64,
    line: String,
}

impl Call {
    fn of(line: &str) -> Option<Self> {
        let (first, rest) = line.split_once(' ')?;
        // With -f a line begins with who called.
        let (begin, rest) = match rest.trim_start().split_once(' ') {
            Some((second, rest)) if second.parse::<f64>().is_ok() => (second, rest),
            _ => (first, rest),
        };
        let (_, took) = rest.strip_suffix('>')?.rsplit_once('<')?;
        Some(Self { begin: begin.parse().ok()?, took: took.parse().ok()?, line: rest.to_owned() })
    }

    fn is(&self, call: &str) -> bool {
        self.line.starts_with(call)
    }

    /// The first path in quotes.
    fn path(&self) -> &str {
        self.line.split('"').nth(1).unwrap_or("")
    }
}

fn seconds(row: &Value, column: &str) -> f64 {
    row[column].as_f64().unwrap_or_else(|| panic!("{column}: {row}"))
}

/// The kernel stops a call for strace before our program sees it begin, and after it has seen it end: so ours lies within.
#[test]
fn no_call_took_longer_than_strace_says() {
    if !live() || !has("strace") {
        return;
    }
    let truth = truth();
    let words = [truth.to_str().expect("UTF-8"), "files", "--count", "100", "--size", "3000"];
    let (path, calls) = straced(
        "slow-strace",
        &["--comm", "truth"],
        "trace=read,write,readv,writev,pread64,pwrite64,preadv,pwritev",
        &words,
    );
    let rows = report(&path, &["fileslower", "--min", "0", "--sort", "time"]);
    let paths: Vec<&str> = rows.iter().filter_map(|row| row["path"].as_str()).collect();
    let theirs: Vec<&Call> = calls
        .iter()
        .filter(|call| paths.iter().any(|path| call.line.contains(&format!("<{path}>"))))
        .collect();
    assert!(rows.len() > 500, "{} calls", rows.len());
    assert_eq!(rows.len(), theirs.len(), "a row for each line that strace has of these files");
    for (ours, theirs) in rows.iter().zip(theirs) {
        let took = seconds(ours, "latency_ms") / 1e3;
        // Theirs is cut to microseconds at both ends.
        assert!(took > 0.0 && took <= theirs.took + 2e-6, "{ours}: {theirs:?}");
    }
}

#[test]
fn a_read_that_waits_is_as_slow_as_strace_says() {
    if !live() || !has("strace") {
        return;
    }
    patiently(|| {
        let fifo = scratch("slow-fifo").join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        let script = "(exec >\"$0\"; sleep 0.1; echo x) & exec cat \"$0\"";
        let words = ["sh", "-c", script, fifo.to_str().expect("UTF-8")];
        let (path, calls) = straced("slow-read", &[], "trace=read", &words);
        let rows = report(&path, &["fileslower", "--min", "50", "--all", "--where", "comm = 'cat'"]);
        let theirs: Vec<&Call> = calls.iter().filter(|call| call.took > 0.05).collect();
        let (&[ours], &[theirs]) = (&rows.iter().collect::<Vec<_>>()[..], &theirs[..]) else {
            panic!("one slow read: {rows:?} {theirs:?}")
        };
        let took = seconds(ours, "latency_ms") / 1e3;
        // Two stops for strace lie between.
        assert!(took <= theirs.took + 2e-6 && took > theirs.took - 0.02, "{ours}: {theirs:?}");
    });
}

/// From the return of the open that makes a file to the return of the unlink, by strace's clock.
fn lives(calls: &[Call]) -> BTreeMap<&str, f64> {
    let ended = |call: &Call| call.begin + call.took;
    let made = calls.iter().filter(|call| call.is("openat(") && call.line.contains("O_CREAT"));
    let made: BTreeMap<&str, f64> = made.map(|call| (call.path(), ended(call))).collect();
    let removed = calls.iter().filter(|call| call.is("unlink"));
    removed.filter_map(|call| Some((call.path(), ended(call) - made.get(call.path())?))).collect()
}

fn check_lives(path: &Path, lives: &BTreeMap<&str, f64>) {
    let rows = report(path, &["filelife"]);
    let ours: BTreeMap<&str, f64> =
        rows.iter().filter_map(|row| Some((row["path"].as_str()?, seconds(row, "age_s")))).collect();
    assert_eq!(ours.len(), rows.len(), "each path once");
    for (path, theirs) in lives {
        let ours = ours.get(path).unwrap_or_else(|| panic!("{path} is missing"));
        // strace's moments are those of its own stops.
        assert!((ours - theirs).abs() < 0.003, "{path}: {ours} s, {theirs} by strace");
    }
}

#[test]
fn files_live_as_long_as_strace_says() {
    if !live() || !has("strace") {
        return;
    }
    patiently(|| {
        let directory = scratch("slow-files");
        let script = "for i in 1 2 3 4 5 6; do : >\"$0/f$i\"; sleep 0.0$i; rm \"$0/f$i\"; done";
        let words = ["-f", "sh", "-c", script, directory.to_str().expect("UTF-8")];
        let (path, calls) = straced("slow-lives", &[], "trace=openat,unlink,unlinkat", &words);
        let lives = lives(&calls);
        assert_eq!(lives.len(), 6, "{calls:?}");
        check_lives(&path, &lives);
    });
}
