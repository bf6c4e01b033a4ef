//! What the recorder may take, and what it says that it will take.

use super::bounds::check_books;
use super::support::{CAPTURE, account, free_port, live, patiently, record, text, truth, workload};
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
    });
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
