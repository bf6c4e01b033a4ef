//! The scheduler's figures, against the kernel's own accounts of a storm of ours.

use super::support::{CAPTURE, Installed, aloud, has, live, patiently, record, report, scratch, text, truth};
use super::trace::{Row, bytes, known, mentions, number, open, rows, told, total};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The threads that had this name.
fn threads_named(path: &Path, name: &str) -> BTreeSet<i128> {
    let tasks = rows(path, "task");
    let named = tasks.iter().filter(|row| bytes(row, "comm") == name.as_bytes());
    named.map(|row| number(row, "tid")).collect()
}

fn of(rows: &[Row], tid: i128) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| number(row, "tid") == tid)
}

/// Whether each instruction of the processor is worked out by a program: all takes ten times as long then.
pub fn emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("TCG"))
}

/// A machine that is busy elsewhere stops a guest's processor between the two readings of its clock: so not each time.
#[test]
fn waits_and_runs_add_up_to_the_kernel_s_own_account() {
    if live() {
        patiently(compare_with_schedstat);
    }
}

/// How often each thread of the storm came, which must be right, and whether it ran and waited as long as /proc says.
fn compare_with_schedstat() {
    let words = ["storm", "--count", "5000", "--ms", "5"];
    let recording = record("sched-storm", &["-g", "sched,proc", "--rings", "32768"], &words);
    let path = recording.path;
    let (waits, runs) = (rows(&path, "sched_wait"), rows(&path, "sched_run"));
    let slow = report(&path, &["runqslower", "--min", "1ns"]);
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
        let listed = slow.iter().filter(|row| told(&row["tid"]) == tid);
        let listed = listed.map(|row| row["lat_us"].as_f64().expect("a number") * 1e3).sum::<f64>() as i128;
        assert!((listed - queued).abs() <= times, "runqslower: {listed} ns of {queued}");
        agree &= near(queued, waited) && near(on, ran);
    }
    assert!(missing <= unseen, "{unseen} counted as lost, but {missing} are");
    assert!(agree, "see the sums above");
}

/// Sleeps of a known length, recorded with a threshold.
fn sleeps() -> PathBuf {
    let path = scratch("sched-sleeps").join("trace.bin");
    let script = "i=0; while [ $i -lt 20 ]; do sleep 0.06; i=$((i+1)); done";
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "sched,proc", "--min-wait", "25ms", "--", "sh", "-c", script]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", super::support::text(&output));
    path
}

/// Who is preempted between setting its timer and going to sleep is woken where it waits in the queue: so not each time.
#[test]
fn a_threshold_keeps_the_long_waits_alone_and_gives_them_stacks() {
    if live() {
        patiently(check_long_waits);
    }
}

fn check_long_waits() {
    let path = sleeps();
    let waits = rows(&path, "sched_wait");
    let long = |row: &Row| {
        known(row, "off").is_some_and(|ns| ns >= 25_000_000)
            || known(row, "queued").is_some_and(|ns| ns >= 25_000_000)
    };
    assert!(waits.iter().all(long), "shorter ones are filtered");
    let asleep: Vec<&Row> = waits.iter().filter(|row| number(row, "state") != 0).collect();
    assert!(asleep.iter().all(|row| known(row, "kstack").is_some()), "each has a kernel stack");
    // Each sleep takes 60 ms at least. How long the shell waits for it depends on when the shell gets to run.
    let unseen = total(&path, "sched_wait", "state_full");
    let sleepers = threads_named(&path, "sleep");
    let slept = asleep.iter().filter(|row| {
        known(row, "off").is_some_and(|ns| ns >= 60_000_000) && sleepers.contains(&number(row, "tid"))
    });
    let slept: BTreeSet<i128> = slept.map(|row| number(row, "tid")).collect();
    assert!(slept.len() as i128 >= 20 - unseen, "{} of 20 slept, {unseen} switches unseen", slept.len());
    assert!(sleepers.len() == 20 && asleep.len() > slept.len(), "the shell waits for some");
    // Who slept so long was woken, and that is told of too.
    let woken: BTreeSet<i128> = rows(&path, "sched_wake").iter().map(|row| number(row, "tid")).collect();
    assert!(slept.is_subset(&woken), "{slept:?} slept, {woken:?} were woken");
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

/// `EXIT_DEAD`, `EXIT_ZOMBIE`, `TASK_DEAD`.
const DEAD: i128 = 0xb0;

/// A descendant is wanted no more when it begins to exit, and runs for a while after that.
#[test]
fn a_wanted_process_is_followed_until_it_has_left_for_good() {
    if !live() {
        return;
    }
    let trace = scratch("sched-exits").join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-g", "proc,sched", "--", "sh", "-c"]);
    let script = "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done";
    let output = capture.arg(script).output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let runs = rows(&trace, "sched_run");
    let last = runs.iter().filter(|run| number(run, "state") & DEAD != 0).count() as i128;
    let exits = rows(&trace, "process_exit").len() as i128;
    // The shell itself ends with the recording, and a kernel may keep a switch to itself, which is counted.
    let unseen = total(&trace, "sched_run", "state_full");
    assert!(
        exits > 300 && (exits - 1 - unseen..=exits).contains(&last),
        "{last} of {exits}, {unseen} unseen"
    );
}

/// Each counts where the kernel moves a task, so they are equal; the thread may be moved before it begins to count, as
/// when it executes its program, and once more before it ends.
#[test]
fn moves_are_those_of_the_kernel_s_own_account() {
    if !live() {
        return;
    }
    let recording = record("sched-hops", &["-g", "sched,proc"], &["hops", "--count", "60"]);
    let Some(moves) = recording.truth["moves"].as_u64() else {
        return aloud("this kernel has no /proc/self/sched");
    };
    let tid = told(&recording.truth["tid"]);
    let ours = rows(&recording.path, "sched_migrate");
    let ours: Vec<&Row> = of(&ours, tid).collect();
    let count = ours.len() as u64;
    assert!((moves..=moves + 4).contains(&count), "{count} moves here, {moves} by /proc/self/sched");
    assert!(moves >= 50 || told(&recording.truth["processors"]) == 1, "it hopped {moves} times");
    for pair in ours.windows(2) {
        assert_eq!(number(pair[0], "to"), number(pair[1], "from"), "where it went is where it leaves");
    }
}

/// Sleeps end in the interrupt of a timer, reads from a pipe in the call of the writer.
#[test]
fn an_interrupt_wakes_in_its_own_name() {
    if !live() {
        return;
    }
    patiently(|| {
        let recording =
            record("sched-context", &["-g", "sched,proc"], &["storm", "--count", "500", "--ms", "20"]);
        let path = recording.path;
        let def = open(&path);
        let def = def.table("sched_wake").expect("the table");
        let context = &def.columns[def.column("context").expect("the column")];
        if !context.absent.is_empty() {
            return aloud(
                "this kernel does not lead programs to its count of interrupts (CONFIG_KALLSYMS_ALL)",
            );
        }
        let wakes = rows(&path, "sched_wake");
        if wakes.iter().all(|row| known(row, "context").is_none()) {
            return aloud("this kernel does not list the variables of its processors");
        }
        let tids = [0, 1].map(|at| told(&recording.truth["threads"][at]["tid"]));
        let (mut naps, mut handed) = (0, 0);
        for row in wakes.iter().filter(|row| tids.contains(&number(row, "tid"))) {
            let waker = known(row, "waker");
            match known(row, "context") {
                // 3: an interrupt. What a nap takes, nothing else here does.
                Some(3) if number(row, "blocked") >= 19_000_000 => {
                    naps += 1;
                    assert_eq!(waker, None, "nobody is blamed");
                }
                Some(1) if waker.is_some_and(|waker| tids.contains(&waker)) => handed += 1,
                _ => {}
            }
        }
        // Few of them may be hidden by a switch that the kernel does not tell of.
        assert!(
            (18..=20).contains(&naps) && handed >= 500,
            "{naps} naps of 20, {handed} bytes of 1000 handed over"
        );
        // The report is about functions, and only waits above a threshold have those.
        let options = ["-g", "sched,proc", "--min-wait", "15ms"];
        let path = record("sched-irq", &options, &["storm", "--count", "5", "--ms", "20"]).path;
        let wakers = report(&path, &["wakeuptime", "--by", "waker_comm", "--top", "100"]);
        assert!(wakers.iter().any(|row| row["waker_comm"] == "[irq]"), "{wakers:?}");
    });
}

/// Every switch of our threads, and of those that end a sleep of more than half a nap.
const SWITCHES: &str = r"
tracepoint:sched:sched_process_fork /@ours[(uint64)args->parent_pid] || args->parent_pid == cpid/
{ @ours[(uint64)args->child_pid] = 1; }
tracepoint:sched:sched_switch
{
  if (@ours[(uint64)args->prev_pid]) {
    @left[args->prev_pid] = count();
    @since[args->prev_pid] = args->prev_state ? nsecs : 0;
  }
  if (@ours[(uint64)args->next_pid]) {
    @came[args->next_pid] = count();
    if (@since[args->next_pid] && nsecs - @since[args->next_pid] > 10000000) { @naps[args->next_pid] = count(); }
  }
}
END { clear(@ours); clear(@since); }
";

/// Whether bpftrace, on the same tracepoint in the same run, counts what we record of each thread: how often it left and
/// came, which must be right, and its long sleeps, which a delay between the two readings of the clock may shift.
fn agrees_with_bpftrace() -> bool {
    let directory = scratch("sched-bpftrace");
    let (path, account) = (directory.join("trace.bin"), directory.join("truth.json"));
    let inner = format!(
        "{CAPTURE} -q -g sched,proc -o {} -- {} storm --count 500 --ms 20 --output {}",
        path.display(),
        truth().display(),
        account.display()
    );
    let output = Command::new("bpftrace").args(["-q", "-e", SWITCHES, "-c", &inner]).output();
    let output = output.expect("bpftrace runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", text(&output));
    let counted = |map: &str, tid: i128| -> i128 {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("@{map}[{tid}]: ")));
        line.map_or(0, |count| count.trim().parse().expect("a count"))
    };
    let account = std::fs::read(account).expect("an account");
    let account: Value = serde_json::from_slice(&account).expect("JSON");
    let (runs, waits) = (rows(&path, "sched_run"), rows(&path, "sched_wait"));
    // A switch that the kernel does not tell of spoils the pair that it is one of: counted, and no row.
    let unseen = ["sched_run", "sched_wait"].map(|table| total(&path, table, "state_full"));
    let mut agree = true;
    for thread in account["threads"].as_array().expect("threads") {
        let tid = told(&thread["tid"]);
        let (left, came) = (of(&runs, tid).count() as i128, of(&waits, tid).count() as i128);
        let (theirs_left, theirs_came) = (counted("left", tid), counted("came", tid));
        // Its process may have ended before its last switch, which no filter selects then.
        assert!((left..=left + unseen[0] + 1).contains(&theirs_left), "{tid} left {left} times: {said}");
        assert!((came..=came + unseen[1] + 1).contains(&theirs_came), "{tid} came {came} times: {said}");
        assert!(left > 500 && came > 500, "it was busy");
        let is_nap =
            |row: &&Row| number(row, "state") != 0 && known(row, "off").is_some_and(|off| off > 10_000_000);
        let naps = of(&waits, tid).filter(is_nap).count() as i128;
        println!(
            "{tid} left {left}, came {came}, slept long {naps} times; {} by bpftrace",
            counted("naps", tid)
        );
        agree &= (naps..=naps + unseen[1]).contains(&counted("naps", tid)) && naps + unseen[1] >= 10;
    }
    agree
}

#[test]
fn bpftrace_counts_the_same_switches() {
    if !live() || !has("bpftrace") {
        return;
    }
    assert!((0..3).any(|_| agrees_with_bpftrace()), "see the counts above");
}
