//! What must not be in a filtered recording: names and arguments of anybody else.

use super::observers::Namespace;
use super::support::{Installed, Watch, account, free_port, has, live, truth, workload};
use super::trace::{mentions, rows};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

const SECRET_NAME: &str = "decoy-name-9Kq"; // 15 bytes at most
const SECRET_ARGUMENT: &str = "decoy-argument-Zt71";
const SECRET_PATH: &str = "/nonexistent/decoy-path-w0B";

/// A process that changes its name, starts programs, fails to start others, and connects, over and over, until its
/// standard input ends.
struct Decoy(Child);

impl Decoy {
    fn start() -> Self {
        let script = format!(
            "trap '' PIPE
             echo started
             while read -r -t 0.01 line; [ $? -gt 128 ]; do
               printf {SECRET_NAME} >/proc/self/comm
               /bin/true {SECRET_ARGUMENT}
               {SECRET_PATH} {SECRET_ARGUMENT} 2>/dev/null
               printf {SECRET_ARGUMENT} 2>/dev/null >/dev/tcp/127.0.0.1/1
               (printf {SECRET_NAME} >/proc/$BASHPID/comm)
             done 2>/dev/null"
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script, SECRET_ARGUMENT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = bash.spawn().expect("bash runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert_eq!(line, "started\n");
        Self(child)
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Records under a filter that wants `wanted`, while the decoy runs.
fn check(name: &str, options: &[&str], wanted: Command) {
    let _decoy = Decoy::start();
    let watch = Watch::start(name, &[&["-a", "-g", "proc,net,net-rx"], options].concat());
    account(wanted);
    let path = watch.path.clone();
    watch.finish();
    for secret in [SECRET_NAME, SECRET_ARGUMENT, SECRET_PATH] {
        assert!(!mentions(&path, secret), "{options:?}: '{secret}' is in the file");
    }
    assert!(!rows(&path, "sock_send").is_empty(), "{options:?}: nothing was recorded at all");
}

#[test]
fn nobody_elses_name_or_argument_reaches_a_filtered_recording() {
    if !live() || !has("zstd") || !has("ip") {
        return;
    }
    let words = ["sends", "--count", "200"];
    let installed = Installed::new("privacy");
    let program = installed.add(&truth(), "privacy-wanted");
    check("privacy-comm", &["--comm", "privacy-wanted"], workload(&program, &words));
    let port = free_port().to_string();
    check("privacy-port", &["--port", &port], workload(&program, &[&words[..], &["--port", &port]].concat()));
    let mut user = workload(&program, &words);
    user.uid(64_124).gid(64_124);
    check("privacy-uid", &["--uid", "64124"], user);
    let Some(namespace) = Namespace::new("privacy") else { return };
    let mut inside = namespace.command();
    inside.arg(&program).args(words);
    check("privacy-netns", &["--netns", &namespace.0], inside);
}

#[test]
fn the_same_for_a_command_and_its_descendants() {
    if !live() || !has("zstd") {
        return;
    }
    let _decoy = Decoy::start();
    let recording =
        super::support::record("privacy-command", &["-g", "proc,net,net-rx"], &["execs", "--count", "30"]);
    for secret in [SECRET_NAME, SECRET_ARGUMENT, SECRET_PATH] {
        assert!(!mentions(&recording.path, secret), "'{secret}' is in the file");
    }
    assert_eq!(rows(&recording.path, "process_exec").len(), 31, "nothing but what was wanted");
}

#[test]
fn the_decoy_is_found_where_it_is_wanted() {
    if !live() || !has("zstd") {
        return;
    }
    let decoy = Decoy::start();
    let watch = Watch::start("privacy-control", &["-g", "proc", "--pid", &decoy.0.id().to_string()]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let path = watch.path.clone();
    watch.finish();
    for secret in [SECRET_NAME, SECRET_ARGUMENT, SECRET_PATH] {
        assert!(mentions(&path, secret), "'{secret}' is not in the file: the other tests prove nothing");
    }
}

#[test]
fn pseudonyms_can_be_joined_but_not_read() {
    if !live() {
        return;
    }
    let directory = super::support::scratch("privacy-hash");
    let key = directory.join("key");
    std::fs::write(&key, [7; 32]).expect("a key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("our own file");
    let run = |name: &str, with_key: bool| {
        let path = directory.join(name);
        let mut capture = Command::new(super::support::CAPTURE);
        capture.arg("-o").arg(&path).args(["-g", "proc,net", "--hash-names", "--hash-addresses"]);
        if with_key {
            capture.arg("--hash-key-file").arg(&key);
        }
        // 127.0.0.1 stays what it is; an address of the test's own network namespace does not.
        let script = format!(
            "ip addr add 192.0.2.77/32 dev lo 2>/dev/null; /bin/true {SECRET_ARGUMENT}; : </dev/tcp/192.0.2.77/9"
        );
        let output = capture.args(["--", "bash", "-c", &script]).output().expect("capture runs");
        assert!(path.exists(), "{}", super::support::text(&output));
        path
    };
    let (first, second, other) = (run("first", true), run("second", true), run("other", false));
    for path in [&first, &other] {
        for secret in [SECRET_ARGUMENT, "bash", "/bin/true", "--hash-names"] {
            assert!(!mentions(path, secret), "'{secret}' is in {}", path.display());
        }
    }
    let hidden = |path: &std::path::Path| super::trace::open(path).host.hidden;
    assert_eq!(
        hidden(&first),
        ["names and arguments hashed by the key of a file", "addresses hashed by the key of a file"]
    );
    assert!(hidden(&other)[0].contains("this recording only"));
    let files = |path: &std::path::Path| {
        let rows = rows(path, "process_exec");
        rows.iter()
            .map(|row| super::trace::bytes(row, "file").to_vec())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(files(&first), files(&second), "one key, one pseudonym");
    assert!(files(&first).is_disjoint(&files(&other)), "a key of its own");
    let addresses = |path: &std::path::Path| {
        let rows = rows(path, "sock");
        rows.iter()
            .map(|row| super::trace::bytes(row, "raddr").to_vec())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let real = std::net::Ipv4Addr::new(192, 0, 2, 77).to_ipv6_mapped().octets().to_vec();
    assert!(!addresses(&first).is_empty() && !addresses(&first).contains(&real));
    assert_eq!(addresses(&first), addresses(&second));
    let no_key = Command::new(super::support::CAPTURE)
        .args(["-o", "/dev/null", "--force", "--hash-names", "--hash-key-file", "/dev/null", "--", "true"])
        .output()
        .expect("capture runs");
    assert!(super::support::text(&no_key).contains("is not a key"), "{}", super::support::text(&no_key));
}
