//! The trace file on disk: whose it is, who may read it, and what stands in its way.

use super::support::{CAPTURE, Installed, live, patiently, scratch, skip, text, truth};
use super::trace::{open, rows};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use tapedeck::schema::TraceReader;

/// `capture -o PATH … -- true`.
fn capture_to(path: &Path, options: &[&str]) -> Output {
    let mut capture = Command::new(CAPTURE);
    capture
        .arg("-o")
        .arg(path)
        .args(options)
        .args(["-g", "proc", "--", "true"])
        .output()
        .expect("capture runs")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn an_existing_file_is_replaced_only_when_told_to() {
    if !live() {
        return;
    }
    let path = scratch("output-exists").join("trace.bin");
    fs::write(&path, "precious").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("our own file");
    let refused = capture_to(&path, &[]);
    assert_eq!(refused.status.code(), Some(125));
    assert!(text(&refused).contains("exists") && text(&refused).contains("--force"), "{}", text(&refused));
    assert_eq!(fs::read(&path).expect("the file"), b"precious");
    let replaced = capture_to(&path, &["--force"]);
    assert!(replaced.status.success(), "{}", text(&replaced));
    assert!(!rows(&path, "process_exec").is_empty());
    assert_eq!(mode(&path), 0o600, "what was readable by all before is not any more");
}

#[test]
fn only_the_owner_may_read_it() {
    if !live() {
        return;
    }
    let path = scratch("output-mode").join("trace.bin");
    assert!(capture_to(&path, &[]).status.success());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_device_is_written_and_stays_as_it_is() {
    if !live() {
        return;
    }
    let path = scratch("output-device").join("null");
    let made = Command::new("mknod").arg("-m").arg("666").arg(&path).args(["c", "1", "3"]).status();
    if !made.is_ok_and(|status| status.success()) {
        skip("no device can be made here");
        return;
    }
    let mut capture = Command::new(CAPTURE);
    capture.env("SUDO_UID", "64001").env("SUDO_GID", "64002").args(["--force", "-g", "proc", "-o"]);
    let output = capture.arg(&path).args(["--", "true"]).output().expect("capture runs");
    let meta = fs::metadata(&path).expect("still there");
    assert_eq!((meta.uid(), mode(&path)), (0, 0o666), "not ours to give away: {}", text(&output));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_symbolic_link_is_refused() {
    if !live() {
        return;
    }
    let directory = scratch("output-link");
    let (target, link, dangling) =
        (directory.join("target"), directory.join("link"), directory.join("dangling"));
    fs::write(&target, "precious").expect("a file");
    symlink(&target, &link).expect("a link");
    symlink(directory.join("nowhere"), &dangling).expect("a link");
    for path in [&link, &dangling] {
        for options in [&[][..], &["--force"]] {
            let refused = capture_to(path, options);
            assert_eq!(refused.status.code(), Some(125), "{}", text(&refused));
            assert!(text(&refused).contains("symbolic link"), "{}", text(&refused));
        }
    }
    assert_eq!(fs::read(&target).expect("the file"), b"precious");
    assert!(!directory.join("nowhere").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    if !live() {
        return;
    }
    for path in ["/nonexistent/directory/trace.bin", "/sys/trace.bin", "/"] {
        let refused = capture_to(Path::new(path), &["--force"]);
        assert_eq!(refused.status.code(), Some(125), "{path}");
        assert!(text(&refused).contains(path), "{}", text(&refused));
    }
}

#[test]
fn under_sudo_it_belongs_to_the_invoking_user() {
    if !live() {
        return;
    }
    let path = scratch("output-sudo").join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture
        .env("SUDO_UID", "64001")
        .env("SUDO_GID", "64002")
        .arg("-o")
        .arg(&path)
        .args(["-g", "proc", "--", "true"]);
    assert!(capture.output().expect("capture runs").status.success());
    let meta = fs::metadata(&path).expect("a file");
    assert_eq!((meta.uid(), meta.gid(), mode(&path)), (64001, 64002, 0o600));
}

#[test]
fn a_recording_that_cannot_begin_leaves_no_file() {
    if !live() {
        return;
    }
    let path = scratch("output-none").join("trace.bin");
    let failed = capture_to(&path, &["--attach", "process_exit=no-such-kind"]);
    assert_eq!(failed.status.code(), Some(125), "{}", text(&failed));
    assert!(!path.exists());
}

#[test]
fn standard_output_takes_a_whole_trace_whatever_the_command_prints() {
    if !live() {
        return;
    }
    let mut capture = Command::new(CAPTURE);
    capture.args(["-o", "-", "-g", "proc,net", "--"]).arg(truth()).args(["sends", "--count", "500"]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("\"calls\":500"), "the command's own output goes elsewhere");
    let trace = TraceReader::from_bytes(output.stdout.clone()).expect("a trace");
    assert!(trace.damage.is_empty() && trace.footer.is_some(), "{:?}", trace.damage);
    let path = scratch("output-pipe").join("trace.bin");
    fs::write(&path, output.stdout).expect("a file");
    assert_eq!(rows(&path, "sock_send").len(), 500);
}

#[test]
fn a_reader_that_goes_away_ends_the_recording() {
    if !live() {
        return;
    }
    patiently(|| {
        let mut child = Command::new("sleep").arg("20").spawn().expect("sleep");
        let script = format!(
            "{CAPTURE} -o - -d 10s --pid {} | head -c 100 >/dev/null; echo ${{PIPESTATUS[0]}}",
            child.id()
        );
        let began = std::time::Instant::now();
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1", "{}", text(&output));
        assert!(text(&output).contains("Broken pipe"), "{}", text(&output));
        assert!(began.elapsed() < std::time::Duration::from_secs(9), "it did not notice");
    });
}

#[test]
fn without_privilege_it_says_what_to_do() {
    if !live() {
        return;
    }
    let installed = Installed::new("unprivileged");
    let capture = installed.add(Path::new(CAPTURE), "capture");
    let mut command = Command::new(capture);
    command.args(["-o", "/tmp/tapedeck-must-not-be.bin", "-d", "1s"]).uid(65_534).gid(65_534);
    let output = command.output().expect("capture runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("sudo"), "{}", text(&output));
    assert!(!Path::new("/tmp/tapedeck-must-not-be.bin").exists());
}

#[test]
fn the_header_says_how_it_was_made() {
    if !live() {
        return;
    }
    let path = scratch("output-header").join("trace.bin");
    assert!(capture_to(&path, &[]).status.success());
    let host = open(&path).host;
    assert!(host.command.iter().any(|word| word == "true"), "{:?}", host.command);
    assert_eq!(host.groups, ["proc"]);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a name");
    assert_eq!(host.kernel, kernel.trim());
}
