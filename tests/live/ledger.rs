//! The books close: attempted = recorded + filtered + lost, against a known number of events.

use super::support::{Watch, live, record};
use super::trace::{rows, sum, total};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

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

/// A kernel that changes a function's trampoline, for a second tracer, lets the exit programs out for whoever is in the
/// function at that time.
#[test]
fn a_receive_that_waits_while_another_tracer_comes_and_goes_is_recorded_or_counted() {
    if !live() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("an address");
    let watch = Watch::start("ledger-second", &["-a", "-g", "net", "--port", &address.port().to_string()]);
    let mut client = TcpStream::connect(address).expect("our own listener");
    let (mut server, _) = listener.accept().expect("our own client");
    let reader = std::thread::spawn(move || {
        let mut byte = [0];
        (0..4).all(|_| server.read_exact(&mut byte).is_ok())
    });
    for byte in [b"1", b"2"] {
        Watch::start("ledger-other", &["-a", "-g", "net", "--port", "1"]).finish();
        client.write_all(byte).expect("a server that listens");
    }
    client.write_all(b"34").expect("a server that listens");
    assert!(reader.join().expect("a reader that goes well"));
    let path = watch.path.clone();
    let said = watch.finish();
    let received = sum(&rows(&path, "sock_recv"), "ret");
    assert_eq!(received + total(&path, "sock_recv", "state_full"), 4, "{said}");
    println!("{received} of 4 receives recorded, the others counted");
}
