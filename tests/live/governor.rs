//! A recording within its bounds: less is recorded, all is counted, and the trace says so.

use super::support::{live, record};
use super::trace::{bytes, number, rows, total};
use std::process::Command;

const ANALYZE: &str = env!("CARGO_BIN_EXE_analyze");

#[test]
fn what_a_rate_does_not_allow_is_left_out_counted_and_said() {
    if !live() {
        return;
    }
    let words = ["pingpong", "--count", "2000", "--size", "50", "--delay-ms", "2"];
    let recording = record("governor-rate", &["-g", "net", "--max-rate", "net=300"], &words);
    let called = |end: &str| i128::from(recording.truth[end]["send"]["calls"].as_i64().expect("a number"));
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
    assert!(said.contains("left_out") && String::from_utf8_lossy(&output.stdout).contains('≥'), "{said}");
    let check = Command::new(ANALYZE).arg(&recording.path).arg("check").output().expect("analyze runs");
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.contains("the ledger closes") && check.contains("group net (") && check.contains("+ left_out"),
        "{check}"
    );
}

#[test]
fn too_small_a_budget_leaves_out_whole_flows_and_no_lifecycle() {
    if !live() {
        return;
    }
    let words = ["sends", "--count", "400000", "--size", "50"];
    let recording = record("governor-budget", &["-g", "net,proc", "--max-overhead", "0.01%"], &words);
    let counter = |counter| total(&recording.path, "sock_send", counter);
    let lost = counter("ring_full") + counter("state_full");
    assert_eq!(counter("stored") + counter("left_out") + lost, 400_000, "{}", recording.stderr);
    // What says that there was a flow at all stays.
    assert_eq!(total(&recording.path, "tcp_state", "left_out"), 0);
    assert!(!rows(&recording.path, "tcp_state").is_empty());
}
