//! Filters: all that is wanted, nothing else, and a count of what was left out.

use super::support::{Installed, Undo, Watch, account, aloud, free_port, has, live, truth, workload};
use super::trace::{
    Row, carried, events, known, number, of_socket, of_thread, open, rows, socket, sockets, told, total,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const WANTED: [&str; 5] = ["sends", "--count", "60", "--size", "100"];
const DECOY: [&str; 5] = ["sends", "--count", "90", "--size", "200"];

/// Runs both workloads at the same time under a filter: the trace, and what they say of themselves.
fn record_both(name: &str, options: &[&str], wanted: Command, decoy: Command) -> (PathBuf, Value, Value) {
    let watch = Watch::start(name, &[&["-a", "-g", "proc,net,net-rx"], options].concat());
    let decoy = std::thread::spawn(|| account(decoy));
    let wanted = account(wanted);
    let decoy = decoy.join().expect("the decoy goes well");
    let path = watch.path.clone();
    watch.finish();
    (path, wanted, decoy)
}

/// Everything of the wanted client, its socket's segments included; nothing of the decoy.
fn check(path: &Path, wanted: &Value, decoy: &Value) {
    let client = &wanted["client"];
    let sends = of_thread(rows(path, "sock_send"), told(&client["tid"]));
    assert_eq!(sends.len() as i128, told(&wanted["calls"]));
    assert!(sends.iter().all(|row| number(row, "ret") == told(&wanted["size"])));
    let id = socket(path, told(&client["lport"]), told(&client["rport"]));
    assert!(!of_socket(rows(path, "tcp_rx"), id).is_empty(), "acknowledgements of the wanted client");
    check_absent(path, decoy);
    assert!(total(path, "sock_send", "filtered") >= told(&decoy["calls"]), "what was left out is counted");
    assert!(!open(path).host.filters.is_empty(), "the trace says that it is filtered");
}

/// No event and no socket of a workload is in the trace.
fn check_absent(path: &Path, truth: &Value) {
    let ends = [&truth["client"], &truth["server"]];
    let tids: BTreeSet<i128> = ends.iter().map(|end| told(&end["tid"])).collect();
    let ports: BTreeSet<i128> = ends.iter().map(|end| told(&end["lport"])).collect();
    for (table, row) in events(path) {
        let by = row.get("tid").and_then(|_| known(&row, "tid"));
        assert!(by.is_none_or(|tid| !tids.contains(&tid)), "{table}: {row:?}");
    }
    let strange = |row: &&Row| ports.contains(&number(row, "lport")) || ports.contains(&number(row, "rport"));
    let sockets = sockets(path);
    assert_eq!(sockets.values().find(strange), None, "a socket of the decoy");
}

/// All of both ends, and the processes themselves.
fn check_server(path: &Path, wanted: &Value) {
    let server = &wanted["server"];
    let id = socket(path, told(&server["lport"]), told(&server["rport"]));
    let receives = of_thread(of_socket(rows(path, "sock_recv"), id), told(&server["tid"]));
    assert_eq!(receives.len() as i128, told(&server["recv"]["calls"]));
    let segments = of_socket(rows(path, "tcp_rx"), id);
    assert_eq!(carried(&segments), told(&wanted["bytes"]));
}

fn check_processes(path: &Path, wanted: &Value) {
    let pid = told(&wanted["client"]["pid"]);
    assert_eq!(
        of_thread(rows(path, "process_exec"), pid).iter().filter(|row| number(row, "ret") == 0).count(),
        1
    );
    let exits = rows(path, "process_exit");
    for end in ["client", "server"] {
        assert_eq!(of_thread(exits.clone(), told(&wanted[end]["tid"])).len(), 1, "the end of the {end}");
    }
}

#[test]
fn by_port() {
    if !live() {
        return;
    }
    let port = free_port().to_string();
    let wanted = workload(truth(), &[&WANTED[..], &["--port", &port]].concat());
    let (path, wanted, decoy) =
        record_both("filter-port", &["--port", &port], wanted, workload(truth(), &DECOY));
    check(&path, &wanted, &decoy);
    check_server(&path, &wanted);
    for table in ["process_fork", "process_exec", "process_exit", "task_rename"] {
        assert_eq!(rows(&path, table).len(), 0, "{table} has no socket");
    }
    let other = |row: &Row| known(row, "sock").is_none();
    assert!(!events(&path).iter().any(|(_, row)| other(row)), "nothing without a socket");
}

/// Closes a connection by a reset: no farewell.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: an option of the size that we say, on a descriptor that is open.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        )
    };
    assert_eq!(result, 0);
    drop(stream);
}

#[test]
fn by_port_to_the_last_call_though_the_kernel_has_forgotten_the_port_by_then() {
    if !live() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("an address");
    let options = ["-a", "-g", "net", "--port", &address.port().to_string()];
    let watch = Watch::start("filter-port-reset", &options);
    let mut client = TcpStream::connect(address).expect("our own listener");
    let (mut server, _) = listener.accept().expect("our own client");
    client.write_all(b"before").expect("a server that listens");
    reset(client);
    let mut buffer = [0; 16];
    let received = [server.read(&mut buffer).ok(), server.read(&mut buffer).ok()];
    let refused = server.write(b"after").is_err();
    let path = watch.path.clone();
    watch.finish();
    assert!(refused && received.contains(&None), "the reset arrived: {received:?}");
    let results = |table: &str| rows(&path, table).iter().map(|row| number(row, "ret")).collect::<Vec<_>>();
    assert_eq!(results("sock_send"), [6, -i128::from(libc::EPIPE)]);
    assert_eq!(results("sock_recv").len(), 2);
}

#[test]
fn by_name() {
    if !live() {
        return;
    }
    let installed = Installed::new("names");
    let (wanted, decoy) =
        (installed.add(&truth(), "tapedeck-wanted"), installed.add(&truth(), "tapedeck-decoy"));
    let options = ["--comm", "tapedeck-wanted"];
    let (path, wanted, decoy) =
        record_both("filter-comm", &options, workload(wanted, &WANTED), workload(decoy, &DECOY));
    check(&path, &wanted, &decoy);
    // The server has a name of its own by the time that it accepts, so it is not wanted.
    assert_eq!((rows(&path, "sock_recv").len(), rows(&path, "sock_accept").len()), (0, 0));
}

#[test]
fn by_user() {
    if !live() {
        return;
    }
    let installed = Installed::new("users");
    let program = installed.add(&truth(), "truth");
    let mut wanted = workload(&program, &WANTED);
    wanted.uid(64_123).gid(64_123);
    let (path, wanted, decoy) =
        record_both("filter-uid", &["--uid", "64123"], wanted, workload(&program, &DECOY));
    check(&path, &wanted, &decoy);
    check_server(&path, &wanted);
    check_processes(&path, &wanted);
    assert_eq!(rows(&path, "process_exec").len(), 1, "nobody else's program");
}

/// Where control groups of the second version are mounted.
fn cgroup_mount() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

#[test]
fn by_cgroup() {
    if !live() {
        return;
    }
    let directory = cgroup_mount().map(|mount| mount.join(format!("tapedeck-live-{}", std::process::id())));
    let Some(directory) =
        directory.filter(|directory| std::fs::create_dir_all(directory.join("below")).is_ok())
    else {
        aloud("no cgroup v2 directory can be made here");
        return;
    };
    let _undo = Undo(|| {
        for path in [directory.join("below"), directory.clone()] {
            super::support::wait_for("an empty cgroup", || std::fs::remove_dir(&path).is_ok());
        }
    });
    let script = "echo $$ >\"$0\"/cgroup.procs && exec \"$@\"";
    let mut inside = workload("sh", &["-c", script]);
    // Below the directory that is named: that counts too.
    inside.arg(directory.join("below")).arg(truth()).args(WANTED);
    let options = ["--cgroup", directory.to_str().expect("text")];
    let (path, wanted, decoy) = record_both("filter-cgroup", &options, inside, workload(truth(), &DECOY));
    check(&path, &wanted, &decoy);
    check_server(&path, &wanted);
    check_processes(&path, &wanted);
}

#[test]
fn by_network_namespace() {
    if !live() || !has("ip") {
        return;
    }
    let Some(namespace) = super::observers::Namespace::new("filter") else { return };
    let mut inside = namespace.command();
    inside.arg(truth()).args(WANTED);
    let options = ["--netns", namespace.0.as_str()];
    let (path, wanted, decoy) = record_both("filter-netns", &options, inside, workload(truth(), &DECOY));
    check(&path, &wanted, &decoy);
    check_server(&path, &wanted);
    check_processes(&path, &wanted);
    let spaces: BTreeSet<i128> = sockets(&path).values().map(|row| number(row, "netns")).collect();
    assert_eq!(spaces, BTreeSet::from([namespace.inode()]));
}

#[test]
fn what_is_not_there_is_an_error_with_its_name() {
    if !live() {
        return;
    }
    let cases = [
        ["--pid", "4000000"],
        ["--tid", "4000000"],
        ["--uid", "no-such-user"],
        ["--netns", "no-such-namespace"],
        ["--cgroup", "/nonexistent/cgroup"],
        ["--comm", "a-name-that-is-longer-than-a-name-can-be"],
    ];
    let output = super::support::scratch("filter-errors").join("trace.bin");
    for case in cases {
        let result = Command::new(super::support::CAPTURE)
            .arg("-o")
            .arg(&output)
            .args(case)
            .output()
            .expect("capture runs");
        let stderr = super::support::text(&result);
        assert_eq!(result.status.code(), Some(1), "{case:?}: {stderr}");
        assert!(stderr.contains(case[0]) || stderr.contains(case[1]), "{case:?}: {stderr}");
        assert!(!output.exists(), "{case:?} leaves a file");
    }
}
