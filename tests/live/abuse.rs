//! What a recorder meets sooner or later: stopped, signalled twice, orphaned, not alone, written to something slow or broken,
//! cut off by the power.

use super::bounds::{check_books, set_of};
use super::support::{
    CAPTURE, Undo, Watch, account, free_port, live, patiently, record, scratch, signal, skip, text, truth,
    workload,
};
use super::trace::{known, number, open, rows, rows_of, total};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tapedeck::schema::reader::{Frame, Scratch};
use tapedeck::schema::{Kind, TraceReader};

const STORM: [&str; 5] = ["sends", "--count", "1000000000", "--size", "50"];

/// A recorder of a command that says when it begins.
fn recorder(path: &Path, options: &[&str], script: &str) -> Child {
    let mut command = Command::new(CAPTURE);
    command.arg("-o").arg(path).args(options).args(["--", "sh", "-c"]).arg(format!("echo ready; {script}"));
    let mut child = command
        .env("TRUTH", truth())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("capture runs");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("a line");
    assert_eq!(ready, "ready\n");
    child
}

#[test]
fn a_power_cut_costs_what_was_not_synced_and_says_so() {
    if !live() {
        return;
    }
    let words = ["sends", "--count", "60000", "--size", "50"];
    let recording = record("abuse-power", &["-g", "net,proc", "--rings", "65536"], &words);
    let bytes = std::fs::read(&recording.path).expect("a file");
    let whole = open(&recording.path);
    let sends = rows_of(&whole, "sock_send");
    let borders: Vec<usize> = whole.frames.iter().map(|frame| frame.offset as usize).skip(2).collect();
    let cuts = borders.iter().copied().chain((1..60).map(|step| step * bytes.len() / 61));
    for cut in cuts.filter(|&cut| cut > borders[0]) {
        let trace = TraceReader::from_bytes(bytes[..cut].to_vec()).expect("a cut file opens");
        assert!(trace.footer.is_none(), "cut at {cut}");
        let left = rows_of(&trace, "sock_send");
        assert_eq!(left[..], sends[..left.len()], "cut at {cut}");
        let before =
            whole.frames.iter().filter(|frame| frame.offset + frame.header.length() <= cut as u64).count();
        assert_eq!(trace.frames.len(), before, "cut at {cut}: every frame before it is there");
        assert_eq!(
            trace.damage.len(),
            usize::from(!borders.contains(&cut)),
            "cut at {cut}: {:?}",
            trace.damage
        );
    }
    // The file system had grown the file and not yet written these pages.
    for page in (1..bytes.len() / 4096).rev().take(40) {
        let mut holed = bytes.clone();
        holed[page * 4096..(page + 1) * 4096].fill(0);
        let trace = TraceReader::from_bytes(holed).expect("a file with a hole opens");
        let mut scratch = Scratch::new();
        let unreadable = trace
            .frames
            .iter()
            .filter(|frame| frame.header.kind.has_rows() && trace.read(frame, None, &mut scratch).is_err())
            .count();
        let broken = |frame: &Frame| trace.verify(frame, &mut Scratch::new()).is_err();
        assert!(
            trace.frames.iter().any(broken) || !trace.damage.is_empty() || trace.footer.is_none(),
            "page {page}: nobody noticed"
        );
        let hit = |from: u64, to: u64| from < (page as u64 + 1) * 4096 && to > page as u64 * 4096;
        let of_rows = || whole.frames.iter().filter(|frame| frame.header.kind.has_rows());
        let end = |frame: &Frame| frame.offset + frame.header.length();
        let gone = of_rows().filter(|frame| hit(frame.offset, end(frame))).count();
        // Of a header the index, if that is whole, has a copy.
        let payload = |frame: &Frame| frame.offset + frame.header.header_length() as u64;
        let surely = of_rows().filter(|frame| hit(payload(frame), end(frame))).count();
        let readable = trace.frames.iter().filter(|frame| frame.header.kind.has_rows()).count() - unreadable;
        let lost = of_rows().count() - readable;
        assert!((surely..=gone).contains(&lost), "page {page}: {lost} frames of {surely} to {gone} are lost");
    }
}

#[test]
fn a_stopped_recorder_loses_events_and_counts_each() {
    if !live() {
        return;
    }
    let port = free_port().to_string();
    let watch = Watch::start("abuse-stopped", &["-a", "-g", "net", "--rings", "64", "--port", &port]);
    // SAFETY: plain system calls; the recorder is the test's own child.
    let tell = |number| assert_eq!(unsafe { libc::kill(watch.pid().cast_signed(), number) }, 0);
    tell(libc::SIGSTOP);
    let truth = account(workload(truth(), &["sends", "--count", "40000", "--size", "10", "--port", &port]));
    tell(libc::SIGCONT);
    let path = watch.path.clone();
    watch.finish();
    let counter = |counter| total(&path, "sock_send", counter);
    assert!(counter("ring_full") > 0);
    assert_eq!(
        counter("stored") + counter("ring_full") + counter("state_full"),
        i128::from(truth["calls"].as_i64().expect("a number"))
    );
    check_books(&path);
}

#[test]
fn a_slow_pipe_holds_nothing_up_and_the_books_close() {
    if !live() {
        return;
    }
    let mut capture = Command::new(CAPTURE);
    capture.args(["-o", "-", "-g", "net", "--rings", "128", "--"]).arg(truth());
    capture
        .args(["sends", "--count", "150000", "--size", "10"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut capture = capture.spawn().expect("capture runs");
    let mut pipe = capture.stdout.take().expect("a pipe");
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = pipe.read(&mut piece).expect("the pipe");
        bytes.extend(&piece[..read]);
        if read == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = capture.wait_with_output().expect("capture ends");
    assert!(output.status.success(), "{}", text(&output));
    let path = scratch("abuse-pipe").join("trace.bin");
    std::fs::write(&path, bytes).expect("a file");
    let counter = |counter| total(&path, "sock_send", counter);
    assert_eq!(
        counter("stored") + counter("ring_full") + counter("state_full"),
        150_000,
        "{}",
        text(&output)
    );
    check_books(&path);
}

#[test]
fn thousands_of_tasks_are_all_there() {
    if !live() {
        return;
    }
    let path = scratch("abuse-tasks").join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "proc", "--", "bash", "-c"]);
    capture.arg("for i in {1..3000}; do /bin/true & [ $((i % 100)) = 0 ] && wait; done; wait");
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let ran = rows(&path, "process_exec")
        .iter()
        .filter(|row| super::trace::bytes(row, "file") == b"/bin/true")
        .count();
    assert_eq!(ran, 3000);
    assert_eq!(rows(&path, "process_exit").iter().filter(|row| number(row, "last") == 1).count(), 3001);
    check_books(&path);
}

#[test]
fn a_signal_sent_twice_and_a_closed_terminal_end_it_well() {
    if !live() {
        return;
    }
    let directory = scratch("abuse-signals");
    for (name, numbers) in [
        ("int", &[libc::SIGINT, libc::SIGINT][..]),
        ("hup", &[libc::SIGHUP]),
        ("all", &[libc::SIGHUP, libc::SIGTERM, libc::SIGINT]),
    ] {
        let path = directory.join(name);
        let child =
            recorder(&path, &["-g", "net"], "exec $TRUTH sends --count 1000000000 --size 50 >/dev/null");
        std::thread::sleep(Duration::from_millis(300));
        for &number in numbers {
            signal(&child, number);
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = child.wait_with_output().expect("capture ends");
        assert!(open(&path).footer.is_some_and(|footer| footer.reason == "interrupted"), "{}", text(&output));
        check_books(&path);
    }
}

#[test]
fn without_its_parent_it_goes_on_to_its_end() {
    if !live() {
        return;
    }
    let path = scratch("abuse-orphan").join("trace.bin");
    let mut sleeper = Command::new("sleep").arg("20").spawn().expect("sleep");
    let script = format!("{CAPTURE} -q -o {} -d 2s -g proc --pid {} & wait", path.display(), sleeper.id());
    let mut parent = Command::new("sh").args(["-c", &script]).spawn().expect("sh runs");
    super::support::wait_for("the file", || path.exists());
    parent.kill().expect("our own child");
    parent.wait().expect("our own child");
    super::support::wait_for("its end", || {
        TraceReader::open(&path).is_ok_and(|trace| trace.footer.is_some())
    });
    assert_eq!(open(&path).footer.expect("a footer").reason, "the duration is over");
    sleeper.kill().expect("our own child");
    sleeper.wait().expect("our own child");
}

#[test]
fn two_recorders_see_the_same() {
    if !live() {
        return;
    }
    let port = free_port().to_string();
    let options = ["-a", "-g", "net,net-rx", "--rings", "65536", "--port", &port];
    let (first, second) = (Watch::start("abuse-first", &options), Watch::start("abuse-second", &options));
    account(workload(truth(), &["sends", "--count", "20000", "--size", "50", "--port", &port]));
    let paths = [first.path.clone(), second.path.clone()];
    first.finish();
    second.finish();
    for path in &paths {
        assert_eq!(rows(path, "sock_send").len(), 20_000, "{}", path.display());
        check_books(path);
    }
}

/// A file system whose disk is larger than what is behind it: writes are taken, and fail later.
fn lying_disk(at: &Path) -> Option<Undo<impl FnMut() + use<>>> {
    let run =
        |script: &str| Command::new("sh").args(["-c", script]).output().is_ok_and(|o| o.status.success());
    let at = at.display().to_string();
    let made = run(&format!(
        "mkdir -p {at}/back {at}/disk && mount -t tmpfs -o size=512k tapedeck-test {at}/back \
         && truncate -s 64M {at}/back/image && mkfs.ext2 -q -N 16 {at}/back/image && mount -o loop {at}/back/image {at}/disk"
    ));
    let undo = Undo(move || {
        _ = Command::new("sh").args(["-c", &format!("umount {at}/disk; umount {at}/back")]).output();
    });
    if !made {
        skip("no loop device can be mounted here");
        return None;
    }
    Some(undo)
}

#[test]
fn a_disk_that_fails_behind_the_scenes_ends_the_recording() {
    if !live() {
        return;
    }
    let directory = scratch("abuse-eio");
    let Some(_undo) = lying_disk(&directory) else { return };
    let path = directory.join("disk/trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "net,net-rx", "--min-free", "0B", "--level", "-7", "--"]);
    let output = capture.arg(truth()).args(STORM).stdout(Stdio::null()).output().expect("capture runs");
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("the trace ends early"), "{}", text(&output));
    assert!(text(&output).contains("os error"), "{}", text(&output));
}

/// It is over before anything was written for a second time: only the last sync can tell.
#[test]
fn so_it_does_where_the_recording_was_over_before_the_disk_said_so() {
    if !live() {
        return;
    }
    for (name, options) in [("abuse-eio-short", &[][..]), ("abuse-eio-set", &["--rotate", "300ms"])] {
        let directory = scratch(name);
        let Some(_undo) = lying_disk(&directory) else { return };
        let path = directory.join("disk/trace.bin");
        let mut capture = Command::new(CAPTURE);
        capture.arg("-o").arg(&path).args(["-g", "net", "--min-free", "0B", "--level", "-7"]).args(options);
        let words =
            ["--rings", "65536", "--", "sh", "-c", "$TRUTH sends --count 240000 --size 50 >/dev/null"];
        let output = capture.args(words).env("TRUTH", truth()).output().expect("capture runs");
        let stderr = text(&output);
        assert_eq!(output.status.code(), Some(125), "{stderr}");
        assert!(stderr.contains("the trace ends early") && stderr.contains("os error"), "{stderr}");
        let count = |words| super::crash::count_before(&stderr, words).expect("a summary");
        assert!(count(" lost\n") > 0 && stderr.contains("taken from the ring but not written"), "{stderr}");
        // What the kernel still has in memory of the files is more than the disk has.
        let files = if options.is_empty() { vec![path] } else { set_of(&path) };
        let there: usize = files.iter().map(|file| events_in(file)).sum();
        assert!(count(" events captured") <= there, "{there}: {stderr}");
    }
}

/// None where there was no room for the head of the trace.
fn events_in(file: &Path) -> usize {
    let Ok(trace) = TraceReader::open(file) else { return 0 };
    let of_events = trace.frames.iter().filter(|frame| frame.header.kind == Kind::Events);
    of_events.map(|frame| frame.header.rows as usize).sum()
}

/// All alive at once, each of them known by what it does.
#[test]
fn five_thousand_threads_at_once_are_in_the_books() {
    const PROGRAM: &str = "
import threading, os
threading.stack_size(65536)
begin = threading.Barrier(5001)
def one():
    begin.wait()
    os.getppid()
threads = [threading.Thread(target=one) for _ in range(5000)]
for thread in threads: thread.start()
begin.wait()
for thread in threads: thread.join()
";
    if !live() || !super::support::has("python3") {
        return;
    }
    let path = scratch("abuse-threads").join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "sched,syscalls,stat,proc", "--syscalls", "each"]);
    let output =
        capture.args(["--memory", "64MiB", "--", "python3", "-c", PROGRAM]).output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    check_books(&path);
    let attempted = |table| ["stored", "ring_full", "state_full"].map(|counter| total(&path, table, counter));
    let exits: i128 = attempted("process_exit").iter().sum();
    assert!(exits > 5000, "{exits} threads have ended: {}", text(&output));
    let getppid = i128::from(libc::SYS_getppid);
    let calls = rows(&path, "syscall").iter().filter(|row| number(row, "syscall") == getppid).count() as i128;
    let [_, ring_full, state_full] = attempted("syscall");
    assert!(calls + ring_full + state_full >= 5000, "{calls} calls: {}", text(&output));
}

#[test]
fn threads_that_have_no_place_are_counted() {
    const CALLS: i128 = 2000;
    if !live() {
        return;
    }
    // The one place that there is belongs to none of these threads, but for one number in 65,536.
    let options = ["-g", "sched,syscalls", "--syscalls", "each", "--state-limit", "1"];
    let recording =
        record("abuse-places", &options, &["calls", "--count", "2000", "--missing", "10", "--ms", "1"]);
    let full = |table| total(&recording.path, table, "state_full");
    // The workload is older than the recording, so that a return without a begin is taken for a call from before: it
    // is a row, and not lost as well.
    let calls = rows(&recording.path, "syscall");
    let getppid = i128::from(libc::SYS_getppid);
    assert_eq!(calls.iter().filter(|row| number(row, "syscall") == getppid).count() as i128, CALLS);
    assert!(full("syscall") < CALLS, "{}: {}", full("syscall"), recording.stderr);
    let measured = calls.iter().filter(|row| known(row, "latency").is_some()).count();
    assert_eq!(measured, 0, "nobody has kept when they began");
    assert!(full("sched_run") > 0, "{}", recording.stderr);
    assert!(recording.stderr.contains("no space in a map"), "{}", recording.stderr);
    check_books(&recording.path);
}

#[test]
fn a_full_map_loses_events_and_counts_each() {
    use std::net::{TcpListener, TcpStream};
    const CONNECTIONS: i128 = 60;
    if !live() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("an address");
    let port = address.port().to_string();
    let watch = Watch::start("abuse-map", &["-a", "-g", "net", "--port", &port, "--state-limit", "32"]);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = TcpStream::connect(address).expect("our own listener");
        client.write_all(b"x").expect("a server that listens");
        streams.push((client, listener.accept().expect("our own client")));
    }
    let path = watch.path.clone();
    let said = watch.finish();
    let counter = |counter| total(&path, "sock_send", counter);
    assert!(counter("state_full") > 0 && counter("stored") > 0, "{said}");
    // Of the sockets of others that have no place nobody knows the port, so they are counted too.
    let sends = counter("stored") + counter("state_full");
    assert!(sends >= CONNECTIONS, "{sends} of {CONNECTIONS} sends are known of: {said}");
    assert!(said.contains("no space in a map") || said.contains("state"), "{said}");
    check_books(&path);
    drop(streams);
}

/// The last row of what a kill leaves is less than a second older than the kill.
#[test]
fn a_kill_costs_at_most_a_second() {
    if !live() {
        return;
    }
    patiently(|| {
        let mut worst = 0;
        for moment in [1300, 1700, 2100, 2500, 2900] {
            let port = free_port().to_string();
            let watch = Watch::start("abuse-second", &["-a", "-g", "net", "--port", &port]);
            let words =
                ["pingpong", "--count", "1000000", "--size", "50", "--delay-ms", "5", "--port", &port];
            let mut talk =
                workload(truth(), &words).stdout(Stdio::null()).spawn().expect("the workload runs");
            std::thread::sleep(Duration::from_millis(moment));
            let path = watch.path.clone();
            let killed = super::support::now();
            watch.kill();
            talk.kill().expect("our own child");
            talk.wait().expect("our own child");
            let trace = tapedeck::schema::TraceReader::open(&path).expect("a killed recording opens");
            let newest = super::trace::rows_of(&trace, "sock_send").iter().map(|row| number(row, "ts")).max();
            worst = worst.max(killed - newest.expect("rows of the first second"));
        }
        println!("at most {} ms were lost", worst / 1_000_000);
        // 0.7 s until a batch is sealed and a tenth until its ring is looked at; the disk takes another tenth.
        assert!(worst < 950_000_000, "{} ms are missing", worst / 1_000_000);
    });
}
