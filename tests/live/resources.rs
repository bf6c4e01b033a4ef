//! What the recorder may take, and what it says that it will take.

use super::bounds::check_books;
use super::support::{CAPTURE, Watch, account, free_port, live, patiently, record, text, truth, workload};
use super::trace::total;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_dry_run_counts_what_a_recording_would_record() {
    if !live() {
        return;
    }
    patiently(|| {
        let port = free_port().to_string();
        let mut dry = Command::new(CAPTURE);
        dry.args(["--dry-run", "4s", "-g", "net", "--port", &port]).stdout(Stdio::piped());
        let dry = dry.spawn().expect("capture runs");
        std::thread::sleep(Duration::from_millis(1500)); // it attaches, and then counts for longer than this takes
        account(workload(truth(), &["sends", "--count", "20000", "--size", "64", "--port", &port]));
        let output = dry.wait_with_output().expect("its output");
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.lines().find_map(|line| line.strip_prefix("sock_send")?.split_whitespace().next());
        let rate: f64 = rate.expect("sends were counted").replace(',', "").parse().expect("a number");
        // The length is printed with one digit after the point, the rate without.
        assert!((rate * 4.0 - 20_000.0).abs() < 600.0, "{said}");
        for line in ["file ", "rings ", "probes ", "recorder "] {
            assert!(said.lines().any(|said| said.starts_with(line)), "{line}:\n{said}");
        }
    });
}

/// Of dd's calls half are reads, half are writes.
#[test]
fn a_dry_run_counts_probes_of_the_user_and_what_is_added_up() {
    if !live() {
        return;
    }
    let mut dd = Command::new("timeout");
    dd.args(["120", "dd", "if=/dev/zero", "of=/dev/null", "bs=1"]).stderr(Stdio::null());
    let mut dd = dd.spawn().expect("dd runs");
    let mut dry = Command::new(CAPTURE);
    dry.args(["--dry-run", "2s", "-g", "syscalls,net,stat", "--syscalls", "agg", "--comm", "dd"]);
    dry.args(["-e", "t:syscalls:sys_enter_read", "-e", "sums=t:syscalls:sys_enter_write {count}"]);
    let output = dry.args(["--attach", "sock_send=none"]).output().expect("capture runs");
    super::support::signal(&dd, libc::SIGTERM);
    dd.wait().expect("our own child");
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = |first: &str| -> f64 {
        let line = said.lines().find_map(|line| line.strip_prefix(first));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        let word = word.unwrap_or_else(|| panic!("{first}: {said}{}", text(&output)));
        word.replace(',', "").parse().expect("a number")
    };
    let reads = rate("sys_enter_read");
    assert!(reads > 100.0, "{said}");
    // Each write counts twice, as a hit of the probe and as a system call.
    assert!((rate("added up ") / reads - 3.0).abs() < 0.1, "{said}");
    for table in ["syscall_agg", "sums", "task_stat"] {
        assert!(rate(table) > 0.0 && rate(table) < reads, "{said}");
    }
    assert!(said.contains("counted with syscalls,net,stat,sys_enter_read,sums: "), "{said}");
    let mut dry = Command::new(CAPTURE);
    let output = dry.args(["--dry-run", "1s", "-g", "net", "--attach", "no_such_probe=none"]).output();
    let output = output.expect("capture runs");
    assert!(text(&output).contains("has no probe 'no_such_probe'"), "{}", text(&output));
}

const SENDS: &[&str] = &["sends", "--count", "150000", "--size", "32"];

#[test]
fn a_writer_that_is_behind_is_not_hidden() {
    if !live() {
        return;
    }
    let slow = record("resources-slow", &["-g", "net", "--level", "19", "--memory", "4MiB"], SENDS);
    assert!(slow.stderr.contains("the writer was behind"), "{}", slow.stderr);
    // The compressor is slower than the events: the rings fill, and what they cannot take is counted.
    let counter = |counter| total(&slow.path, "sock_send", counter);
    assert_eq!(counter("stored") + counter("ring_full") + counter("state_full"), 150_000, "{}", slow.stderr);
    check_books(&slow.path);
}

/// Peak memory in MiB, as the summary says.
fn memory(said: &str) -> f64 {
    let before = said.split(" MiB memory").next().expect("some text");
    before.rsplit(' ').next().expect("a word").parse().unwrap_or_else(|_| panic!("no memory in:\n{said}"))
}

#[test]
fn the_bound_on_memory_is_felt() {
    if !live() {
        return;
    }
    patiently(|| {
        let peak =
            |name: &str, bound: &str| memory(&record(name, &["-g", "net", "--memory", bound], SENDS).stderr);
        let (small, usual) = (peak("resources-small", "4MiB"), peak("resources-usual", "16MiB"));
        assert!(small + 3.0 < usual, "{small} MiB within 4, {usual} MiB within 16");
        // What the program itself takes is what it takes where nothing happens; and some of what is freed stays with it.
        let idle = record("resources-idle", &["-g", "net", "--memory", "4MiB"], &["sends", "--count", "1"]);
        let base = memory(&idle.stderr);
        assert!(small <= base + 4.0 + 4.0, "{small} MiB, of which {base} are taken by nothing");
    });
}

/// The priority of each thread of a process.
fn priorities(pid: u32) -> Vec<i32> {
    let of = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
    };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    threads.flatten().filter_map(of).collect()
}

#[test]
fn the_recorder_gives_way_and_its_command_does_not() {
    if !live() {
        return;
    }
    let watch = Watch::start("resources-nice", &["-g", "proc", "--nice", "7"]);
    let recorder = priorities(watch.pid());
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", watch.pid()));
    let command = children.expect("it runs").trim().parse().expect("one child");
    assert!(recorder.len() > 2 && recorder.iter().all(|&nice| nice == 7), "{recorder:?}");
    assert_eq!(priorities(command), [0]);
    watch.finish();
}

#[test]
fn processors_that_are_not_there_are_refused() {
    if !live() {
        return;
    }
    let output = Command::new(CAPTURE).args(["-o", "/dev/null", "--cpu-list", "1023", "-d", "1s"]).output();
    let output = output.expect("capture runs");
    assert!(!output.status.success() && text(&output).contains("--cpu-list"), "{}", text(&output));
}
