//! Perf events as probes: page faults beside what getrusage says, time on the processor, switches beside `perf stat`.

use super::named::{able, program};
use super::support::{CAPTURE, has, patiently, text};
use super::trace::{Row, bytes, number, rows};
use std::path::PathBuf;
use std::process::Command;

/// Records the program with probes; what it printed, and the trace.
fn record(name: &str, probes: &[&str], before: &[&str], words: &[&str]) -> (String, PathBuf) {
    let (program, trace) = program(name);
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-g", "proc"]);
    capture.args(probes.iter().flat_map(|probe| ["-e", probe])).arg("--");
    let output = capture.args(before).arg(program).args(words).output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    (format!("{}{}", String::from_utf8_lossy(&output.stdout), text(&output)), trace)
}

fn sum(rows: &[Row]) -> i128 {
    rows.iter().map(|row| number(row, "hits")).sum()
}

#[test]
fn faults_and_time_are_what_getrusage_says() {
    if !able() {
        return;
    }
    patiently(|| {
        let probes = [
            "pe:minor-faults(addr, ip) {period=1}",
            "all=pe:software:page-faults:1 {count}",
            "slices=pe:task-clock {period=10000000, count}",
        ];
        let (said, trace) = record("perf-faults", &probes, &[], &["700", "touch"]);
        let line = said.lines().find(|line| line.split(' ').count() == 5).expect("what the program says");
        let said: Vec<i128> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [at, from, to, faults, cpu_us] = said[..] else { panic!("{line}") };
        let all = rows(&trace, "minor_faults");
        let meanwhile = all.iter().filter(|row| (from..to).contains(&number(row, "ts"))).count() as i128;
        assert_eq!(meanwhile, faults, "{line}");
        let mut pages: Vec<i128> =
            all.iter().map(|row| (number(row, "addr") - at).div_euclid(4096)).collect();
        pages.retain(|page| (0..700).contains(page));
        assert_eq!(pages, (0..700).collect::<Vec<_>>(), "each page once, in order");
        assert!(sum(&rows(&trace, "all")) >= all.len() as i128);
        let us = sum(&rows(&trace, "slices")) * 10_000;
        // An emulated processor has fewer timer interrupts than it should.
        assert!((cpu_us / 3..cpu_us * 13 / 10).contains(&us), "{us} us of {cpu_us} us");
    });
}

#[test]
fn events_of_a_process_are_those_that_perf_counts() {
    if !able() || !has("perf") {
        return;
    }
    let probes = ["pe:minor-faults", "pe:context-switches"];
    let stat = ["perf", "stat", "-x,", "-e", "minor-faults,context-switches", "--"];
    let (said, trace) = record("perf-stat", &probes, &stat, &["300"]);
    // perf counts from the exec on, at which the task gets the program's name.
    let named = |row: &&Row| bytes(row, "comm") == b"named";
    let renames = rows(&trace, "task_rename");
    let start = renames.iter().find(named).expect("the exec of the program");
    let after =
        |row: &&Row| number(row, "tid") == number(start, "tid") && number(row, "ts") >= number(start, "ts");
    for (event, table) in [("minor-faults", "minor_faults"), ("context-switches", "context_switches")] {
        let theirs = said.lines().find(|line| line.contains(&format!(",{event}"))).expect(event);
        let theirs: i128 = theirs.split(',').next().and_then(|word| word.parse().ok()).expect("a count");
        let ours = rows(&trace, table).iter().filter(after).count() as i128;
        // The last switch, from which the task does not come back, perf has stopped to count.
        assert!(
            ours == theirs || event == "context-switches" && (0..=1).contains(&(ours - theirs)),
            "{event}: {ours}, {said}"
        );
    }
}

#[test]
fn a_running_process_has_its_threads_counted_and_nobody_else() {
    if !able() || !has("python3") {
        return;
    }
    patiently(|| {
        let trace = super::support::scratch("perf-pid").join("trace.bin");
        let threads = "import threading, time, mmap\n\
        def work():\n\
        \x20 input_read.wait()\n\
        \x20 m = mmap.mmap(-1, 4096 * 500)\n\
        \x20 for i in range(500): m[i * 4096] = 1\n\
        input_read = threading.Event()\n\
        all = [threading.Thread(target=work) for n in range(4)]\n\
        [t.start() for t in all]\n\
        print('ready', flush=True); input(); input_read.set(); [t.join() for t in all]";
        let mut python = Command::new("timeout")
            .args(["60", "python3", "-c", threads])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut lines = std::io::BufReader::new(python.stdout.take().expect("a pipe"));
        assert!(super::support::line(&mut lines).contains("ready"));
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", python.id())).expect("proc");
        let pid = children.trim().to_owned();
        let mut capture = Command::new(CAPTURE);
        capture.arg("-o").arg(&trace).args(["-p", &pid, "-d", "3s", "-e", "pe:minor-faults"]);
        let mut capture = capture.stderr(std::process::Stdio::null()).spawn().expect("capture runs");
        std::thread::sleep(std::time::Duration::from_millis(1500));
        std::io::Write::write_all(&mut python.stdin.take().expect("a pipe"), b"\n").expect("it reads");
        assert!(
            python.wait().is_ok_and(|status| status.success())
                && capture.wait().is_ok_and(|status| status.success())
        );
        let rows = rows(&trace, "minor_faults");
        let threads: std::collections::BTreeSet<i128> = rows.iter().map(|row| number(row, "tid")).collect();
        assert!(
            rows.len() >= 4 * 500 && rows.len() < 4 * 500 + 400 && threads.len() >= 4,
            "{} {threads:?}",
            rows.len()
        );
    });
}
