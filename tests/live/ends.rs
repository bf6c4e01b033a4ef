//! When a recording ends: with what it is about, and not after what it takes to put everything away.

use super::support::{CAPTURE, live, patiently, scratch, text};
use super::trace::{number, open, rows};
use std::path::{Path, PathBuf};
use std::process::Command;

const MILLISECOND: i128 = 1_000_000;

/// Detaching the probes alone takes several times as long.
const PROMPT: i128 = 150 * MILLISECOND;

fn recorded(name: &str, options: &[&str], words: &[&str]) -> PathBuf {
    let trace = scratch(name).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    let output =
        capture.arg("-o").arg(&trace).args(options).arg("--").args(words).output().expect("capture runs");
    assert!(text(&output).contains(" 0 lost"), "{}", text(&output));
    trace
}

fn end(trace: &Path) -> i128 {
    open(trace).footer.expect("a whole file has one").end_mono.into()
}

#[test]
fn a_recording_of_a_command_is_as_long_as_the_command() {
    if !live() {
        return;
    }
    patiently(|| {
        let trace = recorded("ends-command", &["-g", "proc,net,cpu"], &["sleep", "0.5"]);
        let exits = rows(&trace, "process_exit");
        let exit = number(exits.last().expect("it ended"), "ts");
        let more = end(&trace) - exit;
        assert!((0..PROMPT).contains(&more), "{} ms more", more / MILLISECOND);
        let last = number(rows(&trace, "ledger").last().expect("the books close"), "until");
        assert!(last <= end(&trace), "the ledger goes on for {} ns", last - end(&trace));
    });
}

#[test]
fn a_recording_for_a_time_is_as_long_as_that() {
    if !live() {
        return;
    }
    patiently(|| {
        let trace = recorded("ends-time", &["-g", "proc,net", "-d", "1s"], &["sleep", "9"]);
        let start = i128::from(open(&trace).host.start_mono);
        let more = end(&trace) - start - 1000 * MILLISECOND;
        assert!((0..PROMPT).contains(&more), "{} ms more", more / MILLISECOND);
    });
}
