//! `analyze --follow` beside a recorder that writes: what it prints meanwhile, and what it has printed in the end; in one
//! file, in a pipe, and from file to file of a set.

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
    follow_with(trace, &["execsnoop"], stdin)
}

fn follow_with(trace: &Path, words: &[&str], stdin: Stdio) -> Child {
    let mut analyze = Command::new(ANALYZE);
    analyze.arg(trace).args(words).args(["--follow", "--format", "csv"]);
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

/// Programs in bursts, over five seconds and more.
const BURSTS: &str = "i=0; while [ $i -lt 10 ]; do j=0; while [ $j -lt 20 ]; do /bin/true; j=$((j+1)); done; i=$((i+1)); sleep 0.5; done";
const BURST_RUNS: usize = 200;

/// Records bursts into a set of that name, and follows it with each of the lines from its first file on. What they
/// printed, and that they and the recorder went well.
fn followed_set(path: &Path, options: &[&str], lines: &[&[&str]]) -> Vec<String> {
    let mut capture = Command::new(CAPTURE);
    capture
        .arg("-o")
        .arg(path)
        .args(["-g", "proc", "--rotate", "1s"])
        .args(options)
        .args(["--", "sh", "-c", BURSTS]);
    let mut capture = capture.stderr(Stdio::null()).spawn().expect("capture runs");
    let first = path.with_extension("000001.bin");
    wait_for("the first file", || first.exists());
    let followers: Vec<Child> = lines.iter().map(|line| follow_with(&first, line, Stdio::null())).collect();
    assert!(capture.wait().expect("our own child").success());
    let output = |child: Child| {
        let output = child.wait_with_output().expect("our own child");
        assert!(output.status.success(), "{}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    followers.into_iter().map(output).collect()
}

/// What a report says of the finished files.
fn report(folder: &Path, words: &[&str]) -> String {
    let output = Command::new(ANALYZE).arg(folder).args(words).args(["--format", "csv"]).output();
    String::from_utf8(output.expect("analyze runs").stdout).expect("UTF-8")
}

/// The sum of the last column, a count.
fn sum(csv: &str) -> u64 {
    let count = |line: &str| line.trim_end().rsplit(',').next().and_then(|count| count.parse::<u64>().ok());
    csv.lines().skip(1).map(|line| count(line).expect("a count at the end")).sum()
}

#[test]
fn a_set_is_followed_from_file_to_file() {
    if !live() {
        return;
    }
    let folder = scratch("follow-set");
    let list = &["execsnoop"][..];
    let counts = &["events", "--table", "process_exec", "--interval", "1s"][..];
    let said = followed_set(&folder.join("trace.bin"), &[], &[list, counts]);
    let files = std::fs::read_dir(&folder).expect("our own folder").count();
    assert!(files >= 4, "{files} files of a second");
    assert_eq!((runs(&said[0]), untimed(&said[0])), (BURST_RUNS, untimed(&report(&folder, list))));
    let (live, whole) =
        (&said[1], report(&folder, &["events", "--table", "process_exec", "--interval", "all"]));
    assert!(live.lines().count() > files && live.starts_with("time,"), "{live}");
    assert!(sum(live) > BURST_RUNS as u64, "{live}");
    assert_eq!(sum(live), sum(&whole), "{live}{whole}");
    assert_eq!(untimed(live), untimed(&report(&folder, counts)));
}

#[test]
fn files_that_are_removed_while_they_are_followed_have_been_answered() {
    if !live() {
        return;
    }
    let folder = scratch("follow-keep");
    let list = &["execsnoop"][..];
    let said = followed_set(&folder.join("trace.bin"), &["--keep", "1"], &[list]);
    assert_eq!(std::fs::read_dir(&folder).expect("our own folder").count(), 1);
    assert_eq!(runs(&said[0]), BURST_RUNS, "{}", said[0]);
    assert!(runs(&report(&folder, list)) < BURST_RUNS, "the recorder removed what it was to");
}
