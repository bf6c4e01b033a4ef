//! `analyze --follow` beside a recorder that writes: what it prints meanwhile, and what it has printed in the end.

use super::support::{CAPTURE, live, scratch, wait_for};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const ANALYZE: &str = env!("CARGO_BIN_EXE_analyze");
/// A program twice a second, eight times; it says so when it is about to end.
const WORK: &str =
    "i=0; while [ $i -lt 8 ]; do /bin/true; i=$((i+1)); sleep 0.5; done; [ -z \"$1\" ] || touch \"$1\"";
const RUNS: usize = 8;

fn follow(trace: &Path, stdin: Stdio) -> Child {
    let mut analyze = Command::new(ANALYZE);
    analyze.arg(trace).args(["execsnoop", "--follow", "--format", "csv"]);
    analyze.stdin(stdin).stdout(Stdio::piped()).spawn().expect("analyze runs")
}

fn runs(csv: &str) -> usize {
    csv.lines().filter(|line| line.contains(",true,")).count()
}

/// Without the time: clocks that were read later move it by some nanoseconds.
fn untimed(csv: &str) -> Vec<&str> {
    csv.lines().map(|line| line.split_once(',').expect("a time in front").1).collect()
}

/// Reads until the first run is printed; then whether the work was already over. Returns all that came until the end.
fn first_and_rest(child: &mut Child, over: &Path) -> (bool, String) {
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    while runs(&text) == 0 && out.read_line(&mut text).expect("a line") > 0 {}
    let live = !over.exists();
    out.read_to_string(&mut text).expect("text");
    (live, text)
}

#[test]
fn what_two_processes_follow_is_what_the_file_says_in_the_end() {
    if !live() {
        return;
    }
    let folder = scratch("follow-file");
    let (path, over) = (folder.join("trace.bin"), folder.join("over"));
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "proc", "--", "sh", "-c", WORK, "sh"]).arg(&over);
    let mut capture = capture.stderr(Stdio::null()).spawn().expect("capture runs");
    wait_for("the trace", || path.exists());
    let mut followers = [follow(&path, Stdio::null()), follow(&path, Stdio::null())];
    let said = followers.each_mut().map(|child| first_and_rest(child, &over));
    assert!(capture.wait().expect("our own child").success());
    let after = Command::new(ANALYZE).arg(&path).args(["execsnoop", "--format", "csv"]).output();
    let after = String::from_utf8(after.expect("analyze runs").stdout).expect("UTF-8");
    assert_eq!(runs(&after), RUNS, "{after}");
    // The second is read after the first has ended, so only the first tells when its rows came.
    assert!(said[0].0, "nothing was printed while the recorder ran");
    for (_, text) in &said {
        assert_eq!(untimed(text), untimed(&after));
    }
    assert!(followers.iter_mut().all(|child| child.wait().expect("our own child").success()));
}

#[test]
fn a_pipe_is_followed_while_it_is_written() {
    if !live() {
        return;
    }
    let over = scratch("follow-pipe").join("over");
    let mut capture = Command::new(CAPTURE);
    capture.args(["-o", "-", "-g", "proc", "--", "sh", "-c", WORK, "sh"]).arg(&over);
    let mut capture = capture.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("capture runs");
    let mut analyze = follow(Path::new("-"), capture.stdout.take().expect("a pipe").into());
    let (live, text) = first_and_rest(&mut analyze, &over);
    assert!(live, "nothing was printed while the recorder ran");
    assert_eq!(runs(&text), RUNS, "{text}");
    assert!(analyze.wait().expect("our own child").success());
    assert!(capture.wait().expect("our own child").success());
}
