//! Recordings that end badly: killed, or with no space left.

use super::support::{
    CAPTURE, Undo, Watch, free_port, live, now, patiently, scratch, skip, text, truth, workload,
};
use super::trace::{Row, distance, number, of_thread, rows_of};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tapedeck::schema::TraceReader;

const SECOND: i128 = 1_000_000_000;
const SIZE: i128 = 50;

/// Nothing but the last frame may be cut.
fn check_tail(trace: &TraceReader) {
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

/// A file system of this size, unmounted with the value.
fn tiny_file_system(at: &Path, size: &str) -> Option<Undo<impl FnMut() + use<>>> {
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tapedeck-test"])
        .arg(at)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        skip("no tmpfs can be mounted here");
        return None;
    }
    let at = at.to_owned();
    Some(Undo(move || _ = Command::new("umount").arg(&at).status()))
}

/// The number before some words.
fn count_before(text: &str, words: &str) -> Option<usize> {
    let (before, _) = text.split_once(words)?;
    before.rsplit(|c: char| c.is_whitespace()).next()?.replace(',', "").parse().ok()
}

#[test]
fn a_full_disk_ends_the_recording_and_says_what_is_lost() {
    if !live() {
        return;
    }
    let directory = scratch("crash-disk");
    let Some(_undo) = tiny_file_system(&directory, "64k") else { return };
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
    let Some(_undo) = tiny_file_system(&directory, "8m") else { return };
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
