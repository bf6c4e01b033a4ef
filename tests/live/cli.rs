//! The command line: what it refuses, how it ends, and with which status.

use super::support::{CAPTURE, live, now, scratch, signal, text, wait_for};
use super::trace::{bytes, number, open, rows};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tapedeck::schema::TraceReader;

fn capture(path: &Path, options: &[&str], command: &[&str]) -> Output {
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(path).args(options);
    if !command.is_empty() {
        capture.arg("--").args(command);
    }
    capture.output().expect("capture runs")
}

fn trace_path(name: &str) -> PathBuf {
    scratch(name).join("trace.bin")
}

fn reason(path: &Path) -> String {
    open(path).footer.expect("a footer").reason
}

#[test]
fn the_commands_own_status_is_passed_on() {
    if !live() {
        return;
    }
    let cases: [(&[&str], i32); 4] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -9 $$"], 137),
    ];
    for (command, status) in cases {
        let path = trace_path("cli-status");
        let output = capture(&path, &["-g", "proc"], command);
        assert_eq!(output.status.code(), Some(status), "{command:?}: {}", text(&output));
        assert_eq!(reason(&path), "the command ended");
        let exits = rows(&path, "process_exit");
        let (code, killed) = if status > 128 { (0, status - 128) } else { (status, 0) };
        let last = exits.last().expect("an exit");
        assert_eq!((number(last, "code"), number(last, "signal")), (code.into(), killed.into()));
    }
}

#[test]
fn a_closed_standard_error_does_not_end_a_recording() {
    if !live() {
        return;
    }
    let path = trace_path("cli-no-reader");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = Command::new(CAPTURE)
        .arg("-o")
        .arg(&path)
        .args(["-g", "proc", "--", "sh", "-c", "exit 3"])
        .stderr(writer)
        .status()
        .expect("capture runs");
    assert_eq!(status.code(), Some(3), "the command's status, not a panic's");
    assert_eq!(reason(&path), "the command ended");
}

#[test]
fn a_command_that_cannot_run_is_126_and_one_that_is_not_there_127() {
    if !live() {
        return;
    }
    for (command, status) in
        [("/etc/passwd", 126), ("/", 126), ("no-such-command-anywhere", 127), ("/nonexistent/x", 127)]
    {
        let path = trace_path("cli-not-started");
        let output = capture(&path, &["-g", "proc"], &[command]);
        assert_eq!(output.status.code(), Some(status), "{command}: {}", text(&output));
        assert!(text(&output).contains(command), "{}", text(&output));
        assert_eq!(reason(&path), "the command did not start");
    }
}

#[test]
fn a_failure_of_its_own_is_125_with_a_command_and_1_without() {
    if !live() {
        return;
    }
    let path = trace_path("cli-failed");
    for (command, status) in [(&["true"][..], 125), (&[], 1)] {
        let output = capture(&path, &["-g", "proc", "--cgroup", "/no/such/cgroup"], command);
        let stderr = text(&output);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains("/no/such/cgroup"), "{stderr}");
        assert!(!path.exists());
    }
    let marker = path.with_file_name("marker");
    let output = capture(
        &path,
        &["-g", "proc", "--cgroup", "/no/such/cgroup"],
        &["touch", marker.to_str().expect("text")],
    );
    assert_eq!(output.status.code(), Some(125));
    assert!(!marker.exists(), "the command must not run when it would not be recorded");
}

#[test]
fn wrong_usage_is_2() {
    for words in [
        &["-o", "x", "-d", "7 parsecs"][..],
        &["-o", "x", "--no-such-option"],
        &["-o", "x", "-g", "proc,no-such-group"],
        &["-d", "1s"],
        &["-o", "x", "--port", "0"],
    ] {
        let output = Command::new(CAPTURE).args(words).output().expect("capture runs");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!Path::new("x").exists());
    }
}

#[test]
fn an_attach_kind_that_is_not_possible_is_an_error_with_the_reason() {
    if !live() {
        return;
    }
    let path = trace_path("cli-attach");
    let output = capture(&path, &["-g", "net", "--attach", "sock_send=uprobe"], &["true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).contains("sock_send") && text(&output).contains("uprobe"), "{}", text(&output));
    let output = capture(&path, &["-g", "net", "--force", "--attach", "sock_send=tracepoint"], &["true"]);
    if output.status.success() {
        let probes = rows(&path, "probe");
        let got = |row: &&super::trace::Row| bytes(row, "name") == b"sock_send";
        assert!(probes.iter().filter(got).all(|row| bytes(row, "kind") == b"tracepoint"), "{probes:?}");
    }
}

#[test]
fn a_probe_that_is_left_out_is_off_and_says_why() {
    if !live() {
        return;
    }
    let path = trace_path("cli-without");
    let output = capture(&path, &["-g", "net", "--force", "--attach", "sock_accept=none"], &["true"]);
    assert!(output.status.success(), "{}", text(&output));
    let probes = rows(&path, "probe");
    let accepts: Vec<_> = probes.iter().filter(|row| bytes(row, "name") == b"sock_accept").collect();
    assert!(!accepts.is_empty() && accepts.iter().all(|row| bytes(row, "status") == b"off"), "{probes:?}");
    assert!(
        bytes(accepts[0], "reason").starts_with(b"fentry: left out by --attach sock_accept=none"),
        "{accepts:?}"
    );
    let output = capture(&path, &["-g", "net", "--force", "--attach", "tcp_state=none"], &["true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).contains("keeps what other tables refer to"), "{}", text(&output));
}

#[test]
fn the_command_runs_as_the_user_that_is_named() {
    if !live() {
        return;
    }
    let run = |command: &[&str]| {
        let output = capture(&trace_path("cli-user"), &["-g", "proc", "--user", "nobody"], command);
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let expected = Command::new("id").args(["-u", "nobody"]).output().expect("id runs");
    assert_eq!(run(&["id", "-u"]), String::from_utf8_lossy(&expected.stdout).trim());
    assert!(!run(&["id", "-G"]).split(' ').any(|group| group == "0"), "no group of root's is left");
    assert!(run(&["sh", "-c", "echo $HOME $USER"]).ends_with(" nobody"));
    let output = capture(&trace_path("cli-user"), &["--user", "no-such-user"], &["true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).contains("no-such-user"));
}

/// A process to record that does nothing, and a recording of it that has begun.
fn begin(name: &str, options: &[&str]) -> (Child, Child, PathBuf) {
    let idle = Command::new("sleep").arg("60").spawn().expect("sleep");
    let path = trace_path(name);
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "proc,net", "--pid", &idle.id().to_string()]).args(options);
    let child = capture.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("capture runs");
    wait_for("the recording to begin", || has_begun(&path));
    (idle, child, path)
}

/// The names of numbers are written once the gate is open.
fn has_begun(path: &Path) -> bool {
    let Ok(trace) = TraceReader::open(path) else { return false };
    let table = trace.table("enum").map(|table| table.number);
    table.is_some_and(|table| trace.frames_of(table).next().is_some())
}

fn end(mut idle: Child) {
    idle.kill().expect("our own child");
    idle.wait().expect("our own child");
}

#[test]
fn signals_end_it_with_a_footer_and_status_0() {
    if !live() {
        return;
    }
    for number in [libc::SIGINT, libc::SIGTERM] {
        let (idle, child, path) = begin("cli-signal", &["-d", "20s"]);
        signal(&child, number);
        let output = child.wait_with_output().expect("capture ends");
        end(idle);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(reason(&path), "interrupted");
        assert!(text(&output).contains("events captured"), "{}", text(&output));
        assert!(text(&output).contains("\nended: interrupted\n"), "{}", text(&output));
    }
}

/// As `nohup` and shells have it for what they start in the background.
#[test]
fn a_signal_that_is_to_be_ignored_is_ignored() {
    if !live() {
        return;
    }
    let path = trace_path("cli-ignored");
    let script = format!("trap '' HUP INT; exec {CAPTURE} -o {} -g net -d 3s -- sleep 60", path.display());
    let mut shell = Command::new("sh");
    let child = shell.args(["-c", &script]).stderr(Stdio::piped()).spawn().expect("sh runs");
    wait_for("the recording to begin", || has_begun(&path));
    for number in [libc::SIGHUP, libc::SIGINT] {
        signal(&child, number);
    }
    let output = child.wait_with_output().expect("capture ends");
    assert_eq!(reason(&path), "the duration is over", "{}", text(&output));
    assert!(!text(&output).contains("ended: "), "{}", text(&output));
}

#[test]
fn a_duration_ends_it_and_quiet_is_quiet() {
    if !live() {
        return;
    }
    let start = now();
    let (idle, child, path) = begin("cli-duration", &["-d", "500ms", "-q"]);
    let output = child.wait_with_output().expect("capture ends");
    let took = now() - start;
    end(idle);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), ""));
    assert_eq!(reason(&path), "the duration is over");
    let trace = open(&path);
    let end = trace.footer.expect("a whole file has one").end_mono;
    let span = i128::from(end - trace.host.start_mono);
    assert!((500_000_000..=took).contains(&span), "{span} ns of {took}");
}

#[test]
fn the_end_of_the_recording_ends_the_command() {
    if !live() {
        return;
    }
    let path = trace_path("cli-end");
    let output = capture(&path, &["-g", "proc", "-d", "300ms"], &["sleep", "30"]);
    assert_eq!(output.status.code(), Some(143), "{}", text(&output));
    assert_eq!(reason(&path), "the duration is over");
}

#[test]
fn the_list_names_groups_probes_and_ways() {
    if !live() {
        return;
    }
    let output = Command::new(CAPTURE).arg("--list").output().expect("capture runs");
    assert!(output.status.success());
    let list = String::from_utf8_lossy(&output.stdout);
    for word in [
        "group proc (default)\n",
        "group net (default)\n",
        "group net-rx\n",
        "table sock_send",
        "\n  cost  177 ns and 1.4 bytes per event\n",
        "probe sock_send",
        "probe tcp_rx",
    ] {
        assert!(list.contains(word), "{word}: {list}");
    }
}
