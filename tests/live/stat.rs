//! What processes use: counters against `getrusage` and /proc of the same process.

use super::block::Loop;
use super::support::{CAPTURE, live, patiently, record, report, scratch, text};
use super::trace::{Row, bytes, known, number, rows};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    if live() {
        patiently(|| check_counters("stat", &[]));
    }
}

/// As on a kernel that does not load programs that walk over tasks.
#[test]
fn without_programs_that_walk_over_tasks_counters_come_from_proc() {
    if !live() {
        return;
    }
    let forced = ["--attach", "task_stat=procfs", "--attach", "task_start=procfs"];
    patiently(|| check_counters("stat-procfs", &forced));
    // Identity of who was there before the recording, and only who is wanted.
    let mut burner = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
    let pid = burner.id().to_string();
    let trace = scratch("stat-procfs-pid").join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-g", "stat", "--pid", &pid, "--duration", "1s"]).args(forced);
    let output = capture.output().expect("capture runs");
    burner.kill().expect("ours");
    burner.wait().expect("ours");
    let said = text(&output);
    assert!(output.status.success() && said.contains(" 0 lost"), "{said}");
    let threads = rows(&trace, "task_stat");
    assert!(threads.len() >= 2 && threads.iter().all(|row| number(row, "tgid").to_string() == pid), "{said}");
    let lines = report(&trace, &["pidstat", "-u"]);
    assert_eq!((lines.len(), lines[0]["comm"].as_str()), (1, Some("sh")), "{lines:?}");
}

fn check_counters(name: &str, options: &[&str]) {
    let directory = scratch(&format!("{name}-files"));
    let directory = directory.to_str().expect("UTF-8");
    let options = [&["-g", "stat,proc", "--stat-interval", "250ms"], options].concat();
    let recording = record(name, &options, &["uses", "--dir", directory]);
    let (trace, said) = (recording.path, recording.truth);
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
    // Each worker may be switched once more between its last row and the moment when its process takes over its counts.
    between("waits", both("voluntary"), told("voluntary"), 2.0);
    between("preemptions", both("involuntary"), told("involuntary"), 2.0);
    between("bytes written", both("written"), told("written"), 0.0);
    between("bytes read", both("read"), told("read"), 0.0);
    assert!(both("voluntary").1 >= 100.0 && both("minor_faults").1 >= 50.0, "the rows say enough");
    // On a file system in memory, as guests have, nothing is written to a disk.
    assert!(
        told("written") >= f64::from(6 << 20) || told("written") < 1.0,
        "the workload did what it was told"
    );
    // Not one of the process's end, when it has begun to give back what it had.
    let during = during.iter().filter(|row| number(row, "ts") as f64 <= told("at"));
    let last = during.max_by_key(|row| number(row, "ts")).expect("a snapshot");
    let level = |column: &str| known(last, column).expect("known") as f64;
    near("descriptors", level("fds"), told("fds"), 1.0);
    // The kernel keeps counts of pages per processor and adds them up now and then.
    near("resident memory", level("rss"), told("rss"), 2e6);
    near("address space", level("vsz"), told("vsz"), 1e6);
    check_report(&trace, &ends);
}

/// Shares times the length of the recording are what the threads' last rows say.
fn check_report(trace: &Path, ends: &[Row]) {
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

/// The numbers of each line of a file of /proc, by the name that some word of the line is.
fn proc(text: &str, name: usize) -> BTreeMap<String, Vec<i128>> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers = words.iter().skip(name + 1).map_while(|word| word.parse().ok()).collect();
        Some(((*words.get(name)?).to_owned(), numbers))
    };
    text.lines().filter_map(line).collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).expect("procfs")
}

/// Records a script with snapshots, and returns the trace and what the script printed.
fn record_script(name: &str, script: &str) -> (PathBuf, String) {
    let trace = scratch(name).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-g", "stat", "--stat-interval", "250ms", "--", "sh", "-c", script]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    (trace, String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn processors_are_those_of_proc() {
    if !live() {
        return;
    }
    patiently(|| {
        let outer = read("/proc/stat");
        let count = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let script = format!("cat /proc/stat; {count}; sleep 0.5; echo =; cat /proc/stat");
        let (trace, said) = record_script("stat-processors", &script);
        let (first, last) = said.split_once("=\n").expect("two readings");
        check_processors(&trace, [&outer, first, last, &read("/proc/stat")]);
    });
}

/// What is done to a disk of our own.
#[test]
fn disks_are_those_of_proc() {
    if !live() {
        return;
    }
    let Some(disk) = Loop::new("stat-disks") else { return };
    let script = format!(
        "cat /proc/diskstats
         dd if=/dev/zero of=/dev/{0} bs=64k count=200 oflag=direct 2>/dev/null
         dd if=/dev/{0} of=/dev/null bs=4k count=300 iflag=direct 2>/dev/null
         echo =; cat /proc/diskstats",
        disk.name
    );
    let (trace, said) = record_script("stat-disks-trace", &script);
    let (first, last) = said.split_once("=\n").expect("two readings");
    check_disk(&trace, &disk.name, [first, last]);
}

/// What each counter grew by in the recording lies between what it grew by inside and around it.
fn check_processors(trace: &Path, moments: [&str; 4]) {
    const COLUMNS: [&str; 10] =
        ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
    let moments = moments.map(|text| proc(text, 0));
    let ours = rows(trace, "cpu_time");
    let mut each: BTreeMap<i128, Vec<&Row>> = BTreeMap::new();
    for row in &ours {
        each.entry(number(row, "cpu")).or_default().push(row);
    }
    assert!(!each.is_empty());
    let (mut user, mut all) = (0, 0);
    for (cpu, rows) in each {
        assert!(rows.len() >= 2, "a row at the start and one at the end");
        for (at, column) in COLUMNS.iter().enumerate() {
            let theirs = |moment: usize| moments[moment][&format!("cpu{cpu}")][at] * 10_000_000;
            let grew = number(rows[rows.len() - 1], column) - number(rows[0], column);
            let (inner, outer) = (theirs(2) - theirs(1), theirs(3) - theirs(0));
            // Idle processors are accounted for when they wake, so their time may even fall: a step of the counter.
            let range = inner - 20_000_000..=outer + 20_000_000;
            assert!(
                range.contains(&grew),
                "{column} of {cpu}: {grew} here, {inner} to {outer} by /proc/stat"
            );
            all += if at < 8 { grew } else { 0 };
            user += match *column {
                "user" => grew,
                "guest" => -grew,
                _ => 0,
            };
        }
    }
    let row = &report(trace, &["mpstat"])[0];
    let (share, ours) = (row["usr_pct"].as_f64().expect("a number"), 100.0 * user as f64 / all as f64);
    near("user share", share, ours, 0.01);
    assert!(user > 0, "the shell counted");
}

/// A disk that nobody else uses: all of it, exactly.
fn check_disk(trace: &Path, disk: &str, moments: [&str; 2]) {
    let moments = moments.map(|text| proc(text, 2));
    let ours = rows(trace, "disk_stat");
    let ours: Vec<&Row> = ours.iter().filter(|row| bytes(row, "disk") == disk.as_bytes()).collect();
    let (first, last) = (ours[0], ours[ours.len() - 1]);
    let ours = |column: &str| number(last, column) - number(first, column);
    let theirs = |at: usize| moments[1][disk][at] - moments[0][disk][at];
    for (column, at, unit) in [
        ("reads", 0, 1),
        ("reads_merged", 1, 1),
        ("read", 2, 512),
        ("read_time", 3, 1_000_000),
        ("writes", 4, 1),
        ("written", 6, 512),
        ("write_time", 7, 1_000_000),
        ("in_flight", 8, 1),
        ("weighted", 10, 1_000_000),
    ] {
        assert_eq!(ours(column), theirs(at) * unit, "{column}");
    }
    assert!(ours("reads") >= 300 && ours("writes") >= 200, "the disk did what it was told");
    let row = &report(trace, &["iostat", "--where", &format!("disk = '{disk}'")])[0];
    let value = |column: &str| row[column].as_f64().expect("a number");
    let seconds = (number(last, "ts") - number(first, "ts")) as f64 / 1e9;
    near("reads of the report", value("r_s") * seconds, ours("reads") as f64, 0.5);
    near("KiB written of the report", value("wkb_s") * seconds, ours("written") as f64 / 1024.0, 0.5);
    let mean = ours("read_time") as f64 / ours("reads") as f64 / 1e6;
    near("mean time of a read", value("r_await_ms"), mean, 0.001);
}
