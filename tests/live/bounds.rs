//! Recordings that keep to a bound: sets of files, sizes, free space.

use super::support::{CAPTURE, live, record, scratch, text, truth};
use super::trace::{number, open, rows, sum};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tapedeck::schema::TraceReader;

/// The files of a set, in order.
pub fn set_of(path: &Path) -> Vec<PathBuf> {
    let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
    let entries = std::fs::read_dir(path.parent().expect("a directory")).expect("the test's own directory");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{stem}.0")))
    });
    files.sort();
    files
}

/// A part closes its books by itself: what was stored, less what was discarded, plus what was carried in, less what was carried out.
pub fn check_books(path: &Path) {
    let trace = open(path);
    let ledger = rows(path, "ledger");
    for table in trace.tables.iter().filter(|table| !table.group.is_empty() && table.name.contains('_')) {
        let entries: Vec<_> =
            ledger.iter().filter(|row| number(row, "table") == i128::from(table.number)).cloned().collect();
        let total = |counter| sum(&entries, counter);
        let due = total("stored") - total("discarded") + total("carried_in") - total("carried_out");
        let found: u32 = trace.frames_of(table.number).map(|frame| frame.header.rows).sum();
        assert_eq!(i128::from(found), due, "{} in {}", table.name, path.display());
    }
}

fn capture(path: &Path, options: &[&str], words: &[&str]) -> Output {
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(path).args(options).arg("--").arg(truth()).args(words);
    capture.output().expect("capture runs")
}

#[test]
fn a_set_loses_nothing_between_its_files() {
    if !live() {
        return;
    }
    let path = scratch("bounds-rotate").join("trace.bin");
    let words = ["pingpong", "--count", "1500", "--size", "50", "--delay-ms", "2"];
    let output = capture(&path, &["-g", "net", "--rotate", "1s"], &words);
    assert!(output.status.success(), "{}", text(&output));
    let truth: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let called = |end: &str| truth[end]["send"]["calls"].as_i64().expect("a number") as usize;
    let files = set_of(&path);
    assert!(files.len() >= 3 && !path.exists(), "{files:?}");
    let mut found = 0;
    let mut recordings = Vec::new();
    for (index, file) in files.iter().enumerate() {
        check_books(file);
        found += rows(file, "sock_send").len();
        let host = open(file).host;
        assert_eq!(host.part as usize, index + 1);
        recordings.push(host.recording);
        // Alone, each part says who its rows are about.
        let known: Vec<i128> = rows(file, "sock").iter().map(|row| number(row, "sock")).collect();
        assert!(
            rows(file, "sock_send").iter().all(|row| known.contains(&number(row, "sock"))),
            "{}",
            file.display()
        );
        assert!(
            !rows(file, "probe").is_empty()
                && !rows(file, "enum").is_empty()
                && !rows(file, "clock").is_empty()
        );
    }
    assert_eq!(found, called("client") + called("server"));
    recordings.dedup();
    assert_eq!(recordings.len(), 1, "one recording: {recordings:?}");
}

#[test]
fn each_file_of_a_set_names_the_functions_of_its_stacks() {
    if !live() {
        return;
    }
    let path = scratch("bounds-names").join("trace.bin");
    let words = ["pingpong", "--count", "1000", "--size", "50", "--delay-ms", "2"];
    let probe = "t:syscalls:sys_enter_sendto {kstack, ustack}";
    let output = capture(&path, &["-e", probe, "--rotate", "500ms"], &words);
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let files = set_of(&path);
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        check_books(&file);
        let named: Vec<i128> = rows(&file, "symbol").iter().map(|row| number(row, "frame")).collect();
        let frames = rows(&file, "frame");
        let unnamed = frames.iter().filter(|row| !named.contains(&number(row, "frame"))).count();
        // What ends with no more than its identity has no stacks.
        assert!(
            rows(&file, "sys_enter_sendto").is_empty() || frames.len() > 5 && unnamed * 2 < frames.len(),
            "{}: {unnamed} of {} have no name",
            file.display(),
            frames.len()
        );
    }
}

#[test]
fn of_a_set_only_the_latest_files_stay() {
    if !live() {
        return;
    }
    let path = scratch("bounds-keep").join("trace.bin");
    let words = ["pingpong", "--count", "1200", "--size", "50", "--delay-ms", "2"];
    let output = capture(&path, &["-g", "net", "--rotate", "500ms", "--keep", "2"], &words);
    assert!(output.status.success(), "{}", text(&output));
    let parts: Vec<u32> = set_of(&path).iter().map(|file| open(file).host.part).collect();
    assert!(parts.len() == 2 && parts[1] == parts[0] + 1 && parts[0] >= 3, "{parts:?}");
    let again = capture(&path, &["-g", "net", "--rotate", "500ms"], &["sends", "--count", "1"]);
    assert_eq!(again.status.code(), Some(125), "an earlier set is not mixed with a new one");
    assert!(text(&again).contains("--force"), "{}", text(&again));
}

#[test]
fn a_bound_on_the_size_is_kept_and_nothing_is_lost() {
    if !live() {
        return;
    }
    let path = scratch("bounds-size").join("trace.bin");
    // Level -7 and short of a storm that never ends by itself.
    let options = ["-g", "net,net-rx", "--max-size", "4MiB", "--level", "-7", "--rings", "65536"];
    let output = capture(&path, &options, &["sends", "--count", "1000000000", "--size", "50"]);
    let trace = open(&path);
    assert!(trace.length() <= 4 << 20, "{} bytes", trace.length());
    assert!(trace.length() > 1 << 20, "{} bytes: it stopped too early", trace.length());
    assert!(trace.footer.is_some_and(|footer| footer.reason.contains("--max-size")), "{}", text(&output));
    assert!(
        text(&output).contains("\nended: the size that --max-size allows is reached\n"),
        "{}",
        text(&output)
    );
    check_books(&path);
}

#[test]
fn a_disk_with_too_little_space_is_left_alone() {
    if !live() {
        return;
    }
    let path = scratch("bounds-free").join("trace.bin");
    let output = capture(&path, &["--min-free", "1000TiB"], &["sends", "--count", "1"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).contains("--min-free") && text(&output).contains("only"), "{}", text(&output));
    assert!(!path.exists());
}

#[test]
fn a_recording_ends_well_before_the_disk_is_full() {
    if !live() {
        return;
    }
    let directory = scratch("bounds-floor");
    let Some(_undo) = super::crash::tiny_file_system(&directory, 16 << 10) else { return };
    let path = directory.join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture
        .arg("-o")
        .arg(&path)
        .args(["-g", "net", "--min-free", "4MiB", "--", "sh", "-c"])
        .env("TRUTH", truth());
    let filler = directory.join("filler").display().to_string();
    let fill = format!("(sleep 1; head -c 13M /dev/zero >{filler}) & ");
    let talk = "exec $TRUTH pingpong --count 100000 --size 50 --delay-ms 2 >/dev/null";
    let output = capture.arg(format!("{fill}{talk}")).output().expect("capture runs");
    assert!(std::fs::metadata(&filler).is_ok_and(|meta| meta.len() == 13 << 20), "all of it had room");
    let trace = open(&path);
    assert!(trace.footer.is_some_and(|footer| footer.reason.contains("--min-free")), "{}", text(&output));
    assert!(rows(&path, "sock_send").len() > 100, "{}", text(&output));
    check_books(&path);
}

#[test]
fn one_file_is_no_set() {
    if !live() {
        return;
    }
    let recording = record("bounds-one", &["-g", "net"], &["sends", "--count", "10", "--size", "50"]);
    let host = TraceReader::open(&recording.path).expect("a trace").host;
    assert_eq!(host.part, 0);
    assert_eq!(host.recording.len(), 36, "an id all the same: {}", host.recording);
    assert_eq!(sum(&rows(&recording.path, "ledger"), "carried_in"), 0);
}
