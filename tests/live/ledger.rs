//! The books close: attempted = recorded + filtered + lost, against a known number of events.

use super::support::{live, record};
use super::trace::{rows, total};

fn check(name: &str, options: &[&str], lossy: bool) {
    let words = ["sends", "--family", "v4", "--count", "30000", "--size", "10"];
    let recording = record(name, &[&["-g", "net"], options].concat(), &words);
    let counter = |counter| total(&recording.path, "sock_send", counter);
    let (stored, lost) = (counter("stored"), counter("ring_full") + counter("state_full"));
    assert_eq!(stored + lost, 30_000, "{}", recording.stderr);
    assert_eq!(rows(&recording.path, "sock_send").len() as i128, stored, "what was stored is in the file");
    assert_eq!(lost > 0, lossy, "{}", recording.stderr);
    for table in ["sock_recv", "tcp_state", "sock_accept"] {
        assert_eq!(
            rows(&recording.path, table).len() as i128,
            total(&recording.path, table, "stored"),
            "{table}"
        );
    }
}

#[test]
fn ample_rings_lose_nothing() {
    if live() {
        check("ledger-ample", &["--rings", "65536"], false);
    }
}

#[test]
fn a_ring_too_small_and_a_reader_asleep_lose_events_and_count_each() {
    if live() {
        check("ledger-tiny", &["--rings", "16", "--stall", "300ms"], true);
    }
}

#[test]
fn filtered_events_are_counted_too() {
    if !live() {
        return;
    }
    let words = ["sends", "--family", "v4", "--count", "1000", "--size", "10"];
    let recording = record("ledger-filtered", &["-g", "net", "--port", "1"], &words);
    assert_eq!(total(&recording.path, "sock_send", "stored"), 0);
    assert!(total(&recording.path, "sock_send", "filtered") >= 1000);
}
