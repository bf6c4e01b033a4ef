//! The scheduler's figures, against the kernel's own accounts of a storm of ours.

use super::support::{CAPTURE, live, scratch};
use super::trace::{Row, known, number, rows};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;

/// Two threads that hand a byte to and fro through pipes, so many times; then thread ids and, per thread, what
/// /proc/self/task/TID/schedstat said: time run and time waited in ns, and how often it ran.
fn storm(turns: u32) -> Vec<(i128, [i128; 3])> {
    let (mut near_in, mut far_out) = std::io::pipe().expect("a pipe");
    let (mut far_in, mut near_out) = std::io::pipe().expect("a pipe");
    let account = || {
        // SAFETY: no memory is involved.
        let tid = unsafe { libc::syscall(libc::SYS_gettid) };
        let text =
            std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).expect("our own thread");
        let numbers: Vec<i128> =
            text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        (i128::from(tid), [numbers[0], numbers[1], numbers[2]])
    };
    let far = std::thread::spawn(move || {
        let mut byte = [0];
        for _ in 0..turns {
            far_in.read_exact(&mut byte).expect("a byte");
            far_out.write_all(&byte).expect("a pipe with room");
        }
        account()
    });
    let near = std::thread::spawn(move || {
        let mut byte = [7];
        for _ in 0..turns {
            near_out.write_all(&byte).expect("a pipe with room");
            near_in.read_exact(&mut byte).expect("a byte");
        }
        account()
    });
    vec![near.join().expect("no panic"), far.join().expect("no panic")]
}

fn of(rows: &[Row], tid: i128) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| number(row, "tid") == tid)
}

#[test]
fn waits_and_runs_add_up_to_the_kernel_s_own_account() {
    if !live() {
        return;
    }
    let watch = super::support::Watch::start(
        "sched-storm",
        &["-g", "sched,proc", "--pid", &std::process::id().to_string(), "--rings", "32768"],
    );
    let path = watch.path.clone();
    let threads = storm(5_000);
    watch.finish();
    let (waits, runs) = (rows(&path, "sched_wait"), rows(&path, "sched_run"));
    for (tid, [ran, waited, times]) in threads {
        let sum =
            |rows: &[Row], column: &str| of(rows, tid).filter_map(|row| known(row, column)).sum::<i128>();
        let came = of(&waits, tid).count() as i128;
        // The thread went on for a little after it had read its account.
        assert!((times..=times + 5).contains(&came), "{tid} came {came} times, schedstat says {times}");
        let queued = sum(&waits, "queued");
        // The kernel's clock is read at slightly other places of the same paths: at most 2 us apart per switch.
        let near = |ours: i128, theirs: i128| (ours - theirs).abs() <= theirs / 10 + 2_000 * times;
        assert!(near(queued, waited), "{tid} waited {queued} ns, schedstat says {waited}");
        let on = sum(&runs, "ran");
        assert!(near(on, ran), "{tid} ran {on} ns, schedstat says {ran}");
    }
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
