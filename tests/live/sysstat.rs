//! Sysstat's own pidstat beside ours, on the same shell in the same run.

use super::support::{CAPTURE, has, live, patiently, report, scratch, text};
use super::trace::{Row, number, open, rows, told};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tapedeck::schema::Kind;

/// A shell works between two times of rest: it reads fifty lines one by one, keeps a megabyte, writes four to the disk,
/// and counts. All of it by itself, since pidstat's totals count children, too. The rates begin in the first rest and end
/// in the second; each is two snapshots long at least. Its process id is printed.
const SCRIPT: &str = r#"
cd "$1"; pid=$$; echo $pid
rest() { until read -r _ _ state _ </proc/$pid/stat; [ "$state" = S ]; do sleep 0.05; done; sleep 1; }
(
  export LC_ALL=C
  rest
  pidstat -u -r -d -w -p $pid 1 >rates & watcher=$!
  until [ -s rates ]; do sleep 0.1; done
  sleep 1
  for i in $(seq 50); do echo $i; sleep 0.01; done >gate
  until [ -e done ]; do sleep 0.1; done
  rest
  sleep 1.2
  pidstat -u -r -T CHILD -p $pid >totals
  kill -INT $watcher; wait $watcher
) &
while read -r line; do :; done <gate
printf -v big '%1000000s'
i=0; while [ $i -lt 64 ]; do printf '%65536s' >>data; i=$((i+1)); done
i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done
: >done
wait
"#;

/// The tables that pidstat printed for one process, those of averages alone or all: the last value by column.
fn tables(text: &str, averages: bool) -> BTreeMap<String, f64> {
    let mut names = Vec::new();
    let mut values = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("Average:") || !averages) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "UID", ..] => names = words.iter().map(|&word| word.to_owned()).collect(),
            [_, _, _, ..] if words.len() == names.len() => {
                let numbers = words.iter().map(|word| word.parse::<f64>().ok());
                values.extend(
                    names.iter().cloned().zip(numbers).filter_map(|(name, value)| Some((name, value?))),
                );
            }
            _ => {}
        }
    }
    values
}

/// The moments of two rows: one in each rest, known by the row after it that says the same.
fn rests(ours: &[Row]) -> (i128, i128) {
    const SAME: [&str; 4] = ["voluntary", "involuntary", "minor_faults", "runtime"];
    let same = |pair: &&[Row]| SAME.iter().all(|column| number(&pair[0], column) == number(&pair[1], column));
    let still: Vec<i128> = ours.windows(2).filter(same).map(|pair| number(&pair[0], "ts")).collect();
    let [first, .., last] = still[..] else { panic!("the shell never rested: {ours:?}") };
    (first, last)
}

/// Rates of our report over one span, of the shell's one thread: sysstat counts the switches of that alone.
fn report_between(trace: &Path, pid: i128, (from, to): (i128, i128)) -> (Value, f64) {
    let whole = open(trace);
    let rows_from = whole.frames.iter().filter(|frame| frame.header.kind == Kind::Events);
    let start = rows_from.map(|frame| frame.header.min_time).chain([whole.host.start_mono]).min();
    let start = i128::from(start.expect("a start"));
    let [from_text, to_text] = [from, to + 1].map(|moment| format!("{}ns", moment - start));
    let pid = pid.to_string();
    let words = ["pidstat", "-u", "-r", "-d", "-w", "-p", &pid, "--from", &from_text, "--to", &to_text];
    let lines = report(trace, &words);
    assert_eq!(lines.len(), 1, "{lines:?}");
    (lines[0].clone(), (to + 1 - from) as f64 / 1e9)
}

#[test]
fn pidstat_prints_the_same_of_the_same_process() {
    if !live() || !has("pidstat") || !has("bash") {
        return;
    }
    // Both read clocks of their own.
    patiently(|| {
        let directory = scratch("sysstat");
        let trace = directory.join("trace.bin");
        let made = Command::new("mkfifo").arg(directory.join("gate")).status();
        assert!(made.expect("mkfifo runs").success());
        let mut capture = Command::new(CAPTURE);
        capture.arg("-o").arg(&trace).args([
            "-g",
            "stat,proc",
            "--stat-interval",
            "250ms",
            "--",
            "bash",
            "-c",
        ]);
        let output = capture.args([SCRIPT, "sh"]).arg(&directory).output().expect("capture runs");
        assert!(output.status.success(), "{}", text(&output));
        let said = |file: &str| std::fs::read_to_string(directory.join(file)).expect("pidstat's words");
        let (rates, totals) = (tables(&said("rates"), true), tables(&said("totals"), false));
        let pid: Value = serde_json::from_slice(&output.stdout).expect("a number");
        let mut ours = rows(&trace, "task_stat");
        ours.retain(|row| number(row, "tgid") == told(&pid));
        let span = rests(&ours);
        check_totals(ours.iter().find(|row| number(row, "ts") == span.1).expect("the row"), &totals);
        check_rates(&report_between(&trace, told(&pid), span), &rates);
    });
}

/// Since the process began: the same counters of the kernel, read in the same rest.
fn check_totals(row: &Row, theirs: &BTreeMap<String, f64>) {
    for (column, name) in [("minor_faults", "minflt-nr"), ("major_faults", "majflt-nr")] {
        assert_eq!(number(row, column), theirs[name] as i128, "{theirs:?}");
    }
    let (cpu, ours) = (theirs["usr-ms"] + theirs["system-ms"], number(row, "runtime") as f64 / 1e6);
    // Each of the two is rounded down to a tick.
    assert!((cpu..=cpu + 20.0).contains(&ours), "{ours} ms here, {cpu} by pidstat");
}

/// What it printed are means over so many of its intervals, whose true length it keeps to itself: the bytes written tell
/// that, and then all else must be the same. Its last digit is a hundredth of an event per second.
fn check_rates((ours, seconds): &(Value, f64), theirs: &BTreeMap<String, f64>) {
    let value = |column: &str| ours[column].as_f64().expect("a number") * seconds;
    assert!(value("wr_kb_s") > 4095.9 || theirs["kB_wr/s"] < 0.01, "written to a disk: {ours}");
    let length = value("wr_kb_s") / theirs["kB_wr/s"];
    for (column, name, slack) in [
        ("cswch_s", "cswch/s", 0.5),
        ("nvcswch_s", "nvcswch/s", 0.5),
        ("minflt_s", "minflt/s", 0.5),
        ("majflt_s", "majflt/s", 0.5),
        ("rd_kb_s", "kB_rd/s", 1.0),
        ("ccwr_kb_s", "kB_ccwr/s", 1.0),
        // Hundredths of a second: it counts ticks, two sums of them, at both ends.
        ("cpu_pct", "%CPU", 4.0),
    ] {
        let (here, there) = (value(column), theirs[name] * length);
        assert!(
            (here - there).abs() <= slack,
            "{column}: {here} here, {there} by pidstat: {ours} {theirs:?}"
        );
    }
    assert!(value("cswch_s") >= 45.0 && value("minflt_s") >= 200.0, "the shell worked: {ours}");
}
