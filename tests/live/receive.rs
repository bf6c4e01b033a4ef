//! Segments as they arrive: the other end of every latency.

use super::support::{Recording, live, record};
use super::trace::{Row, distance, known, number, of_socket, rows, socket, told};
use serde_json::Value;

/// The socket of an end of the account.
fn socket_of(recording: &Recording, end: &Value) -> i128 {
    socket(&recording.path, told(&end["lport"]), told(&end["rport"]))
}

fn rows_of_end(recording: &Recording, table: &str, end: &Value) -> Vec<Row> {
    of_socket(rows(&recording.path, table), socket_of(recording, end))
}

/// The gaps that segments leave in `length` bytes from `first` on.
fn gaps(segments: &[Row], first: i128, length: i128) -> Vec<(i128, i128)> {
    let range = |row: &Row| (distance(first, number(row, "seq")), number(row, "len"));
    let mut ranges: Vec<(i128, i128)> =
        segments.iter().map(range).filter(|(_, length)| *length > 0).collect();
    ranges.sort_unstable();
    let mut covered = 0;
    let mut gaps = Vec::new();
    for (at, length) in ranges {
        if at > covered {
            gaps.push((covered, at));
        }
        covered = covered.max(at + length);
    }
    if covered < length {
        gaps.push((covered, length));
    }
    gaps
}

#[test]
fn the_segments_cover_all_bytes_that_were_sent() {
    if !live() {
        return;
    }
    for family in ["v4", "v6", "mapped"] {
        for (count, size) in [("200", "1000"), ("20", "300000")] {
            let words = ["sends", "--family", family, "--count", count, "--size", size];
            let recording = record(&format!("receive-{family}-{size}"), &["-g", "net,net-rx"], &words);
            let sends = rows_of_end(&recording, "sock_send", &recording.truth["client"]);
            let segments = rows_of_end(&recording, "tcp_rx", &recording.truth["server"]);
            let bytes = told(&recording.truth["bytes"]);
            let first = number(&sends[0], "seq");
            assert_eq!(gaps(&segments, first, bytes), [], "of {bytes} bytes, {family}");
            // And nothing but what was sent: no segment begins or ends outside.
            let inside = |row: &Row| {
                let at = distance(first, number(row, "seq"));
                (0..=bytes).contains(&at) && at + number(row, "len") <= bytes
            };
            assert!(segments.iter().filter(|row| number(row, "len") > 0).all(inside));
        }
    }
}

/// For a send: when the reply's first byte and when the acknowledgement reached its socket, from the send's begin.
fn latencies(send: &Row, segments: &[Row]) -> (i128, i128) {
    let returned = number(send, "ts");
    let begin = returned - known(send, "latency").unwrap_or(0);
    let end = number(send, "seq") + number(send, "ret");
    let later = || segments.iter().filter(move |row| number(row, "ts") > begin);
    let acked = later().find(|row| distance(end, number(row, "ack")) >= 0).expect("an acknowledgement");
    let reply = later().find(|row| number(row, "len") > 0).expect("a reply");
    (number(reply, "ts") - begin, number(acked, "ts") - begin)
}

fn median(mut values: Vec<i128>) -> i128 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn a_response_takes_as_long_as_the_server_sleeps_and_an_acknowledgement_does_not() {
    if !live() {
        return;
    }
    let delay = 60_000_000; // ns; above the 40 ms by which a kernel may put an acknowledgement off
    for family in ["v4", "v6", "mapped"] {
        let words = ["pingpong", "--family", family, "--count", "20", "--delay-ms", "60", "--reply", "300"];
        let recording = record(&format!("receive-pingpong-{family}"), &["-g", "net,net-rx"], &words);
        let truth = &recording.truth;
        let sends = rows_of_end(&recording, "sock_send", &truth["client"]);
        let segments = rows_of_end(&recording, "tcp_rx", &truth["client"]);
        assert_eq!(sends.len() as i128, told(&truth["turns"]));
        let found: Vec<(i128, i128)> = sends.iter().map(|send| latencies(send, &segments)).collect();
        for (turn, &(response, ack)) in found.iter().enumerate() {
            let (client, held) = (told(&truth["response_ns"][turn]), told(&truth["server"]["held_ns"][turn]));
            assert!(response >= delay && response >= held, "turn {turn}: {response} of at least {held} ns");
            assert!(response <= client, "turn {turn}: {response} ns, but the client waited {client} only");
            assert!(ack <= response, "turn {turn}: acknowledged after the response");
        }
        let acks = median(found.iter().map(|(_, ack)| *ack).collect());
        assert!(acks < delay, "acknowledged after {acks} ns");
    }
}

#[test]
fn connections_have_their_states_owners_and_byte_counts() {
    if !live() {
        return;
    }
    let words = ["connects", "--family", "v4", "--count", "12", "--size", "5000", "--reply", "70"];
    let recording = record("receive-connects", &["-g", "net,net-rx"], &words);
    let clients = recording.truth["clients"].as_array().expect("clients");
    let servers = recording.truth["servers"].as_array().expect("servers");
    for (end, side) in clients.iter().map(|end| (end, 2)).chain(servers.iter().map(|end| (end, 1))) {
        let changes = rows_of_end(&recording, "tcp_state", end);
        let socket = super::trace::sockets(&recording.path)[&socket_of(&recording, end)].clone();
        assert_eq!((number(&socket, "side"), number(&socket, "owner")), (side, told(&end["pid"])));
        // LISTEN to SYN_RECV to ESTABLISHED, long before the accept; or CLOSE to SYN_SENT to ESTABLISHED.
        let begin = if side == 1 { [(10, 3), (3, 1)] } else { [(7, 2), (2, 1)] };
        let change = |row: &Row| (number(row, "old"), number(row, "new"));
        assert_eq!([change(&changes[0]), change(&changes[1])], begin);
        let last = changes.last().expect("changes");
        assert_eq!(number(last, "new"), 7, "the last is CLOSE");
        let farewell = |bytes: i128, counted: i128| (bytes..=bytes + 2).contains(&counted);
        let (sent, received) = (told(&end["send"]["bytes"]), told(&end["recv"]["bytes"]));
        assert!(
            farewell(sent, number(last, "acked")),
            "{sent} bytes sent, {} acknowledged",
            number(last, "acked")
        );
        assert!(farewell(received, number(last, "received")), "{received} bytes received: {last:?}");
    }
}
