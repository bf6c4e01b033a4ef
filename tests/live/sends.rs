//! Sends of known number and size, over IPv4, IPv6 and IPv4-mapped addresses.

use super::support::{Recording, aloud, live, record};
use super::trace::{
    assert_contiguous, bytes, known, number, of_socket, of_thread, rows, socket, sockets, sum, told,
};
use std::collections::BTreeSet;

const COUNT: i128 = 300;

fn check_sends(recording: &Recording, size: i128) {
    let truth = &recording.truth;
    let client = &truth["client"];
    let sends = of_thread(rows(&recording.path, "sock_send"), told(&client["tid"]));
    assert_eq!(sends.len() as i128, COUNT);
    assert!(sends.iter().all(|row| number(row, "ret") == size));
    assert!(sends.iter().all(|row| known(row, "requested").is_none_or(|requested| requested == size)));
    let (start, end) = (told(&truth["start_ns"]), told(&truth["end_ns"]));
    assert!(sends.iter().all(|row| (start..=end).contains(&number(row, "ts"))), "outside of {start}..{end}");
    assert!(sum(&sends, "latency") <= end - start, "longer in sends than all sends took");
    let id = socket(&recording.path, told(&client["lport"]), told(&client["rport"]));
    assert!(sends.iter().all(|row| number(row, "sock") == id), "one socket");
    assert_contiguous(&sends);
    check_receives(recording, size);
}

fn check_receives(recording: &Recording, size: i128) {
    let server = &recording.truth["server"];
    let id = socket(&recording.path, told(&server["lport"]), told(&server["rport"]));
    let receives = of_thread(of_socket(rows(&recording.path, "sock_recv"), id), told(&server["tid"]));
    assert_eq!(receives.len() as i128, told(&server["recv"]["calls"]));
    assert_eq!(sum(&receives, "ret"), COUNT * size);
    assert_eq!(of_socket(rows(&recording.path, "sock_accept"), id).len(), 1, "accepted once");
}

fn check_socket(recording: &Recording, family: i128, address: [u8; 16]) {
    for end in ["client", "server"] {
        let end = &recording.truth[end];
        let id = socket(&recording.path, told(&end["lport"]), told(&end["rport"]));
        let row = &sockets(&recording.path)[&id];
        assert_eq!(number(row, "family"), family);
        assert_eq!((bytes(row, "laddr"), bytes(row, "raddr")), (&address[..], &address[..]));
        assert_eq!(number(row, "owner"), told(&end["pid"]));
    }
}

#[test]
fn every_send_is_recorded_with_its_size_place_and_time() {
    if !live() {
        return;
    }
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    let six = u128::to_be_bytes(1);
    for (family, number, address) in [("v4", 2, mapped), ("v6", 10, six), ("mapped", 10, mapped)] {
        let words = ["sends", "--family", family, "--count", "300", "--size", "777"];
        let recording = record(&format!("sends-{family}"), &["-g", "net,net-rx,proc"], &words);
        if recording.truth["skipped"].is_string() {
            aloud(&recording.truth["skipped"].to_string());
            continue;
        }
        check_sends(&recording, 777);
        check_socket(&recording, number, address);
    }
}

#[test]
fn sends_larger_than_any_buffer_are_one_row_each() {
    if live() {
        let words = ["sends", "--family", "v4", "--count", "300", "--size", "300000"];
        check_sends(&record("sends-large", &["-g", "net"], &words), 300_000);
    }
}

#[test]
fn two_threads_on_one_socket_each_send_what_they_sent() {
    if !live() {
        return;
    }
    for family in ["v4", "v6"] {
        let words = ["twothreads", "--family", family, "--count", "2000", "--size", "100"];
        let recording = record(&format!("sends-two-{family}"), &["-g", "net"], &words);
        let sends = rows(&recording.path, "sock_send");
        let writers = recording.truth["writers"].as_array().expect("two writers");
        for writer in writers {
            let ours = of_thread(sends.clone(), told(&writer["tid"]));
            assert_eq!(ours.len() as i128, told(&writer["send"]["calls"]));
            assert!(ours.iter().all(|row| number(row, "ret") == told(&writer["size"])));
        }
        assert_eq!(sends.len() as i128, told(&recording.truth["calls"]));
        let ids: BTreeSet<i128> = sends.iter().map(|row| number(row, "sock")).collect();
        assert_eq!(ids.len(), 1, "one socket");
        if sends.iter().all(|row| number(row, "exact") == 1) {
            assert_contiguous(&sends);
        } else {
            aloud("this kernel does not tell the place of a send under the socket's lock");
        }
    }
}
