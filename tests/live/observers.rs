//! The same run as others see it: bpftrace, the kernel's own counters, strace.

use super::support::{CAPTURE, Recording, aloud, has, live, record, scratch, skip, text, truth};
use super::trace::{Row, number, of_socket, processes, rows, socket, told};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

/// A network namespace of the test's own, with its loopback device up; gone with the value.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(name: &str) -> Option<Self> {
        let namespace = Self(format!("tapedeck-{name}-{}", std::process::id()));
        let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = run(Command::new("ip").args(["netns", "add", &namespace.0]))
            && run(namespace.command().args(["ip", "link", "set", "lo", "up"]));
        if !made {
            skip("no network namespace can be made here");
            return None;
        }
        Some(namespace)
    }

    /// To be completed with a program and its arguments, which runs inside.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]);
        command
    }

    pub fn inode(&self) -> i128 {
        std::fs::metadata(format!("/run/netns/{}", self.0)).expect("the namespace").ino().into()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// One line per call: direction, process, flags, result. As in `tests/truth/observe.py`.
const PROGRAM: &str = r#"
tracepoint:sched:sched_process_fork /@ours[(uint64)args->parent_pid] || args->parent_pid == cpid/
{ @ours[(uint64)args->child_pid] = 1; }
tracepoint:sock:sock_send_length /args->protocol == 6 && (@ours[tid] || pid == cpid)/
{ printf("sock_send %d %d %d\n", pid, args->flags, args->ret); }
tracepoint:sock:sock_recv_length /args->protocol == 6 && (@ours[tid] || pid == cpid)/
{ printf("sock_recv %d %d %d\n", pid, args->flags, args->ret); }
END { clear(@ours); }
"#;

/// Table, process, flags, result, and how often.
type Calls = BTreeMap<(String, i128, i128, i128), usize>;

fn calls_in_trace(path: &Path) -> Calls {
    let processes = processes(path);
    let mut calls = Calls::new();
    for table in ["sock_send", "sock_recv"] {
        for row in rows(path, table) {
            let flags = number(&row, "flags");
            let key = (table.to_owned(), processes[&number(&row, "tid")], flags, number(&row, "ret"));
            *calls.entry(key).or_default() += 1;
        }
    }
    calls
}

fn calls_observed(stdout: &str) -> Calls {
    let mut calls = Calls::new();
    for line in stdout.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [table @ ("sock_send" | "sock_recv"), pid, flags, ret] = words[..] else { continue };
        let number = |word: &str| word.parse::<i128>().expect("a number");
        *calls.entry((table.to_owned(), number(pid), number(flags), number(ret))).or_default() += 1;
    }
    calls
}

#[test]
fn bpftrace_sees_the_same_calls() {
    if !live() || !has("bpftrace") {
        return;
    }
    if !["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .any(|at| Path::new(at).join("events/sock/sock_send_length").exists())
    {
        aloud("this kernel has no sock:sock_send_length for bpftrace");
        return;
    }
    for words in ["sends --count 3000 --size 500 --family v6", "odd --family mapped", "pingpong --count 300"]
    {
        let directory = scratch("observe-bpftrace");
        let path = directory.join("trace.bin");
        let account = directory.join("truth.json");
        let inner = format!(
            "{CAPTURE} -q -g net -o {} -- {} {words} --output {}",
            path.display(),
            truth().display(),
            account.display()
        );
        let mut bpftrace = Command::new("bpftrace");
        bpftrace
            .env("BPFTRACE_PERF_RB_PAGES", "1024")
            .args(["-B", "full", "-q", "-e", PROGRAM, "-c", &inner]);
        let output = bpftrace.output().expect("bpftrace runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && account.exists(), "{stdout}{}", text(&output));
        assert!(!text(&output).contains("Lost"), "the observer itself lost events");
        let observed = calls_observed(&stdout);
        assert!(observed.values().sum::<usize>() > 100, "the observer saw nothing: {stdout}");
        assert_eq!(calls_in_trace(&path), observed, "{words}");
    }
}

/// The kernel's own counters of a namespace, by name, from /proc/net/snmp and /proc/net/netstat.
fn tcp_counters(text: &str) -> BTreeMap<String, i128> {
    let mut counters = BTreeMap::new();
    for prefix in ["Tcp: ", "TcpExt: "] {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix)).map(|line| line.split(' '));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        counters.extend(names.map(str::to_owned).zip(values.map(|value| value.parse().expect("a number"))));
    }
    counters
}

/// Records a workload in a namespace of its own and returns the counters of the namespace with it.
fn record_inside(namespace: &Namespace, name: &str, words: &[&str]) -> (Recording, BTreeMap<String, i128>) {
    let directory = scratch(name);
    let (path, account) = (directory.join("trace.bin"), directory.join("truth.json"));
    let mut command = namespace.command();
    command.arg(CAPTURE).arg("-o").arg(&path).args(["-g", "net,net-rx", "--", "sh", "-c"]);
    command
        .arg("\"$@\" && sleep 0.3 && cat /proc/net/snmp /proc/net/netstat")
        .arg("sh")
        .arg(truth())
        .args(words)
        .arg("--output")
        .arg(&account);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
    let counters = tcp_counters(&String::from_utf8_lossy(&output.stdout));
    let truth = serde_json::from_slice(&std::fs::read(account).expect("an account")).expect("JSON");
    (Recording { path, stderr: text(&output), truth }, counters)
}

#[test]
fn the_kernels_own_counters_agree() {
    if !live() || !has("ip") {
        return;
    }
    for (family, connections) in [("v4", 1), ("v6", 1), ("v4", 20)] {
        let Some(namespace) = Namespace::new(&format!("snmp-{family}")) else { return };
        let count = connections.to_string();
        let words: &[&str] =
            if connections == 1 { &["pingpong", "--count", "300"] } else { &["connects", "--count", &count] };
        let words = [words, &["--family", family]].concat();
        let (recording, counters) =
            record_inside(&namespace, &format!("observe-snmp-{family}-{connections}"), &words);
        let segments = rows(&recording.path, "tcp_rx");
        let data = segments.iter().filter(|row| number(row, "len") > 0).count() as i128;
        let seen = segments.len() as i128;
        let (received, sent) = (counters["InSegs"], counters["OutSegs"]);
        // A segment is counted by the kernel when it arrives, by us when it reaches a connection. What lies between:
        // the three of the handshake and the last two or three of the farewell, which meet no established connection.
        // (Messages wait for each other here: the kernel would count several in one large segment one by one.)
        let between = received - seen;
        assert!((0..=connections * 7).contains(&between), "{received} received, {seen} recorded");
        assert!(between >= connections, "the SYN meets a listener");
        // On loopback all that is sent arrives; a resent one would be counted apart.
        assert!(sent + counters["RetransSegs"] >= received, "{sent} sent, {received} received");
        // Segments with data, and the two farewells, which count as such.
        let with_data = counters["TCPOrigDataSent"] - data;
        assert!(
            (0..=connections * 2).contains(&with_data) && data > 0,
            "{data} with data, {with_data} more sent"
        );
        assert_eq!(counters["ActiveOpens"], connections, "connections, as the kernel counts them");
        let opened = rows(&recording.path, "tcp_state")
            .iter()
            .filter(|row| (number(row, "old"), number(row, "new")) == (7, 2))
            .count();
        assert_eq!(opened as i128, connections);
    }
}

#[test]
fn the_sockets_own_counters_agree_with_the_segments() {
    if !live() {
        return;
    }
    let recording = record("observe-segments", &["-g", "net,net-rx"], &["pingpong", "--count", "200"]);
    let server = &recording.truth["server"];
    let id = socket(&recording.path, told(&server["lport"]), told(&server["rport"]));
    let segments = of_socket(rows(&recording.path, "tcp_rx"), id);
    let states = of_socket(rows(&recording.path, "tcp_state"), id);
    let counted = states.iter().map(|row: &Row| number(row, "segs_in")).max().expect("states");
    // segs_in counts the handshake's acknowledgement and the farewell's, which met no established connection.
    let between = counted - segments.len() as i128;
    assert!((0..=3).contains(&between), "{counted} received, {} recorded", segments.len());
}

#[test]
fn strace_counts_as_many_sends() {
    if !live() || !has("strace") {
        return;
    }
    let directory = scratch("observe-strace");
    let (path, counts) = (directory.join("trace.bin"), directory.join("counts"));
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args([
        "-g",
        "net",
        "--",
        "strace",
        "-f",
        "-c",
        "-U",
        "calls,name",
        "-e",
        "trace=sendto",
    ]);
    capture.arg("-o").arg(&counts).arg(truth()).args(["sends", "--count", "700", "--size", "64"]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let table = std::fs::read_to_string(counts).expect("strace's table");
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some("sendto")).expect("sendto");
    let counted: usize = line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a count");
    assert_eq!(counted, 700, "the workload does what it says");
    assert_eq!(rows(&path, "sock_send").len(), counted);
}
