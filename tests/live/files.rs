//! Files: opens, reads, writes and paths as the workload, strace and /proc count them.

use super::support::{CAPTURE, has, live, record, report, scratch, text, truth};
use super::trace::{Row, bytes, known, number, rows, sum, told, total};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const WORDS: [&str; 5] = ["files", "--count", "100", "--size", "3000"];

/// Rows whose path is below a directory.
fn below(rows: Vec<Row>, dir: &str) -> Vec<Row> {
    rows.into_iter().filter(|row| bytes(row, "path").starts_with(dir.as_bytes())).collect()
}

/// The paths of files by their ids; the last one counts.
fn paths(path: &Path) -> BTreeMap<i128, String> {
    let name = |row: &Row| String::from_utf8_lossy(bytes(row, "path")).into_owned();
    rows(path, "file").iter().map(|row| (number(row, "file"), name(row))).collect()
}

/// The number that an enumeration has for a name.
fn named(path: &Path, enumeration: &str, label: &str) -> i128 {
    let is =
        |row: &Row| bytes(row, "name") == enumeration.as_bytes() && bytes(row, "label") == label.as_bytes();
    rows(path, "enum")
        .iter()
        .find(|row| is(row))
        .map_or_else(|| panic!("{label}"), |row| number(row, "value"))
}

fn check_opens(path: &Path, truth: &Value, dir: &str) {
    let opens = below(rows(path, "file_open"), dir);
    let (failed, opened): (Vec<Row>, Vec<Row>) = opens.into_iter().partition(|row| number(row, "ret") < 0);
    assert_eq!((opened.len() + failed.len()) as i128, told(&truth["opens"]));
    assert_eq!(failed.len() as i128, told(&truth["opens_failed"]));
    assert!(failed.iter().all(|row| number(row, "ret") == -i128::from(libc::ENOENT)));
    assert_eq!(sum(&opened, "created"), told(&truth["created"]));
    let names = paths(path);
    for row in &opened {
        let (given, file) = (String::from_utf8_lossy(bytes(row, "path")), number(row, "file"));
        // The last name of a file may be the one that it was renamed to.
        assert!(names[&file].starts_with(given.as_ref()), "{given} is {}", names[&file]);
        assert!(known(row, "latency").is_some_and(|latency| latency > 0));
    }
}

fn check_io(path: &Path, truth: &Value, dir: &str) {
    let names = paths(path);
    let ours = |row: &Row| known(row, "file").is_some_and(|file| names[&file].starts_with(dir));
    let all: Vec<Row> = rows(path, "file_io").into_iter().filter(ours).collect();
    for (op, calls, moved) in [("read", "reads", "read_bytes"), ("write", "writes", "write_bytes")] {
        let code = named(path, "io_op", op);
        let of: Vec<&Row> = all.iter().filter(|row| number(row, "op") == code).collect();
        assert_eq!(of.len() as i128, told(&truth[calls]), "{calls}");
        assert_eq!(sum(of, "ret"), told(&truth[moved]), "{moved}");
    }
    // Each file is written from its start: two blocks by one vector, and two more.
    let first = named(path, "io_op", "write");
    let writes = all.iter().filter(|row| number(row, "op") == first);
    let mut offsets: Vec<i128> = writes.map(|row| number(row, "offset")).collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets, [0, 6000, 9000]);
}

fn check_paths(path: &Path, truth: &Value, dir: &str) {
    let calls = below(rows(path, "path_op"), dir);
    let count = |op: &str, failed: bool| {
        let code = named(path, "path_op", op);
        let is = |row: &&Row| number(row, "op") == code && (number(row, "ret") < 0) == failed;
        calls.iter().filter(is).count() as i128
    };
    assert_eq!(count("stat", true), told(&truth["stats_failed"]));
    assert_eq!(count("stat", false) + count("stat", true), told(&truth["stats"]));
    assert_eq!(count("rename", false), told(&truth["renames"]));
    assert_eq!(count("unlink", false), told(&truth["unlinks"]));
    assert_eq!(count("mkdir", false), 4);
}

#[test]
fn every_call_on_the_workloads_files_is_a_row() {
    if !live() {
        return;
    }
    let recording = record("files", &["-g", "file"], &WORDS);
    let dir = format!("{}/", recording.truth["dir"].as_str().expect("a directory"));
    check_opens(&recording.path, &recording.truth, &dir);
    check_io(&recording.path, &recording.truth, &dir);
    let sync = named(&recording.path, "sync_op", "fsync");
    let syncs = rows(&recording.path, "file_sync");
    let of = syncs.iter().filter(|row| number(row, "op") == sync && number(row, "ret") == 0);
    assert_eq!(of.count() as i128, told(&recording.truth["syncs"]));
    check_paths(&recording.path, &recording.truth, &dir);
}

/// The calls that strace counts, and where we have them: table, and operations.
const CALLS: &[(&str, &str, &[&str], &[&str])] = &[
    ("file_open", "", &[], &["open", "openat", "openat2", "creat"]),
    ("file_io", "io_op", &["read"], &["read", "pread64", "readv", "preadv", "preadv2"]),
    ("file_io", "io_op", &["write"], &["write", "pwrite64", "writev", "pwritev", "pwritev2"]),
    (
        "path_op",
        "path_op",
        &["stat", "lstat", "fstat", "statx"],
        &["stat", "lstat", "fstat", "newfstatat", "statx"],
    ),
    ("path_op", "path_op", &["unlink", "rmdir"], &["unlink", "unlinkat", "rmdir"]),
    ("path_op", "path_op", &["rename"], &["rename", "renameat", "renameat2"]),
    ("path_op", "path_op", &["access"], &["access", "faccessat", "faccessat2"]),
    ("file_sync", "", &[], &["fsync", "fdatasync", "sync", "syncfs"]),
];

#[test]
fn strace_counts_as_many_calls_of_every_kind() {
    if !live() || !has("strace") {
        return;
    }
    let directory = scratch("files-strace");
    let (path, counts) = (directory.join("trace.bin"), directory.join("counts"));
    let mut capture = Command::new(CAPTURE);
    // The comm is the workload's alone: strace itself works with files, too.
    capture.arg("-o").arg(&path).args(["-g", "file", "--comm", "truth", "--", "strace", "-f", "-c"]);
    capture.args(["-U", "calls,name", "-o"]).arg(&counts).arg(truth()).args(WORDS);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let table = std::fs::read_to_string(counts).expect("strace's table");
    let counted: BTreeMap<&str, i128> = table
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let count = words.next()?.parse().ok()?;
            Some((words.next()?, count))
        })
        .collect();
    for (name, enumeration, labels, calls) in CALLS {
        let codes: Vec<i128> = labels.iter().map(|label| named(&path, enumeration, label)).collect();
        let recorded = rows(&path, name);
        let ours =
            recorded.iter().filter(|row| codes.is_empty() || codes.contains(&number(row, "op"))).count();
        let theirs: i128 = calls.iter().filter_map(|call| counted.get(call)).sum();
        assert!(theirs > 0, "{calls:?} in {table}");
        assert_eq!(ours as i128, theirs, "{name} {labels:?}:\n{table}");
    }
}

/// What the columns of `vfsstat` count, in strace's words: calls, and what their line must say or must not.
const VFS_CALLS: [(&str, &[&str]); 8] = [
    ("reads_per_s", &["read(", "pread64(", "readv(", "preadv(", "preadv2("]),
    ("writes_per_s", &["write(", "pwrite64(", "writev(", "pwritev(", "pwritev2("]),
    ("fsyncs_per_s", &["fsync(", "fdatasync("]),
    ("opens_per_s", &["open(", "openat(", "openat2(", "creat("]),
    ("creates_per_s", &["O_EXCL"]),
    ("unlinks_per_s", &["unlink(", "unlinkat("]),
    ("mkdirs_per_s", &["mkdir(", "mkdirat("]),
    ("rmdirs_per_s", &["rmdir(", "AT_REMOVEDIR"]),
];

/// How many lines of strace's are of a column; a call that says `AT_REMOVEDIR` removes a directory and unlinks nothing.
fn strace_lines(log: &str, (column, words): (&str, &[&str])) -> usize {
    let is = |line: &&str| {
        words.iter().any(|word| line.starts_with(word) || (!word.ends_with('(') && line.contains(word)))
    };
    let apart = |line: &&str| column != "unlinks_per_s" || !line.contains("AT_REMOVEDIR");
    log.lines().filter(is).filter(apart).count()
}

/// What bpftrace counts in the same run: by the tracepoints of the calls, of processes that descend from ours.
const VFS_PROBES: &str = r#"
tracepoint:sched:sched_process_fork /@ours[(uint64)args->parent_pid] || args->parent_pid == cpid/
{ @ours[(uint64)args->child_pid] = 1; }
tracepoint:syscalls:sys_exit_read, tracepoint:syscalls:sys_exit_pread64, tracepoint:syscalls:sys_exit_readv
/@ours[tid] && comm == "truth"/ { @reads_per_s = count(); }
tracepoint:syscalls:sys_exit_write, tracepoint:syscalls:sys_exit_pwrite64, tracepoint:syscalls:sys_exit_writev
/@ours[tid] && comm == "truth"/ { @writes_per_s = count(); }
tracepoint:syscalls:sys_exit_fsync, tracepoint:syscalls:sys_exit_fdatasync
/@ours[tid] && comm == "truth"/ { @fsyncs_per_s = count(); }
tracepoint:syscalls:sys_exit_openat /@ours[tid] && comm == "truth"/ { @opens_per_s = count(); }
tracepoint:syscalls:sys_enter_unlink /@ours[tid] && comm == "truth"/ { @unlinks_per_s = count(); }
tracepoint:syscalls:sys_enter_unlinkat /@ours[tid] && comm == "truth"/
{ if (args->flag == 512) { @rmdirs_per_s = count(); } else { @unlinks_per_s = count(); } }
tracepoint:syscalls:sys_exit_mkdir /@ours[tid] && comm == "truth"/ { @mkdirs_per_s = count(); }
END { clear(@ours); }
"#;

/// Rates say no counts; but they are all of one span, so they are to each other as counts are.
fn check_vfsstat(path: &Path, counts: &[(&str, f64)]) {
    let row = &report(path, &["vfsstat", "--interval", "all", "--where", "comm = 'truth'"])[0];
    let rate = |column: &str| row[column].as_f64().expect("a number");
    let seconds = counts[0].1 / rate(counts[0].0);
    for (column, count) in counts {
        assert!((rate(column) * seconds - count).abs() < 1e-6, "{column}: {count} of {counts:?} in {row}");
    }
}

#[test]
fn vfsstat_adds_up_what_strace_and_bpftrace_count() {
    if !live() || !has("strace") || !has("bpftrace") {
        return;
    }
    let directory = scratch("files-vfsstat");
    let (path, log) = (directory.join("trace.bin"), directory.join("log"));
    let recorder = ["-q", "-g", "file,proc", "--comm", "truth", "-o"];
    let mut capture = Command::new(CAPTURE);
    capture.args(recorder).arg(&path).args(["--", "strace", "-o"]).arg(&log).arg(truth()).args(WORDS);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let lines = std::fs::read_to_string(log).expect("strace's lines");
    let counts = VFS_CALLS.map(|of| (of.0, strace_lines(&lines, of) as f64));
    assert!(counts.iter().all(|(_, count)| *count > 0.0), "{counts:?}");
    check_vfsstat(&path, &counts);

    let path = directory.join("again.bin");
    let words = WORDS.join(" ");
    let inner =
        format!("{CAPTURE} {} {} -- {} {words}", recorder.join(" "), path.display(), truth().display());
    let output = Command::new("bpftrace").args(["-q", "-e", VFS_PROBES, "-c", &inner]).output();
    let output = output.expect("bpftrace runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", text(&output));
    let of = |name: &str| -> f64 {
        let line =
            said.lines().find_map(|line| line.strip_prefix('@')?.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {said}"))
    };
    // Whether a call made its file, only the kernel knows.
    let counts =
        VFS_CALLS.iter().filter(|(name, _)| *name != "creates_per_s").map(|(name, _)| (*name, of(name)));
    check_vfsstat(&path, &counts.collect::<Vec<_>>());
}

#[test]
fn proc_pid_io_counts_as_many_bytes() {
    if !live() {
        return;
    }
    // The shell reads its own counters twice; between the two it does nothing but what dd's blocks are.
    let directory = scratch("files-io");
    let (path, file) = (directory.join("trace.bin"), directory.join("data"));
    let script = format!(
        "exec 3</proc/self/io; while read -r line <&3; do echo $line; done; read -r x <{0}; echo abcdef >{0}; \
         exec 4</proc/self/io; while read -r line <&4; do echo $line; done",
        file.display()
    );
    std::fs::write(&file, "0123456789\n").expect("writable");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(["-g", "file", "--", "sh", "-c", &script]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let values = |name: &str| -> Vec<i128> {
        let lines = printed.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|value| value.trim().parse().expect("a number")).collect()
    };
    let all = rows(&path, "file_io");
    let names = paths(&path);
    // What lies between the moments at which the kernel filled in the two texts: the first read of each.
    let tables: Vec<usize> = (0..all.len())
        .filter(|&at| known(&all[at], "file").is_some_and(|file| names[&file].ends_with("/io")))
        .filter(|&at| number(&all[at], "offset") == 0 && number(&all[at], "ret") > 0)
        .collect();
    let [first, second] = tables[..] else { panic!("two reads of /proc/self/io: {tables:?}") };
    for (op, bytes_name, calls_name) in [("read", "rchar:", "syscr:"), ("write", "wchar:", "syscw:")] {
        let code = named(&path, "io_op", op);
        let between: Vec<&Row> = all[first..second].iter().filter(|row| number(row, "op") == code).collect();
        let (moved, calls) = (values(bytes_name), values(calls_name));
        assert_eq!(sum(between.iter().copied(), "ret"), moved[1] - moved[0], "{bytes_name} {printed}");
        assert_eq!(between.len() as i128, calls[1] - calls[0], "{calls_name} {printed}");
    }
}

#[test]
fn of_others_only_the_number_is_known() {
    if !live() {
        return;
    }
    let directory = scratch("files-filter");
    let path = directory.join("trace.bin");
    let mut decoy = Command::new(truth());
    decoy.args(["files", "--count", "400", "--dir"]).arg(directory.join("decoy"));
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args([
        "-g",
        "file",
        "--",
        "sh",
        "-c",
        "sleep 0.2; cat /etc/hostname; sleep 0.2",
    ]);
    let (mut decoy, output) = (
        decoy.stdout(std::process::Stdio::null()).spawn().expect("the decoy runs"),
        capture.output().expect("capture runs"),
    );
    decoy.wait().expect("our own child");
    assert!(output.status.success(), "{}", text(&output));
    assert!(paths(&path).values().any(|name| name == "/etc/hostname"));
    assert!(!super::trace::mentions(&path, "/decoy"), "a name of another process is in the file");
    assert!(total(&path, "file_open", "filtered") > 0, "but what was left out is counted");
}
