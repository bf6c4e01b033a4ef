//! What `--dry-run` says of the file, against the file of a recording of the same load.

use super::support::{CAPTURE, Undo, free_port, live, patiently, scratch, text, truth, workload};
use std::process::{Command, Stdio};

/// `14.30 KiB` as bytes.
fn bytes(text: &str) -> f64 {
    let (number, unit) = text.trim().split_once(' ').unwrap_or_else(|| panic!("no size: {text}"));
    let unit = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        other => panic!("no unit: {other}"),
    };
    number.parse::<f64>().expect("a number") * unit
}

/// What a file is said to grow by each second, and what it has once.
fn predicted(options: &[&str]) -> (f64, f64) {
    let output =
        Command::new(CAPTURE).args(["--dry-run", "3s"]).args(options).output().expect("capture runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("file      roughly "));
    let line = line.unwrap_or_else(|| panic!("{said}{}", text(&output)));
    let (growth, rest) = line.split_once("/s:").expect("a rate");
    let once = rest.split_once("; and ").and_then(|(_, rest)| rest.split_once(" once")).expect("a size");
    (bytes(growth), bytes(once.0))
}

/// The size of a recording of so many seconds.
fn recorded(name: &str, options: &[&str], seconds: u32) -> f64 {
    let path = scratch(name).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-q", "-d", &format!("{seconds}s")]).args(options);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    std::fs::metadata(&path).expect("a file").len() as f64
}

#[test]
fn a_file_of_which_little_is_recorded_is_as_large_as_a_dry_run_says() {
    if !live() {
        return;
    }
    let port = free_port().to_string();
    let options = ["-g", "net", "--port", &port];
    let (growth, once) = predicted(&options);
    // In one of a second nearly all is begin and end, in a longer one more is what the recorder says of itself.
    for seconds in [1, 5] {
        let (said, is) = (once + growth * f64::from(seconds), recorded("dry-idle", &options, seconds));
        assert!((0.75..1.33).contains(&(is / said)), "{seconds} s: {said:.0} predicted, {is:.0} bytes");
    }
}

#[test]
fn one_of_a_steady_load_is_about_so_large() {
    if !live() {
        return;
    }
    patiently(|| {
        let port = free_port().to_string();
        let words = ["pingpong", "--count", "1000000", "--size", "50", "--delay-ms", "2", "--port", &port];
        let mut talk = workload(truth(), &words);
        let mut talk = talk.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the workload runs");
        let _end = Undo(move || {
            talk.kill().expect("our own child");
            talk.wait().expect("our own child");
        });
        let options = ["-g", "net", "--port", &port];
        let (growth, once) = predicted(&options);
        let is = recorded("dry-steady", &options, 5);
        let said = once + growth * 5.0;
        assert!((0.5..2.0).contains(&(is / said)), "{said:.0} predicted, {is:.0} bytes");
    });
}
