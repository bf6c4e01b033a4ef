//! Hits that the kernel adds up (`{count}`, `{hist}`), on a program whose calls are known to the last, and beside bpftrace.

use super::named::{Observer, able, column, program, record};
use super::profile::analyze;
use super::support::{CAPTURE, has, text};
use super::trace::{known, number, rows, total};
use std::path::Path;
use std::process::Command;

/// The lines of a report, without its head.
fn lines(trace: &Path, words: &[&str]) -> Vec<String> {
    let page = analyze(trace, &[words, &["--format", "csv"]].concat());
    page.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn counts_are_those_of_the_program_by_process_argument_and_outcome() {
    if !able() {
        return;
    }
    let probes = [
        "all=u:@:add {count}",
        "by=u:@:add(b=arg2:i32, a=arg1) /a < 90/ {hist=a}",
        "calls=ur:@:add(a=arg1) /a < 3/ {count}",
        "text=ur:@:greet {count, ret=str[8]}",
        "tick=usdt:@:tapedeck:tick(n=arg1) /n < -2/ {count}",
    ];
    let trace = record("sums-count", &probes, 500);
    let hits = |probe: &str| column(&rows(&trace, probe), "hits").iter().sum::<i128>();
    assert_eq!((hits("all"), hits("by"), hits("calls"), hits("text")), (500, 90, 3, 1));
    assert_eq!(lines(&trace, &["argdist", "-C", "b", "--probe", "by"]), ["-1,false,90,100.0"]);
    // What add returns is positive, and only its sign is kept.
    assert_eq!(lines(&trace, &["argdist", "-C", "ret", "--probe", "calls"]), ["1,false,3,100.0"]);
    let by_comm = lines(&trace, &["funccount", "--probe", "all,calls", "--by", "comm,function"]);
    assert!(by_comm[0].starts_with("named,add,false,503,"), "{by_comm:?}");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(column(&rows(&trace, "tick"), "n").len(), 3);
    }
    // A call takes some time, and its sum and the longest are there without a histogram.
    let row = &rows(&trace, "calls")[0];
    assert!(number(row, "latency_sum") > 0 && number(row, "latency_max") > 0);
    assert!(number(row, "since") <= number(row, "ts"));
}

#[test]
fn histograms_have_each_call_and_recursion_is_right() {
    if !able() {
        return;
    }
    let probes = [
        "ur:@:nap(ms=arg1) {hist}",
        "ur:@:factorial {hist}",
        "n=ur:@:factorial(n=arg1) {hist=n}",
        "ret=ur:@:factorial {hist=ret}",
        "b=u:@:add(b=arg2:i32) {hist=b}",
    ];
    let trace = record("sums-hist", &probes, 40);
    let naps = rows(&trace, "nap");
    let mut asked = column(&naps, "ms");
    asked.sort_unstable();
    assert_eq!(asked, [5, 30]);
    for row in &naps {
        let (took, slot) = (number(row, "latency_sum"), number(row, "latency_log2"));
        let asked = number(row, "ms") * 1_000_000;
        assert!((asked..asked + 1_000_000_000).contains(&took), "{took}");
        assert_eq!((number(row, "latency_max"), took >> slot), (took, 1));
    }
    let calls = lines(&trace, &["funclatency", "--probe", "nap,factorial"]);
    let count = |name: &str| calls.iter().find(|line| line.starts_with(name)).expect(name).split(',').nth(2);
    assert_eq!((count("nap"), count("factorial")), (Some("2"), Some("10")));
    // n is 1 to 10: 1 | 2 3 | 4 to 7 | 8 9 10.
    let of = |table: &str, name: &str| {
        let mut of: Vec<(i128, i128)> =
            rows(&trace, table).iter().map(|row| (number(row, name), number(row, "hits"))).collect();
        of.sort_unstable();
        of
    };
    assert_eq!(of("n", "n_log2"), [(0, 1), (1, 2), (2, 4), (3, 3)]);
    assert_eq!(column(&rows(&trace, "n"), "n_sum").iter().sum::<i128>(), 55);
    assert_eq!(
        column(&rows(&trace, "ret"), "ret_sum").iter().sum::<i128>(),
        (1..=10).map(|n| (1..=n).product::<i128>()).sum::<i128>()
    );
    assert_eq!(column(&rows(&trace, "ret"), "ret_max").iter().max(), Some(&3_628_800));
    // -1 has no power of two.
    let negative = rows(&trace, "b");
    assert_eq!((negative.len(), number(&negative[0], "hits"), known(&negative[0], "b_log2")), (1, 40, None));
}

#[test]
fn an_interval_has_its_own_hits_and_none_is_between_two() {
    if !able() {
        return;
    }
    let (program, trace) = program("sums-interval");
    let path = program.to_str().expect("plain");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["--agg-interval", "50ms", "-e", &format!("u:{path}:add {{count}}")]);
    let output = capture.args(["--", path, "60000"]).output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let rows = rows(&trace, "add");
    assert!(rows.len() > 2, "it takes several intervals: {}", rows.len());
    assert_eq!(column(&rows, "hits").iter().sum::<i128>(), 60_000);
    let mut ends = column(&rows, "ts");
    ends.dedup();
    let mut begins = column(&rows, "since");
    begins.dedup();
    assert!(ends.iter().zip(&begins[1..]).all(|(end, next)| end < next), "{begins:?} {ends:?}");
}

#[test]
fn a_hit_that_finds_the_map_full_is_counted() {
    if !able() {
        return;
    }
    let (program, trace) = program("sums-full");
    let path = program.to_str().expect("plain");
    let mut capture = Command::new(CAPTURE);
    let probe = format!("u:{path}:add(a=arg1) {{count}}");
    capture.arg("-o").arg(&trace).args(["--agg-interval", "60s", "-e", &probe, "--", path, "20000"]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    let stored = column(&rows(&trace, "add"), "hits").iter().sum::<i128>();
    let lost = total(&trace, "add", "state_full");
    assert!(lost >= 20_000 - 16_384 && stored + lost == 20_000, "{stored} stored, {lost} lost");
    assert!(analyze(&trace, &["funccount"]).contains('≥'), "a lower bound");
}

#[test]
#[cfg(target_arch = "x86_64")] // 110 is getppid there
fn tracepoints_and_functions_add_up_as_bpftrace_does() {
    if !able() || !has("bpftrace") {
        return;
    }
    let (program, trace) = program("sums-bpftrace");
    let path = program.to_str().expect("plain");
    let observer = Observer::start(&format!(
        "tracepoint:syscalls:sys_enter_getppid /comm == \"storm-added\"/ {{ @n = count(); }} \
         uprobe:{path}:add {{ @a = hist(arg0); }} uretprobe:{path}:add {{ @r = count(); }}"
    ));
    let record = |name: &str, words: &[&str]| {
        let trace = trace.with_file_name(name);
        let mut capture = Command::new(CAPTURE);
        capture.arg("-o").arg(&trace).args(["-e", "t:syscalls:sys_enter_getppid {count}"]);
        capture.args(["-e", "raw=rt:sys_enter(id) /id == 110/ {count}"]);
        capture.args(["-e", &format!("u:{path}:add(a=arg1) {{hist=a}}")]);
        capture.args(["-e", &format!("calls=ur:{path}:add {{hist}}"), "--", path]).args(words);
        let output = capture.output().expect("capture runs");
        assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
        trace
    };
    let (storm, calls) = (record("storm.bin", &["5000", "storm-added"]), record("calls.bin", &["3000"]));
    let seen = observer.stop();
    assert!(seen.contains("@n: 5000") && seen.contains("@r: 3000"), "{seen}");
    for probe in ["sys_enter_getppid", "raw"] {
        assert_eq!(column(&rows(&storm, probe), "hits").iter().sum::<i128>(), 5000, "{probe}");
    }
    assert!(lines(&calls, &["funclatency"])[0].starts_with("add,false,3000,"));
    // Of 4 on both have the same borders: `[4, 8)   4 |@|` and `4 -> 7 : 4 |*|`.
    let theirs = |line: &str| line.split_once(')')?.1.split_whitespace().next()?.parse().ok();
    let theirs: Vec<u64> =
        seen.lines().filter(|line| line.starts_with('[')).filter_map(theirs).skip(1).collect();
    let ours =
        |line: &str| line.split_once("->")?.1.split_once(':')?.1.split_whitespace().next()?.parse().ok();
    let page = analyze(&calls, &["argdist", "-H", "a"]);
    let ours: Vec<u64> = page.lines().filter_map(ours).skip(2).collect();
    assert!(ours.len() == 10 && theirs.ends_with(&ours), "{page}{seen}");
}
