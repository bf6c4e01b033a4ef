//! System calls: as many as strace and bpftrace count, and as slow as the workload's own clock says.

use super::support::{CAPTURE, Installed, has, live, patiently, report, scratch, text, truth};
use super::trace::told;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

const WORDS: [&str; 7] = ["calls", "--count", "5000", "--missing", "300", "--ms", "5"];

/// Name, calls and errors per row of `syscount`.
fn counted(rows: &[Value]) -> BTreeMap<String, (u64, u64)> {
    let number = |row: &Value, column: &str| row[column].as_u64().expect("a number");
    let row = |row: &Value| {
        (row["syscall"].as_str().expect("a name").to_owned(), (number(row, "calls"), number(row, "errors")))
    };
    rows.iter().map(row).collect()
}

/// strace's table of `name,calls,errors`; an empty cell is no error.
fn straced(table: &str) -> BTreeMap<String, (u64, u64)> {
    let mut found = BTreeMap::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, calls, errors @ ..] = &words[..]
            && let Ok(calls) = calls.parse()
        {
            let errors = errors.first().map_or(0, |errors| errors.parse().expect("a number"));
            found.insert((*name).to_owned(), (calls, errors));
        }
    }
    found
}

#[test]
fn strace_counts_the_same_calls() {
    if !live() || !has("strace") {
        return;
    }
    let directory = scratch("syscalls-strace");
    let (trace, table) = (directory.join("trace.bin"), directory.join("strace.txt"));
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args([
        "-g",
        "syscalls",
        "--",
        "strace",
        "-c",
        "-f",
        "-U",
        "name,calls,errors",
    ]);
    let output = capture.arg("-o").arg(&table).arg(truth()).args(WORDS).output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let rows = report(&trace, &["syscount", "--top", "1000", "--where", "comm = 'truth'"]);
    let mut theirs = straced(&std::fs::read_to_string(table).expect("strace's table"));
    // strace knows the call by which the program is started from its begin on, we by the name that it then has;
    // and it counts the one call that does not return.
    theirs.retain(|name, _| name != "exit_group" && name != "total");
    assert_eq!(counted(&rows), theirs);
    assert_eq!(theirs["getppid"], (5000, 0), "the workload did what it was told");
}

#[test]
fn sums_are_as_many_as_bpftrace_counts_and_as_long_as_the_naps() {
    if !live() || !has("bpftrace") {
        return;
    }
    let directory = scratch("syscalls-bpftrace");
    let (trace, account) = (directory.join("trace.bin"), directory.join("truth.json"));
    // By a name of its own: other tests run the same workload meanwhile, and neither begins with the other.
    let installed = Installed::new("sums");
    let workload = installed.add(&truth(), "summed");
    let program = "tracepoint:raw_syscalls:sys_exit /comm == \"summed\"/ \
        { @[args->id] = count(); if (args->ret < 0) { @errors[args->id] = count(); } }";
    let inner = format!(
        "{CAPTURE} -q -g syscalls -a --comm summed --syscalls agg --agg-interval 50ms -o {} -- {} {} --output {}",
        trace.display(),
        workload.display(),
        WORDS.join(" "),
        account.display()
    );
    let output =
        Command::new("bpftrace").args(["-e", program, "-c", &inner]).output().expect("bpftrace runs");
    assert!(output.status.success(), "{}", text(&output));
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let observed = |map: &str, number: i64| {
        let prefix = format!("@{map}[{number}]: ");
        seen.lines().find_map(|line| line.strip_prefix(&prefix)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let rows = report(&trace, &["syscount", "--top", "1000"]);
    let ours = counted(&rows);
    let numbers = [
        ("getppid", libc::SYS_getppid),
        ("openat", libc::SYS_openat),
        ("clock_nanosleep", libc::SYS_clock_nanosleep),
        ("mmap", libc::SYS_mmap),
        ("close", libc::SYS_close),
    ];
    for (name, number) in numbers {
        assert_eq!(ours[name], (observed("", number), observed("errors", number)), "{name}: {seen}");
    }
    assert_eq!(ours["getppid"], (5000, 0));
    assert!(ours["openat"].1 >= 300, "and the loader looks for libraries");
    let truth: Value = serde_json::from_slice(&std::fs::read(account).expect("an account")).expect("JSON");
    check_naps(&rows, &truth);
}

/// Sums of `clock_nanosleep` lie between what was asked for and what the sleeper's own clock saw.
fn check_naps(rows: &[Value], truth: &Value) {
    let naps = rows.iter().find(|row| row["syscall"] == "clock_nanosleep").expect("ten naps");
    let own: Vec<f64> =
        truth["naps_ns"].as_array().expect("naps").iter().map(|nap| told(nap) as f64 / 1e3).collect();
    let number = |column: &str| naps[column].as_f64().expect("a number");
    let (sum, longest) = (own.iter().sum::<f64>(), own.iter().copied().fold(0.0, f64::max));
    assert!((50_000.0..=sum).contains(&number("total_us")), "{naps}: {sum}");
    assert!((5_000.0..=longest).contains(&number("max_us")), "{naps}: {longest}");
    // The mean of a slot that holds the true value: within a factor of two.
    assert!((2_500.0..=longest * 2.0).contains(&number("p50_us")), "{naps}");
}

#[test]
fn a_call_in_flight_at_the_end_is_open_and_one_from_before_has_no_latency() {
    if !live() {
        return;
    }
    patiently(|| {
        let trace = scratch("syscalls-ends").join("trace.bin");
        let mut shell = Command::new("sh").args(["-c", "sleep 1; sleep 30; true"]).spawn().expect("a shell");
        let pid = shell.id().to_string();
        let mut capture = Command::new(CAPTURE);
        let output =
            capture.arg("-o").arg(&trace).args(["-g", "syscalls", "-d", "2s", "--pid", &pid]).output();
        let output = output.expect("capture runs");
        let _ = Command::new("pkill").args(["-P", &pid]).status();
        shell.wait().expect("our own child");
        assert!(output.status.success(), "{}", text(&output));
        let calls = |condition| {
            let rows = report(&trace, &["syscount", "--where", condition, "--by", "comm,syscall"]);
            let call = |row: &Value| {
                let word = |column: &str| row[column].as_str().expect("a name").to_owned();
                (word("comm"), word("syscall"), told(&row["calls"]), told(&row["open"]))
            };
            rows.iter().map(call).collect::<Vec<_>>()
        };
        let call = |comm: &str, name: &str, calls, open| (comm.to_owned(), name.to_owned(), calls, open);
        assert_eq!(calls("open = 1"), [call("sh", "wait4", 0, 1), call("sleep", "clock_nanosleep", 0, 1)]);
        assert_eq!(
            calls("latency IS NULL"),
            [call("sh", "wait4", 1, 0), call("sleep", "clock_nanosleep", 1, 0)],
            "both were waiting when the recording began"
        );
    });
}
