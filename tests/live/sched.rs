//! The scheduler's figures, against the kernel's own accounts of a storm of ours.

use super::support::{CAPTURE, Installed, live, record, scratch};
use super::trace::{Row, known, mentions, number, rows, told, total};
use std::path::{Path, PathBuf};
use std::process::Command;

fn of(rows: &[Row], tid: i128) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| number(row, "tid") == tid)
}

/// Whether each instruction of the processor is worked out by a program: all takes ten times as long then.
fn emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("TCG"))
}

/// How often each thread of the storm came, which must be right, and whether it ran and waited as long as /proc says.
fn agrees_with_schedstat() -> bool {
    let words = ["storm", "--count", "5000", "--ms", "5"];
    let recording = record("sched-storm", &["-g", "sched,proc", "--rings", "32768"], &words);
    let path = recording.path;
    let (waits, runs) = (rows(&path, "sched_wait"), rows(&path, "sched_run"));
    // A switch that the kernel does not tell of is counted, and the sums are then lower bounds.
    let unseen = total(&path, "sched_wait", "state_full");
    let (mut missing, mut agree) = (0, true);
    for thread in recording.truth["threads"].as_array().expect("threads") {
        let [tid, ran, waited, times] =
            ["tid", "ran_ns", "queued_ns", "times"].map(|name| told(&thread[name]));
        let sum =
            |rows: &[Row], column: &str| of(rows, tid).filter_map(|row| known(row, column)).sum::<i128>();
        let came = of(&waits, tid).count() as i128;
        // The thread went on for a little after it had read its account.
        assert!(came <= times + 5, "{tid} came {came} times, schedstat says {times}");
        missing += (times - came).max(0);
        // The kernel's clock is read at slightly other places of the same paths, with programs of ours between.
        let apart = if emulated() { 30_000 } else { 2_000 }; // ns per switch
        let near = |ours: i128, theirs: i128| (ours - theirs).abs() <= theirs / 10 + apart * times;
        let (queued, on) = (sum(&waits, "queued"), sum(&runs, "ran"));
        println!("{tid} waited {queued} ns of {waited} by schedstat, ran {on} ns of {ran}; {unseen} unseen");
        agree &= near(queued, waited) && near(on, ran);
    }
    assert!(missing <= unseen, "{unseen} counted as lost, but {missing} are");
    agree
}

/// A machine that is busy elsewhere stops a guest's processor between the two readings of its clock: so not each time.
#[test]
fn waits_and_runs_add_up_to_the_kernel_s_own_account() {
    assert!(!live() || (0..3).any(|_| agrees_with_schedstat()), "see the sums above");
}

/// Sleeps of a known length, recorded with a threshold.
fn sleeps() -> PathBuf {
    let path = scratch("sched-sleeps").join("trace.bin");
    let script = "i=0; while [ $i -lt 20 ]; do sleep 0.03; i=$((i+1)); done";
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "sched,proc", "--min-wait", "25ms", "--", "sh", "-c", script]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", super::support::text(&output));
    path
}

#[test]
fn a_threshold_keeps_the_long_waits_alone_and_gives_them_stacks() {
    if !live() {
        return;
    }
    let path = sleeps();
    let waits = rows(&path, "sched_wait");
    let long = |row: &Row| {
        known(row, "off").is_some_and(|ns| ns >= 25_000_000)
            || known(row, "queued").is_some_and(|ns| ns >= 25_000_000)
    };
    assert!(waits.iter().all(long), "shorter ones are filtered");
    let asleep: Vec<&Row> = waits.iter().filter(|row| number(row, "state") != 0).collect();
    // Each sleep, and the shell's wait for it.
    assert!((40..=44).contains(&asleep.len()), "{} sleeps", asleep.len());
    assert!(asleep.iter().all(|row| known(row, "kstack").is_some()), "each has a kernel stack");
    let wakes = rows(&path, "sched_wake");
    assert!((40..=44).contains(&wakes.len()), "{} wakeups", wakes.len());
    let trace = path.to_str().expect("UTF-8");
    let line = ["analyze", trace, "offcputime", "--folded"].map(str::to_owned);
    let mut out = Vec::new();
    tapedeck::analyze::run(&line, &mut out, &mut std::io::sink(), false).expect("an answer");
    let folded = String::from_utf8(out).expect("UTF-8");
    assert!(folded.lines().any(|line| line.starts_with("sleep;") && line.contains("nanosleep")), "{folded}");
    assert!(folded.lines().any(|line| line.starts_with("sh;") && line.contains("do_wait")), "{folded}");
}

#[test]
fn who_wakes_a_wanted_task_is_a_number_and_no_name() {
    if !live() {
        return;
    }
    let installed = Installed::new("strangers");
    let fifo = scratch("sched-strangers").join("fifo");
    let words = fifo.to_str().expect("UTF-8");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    // Its echo wakes the reader; what it does for a living is nobody's business.
    let script = "while echo x; do sleep 0.01; done >\"$0\"";
    let mut stranger = Command::new(installed.add(Path::new("/bin/bash"), "stranger-shell"));
    let mut stranger = stranger.args(["-c", script, words]).spawn().expect("a shell");
    let path = fifo.with_file_name("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "sched,proc", "--min-wait", "5ms", "--"]);
    // A stranger that does not begin would let the reader wait for ever.
    capture.args(["timeout", "20", "head", "-n", "40", words]);
    let output = capture.output().expect("capture runs");
    _ = stranger.kill(); // if a broken pipe has not ended it
    stranger.wait().expect("our own child");
    assert!(output.status.success(), "{}", super::support::text(&output));
    let by_stranger = |row: &&Row| known(row, "waker") == Some(stranger.id().into());
    let wakes = rows(&path, "sched_wake");
    let wakes: Vec<&Row> = wakes.iter().filter(by_stranger).collect();
    assert!(wakes.len() > 30, "{} wakeups", wakes.len());
    assert!(wakes.iter().all(|row| known(row, "ustack").is_none() && known(row, "kstack").is_some()));
    assert!(!mentions(&path, "stranger-shell"), "a name of another process is in the file");
}
