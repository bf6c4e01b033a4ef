//! Recordings that end badly: killed, or with no space left.

use super::bounds::set_of;
use super::support::{
    CAPTURE, Undo, Watch, free_port, live, now, patiently, scratch, skip, text, truth, workload,
};
use super::trace::{Row, distance, number, of_thread, rows_of};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tapedeck::schema::TraceReader;

const SECOND: i128 = 1_000_000_000;
const SIZE: i128 = 50;

/// Nothing but the last frame may be cut.
pub fn check_tail(trace: &TraceReader) {
    assert!(trace.missing().is_empty(), "{:?}", trace.missing());
    assert!(trace.damage.len() <= 1, "{:?}", trace.damage);
    for damage in &trace.damage {
        assert_eq!(damage.offset + damage.length, trace.length(), "{damage:?}");
    }
}

/// Records the sends of a workload on a port, kills the recorder after `moment`, and checks what is left. How many sends.
fn kill_after(moment: Duration, words: &[&str]) -> usize {
    let port = free_port().to_string();
    let watch = Watch::start(
        &format!("crash-kill-{}", words[0]),
        &["-a", "-g", "net", "--rings", "65536", "--port", &port],
    );
    let words = [words, &["--count", "1000000000", "--size", "50", "--port", &port]].concat();
    let mut storm = workload(truth(), &words).stdout(Stdio::null()).spawn().expect("the workload runs");
    std::thread::sleep(moment);
    let (path, pid) = (watch.path.clone(), i128::from(storm.id()));
    let killed = now();
    watch.kill();
    storm.kill().expect("our own child");
    storm.wait().expect("our own child");

    let trace = TraceReader::open(&path).expect("a killed recording opens");
    assert!(trace.footer.is_none(), "it had no time to write one");
    check_tail(&trace);
    let mut sends = of_thread(rows_of(&trace, "sock_send"), pid);
    assert!(sends.iter().all(|row| number(row, "ret") == SIZE));
    sends.sort_by_key(|row| number(row, "ts"));
    // A batch is written when it is a second old, which is noticed within a tenth; the rest is for a busy machine.
    let safe = killed - 2 * SECOND;
    let newest = sends.last().map_or(0, |row| number(row, "ts"));
    assert!(newest >= safe || sends.is_empty(), "{} ms are missing", (killed - newest) / 1_000_000);
    assert!(!sends.is_empty() || moment < Duration::from_secs(2), "nothing is left of {moment:?}");
    check_complete(&sends, safe);
    sends.len()
}

/// Up to the moment `safe` there is no gap: each send begins where the one before ended.
fn check_complete(sends: &[Row], safe: i128) {
    let old: Vec<i128> =
        sends.iter().filter(|row| number(row, "ts") < safe).map(|row| number(row, "seq")).collect();
    for pair in old.windows(2) {
        assert_eq!(distance(pair[0], pair[1]), SIZE, "a gap among sends older than a second");
    }
}

#[test]
fn a_killed_recording_lacks_its_last_second_and_no_more() {
    if !live() {
        return;
    }
    patiently(|| {
        let mut found = 0;
        // "Random" and yet the same each time: moments spread over three seconds by the golden ratio.
        for step in 1..=10_u64 {
            found += kill_after(Duration::from_millis(100 + step * 1854 % 3000), &["sends"]);
        }
        assert!(found > 10_000, "{found} sends in ten recordings: hardly a storm");
    });
}

#[test]
fn so_does_one_in_which_little_happens() {
    if live() {
        // Too little to fill anything: what is written is written because it is old.
        patiently(|| {
            for moment in [2600, 3400] {
                kill_after(Duration::from_millis(moment), &["pingpong", "--delay-ms", "5"]);
            }
        });
    }
}

/// A file system of so many KiB, unmounted with the value.
pub fn tiny_file_system(at: &Path, kib: u32) -> Option<Undo<impl FnMut() + use<>>> {
    let size = format!("size={kib}k");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tapedeck-test"]).arg(at).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        skip("no tmpfs can be mounted here");
        return None;
    }
    let at = at.to_owned();
    Some(Undo(move || _ = Command::new("umount").arg(&at).status()))
}

/// The number before some words.
pub fn count_before(text: &str, words: &str) -> Option<usize> {
    let (before, _) = text.split_once(words)?;
    before.rsplit(|c: char| c.is_whitespace()).next()?.replace(',', "").parse().ok()
}

#[test]
fn a_full_disk_ends_the_recording_and_says_what_is_lost() {
    if !live() {
        return;
    }
    let directory = scratch("crash-disk");
    let Some(_undo) = tiny_file_system(&directory, 64) else { return };
    let path = directory.join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "net,net-rx", "--min-free", "0B", "--"]).arg(truth());
    capture.args(["sends", "--count", "1000000000", "--size", "50"]).stdout(Stdio::null());
    let output = capture.output().expect("capture runs");
    let stderr = text(&output);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
    // Where, and what to do.
    assert!(stderr.contains(&path.display().to_string()) && stderr.contains("--min-free"), "{stderr}");
    let trace = TraceReader::open(&path).expect("what was written opens");
    check_tail(&trace);
    assert!(trace.footer.is_none());
    let captured = count_before(&stderr, " events captured").expect("a summary");
    let tables = trace.tables.iter().filter(|table| table.role == tapedeck::schema::Role::Event);
    let there: usize = tables.map(|table| rows_of(&trace, &table.name).len()).sum();
    assert_eq!(captured, there, "what the summary calls captured is in the file:\n{stderr}");
    let lost = count_before(&stderr, " lost\n").expect("a summary");
    assert!(lost > 0 && stderr.contains("taken from the ring but not written"), "{stderr}");
}

#[test]
fn a_disk_that_somebody_else_fills_ends_the_recording_in_time_and_says_so() {
    if !live() {
        return;
    }
    let directory = scratch("crash-filled");
    let Some(_undo) = tiny_file_system(&directory, 8 << 10) else { return };
    let path = directory.join("trace.bin");
    let script = format!("head -c 5000000 /dev/zero >{}; exec sleep 60", directory.join("other").display());
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "proc", "--min-free", "4MiB", "--", "sh", "-c", &script]);
    let output = capture.output().expect("capture runs");
    let reason = "less is free on the disk than --min-free asks for";
    assert!(text(&output).contains(&format!("\nended: {reason}\n")), "{}", text(&output));
    let trace = TraceReader::open(&path).expect("it is whole");
    assert_eq!(trace.footer.expect("a footer").reason, reason);
}

const SENDS: usize = 12_000;

/// Records sends, of which the disk has no room for all. With one table whose rows are as many as the workload says.
fn record_to_full_disk(path: &Path, options: &[&str]) -> Output {
    let script = format!("$TRUTH sends --count {SENDS} --size 50 >/dev/null; sleep 1.5");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(path).args(["-e", "sent=t:syscalls:sys_enter_sendto", "--min-free", "0B"]);
    capture.args(options).args(["--level", "-7", "--", "sh", "-c", &script]).env("TRUTH", truth());
    capture.output().expect("capture runs")
}

/// Whether sends take so long here that the disk is full before they are over: nobody sees the rest of them then.
fn too_slow() -> bool {
    let slow = super::sched::emulated();
    if slow {
        super::support::aloud("the workload takes longer than a batch may wait");
    }
    slow
}

/// Captured and lost, as the summary says.
fn books_of(stderr: &str) -> (usize, usize) {
    let count = |words| count_before(stderr, words).unwrap_or_else(|| panic!("a summary: {stderr}"));
    (count(" events captured"), count(" lost\n"))
}

#[test]
fn on_a_full_disk_what_was_captured_and_what_was_lost_are_all_that_happened() {
    if !live() || too_slow() {
        return;
    }
    let directory = scratch("crash-books");
    let Some(_undo) = tiny_file_system(&directory, 24) else { return };
    let path = directory.join("trace.bin");
    let output = record_to_full_disk(&path, &[]);
    let stderr = text(&output);
    let (captured, lost) = books_of(&stderr);
    assert!(output.status.code() == Some(125) && lost > 0, "{stderr}");
    assert_eq!(captured + lost, SENDS, "{stderr}");
    assert_eq!(rows_in(&path), captured, "{stderr}");
}

#[test]
fn so_they_are_where_the_files_of_a_set_fill_it() {
    if !live() || too_slow() {
        return;
    }
    let directory = scratch("crash-set");
    let Some(_undo) = tiny_file_system(&directory, 44) else { return };
    let path = directory.join("trace.bin");
    let output = record_to_full_disk(&path, &["--rotate", "16KiB", "--memory", "4MiB"]);
    let stderr = text(&output);
    let (captured, lost) = books_of(&stderr);
    assert!(output.status.code() == Some(125) && captured > 0 && lost > 0, "{stderr}");
    assert_eq!(captured + lost, SENDS, "{stderr}");
    let there: usize = set_of(&path).iter().map(|file| rows_in(file)).sum();
    assert_eq!(there, captured, "{stderr}");
}

/// None where there was no room for as much as the head of the trace.
fn rows_in(file: &Path) -> usize {
    TraceReader::open(file).map_or(0, |trace| rows_of(&trace, "sent").len())
}

#[test]
fn a_dump_that_finds_no_room_is_an_error_and_its_events_are_lost() {
    if !live() || too_slow() {
        return;
    }
    let directory = scratch("crash-dump");
    let Some(_undo) = tiny_file_system(&directory, 24) else { return };
    let path = directory.join("trace.bin");
    let output = record_to_full_disk(&path, &["--flight", "30s", "--trigger", "end"]);
    let stderr = text(&output);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("a dump failed") && stderr.contains("No space left on device"), "{stderr}");
    assert_eq!(books_of(&stderr), (0, SENDS), "{stderr}");
}

#[test]
fn who_asks_for_a_dump_is_told_that_it_failed() {
    if !live() || too_slow() {
        return;
    }
    let directory = scratch("crash-asked");
    let Some(_undo) = tiny_file_system(&directory, 24) else { return };
    let path = directory.join("trace.bin");
    let script = "$TRUTH sends --count 12000 --size 50 >/dev/null; $CAPTURE --dump $TRACE; echo status $?";
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "net", "--min-free", "0B", "--flight", "30s", "--post", "0s"]);
    capture
        .args(["--", "sh", "-c", script])
        .env("TRUTH", truth())
        .env("CAPTURE", CAPTURE)
        .env("TRACE", &path);
    let output = capture.output().expect("capture runs");
    assert!(output.stdout.ends_with(b"status 1\n"), "{}", text(&output));
    assert_eq!(text(&output).matches("No space left on device").count(), 3, "asked, told, and at the end");
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
}
