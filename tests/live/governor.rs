//! A recording within its bounds: less is recorded, all is counted, and the trace says so.

use super::support::{CAPTURE, live, patiently, record, scratch, text, truth};
use super::trace::{Row, bytes, known, number, processes, rows, total};
use std::process::Command;

const ANALYZE: &str = env!("CARGO_BIN_EXE_analyze");

#[test]
fn what_a_rate_does_not_allow_is_left_out_counted_and_said() {
    if !live() {
        return;
    }
    patiently(|| {
        let words = ["pingpong", "--count", "2000", "--size", "50", "--delay-ms", "2"];
        let recording = record("governor-rate", &["-g", "net", "--max-rate", "net=300"], &words);
        let called =
            |end: &str| i128::from(recording.truth[end]["send"]["calls"].as_i64().expect("a number"));
        let counter = |counter| total(&recording.path, "sock_send", counter);
        assert_eq!(counter("stored") + counter("left_out"), called("client") + called("server"));
        assert!(counter("left_out") > 500, "{}", recording.stderr);
        assert_eq!(rows(&recording.path, "sock_send").len() as i128, counter("stored"));
        let steps = rows(&recording.path, "governor");
        assert!(
            steps.iter().any(|step| bytes(step, "group") == b"net" && number(step, "one_of") != 1),
            "{steps:?}"
        );
        assert!(recording.stderr.contains("300 are allowed"), "{}", recording.stderr);
        let output = Command::new(ANALYZE)
            .arg(&recording.path)
            .args(["tcpsend", "--interval", "all"])
            .output()
            .expect("analyze runs");
        assert_eq!(
            output.status.code(),
            Some(3),
            "counts of a recording that left something out are lower bounds"
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("left_out") && said.contains("flows, tasks or requests of group net"),
            "{said}"
        );
        // What was left out is counted, so the sum of all is scaled to what the workload says it did.
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.contains(&format!("≈{}", called("client") + called("server"))), "{printed}");
        let check = Command::new(ANALYZE).arg(&recording.path).arg("check").output().expect("analyze runs");
        let check = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(
            check.contains("the ledger closes")
                && check.contains("of group net was recorded (")
                && check.contains("+ left_out"),
            "{check}"
        );
    });
}

#[test]
fn too_small_a_budget_leaves_out_whole_flows_and_no_lifecycle() {
    if !live() {
        return;
    }
    patiently(|| {
        let words = ["sends", "--count", "400000", "--size", "50"];
        let recording = record("governor-budget", &["-g", "net,proc", "--max-overhead", "0.01%"], &words);
        let counter = |counter| total(&recording.path, "sock_send", counter);
        let lost = counter("ring_full") + counter("state_full");
        assert_eq!(counter("stored") + counter("left_out") + lost, 400_000, "{}", recording.stderr);
        // What says that there was a flow at all stays.
        assert_eq!(total(&recording.path, "tcp_state", "left_out"), 0);
        assert!(!rows(&recording.path, "tcp_state").is_empty());
    });
}

/// What `bpf/sample.bpf.h` says of an id, said again.
fn taken(id: i128, one_of: i128) -> bool {
    let hash = (id as u32).wrapping_mul(0x9e37_79b1) >> 16;
    one_of != 0 && i128::from(hash) & (one_of - 1) == 0
}

/// Records a storm of processes with a bound on a group, and checks that between two steps there are rows of just those
/// ids that are to be recorded, and that all others are counted. Returns the trace.
fn bounded(name: &str, group: &str, options: &[&str], table: &str, by_process: bool) -> std::path::PathBuf {
    let path = scratch(name).join("trace.bin");
    let bound = format!("{group}=400");
    let storms =
        "for i in $(seq 8); do timeout 5 $TRUTH storm --count 1000000 --ms 1 >/dev/null & done; wait";
    let mut command = Command::new(CAPTURE);
    command.arg("-o").arg(&path).args(["--max-rate", &bound]).args(options);
    let output =
        command.args(["--", "sh", "-c", storms]).env("TRUTH", truth()).output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let count = |counter| total(&path, table, counter);
    assert!(count("left_out") > 1000, "{}", text(&output));
    let found = rows(&path, table);
    assert_eq!(found.len() as i128, count("stored"));
    let steps = rows(&path, "governor");
    assert!(steps.iter().any(|step| number(step, "one_of") > 1), "{steps:?}");
    let processes = processes(&path);
    let id = |row: &Row| {
        let tid = number(row, "tid");
        if by_process { processes.get(&tid).copied().unwrap_or(tid) } else { tid }
    };
    for (step, next) in steps.iter().zip(steps.iter().skip(1).map(Some).chain([None])) {
        // A program that runs while the step is taken may still go by the old mask.
        let from = number(step, "ts") + 20_000_000;
        let to = next.map_or(i128::MAX, |next| number(next, "ts") - 20_000_000);
        let one_of = number(step, "one_of");
        let wrong =
            found.iter().filter(|row| (from..to).contains(&number(row, "ts")) && !taken(id(row), one_of));
        assert_eq!(wrong.count(), 0, "{step:?}");
    }
    path
}

#[test]
fn of_the_scheduler_whole_tasks_are_left_out() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = bounded("governor-sched", "sched", &["-g", "sched"], "sched_run", false);
        let of_command = rows(&path, "clock").iter().map(|row| number(row, "ts")).collect::<Vec<_>>();
        let span = of_command[of_command.len() - 1] - of_command[0];
        // A task that is taken in again begins anew: what it did unseen is no run of it.
        let longest = rows(&path, "sched_run").iter().map(|row| number(row, "ran")).max().expect("rows");
        assert!(longest < span, "{longest} of {span}");
    });
}

#[test]
fn stacks_go_first_where_time_is_short_and_waits_stay() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = scratch("governor-stacks").join("trace.bin");
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args([
            "-g",
            "sched",
            "--min-wait",
            "1us",
            "--max-overhead",
            "0.01%",
            "--",
        ]);
        command.args(["timeout", "5"]).arg(truth()).args(["storm", "--count", "100000000", "--ms", "1"]);
        let said = text(&command.output().expect("capture runs"));
        let steps = rows(&path, "governor");
        let Some(first) = steps.first() else { panic!("no step: {said}") };
        assert_eq!((number(first, "bare"), number(first, "one_of")), (1, 1), "{first:?}");
        assert!(said.contains("group sched is recorded without stacks: "), "{said}");
        let waits = rows(&path, "sched_wait");
        // A program that runs while the step is taken may still see none.
        let at = number(first, "ts");
        let stacks_of = |from: i128, to: i128| {
            let of = waits.iter().filter(|row| (from..to).contains(&number(row, "ts")));
            of.map(|row| known(row, "kstack").is_some()).collect::<Vec<_>>()
        };
        let (before, after) = (stacks_of(0, at - 20_000_000), stacks_of(at + 20_000_000, i128::MAX));
        assert!(before.len() > 100 && before.iter().all(|has| *has), "{} before", before.len());
        assert!(after.len() > 10 && after.iter().all(|has| !has), "{} after", after.len());
    });
}

#[test]
fn of_system_calls_whole_processes_are_left_out() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = bounded(
            "governor-syscalls",
            "syscalls",
            &["-g", "syscalls", "--syscalls", "each", "--memory", "64MiB"],
            "syscall",
            true,
        );
        let attempted = total(&path, "syscall", "stored") + total(&path, "syscall", "left_out");
        let answer =
            Command::new(ANALYZE).arg(&path).args(["syscount", "--interval", "all", "--by", "none"]).output();
        let answer = answer.expect("analyze runs");
        let printed = String::from_utf8_lossy(&answer.stdout).into_owned();
        let calls = printed
            .split('≈')
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|n| n.parse().ok());
        let calls: i128 = calls.unwrap_or_else(|| panic!("a scaled count: {printed}"));
        // Calls that never returned are no calls to the report: a few.
        assert!((attempted - calls).abs() * 100 < attempted, "{attempted}: {printed}");
    });
}

#[test]
fn of_disks_whole_requests_are_left_out() {
    if !live() {
        return;
    }
    patiently(|| {
        let Some(disk) = super::block::Loop::new("governor-disk") else { return };
        let path = scratch("governor-block").join("trace.bin");
        // Rates are of seconds, so it goes on for some; how often it ran is said at the end.
        let work = disk.workload(200, 4000);
        let script = format!(
            "n=0; end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do {work}; n=$((n+1)); done; echo $n"
        );
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args([
            "-g",
            "block",
            "--max-rate",
            "block=300",
            "--",
            "sh",
            "-c",
            &script,
        ]);
        let output = command.output().expect("capture runs");
        assert!(output.status.success(), "{}", text(&output));
        let count = |counter| total(&path, "block_rq", counter);
        assert_eq!(rows(&path, "block_rq").len() as i128, count("stored"), "{}", text(&output));
        // Each of the 4200 reads and writes has at least an issue and a completion.
        let runs: i128 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("how often it ran");
        assert!(
            runs > 0 && count("stored") + count("left_out") >= runs * 2 * 4200,
            "{runs}: {}",
            text(&output)
        );
        assert!(count("left_out") > 0, "{}", text(&output));
    });
}

#[test]
fn of_probes_that_the_user_names_whole_threads_are_left_out() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = bounded(
            "governor-named",
            "named",
            &["-e", "rt:sys_enter", "--memory", "64MiB"],
            "sys_enter",
            false,
        );
        let attempted = total(&path, "sys_enter", "stored") + total(&path, "sys_enter", "left_out");
        let printed = Command::new(ANALYZE).arg(&path).args(["funccount", "--interval", "all"]).output();
        let printed = String::from_utf8_lossy(&printed.expect("analyze runs").stdout).into_owned();
        assert!(printed.contains(&format!("≈{attempted}")), "{attempted}: {printed}");
    });
}

#[test]
fn what_costs_most_is_left_out_first_whoever_named_it() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = scratch("governor-cost").join("trace.bin");
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args(["-g", "proc,net", "-e", "rt:sys_enter", "--max-overhead", "0.1%"]);
        let storm = ["--", "timeout", "5"];
        command.args(storm).arg(truth()).args(["storm", "--count", "100000000", "--ms", "1"]);
        let said = text(&command.output().expect("capture runs"));
        let steps = rows(&path, "governor");
        let first = steps.first().unwrap_or_else(|| panic!("no step: {said}"));
        assert_eq!(bytes(first, "group"), b"named", "{said}");
        assert!(number(first, "one_of") > 1 && total(&path, "sys_enter", "left_out") > 1000, "{said}");
    });
}

/// Hits that a condition rejects are none that could be left out: counts are scaled by what was.
#[test]
fn hits_that_do_not_count_are_not_left_out() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = scratch("governor-condition").join("trace.bin");
        let probe = "t:raw_syscalls:sys_enter(id) /id == 39/";
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args(["-e", probe, "--max-rate", "named=1", "--"]);
        command.args(["timeout", "4"]).arg(truth()).args(["storm", "--count", "100000000", "--ms", "1"]);
        let said = text(&command.output().expect("capture runs"));
        let count = |counter| total(&path, "sys_enter", counter);
        assert!(count("filtered") > 10_000 && count("left_out") < 1000, "{said}");
    });
}

#[test]
fn of_files_whole_processes_are_left_out() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = scratch("governor-file").join("trace.bin");
        let reads = "while :; do read -r line </proc/self/comm; done";
        let script = format!("for i in 1 2 3 4; do timeout 4 bash -c '{reads}' & done; wait");
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args([
            "-g",
            "file",
            "--max-rate",
            "file=300",
            "--",
            "sh",
            "-c",
            &script,
        ]);
        let output = command.output().expect("capture runs");
        assert!(output.status.success(), "{}", text(&output));
        let count = |counter| total(&path, "file_open", counter);
        let found = rows(&path, "file_open");
        assert_eq!(found.len() as i128, count("stored"), "{}", text(&output));
        assert!(count("left_out") > 1000, "{}", text(&output));
        let steps = rows(&path, "governor");
        let last = steps.iter().rfind(|step| bytes(step, "group") == b"file").expect("a step");
        let processes = processes(&path);
        let after = found.iter().filter(|row| number(row, "ts") > number(last, "ts") + 20_000_000);
        let mut ids =
            after.map(|row| processes.get(&number(row, "tid")).copied().unwrap_or(number(row, "tid")));
        assert!(ids.all(|id| taken(id, number(last, "one_of"))), "{last:?}");
    });
}

#[test]
fn segments_come_back_when_there_is_room_again() {
    if !live() {
        return;
    }
    patiently(|| {
        let path = scratch("governor-back").join("trace.bin");
        let script = "$TRUTH pingpong --count 1000 --size 50 --delay-ms 2 >/dev/null; sleep 7; \
                      exec $TRUTH pingpong --count 20 --size 50 --delay-ms 2";
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args([
            "-g",
            "net-rx",
            "--max-rate",
            "net-rx=400",
            "--",
            "sh",
            "-c",
            script,
        ]);
        let output = command.env("TRUTH", truth()).output().expect("capture runs");
        assert!(output.status.success(), "{}", text(&output));
        let count = |counter| total(&path, "tcp_rx", counter);
        assert!(count("left_out") > 100, "{}", text(&output));
        assert_eq!(rows(&path, "tcp_rx").len() as i128, count("stored"), "{}", text(&output));
        let steps = rows(&path, "governor");
        let level = |step: &Row| match number(step, "one_of") {
            0 => i128::MAX,
            one_of => one_of,
        };
        let back = steps.windows(2).any(|pair| level(&pair[1]) < level(&pair[0]));
        assert!(back && text(&output).contains("there is room again"), "{}", text(&output));
    });
}
