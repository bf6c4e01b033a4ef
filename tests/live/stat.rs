//! What processes use: counters against `getrusage` and /proc of the same process.

use super::support::{CAPTURE, has, live, report, scratch, text};
use super::trace::{Row, known, number, rows};
use serde_json::Value;
use std::process::Command;

/// Burns CPU in two threads, touches memory, writes past the page cache, sleeps, and says what the kernel has counted.
const PROGRAM: &str = r"
import json, os, resource, threading, time
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
workers = [threading.Thread(target=burn, args=(0.3,)) for _ in range(2)]
[w.start() for w in workers]; [w.join() for w in workers]
memory = bytearray(40 << 20)
fd = os.open('data', os.O_CREAT | os.O_WRONLY, 0o600)
os.write(fd, bytes(6 << 20)); os.fsync(fd)
held = [os.open('/dev/null', os.O_RDONLY) for _ in range(20)]
for _ in range(100): time.sleep(0.002)
time.sleep(1.2)
io = dict(line.split(': ') for line in open('/proc/self/io').read().split('\n') if line)
status = dict(line.split(':\t', 1) for line in open('/proc/self/status').read().split('\n') if line)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(dict(at=time.monotonic_ns(), pid=os.getpid(), cpu=usage.ru_utime + usage.ru_stime, minor=usage.ru_minflt,
    voluntary=usage.ru_nvcsw, involuntary=usage.ru_nivcsw, written=int(io['write_bytes']), read=int(io['read_bytes']),
    rss=int(status['VmRSS'].split()[0]) * 1024, vsz=int(status['VmSize'].split()[0]) * 1024,
    fds=len(os.listdir('/proc/self/fd')) - 1)), flush=True)
";

fn sum(rows: &[Row], column: &str) -> f64 {
    rows.iter().map(|row| number(row, column) as f64).sum()
}

/// What an observer said lies between the rows before it and the last rows, give or take so much.
fn between(what: &str, (before, after): (f64, f64), theirs: f64, tolerance: f64) {
    let range = before - tolerance..=after + tolerance;
    assert!(range.contains(&theirs), "{what}: {before} to {after} here, {theirs} by getrusage or /proc");
}

/// The last row of each thread up to a moment.
fn last_rows(rows: &[Row], at: f64) -> Vec<Row> {
    let mut last = std::collections::BTreeMap::new();
    for row in rows.iter().filter(|row| number(row, "ts") as f64 <= at) {
        let newest = last.entry(number(row, "tid")).or_insert(row);
        if number(row, "ts") > number(newest, "ts") {
            *newest = row;
        }
    }
    last.into_values().cloned().collect()
}

/// Within so much of what the observer said.
fn near(what: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} here, {theirs} by getrusage or /proc");
}

#[test]
fn counters_are_those_of_getrusage_and_proc() {
    if !live() || !has("python3") {
        return;
    }
    let directory = scratch("stat");
    let trace = directory.join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.current_dir(&directory).arg("-o").arg(&trace).args([
        "-g",
        "stat,proc",
        "--stat-interval",
        "250ms",
    ]);
    let output = capture.args(["--", "python3", "-c", PROGRAM]).output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let told = |name: &str| said[name].as_f64().expect("a number");
    let mut ours = rows(&trace, "task_stat");
    ours.retain(|row| number(row, "tgid") == told("pid") as i128);
    let before = last_rows(&ours, told("at"));
    let (ends, during): (Vec<Row>, Vec<Row>) = ours.into_iter().partition(|row| number(row, "exited") == 1);
    assert_eq!(ends.len(), 3, "two workers and the first thread");
    let both = |column: &str| (sum(&before, column), sum(&ends, column));
    let seconds = |(before, after): (f64, f64)| (before / 1e9, after / 1e9);
    // getrusage adds up CPU time as of the last tick.
    between("CPU seconds", seconds(both("runtime")), told("cpu"), 0.01);
    between("minor faults", both("minor_faults"), told("minor"), 0.0);
    between("waits", both("voluntary"), told("voluntary"), 0.0);
    between("preemptions", both("involuntary"), told("involuntary"), 0.0);
    between("bytes written", both("written"), told("written"), 0.0);
    between("bytes read", both("read"), told("read"), 0.0);
    assert!(
        both("voluntary").0 >= 100.0 && both("minor_faults").0 >= 1000.0,
        "the rows before it say enough"
    );
    assert!(told("written") >= f64::from(6 << 20), "the workload did what it was told");
    let last = during.iter().max_by_key(|row| number(row, "ts")).expect("a snapshot");
    let level = |column: &str| known(last, column).expect("known") as f64;
    near("descriptors", level("fds"), told("fds"), 1.0);
    // The kernel keeps counts of pages per processor and adds them up now and then.
    near("resident memory", level("rss"), told("rss"), 2e6);
    near("address space", level("vsz"), told("vsz"), 1e6);
    check_report(&trace, &ends);
}

/// Shares times the length of the recording are what the threads' last rows say.
fn check_report(trace: &std::path::Path, ends: &[Row]) {
    let pid = number(&ends[0], "tgid").to_string();
    let lines = report(trace, &["pidstat", "-u", "-w", "-p", &pid]);
    // One row for each name that the process had: it begins as what starts it.
    assert!(!lines.is_empty(), "a row of the process");
    let value = |column: &str| lines.iter().map(|line| line[column].as_f64().expect("a number")).sum::<f64>();
    let (cpu, waits) = (sum(ends, "runtime") / 1e9, sum(ends, "voluntary"));
    let seconds = waits / value("cswch_s");
    near("CPU seconds of the report", value("cpu_pct") / 100.0 * seconds, cpu, 0.02);
    assert!((1.5..60.0).contains(&seconds), "the recording lasted {seconds} s");
    assert!(report(trace, &["pidstat", "--interval", "1s", "-p", &pid]).len() >= 2);
    assert!(report(trace, &["pidstat", "-t", "-p", &pid]).len() >= 3);
}
