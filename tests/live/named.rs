//! Probes that the user names, on a program whose calls are known to the last: counts, arguments, texts,
//! recursion, durations, calls that never return, static probes; and on tracepoints that bpftrace counts too.

use super::profile::analyze;
use super::support::{CAPTURE, has, kernel_is, live, scratch, text};
use super::trace::{Row, bytes, known, number, rows, total};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Whether the program is there, or can be made.
pub(super) fn able() -> bool {
    live() && (packed().exists() || has("cc"))
}

/// Where a guest, which has no compiler, has the program.
fn packed() -> PathBuf {
    Path::new(CAPTURE).with_file_name("examples/named")
}

/// The program, compiled.
pub(super) fn program(name: &str) -> (PathBuf, PathBuf) {
    let directory = scratch(name);
    let program = directory.join("named");
    if packed().exists() {
        std::fs::copy(packed(), &program).expect("a copy of the program to be probed");
        return (program, directory.join("trace.bin"));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/named.c");
    let built =
        Command::new("cc").args(["-O1", "-fno-omit-frame-pointer", "-o"]).arg(&program).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "cc compiles the program to be probed");
    (program, directory.join("trace.bin"))
}

/// Records the program with probes, in each of which `@` stands for it.
pub(super) fn record(name: &str, probes: &[&str], count: u32) -> PathBuf {
    record_with(name, &[], probes, count)
}

fn record_with(name: &str, options: &[&str], probes: &[&str], count: u32) -> PathBuf {
    let (program, trace) = program(name);
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(options);
    for probe in probes {
        capture.arg("-e").arg(probe.replace('@', program.to_str().expect("a plain path")));
    }
    let output = capture.arg("--").arg(&program).arg(count.to_string()).output().expect("capture runs");
    let said = text(&output);
    assert!(output.status.success() && said.contains(" 0 lost"), "{said}");
    trace
}

pub(super) fn column(rows: &[Row], name: &str) -> Vec<i128> {
    rows.iter().map(|row| number(row, name)).collect()
}

#[test]
fn each_call_is_a_row_with_its_arguments() {
    if !able() {
        return;
    }
    let probe = "u:@:add(a=arg1, b=arg2:i32, width=arg3+0:i32, weight=arg3+8:i64)";
    let trace = record("named-args", &[probe], 500);
    let rows = rows(&trace, "add");
    assert_eq!(column(&rows, "a"), (0..500).collect::<Vec<_>>());
    for (name, value) in [("b", -1), ("width", 7), ("weight", 70)] {
        assert_eq!(column(&rows, name), vec![value; 500], "{name}");
    }
}

#[test]
fn a_condition_is_evaluated_in_the_kernel() {
    if !able() {
        return;
    }
    let probes = ["some=u:@:add(a=arg1) /a >= 90 && a != 95/", "none=u:@:add(b=arg2:i32) /b > 0/"];
    let trace = record("named-condition", &probes, 100);
    let expected: Vec<i128> = (90..100).filter(|a| *a != 95).collect();
    assert_eq!(column(&rows(&trace, "some"), "a"), expected);
    assert!(rows(&trace, "none").is_empty());
}

#[test]
fn probes_come_from_a_file_in_the_spelling_of_bcc_too() {
    if !able() {
        return;
    }
    let (program, trace) = program("named-file");
    let probes = "# as bcc's trace has them\n\nbcc=p:@:add \"%lld and %#x\", arg1, arg2 /arg1 < 5/ # a comment\n\
         sums=r:@:add(long a, int b) (retval >= 7) \"%ld and %d: %ld in %d ns\", $entry(a), b, $retval, $latency\n\
         inside=u:@:add+0\n";
    let file = trace.with_file_name("probes");
    std::fs::write(&file, probes.replace('@', program.to_str().expect("a plain path"))).expect("a file");
    let mut capture = Command::new(CAPTURE);
    capture
        .arg("-o")
        .arg(&trace)
        .arg("-f")
        .arg(&file)
        .args(["-e", "t:sched:sched_process_exit (args->pid > 0) \"%d\", args->pid"]);
    let output = capture.arg("--").arg(&program).arg("9").output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let bcc = rows(&trace, "bcc");
    assert_eq!(column(&bcc, "arg1"), (0..5).collect::<Vec<_>>());
    assert_eq!(column(&bcc, "arg2"), vec![i128::from(u32::MAX); 5], "-1, as %x has it");
    let (all, sums) = (rows(&trace, "inside").len(), rows(&trace, "sums"));
    assert_eq!(all, 9, "a place is hit in each call");
    let returned = column(&sums, "ret");
    assert!(returned.iter().all(|&ret| ret >= 7) && (1..9).contains(&returned.len()), "{returned:?}");
    assert!(column(&sums, "b").iter().all(|&b| b == -1) && column(&sums, "a").is_sorted(), "{sums:?}");
    let exits = rows(&trace, "sched_process_exit");
    assert!(exits.iter().any(|row| number(row, "pid") == number(row, "tid")), "{exits:?}");
}

#[test]
fn recursion_pairs_each_return_with_its_own_entry() {
    if !able() {
        return;
    }
    let trace = record("named-recursion", &["ur:@:factorial(n=arg1)"], 1);
    let rows = rows(&trace, "factorial");
    assert_eq!(column(&rows, "n"), (1..=10).collect::<Vec<_>>());
    let factorials: Vec<i128> = (1..=10).map(|n| (1..=n).product()).collect();
    assert_eq!(column(&rows, "ret"), factorials);
    assert!(
        column(&rows, "latency").is_sorted_by(|inner, outer| inner < outer),
        "an outer call holds the inner"
    );
}

#[test]
fn calls_that_a_filter_leaves_out_do_not_end_those_around_them() {
    if !able() {
        return;
    }
    let trace = record("named-outer", &["ur:@:factorial(n=arg1) /n > 7/"], 1);
    let rows = rows(&trace, "factorial");
    assert_eq!(column(&rows, "n"), [8, 9, 10]);
    assert_eq!(column(&rows, "ret"), [40_320, 362_880, 3_628_800]);
}

#[test]
fn time_in_a_call_is_measured_and_short_calls_can_be_left_out() {
    if !able() {
        return;
    }
    let trace = record("named-time", &["all=ur:@:nap(ms=arg1)", "slow=ur:@:nap(ms=arg1) {thr=20ms}"], 1);
    let all = rows(&trace, "all");
    assert_eq!(column(&all, "ms"), [5, 30]);
    for row in &all {
        let (asked, took) = (number(row, "ms") * 1_000_000, number(row, "latency"));
        assert!((asked..asked + 1_000_000_000).contains(&took), "{asked} ns asked for, {took} taken");
    }
    // On a busy machine the short one may take as long: then it is a slow one too.
    let slow = column(&rows(&trace, "slow"), "ms");
    let delayed = number(&all[0], "latency") > 19_000_000;
    assert!(slow == [30] || delayed && slow == [5, 30], "{slow:?}");
}

#[test]
fn calls_that_never_return_do_not_disturb_the_others() {
    if !able() {
        return;
    }
    let trace = record("named-longjmp", &["ur:@:leave(how=arg1)", "ur:@:dive(n=arg1)"], 1);
    assert_eq!(column(&rows(&trace, "leave"), "how"), [0]);
    let dives = rows(&trace, "dive");
    assert_eq!(column(&dives, "n"), [2, 3, 4], "those inside were left, those around return");
    assert_eq!(column(&dives, "ret"), column(&dives, "n"));
}

/// Whether probes of programs can have the kernel load a page that a text lies in.
pub(super) fn loads_pages() -> bool {
    let able = kernel_is(6, 0);
    if !able {
        super::support::aloud("texts that are not in memory yet are empty before Linux 6.0");
    }
    able
}

#[test]
fn text_is_read_at_entry_and_return_also_where_the_page_was_not_there_yet() {
    if !able() {
        return;
    }
    let trace = record("named-text", &["ur:@:greet(whom=arg1:str) {ret=str[32]}"], 1);
    let rows = rows(&trace, "greet");
    assert_eq!(rows.len(), 1);
    assert_eq!(bytes(&rows[0], "ret"), b"hello world");
    if loads_pages() {
        assert_eq!(bytes(&rows[0], "whom"), b"world");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn static_probes_have_their_arguments() {
    if !able() {
        return;
    }
    let trace = record("named-static", &["usdt:@:tapedeck:tick(n=arg1, text=arg2:str[16])"], 40);
    let rows = rows(&trace, "tick");
    assert_eq!(column(&rows, "n"), (-5..35).collect::<Vec<_>>());
    if !loads_pages() {
        return;
    }
    let texts: Vec<&[u8]> = rows.iter().map(|row| bytes(row, "text")).collect();
    assert!(
        texts.iter().enumerate().all(|(i, text)| *text == if i % 2 == 0 { &b"even"[..] } else { b"odd" })
    );
}

#[test]
fn a_pattern_says_which_function_it_was() {
    if !able() {
        return;
    }
    if !kernel_is(5, 15) {
        return super::support::aloud("several functions at once need Linux 5.15 (attach cookies)");
    }
    let probes = ["functions=u:@:*a*", "calls=ur:@:*a*(arg1)"];
    // All at once and one by one: the same.
    let forced = [&[][..], &["--attach", "functions=uprobe", "--attach", "calls=uprobe"]];
    for (at, options) in forced.into_iter().enumerate() {
        let trace = record_with(&format!("named-pattern-{at}"), options, &probes, 30);
        let of = |table: &str, name: &str| {
            let number = super::trace::rows(&trace, "enum").into_iter().find(|row| {
                bytes(row, "name") == format!("{table}.function").as_bytes()
                    && bytes(row, "label") == name.as_bytes()
            });
            let number = number.as_ref().and_then(|row| known(row, "value")).expect("a name");
            column(&rows(&trace, table), "function").into_iter().filter(|hit| *hit == number).count()
        };
        let hits = ["add", "factorial", "nap", "leave", "main"].map(|name| of("functions", name));
        assert_eq!(hits, [30, 10, 2, 4, 1]);
        // Of calls that are left by longjmp nothing returns.
        let calls = ["add", "factorial", "nap", "leave", "main"].map(|name| of("calls", name));
        assert_eq!(calls, [30, 10, 2, 1, 1]);
        let kind = super::trace::rows(&trace, "probe").into_iter().find(|row| bytes(row, "name") == b"calls");
        let kind = String::from_utf8_lossy(bytes(&kind.expect("it has a row"), "kind")).into_owned();
        assert_eq!(kind, if at == 0 && kernel_is(6, 6) { "uprobe-multi" } else { "uprobe" });
    }
}

#[test]
fn stripped_files_and_unknown_names_are_explained() {
    if !able() || !has("strip") {
        return;
    }
    let (program, _) = program("named-wrong");
    let of = |probe: &str| {
        let probe = probe.replace('@', program.to_str().expect("plain"));
        let output = Command::new(CAPTURE).args(["-o", "/dev/null", "--force", "-e", &probe]).output();
        let output = output.expect("capture runs");
        assert!(!output.status.success(), "{probe}");
        text(&output)
    };
    assert!(of("u:@:factoria").contains("the nearest name is factorial"), "{}", of("u:@:factoria"));
    assert!(of("usdt:@:tack").contains("the nearest name is tick"), "{}", of("usdt:@:tack"));
    assert!(of("t:sched:sched_swich").contains("the nearest name is sched_switch"));
    assert!(of("rt:sched_switch(prev->pidd)").contains("the nearest name is pid"));
    let strip = Command::new("strip").arg(&program).status();
    assert!(strip.is_ok_and(|status| status.success()));
    assert!(of("u:@:factorial").contains("has no function 'factorial'"), "{}", of("u:@:factorial"));
}

/// bpftrace beside a recording.
pub(super) struct Observer {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Observer {
    /// Returns when its probes are there.
    pub fn start(script: &str) -> Self {
        let script = format!("{script} BEGIN {{ printf(\"ready\\n\"); }}");
        let mut observer = Command::new("timeout");
        observer.args(["60", "bpftrace", "-e", &script]);
        let mut process = observer.stdout(Stdio::piped()).spawn().expect("bpftrace runs");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe"));
        while !super::support::line(&mut lines).contains("ready") {}
        Self { process, lines }
    }

    /// What it printed at its end.
    pub fn stop(mut self) -> String {
        super::support::signal(&self.process, libc::SIGTERM);
        let mut seen = String::new();
        self.lines.read_to_string(&mut seen).expect("text");
        self.process.wait().expect("our own child");
        seen
    }
}

#[test]
#[cfg(target_arch = "x86_64")] // 110 is getppid there
fn tracepoints_of_both_kinds_and_bpftrace_count_the_same() {
    if !able() || !has("bpftrace") {
        return;
    }
    let (program, trace) = program("named-tracepoints");
    let observer = Observer::start(
        "tracepoint:syscalls:sys_enter_getppid /comm == \"storm-counted\"/ { @n = count(); }",
    );
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-e", "t:syscalls:sys_enter_getppid"]);
    capture
        .args(["-e", "raw=rt:sys_enter(id) /id == 110/", "--"])
        .arg(&program)
        .args(["5000", "storm-counted"]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let seen = observer.stop();
    assert!(seen.contains("@n: 5000"), "{seen}");
    assert_eq!(rows(&trace, "sys_enter_getppid").len(), 5000);
    assert_eq!(rows(&trace, "raw").len(), 5000);
}

#[test]
fn the_list_has_the_fields_that_bpftrace_sees_and_the_functions_of_a_program() {
    if !able() || !has("bpftrace") {
        return;
    }
    let list = |pattern: &str| {
        let output = Command::new(CAPTURE).args(["--list", pattern]).output().expect("capture runs");
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for event in ["sched:sched_switch", "syscalls:sys_enter_openat", "task:task_newtask"] {
        let theirs = Command::new("bpftrace").args(["-lv", &format!("tracepoint:{event}")]).output();
        let theirs = String::from_utf8(theirs.expect("bpftrace runs").stdout).expect("UTF-8");
        let name = |line: &str| {
            line.trim().rsplit([' ', '*']).next().and_then(|n| n.split('[').next()).map(str::to_owned)
        };
        let mut theirs: Vec<String> = theirs.lines().skip(1).filter_map(name).collect();
        theirs.retain(|name| name != "__syscall_nr");
        let ours = list(event);
        let fields =
            ours.trim_end().strip_prefix(&format!("t:{event}(")).expect("one event").trim_end_matches(')');
        let ours: Vec<&str> = fields.split(", ").filter_map(|field| field.split(':').next()).collect();
        let ours: Vec<&str> = ours.into_iter().filter(|name| *name != "__syscall_nr").collect();
        assert_eq!(ours, theirs, "{event}");
    }
    let (program, _) = program("named-list");
    let program = program.to_str().expect("plain");
    assert_eq!(list(&format!("u:{program}:facto*")), format!("u:{program}:factorial(arg1, …)\n"));
    if cfg!(target_arch = "x86_64") {
        let probe = format!("usdt:{program}:tapedeck:tick(arg1: i32, arg2: u64)\n");
        assert_eq!(list(&format!("usdt:{program}:*")), probe);
    }
}

#[test]
fn what_the_recorder_does_before_it_runs_the_command_is_not_the_command_s() {
    if !able() {
        return;
    }
    let trace = record("named-exec", &["t:raw_syscalls:sys_enter(id)"], 10);
    let by_comm = analyze(&trace, &["funccount", "--by", "comm", "--format", "csv"]);
    let lines: Vec<&str> = by_comm.lines().skip(1).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("named,"), "{by_comm}");
    // All that strace sees after execve itself, exit_group included.
    let program = trace.with_file_name("named");
    if !has("strace") {
        return;
    }
    let mut strace = Command::new("strace");
    strace.args(["-qqf", "-e", "signal=none"]).arg(program).arg("10");
    let output = strace.output().expect("strace runs");
    let calls = text(&output).lines().filter(|line| line.contains('(')).count() - 1;
    assert!(lines[0].contains(&format!(",{calls},")), "strace sees {calls}: {by_comm}");
}

#[test]
fn what_a_bound_leaves_out_is_counted() {
    if !able() {
        return;
    }
    let probes = ["u:@:add(a=arg1) {max=100}", "calls=ur:@:add(a=arg1) {max=100}"];
    let trace = record("named-max", &probes, 4000);
    for table in ["add", "calls"] {
        let stored = rows(&trace, table).len() as i128;
        // A run takes less than two ticks of 2^30 ns, on a machine that has time.
        assert!((107..=108 * 8).contains(&stored), "{table}: {stored}");
        let left_out = total(&trace, table, "left_out");
        assert_eq!(stored + left_out, 4000, "{table}");
        let line = format!("{table}: {stored} rows, {left_out} left out by a bound, events, group named: ");
        assert!(analyze(&trace, &["info"]).contains(&line), "{line}");
    }
}

/// A library that only the process's own file system has, under a path that here is another file or none.
#[test]
fn a_library_inside_a_container_is_found_by_pid() {
    if !able() || !has("unshare") || !has("chroot") || !has("cc") {
        return;
    }
    let directory = scratch("named-container");
    let root = directory.join("root");
    std::fs::create_dir_all(root.join("inside")).expect("our own folder");
    std::fs::write(directory.join("library.c"), "long twice(long n) { return 2 * n; }")
        .expect("our own file");
    let source = "#include <stdio.h>\n#include <unistd.h>\nlong twice(long);\n\
        int main(void) { char c; puts(\"ready\"); fflush(stdout); if (read(0, &c, 1) < 0) return 1;\n\
        long sum = 0; for (long n = 0; n < 250; n++) sum += twice(n); return sum != 249 * 250; }";
    std::fs::write(directory.join("program.c"), source).expect("our own file");
    let cc = |words: &[&str]| {
        let built = Command::new("cc").args(words).current_dir(&directory).status();
        assert!(built.is_ok_and(|status| status.success()), "cc {words:?}");
    };
    cc(&["-O1", "-shared", "-fPIC", "-o", "root/inside/libours.so", "library.c"]);
    cc(&["-O1", "-o", "root/program", "program.c", "-Lroot/inside", "-lours", "-Wl,-rpath,/inside"]);
    let mounts = "mount --bind \"$0\" \"$0\" && mkdir -p \"$0/usr\" \"$0/lib\" \"$0/lib64\" && \
        for d in usr lib lib64; do mount --bind /$d \"$0/$d\" || exit 1; done; exec chroot \"$0\" /program";
    let mut process = Command::new("unshare")
        .args(["--mount", "sh", "-c", mounts])
        .arg(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe"));
    assert!(super::support::line(&mut lines).contains("ready"));
    let trace = directory.join("trace.bin");
    let pid = process.id().to_string();
    let record = |options: &[&str]| {
        let mut capture = Command::new(CAPTURE);
        capture.arg("-o").arg(&trace).args([
            "--force",
            "-d",
            "3s",
            "-e",
            "u:/inside/libours.so:twice(n=arg1)",
        ]);
        capture.args(options).stderr(Stdio::piped()).spawn().expect("capture runs")
    };
    let outside = record(&[]).wait_with_output().expect("it ends");
    assert!(!outside.status.success() && text(&outside).contains("/inside/libours.so"), "{}", text(&outside));
    let inside = record(&["-p", &pid]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    std::io::Write::write_all(&mut process.stdin.take().expect("a pipe"), b"\n").expect("it reads");
    assert!(process.wait().is_ok_and(|status| status.success()));
    let output = inside.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(column(&rows(&trace, "twice"), "n"), (0..250).collect::<Vec<_>>());
}

#[test]
fn an_argument_is_distributed_as_bpftrace_says() {
    if !able() || !has("bpftrace") {
        return;
    }
    let (program, trace) = program("named-argdist");
    let path = program.to_str().expect("plain");
    let observer = Observer::start(&format!("uprobe:{path}:add {{ @ = hist(arg0); }}"));
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-e", &format!("u:{path}:add(a=arg1, b=arg2:i32)"), "--", path]);
    let output = capture.arg("3000").output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let seen = observer.stop();
    // Of 4 on both have the same borders: `[4, 8)   4 |@|` and `4 -> 7 : 4 |*|`.
    let theirs = |line: &str| line.split_once(')')?.1.split_whitespace().next()?.parse().ok();
    let theirs: Vec<u64> =
        seen.lines().filter(|line| line.starts_with('[')).filter_map(theirs).skip(1).collect();
    let ours =
        |line: &str| line.split_once("->")?.1.split_once(':')?.1.split_whitespace().next()?.parse().ok();
    let page = analyze(&trace, &["argdist", "-H", "a"]);
    let ours: Vec<u64> = page.lines().filter_map(ours).skip(2).collect();
    assert!(ours.len() == 10 && theirs.ends_with(&ours), "{page}{seen}");
    assert!(analyze(&trace, &["argdist", "-C", "b", "--format", "csv"]).contains("-1,false,3000,100.0"));
}
