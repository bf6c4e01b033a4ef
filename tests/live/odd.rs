//! What plain traffic does not show: refusals, peeks, splices, resets, sockets and ports that are shared or used again.

use super::support::{Recording, aloud, kernel_is, live, record};
use super::trace::{Row, known, number, of_socket, of_thread, processes, rows, socket, sockets, told};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const EAGAIN: i128 = -11;
const MSG_PEEK: i128 = 2;
const SYN_SENT: i128 = 2;
const CLOSE: i128 = 7;

/// Process, local port, remote port.
type End = (i128, i128, i128);

/// What an end did, in numbers by name.
type Counts = BTreeMap<&'static str, i128>;

const FIGURES: [&str; 11] = [
    "sends",
    "sent",
    "send errors",
    "eagain",
    "partial",
    "empty",
    "receives",
    "received",
    "peeks",
    "peeked",
    "receive errors",
];

/// What the workload says that each end did; ends with the same addresses, one after the other, are added up.
fn told_counts(case: &Value) -> BTreeMap<End, Counts> {
    let mut counts: BTreeMap<End, Counts> = BTreeMap::new();
    for end in case["ends"].as_array().expect("ends") {
        let to = counts.entry((told(&end["pid"]), told(&end["lport"]), told(&end["rport"]))).or_default();
        let (send, recv) = (&end["send"], &end["recv"]);
        let sent = told(&send["bytes"]) + told(&send["spliced"]["bytes"]);
        let figures = [
            told(&send["calls"]),
            sent,
            told(&send["errors"]),
            told(&send["eagain"]),
            told(&send["partial"]),
            told(&send["empty"]),
            told(&recv["calls"]),
            told(&recv["bytes"]),
            told(&recv["peeks"]),
            told(&recv["peek_bytes"]),
            told(&recv["errors"]),
        ];
        for (name, figure) in FIGURES.iter().zip(figures) {
            *to.entry(name).or_default() += figure;
        }
    }
    counts
}

/// The same from the trace.
fn seen_counts(recording: &Recording) -> BTreeMap<End, Counts> {
    let (sockets, processes) = (sockets(&recording.path), processes(&recording.path));
    let mut counts: BTreeMap<End, Counts> = BTreeMap::new();
    for (table, count) in [("sock_send", count_send as fn(&Row, &mut Counts)), ("sock_recv", count_recv)] {
        for row in rows(&recording.path, table) {
            let socket = &sockets[&number(&row, "sock")];
            let end = (processes[&number(&row, "tid")], number(socket, "lport"), number(socket, "rport"));
            let to = counts.entry(end).or_default();
            for name in FIGURES {
                to.entry(name).or_default();
            }
            count(&row, to);
        }
    }
    counts
}

fn add(to: &mut Counts, name: &'static str, figure: i128) {
    *to.entry(name).or_default() += figure;
}

fn count_send(row: &Row, to: &mut Counts) {
    let ret = number(row, "ret");
    add(to, "eagain", (ret == EAGAIN).into());
    add(to, "send errors", (ret < 0).into());
    if ret >= 0 {
        add(to, "sends", 1);
        add(to, "sent", ret);
        add(to, "empty", (ret == 0).into());
        add(to, "partial", known(row, "requested").is_some_and(|requested| ret < requested).into());
    }
}

fn count_recv(row: &Row, to: &mut Counts) {
    let ret = number(row, "ret");
    let peek = number(row, "flags") & MSG_PEEK != 0;
    add(to, "receive errors", (ret < 0).into());
    if ret >= 0 {
        add(to, "receives", 1);
        add(to, "peeks", peek.into());
        add(to, if peek { "peeked" } else { "received" }, ret);
    }
}

fn check_counts(recording: &Recording, case: &Value) {
    let (mut told, seen) = (told_counts(case), seen_counts(recording));
    told.retain(|_, counts| counts.values().any(|&figure| figure != 0));
    for (end, told) in &mut told {
        let seen = seen.get(end).unwrap_or_else(|| panic!("no call at {end:?}"));
        if case["case"] == "spliced" && told["sent"] > 0 {
            // How many sends one sendfile becomes is the kernel's own affair.
            assert!(seen["sends"] > 0);
            told.insert("sends", seen["sends"]);
            told.insert("partial", seen["partial"]);
        }
        assert_eq!(seen, told, "{} at {end:?}", case["case"]);
    }
    assert_eq!(seen.len(), told.len(), "ends of which the workload knows nothing: {seen:?}");
}

/// Records one case in all families and hands each over.
fn check_case(case: &str, further: impl Fn(&Recording, &Value)) {
    if !live() {
        return;
    }
    for family in ["v4", "v6", "mapped"] {
        let words = ["odd", "--family", family, "--case", case];
        let recording = record(&format!("odd-{case}-{family}"), &["-g", "proc,net"], &words);
        let facts = &recording.truth["cases"][0];
        if let Some(reason) = facts["skipped"].as_str().or(recording.truth["skipped"].as_str()) {
            aloud(&format!("{case}: {reason}"));
            continue;
        }
        check_counts(&recording, facts);
        further(&recording, facts);
    }
}

/// The ports of the end at this position of the account, and its socket's id.
fn end_socket(recording: &Recording, case: &Value, position: usize) -> i128 {
    let end = &case["ends"][position];
    socket(&recording.path, told(&end["lport"]), told(&end["rport"]))
}

/// The state changes of a socket, in order: (old, new).
fn states(recording: &Recording, socket: i128) -> Vec<(i128, i128)> {
    let changes = of_socket(rows(&recording.path, "tcp_state"), socket);
    changes.iter().map(|row| (number(row, "old"), number(row, "new"))).collect()
}

#[test]
fn refusals_of_a_full_socket_and_partial_sends_are_rows() {
    check_case("eagain", |_, case| {
        assert!(told(&case["ends"][0]["send"]["eagain"]) >= 5, "the workload saw none itself");
        assert!(told(&case["ends"][0]["send"]["partial"]) >= 1, "the workload saw none itself");
    });
}

#[test]
fn sends_of_nothing_are_rows() {
    check_case("zero_length", |_, case| assert_eq!(told(&case["ends"][0]["send"]["empty"]), 6));
}

#[test]
fn peeks_are_told_apart_from_receives() {
    check_case("peek", |_, case| assert_eq!(told(&case["ends"][1]["recv"]["peeks"]), 8));
}

#[test]
fn every_way_to_send_is_seen() {
    check_case("vectors", |_, _| {});
}

#[test]
fn spliced_bytes_are_all_there() {
    if !kernel_is(6, 5) {
        aloud("before Linux 6.5 sendfile and splice bypass tcp_sendmsg");
        return;
    }
    check_case("spliced", |_, case| assert_eq!(told(&case["ends"][0]["send"]["spliced"]["bytes"]), 400_000));
}

#[test]
fn io_uring_sends_are_seen() {
    check_case("io_uring", |_, _| {});
}

#[test]
fn a_socket_shared_over_fork_is_one_socket_with_two_senders() {
    check_case("shared_over_fork", |recording, case| {
        let id = end_socket(recording, case, 0);
        let sends = of_socket(rows(&recording.path, "sock_send"), id);
        for (position, count) in [(0, 5), (1, 7)] {
            let tid = told(&case["ends"][position]["tid"]);
            assert_eq!(of_thread(sends.clone(), tid).len(), count, "sends by {tid}");
        }
        assert_eq!(sends.len(), 12);
    });
}

#[test]
fn a_port_used_again_is_another_socket() {
    check_case("port_reuse", |recording, case| {
        let ends = case["ends"].as_array().expect("ends");
        let sends = rows(&recording.path, "sock_send");
        let ids: BTreeSet<i128> = sends.iter().map(|row| number(row, "sock")).collect();
        assert_eq!(ids.len(), 3, "three connections that sent");
        let counts: BTreeSet<usize> = ids.iter().map(|&id| of_socket(sends.clone(), id).len()).collect();
        assert_eq!(counts, BTreeSet::from([1, 2, 3]), "the sends of each connection");
        let ports: BTreeSet<i128> =
            ids.iter().map(|id| number(&sockets(&recording.path)[id], "lport")).collect();
        assert_eq!(ports, BTreeSet::from([told(&ends[0]["lport"])]), "with the same port");
    });
}

#[test]
fn a_reset_ends_both_sockets() {
    check_case("reset", |recording, case| {
        assert_eq!(case["reset_seen"], true, "the workload did not see it itself");
        for position in [0, 1] {
            let changes = states(recording, end_socket(recording, case, position));
            assert_eq!(
                changes.last(),
                Some(&(1, CLOSE)),
                "from ESTABLISHED to CLOSE in one step: {changes:?}"
            );
        }
        let broken = rows(&recording.path, "sock_send").iter().any(|row| number(row, "ret") == -32);
        assert!(broken, "EPIPE of the send after the reset");
    });
}

#[test]
fn a_half_closed_connection_goes_on_the_other_way() {
    check_case("half_close", |recording, case| {
        assert_eq!(case["send_after_end_refused"], true);
        let changes = states(recording, end_socket(recording, case, 0));
        assert!(changes.contains(&(1, 4)) && changes.contains(&(4, 5)), "FIN_WAIT1, FIN_WAIT2: {changes:?}");
    });
}

#[test]
fn a_refused_connection_goes_from_syn_sent_to_close() {
    check_case("refused", |recording, case| {
        let attempt = &case["attempt"];
        assert_eq!(attempt["refused"], true);
        let id = socket(&recording.path, told(&attempt["lport"]), told(&attempt["rport"]));
        assert_eq!(states(recording, id), [(CLOSE, SYN_SENT), (SYN_SENT, CLOSE)]);
        let changes = of_socket(rows(&recording.path, "tcp_state"), id);
        assert_eq!(known(&changes[0], "tid"), Some(told(&attempt["tid"])), "who tried");
        assert_eq!(known(&changes[1], "tid"), None, "the refusal came in interrupt context");
    });
}
