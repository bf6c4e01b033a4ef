//! `--min-latency`: of a group's calls only the long ones, as the workload's own clock has them; the others are counted.

use super::bounds::check_books;
use super::support::{CAPTURE, has, live, patiently, scratch, text};
use super::trace::{Row, known, number, rows, total};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ten calls that take some 20 ms, a hundred short ones beside each, all timed by who makes them. Prints its process, the
/// begin and the end of it all, and how long each call took, ns.
const READS: &str = "
import os, time
ready, write = os.pipe()
zero = os.open('/dev/zero', os.O_RDONLY)
if not os.fork():
    for _ in range(10):
        time.sleep(0.02)
        os.write(write, b'x')
    os._exit(0)
calls = ([(os.read, ready, 1)] + [(os.read, zero, 1)] * 100) * 10
";
/// The same of sends, to somebody who reads with pauses.
const SENDS: &str = "
import socket, os, time
server = socket.create_server(('127.0.0.1', 0))
client = socket.socket()
for end, size in (server, socket.SO_RCVBUF), (client, socket.SO_SNDBUF):
    end.setsockopt(socket.SOL_SOCKET, size, 1 << 16)
client.connect(server.getsockname())
if not os.fork():
    client.close()
    peer, _ = server.accept()
    while peer.recv(1 << 20): time.sleep(0.01)
    os._exit(0)
calls = ([(client.sendall, bytes(1 << 20))] + [(client.sendall, b'x')] * 100) * 10
";
const TIMED: &str = "
took, begin = [], time.monotonic_ns()
for call, *arguments in calls:
    before = time.monotonic_ns()
    call(*arguments)
    took.append(time.monotonic_ns() - before)
print(os.getpid(), begin, time.monotonic_ns(), *took)
";
const LEAST: i128 = 5_000_000;

/// A recording, and the workload's own account of it.
struct Recorded {
    path: PathBuf,
    tid: i128,
    begin: i128,
    end: i128,
    took: Vec<i128>,
}

fn record(name: &str, options: &[&str], program: &str) -> Recorded {
    let path = scratch(name).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(options).args(["--", "python3", "-c", &format!("{program}{TIMED}")]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = told.split_whitespace().map(|word| word.parse().expect("a number"));
    let mut next = || numbers.next().expect("process, begin and end");
    let (tid, begin, end) = (next(), next(), next());
    Recorded { path, tid, begin, end, took: numbers.collect() }
}

impl Recorded {
    /// The rows of the timed calls, which are those of one kind in its span.
    fn check(&self, table: &str, is_one: impl Fn(&Row) -> bool) {
        let mut found = rows(&self.path, table);
        found.retain(|row| number(row, "tid") == self.tid && is_one(row));
        found.retain(|row| (self.begin..=self.end).contains(&number(row, "ts")));
        assert!(found.iter().all(|row| known(row, "latency").is_some_and(|latency| latency >= LEAST)));
        // Who makes a call cannot see it take less than it does; and hardly ever much more.
        let longer = |least: i128| self.took.iter().filter(|took| **took >= least).count();
        let (surely, perhaps) = (longer(3 * LEAST), longer(LEAST));
        assert!(surely >= 5 && perhaps < 200, "{surely} to {perhaps} long calls of {}", self.took.len());
        assert!((surely..=perhaps).contains(&found.len()), "{surely} to {perhaps}: {}", found.len());
        let filtered = total(&self.path, table, "filtered");
        assert!(filtered >= (self.took.len() - perhaps) as i128, "{filtered} of {}", self.took.len());
        check_books(&self.path);
    }
}

/// What a report says beside its figures.
fn remarks(trace: &Path, report: &str) -> String {
    let words = ["analyze".to_owned(), trace.display().to_string(), report.to_owned()];
    let (mut out, mut messages) = (Vec::new(), Vec::new());
    tapedeck::analyze::run(&words, &mut out, &mut messages, false).expect("an answer");
    assert!(String::from_utf8_lossy(&out).contains('≥'), "{report}: counts are lower bounds");
    String::from_utf8_lossy(&messages).into_owned() + &String::from_utf8_lossy(&out)
}

fn is_read(row: &Row) -> bool {
    number(row, "op") == 1
}

#[test]
fn of_calls_about_files_only_long_ones_are_recorded() {
    if !live() || !has("python3") {
        return;
    }
    patiently(|| {
        let recorded = record("threshold-file", &["-g", "file", "--min-latency", "file=5ms"], READS);
        recorded.check("file_io", is_read);
        assert!(remarks(&recorded.path, "vfsstat").contains("of group file only calls of at least 5ms"));
    });
}

#[test]
fn of_single_system_calls_only_long_ones_are_recorded() {
    if !live() || !has("python3") {
        return;
    }
    patiently(|| {
        let options = ["-g", "syscalls", "--syscalls", "each", "--min-latency", "syscalls=5ms"];
        let recorded = record("threshold-syscalls", &options, READS);
        recorded.check("syscall", |row| number(row, "syscall") == i128::from(libc::SYS_read));
        assert!(remarks(&recorded.path, "syscount").contains("of group syscalls only calls of at least 5ms"));
    });
}

#[test]
fn of_sends_only_long_ones_are_recorded() {
    if !live() || !has("python3") {
        return;
    }
    patiently(|| {
        let recorded = record("threshold-net", &["-g", "net", "--min-latency", "net=5ms"], SENDS);
        recorded.check("sock_send", |_| true);
        assert!(remarks(&recorded.path, "tcpsend").contains("of group net only calls of at least 5ms"));
    });
}
