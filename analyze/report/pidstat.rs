//! What does each process use?
//!
//! ```text
//! $ analyze trace.bin pidstat
//! uid   pid  comm   usr_pct  system_pct  guest_pct  wait_pct  cpu_pct  cpu
//!   0  4711  cc1      61.20        4.10       0.00      2.31    65.30    1
//!   0  4702  make      0.40        0.90       0.00      0.02     1.30    0
//! ```
//!
//! Over the whole span, or per `--interval` as the live tool prints it. `-u` (the default) CPU, `-r` faults and memory, `-d`
//! bytes from and to disks and the wait for them, `-w` switches, `-v` threads and descriptors, `-s` stacks, `-R` priorities;
//! `-t` a row for each thread, `-p PID,…` these processes only. Processes that did nothing in an interval have no row in it.
//!
//! A recording has a row of counters for each thread at each snapshot (`capture --stat-interval`) and at the
//! thread's end, so threads that live between two snapshots count too. Shares and rates are differences divided by
//! the length of the interval; a difference belongs to the interval of its middle, so use multiples of the
//! snapshots'. CPU time is exact; user and system share it as the kernel's own accounting does. Memory, threads and
//! descriptors are means of the snapshots.
//!
//! ```text
//! $ analyze trace.bin pidstat -r -d --interval 1s
//! $ analyze trace.bin pidstat --compat --interval 1s       with averages at the end
//! $ analyze trace.bin pidstat -t --where "comm = 'postgres'"
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Line, Lines};
use crate::analyze::error::Failure;
use crate::analyze::group::{Group, Grouping, Merge};
use crate::analyze::ids::Key;
use crate::analyze::load::{Chunk, Scan};
use crate::analyze::rows::Rows;
use crate::analyze::sysstat;
use crate::analyze::table::{Builder, Output, TIME, Table};
use anyhow::Result;
use std::collections::BTreeMap;
use std::io;

/// What processes and threads use.
pub static REPORT: Report = Report {
    name: "pidstat",
    question: "how much CPU, memory and I/O does each process use?",
    exactness: "differences of the kernel's counters at snapshots and at each thread's end; a difference belongs to the interval of its middle",
    needs: &[Need::of("task_stat", "stat")],
    outputs: &[
        Output::decimal("usr_pct", "%", 2, "-u: user CPU time, of one CPU"),
        Output::decimal("system_pct", "%", 2, "-u: system CPU time"),
        Output::decimal(
            "guest_pct",
            "%",
            2,
            "-u: for virtual machines, as the kernel accounts it; part of usr_pct",
        ),
        Output::decimal("wait_pct", "%", 2, "-u: waiting for a CPU"),
        Output::decimal("cpu_pct", "%", 2, "-u: user and system"),
        Output::new("cpu", "", "-u: where it ran last"),
        Output::decimal("minflt_s", "1/s", 2, "-r: faults without I/O"),
        Output::decimal("majflt_s", "1/s", 2, "-r: faults with I/O"),
        Output::measure("vsz_kb", "KiB", 0, "-r: address space"),
        Output::measure("rss_kb", "KiB", 0, "-r: memory in use"),
        Output::decimal("rd_kb_s", "KiB/s", 2, "-d: read from disks"),
        Output::decimal("wr_kb_s", "KiB/s", 2, "-d: to be written to disks"),
        Output::decimal("ccwr_kb_s", "KiB/s", 2, "-d: not to be written after all"),
        Output::measure("iodelay_ms", "ms", 3, "-d: waiting for disks; empty without delay accounting"),
        Output::decimal("cswch_s", "1/s", 2, "-w: switches because it had to wait"),
        Output::decimal("nvcswch_s", "1/s", 2, "-w: switches because another was to run"),
        Output::measure("threads", "", 0, "-v: threads"),
        Output::measure("fds", "", 0, "-v: open descriptors"),
        Output::measure("stk_kb", "KiB", 0, "-s: reserved for the stack"),
        Output::new("prio", "", "-R: real-time priority, at the end; 0: none"),
        Output::new("policy", "", "-R: of the scheduler, at the end"),
    ],
    defaults: Defaults { by: "uid,pid,comm", sort: "", top: None, interval: None },
    flags: &[
        Flag::switch("u", "CPU; the default"),
        Flag::switch("r", "page faults and memory"),
        Flag::switch("d", "disk I/O"),
        Flag::switch("w", "switches"),
        Flag::switch("v", "threads and descriptors"),
        Flag::switch("s", "stacks"),
        Flag::switch("R", "real-time priority and policy"),
        Flag::switch("t", "a row for each thread"),
        Flag::valued("p", "PID", "only these processes, separated by commas"),
    ],
    fit: None,
    run,
    compat: Some(compat),
};

/// The counters of a row, by the column that they come from; the first two are made of three.
const COUNTERS: [&str; 12] = [
    "utime",
    "stime",
    "guest",
    "wait",
    "io_wait",
    "minor_faults",
    "major_faults",
    "voluntary",
    "involuntary",
    "read",
    "written",
    "cancelled",
];
/// Levels: their mean counts, not their difference.
const LEVELS: [&str; 5] = ["vsz", "rss", "threads", "fds", "stack"];
/// What holds until it changes: the last value counts.
const STATES: [&str; 3] = ["processor", "priority", "policy"];

/// One row.
#[derive(Clone)]
struct Sample {
    tid: u64,
    start: u64,
    ts: u64,
    tgid: u64,
    key: Key,
    counters: [Option<u64>; COUNTERS.len()],
    levels: [Option<u64>; LEVELS.len()],
    states: [u64; STATES.len()],
}

/// What a group used.
#[derive(Default)]
struct Used {
    counters: [Option<u64>; COUNTERS.len()],
    /// Sum and number of the levels seen, per process.
    levels: BTreeMap<u64, [(u64, u64); LEVELS.len()]>,
    /// When it was seen last, and how it was then.
    last: (u64, [u64; STATES.len()]),
}

impl Merge for Used {
    fn merge(&mut self, later: Self) {
        for (sum, more) in self.counters.iter_mut().zip(later.counters) {
            *sum = more.map_or(*sum, |more| Some(sum.unwrap_or(0) + more));
        }
        for (process, levels) in later.levels {
            let sums = self.levels.entry(process).or_default();
            sums.iter_mut().zip(levels).for_each(|(sum, more)| *sum = (sum.0 + more.0, sum.1 + more.1));
        }
        self.last = self.last.max(later.last);
    }
}

impl Used {
    fn counter(&self, name: &str) -> Option<f64> {
        let at = COUNTERS.iter().position(|counter| *counter == name)?;
        self.counters[at].map(|sum| sum as f64)
    }

    fn level(&self, name: &str) -> Option<f64> {
        let at = LEVELS.iter().position(|level| *level == name)?;
        let known = self.levels.values().filter(|levels| levels[at].1 > 0);
        known.map(|levels| levels[at].0 as f64 / levels[at].1 as f64).reduce(|a, b| a + b)
    }

    fn is_idle(&self) -> bool {
        self.counters.iter().all(|sum| sum.unwrap_or(0) == 0)
    }
}

fn run(context: &Context) -> Result<Answer> {
    let interval = context.options.interval(context.report.defaults.interval)?;
    Ok(Answer::of(table(context, interval)?))
}

/// In intervals of so many ns; `None`: over the whole span.
fn table(context: &Context, interval: Option<u64>) -> Result<Table> {
    let mut scan = context.scan("task_stat")?;
    if let Some(words) = context.flag("p") {
        let wanted: Vec<u64> =
            words.split(',').map(|word| word.trim().parse()).collect::<Result<_, _>>().map_err(|_| {
                Failure::usage(format!("-p {words}: expected process ids, separated by commas"))
            })?;
        let tgid = scan.column("tgid")?;
        scan = scan.keeping(move |rows, row| wanted.contains(&rows.raw(tgid, row)));
    }
    let by = if context.flag("t").is_some() { "uid,pid,comm,tid" } else { context.report.defaults.by };
    let grouping = context.grouping_in(&scan, context.options.by.as_deref().unwrap_or(by), interval)?;
    let samples = gather(&grouping, &scan)?;
    // Who had begun when a row was taken is whom that row is about; rows from /proc have the begin in hundredths of a second.
    let threads = samples.chunk_by(|a, b| a.tid == b.tid && b.start <= a.ts);
    let parts = threads.flat_map(|thread| differences(context, &grouping, thread));
    let mut groups = grouping.collect(parts);
    groups.retain(|group| !group.state.is_idle());
    let mut table = context.keys(&grouping, &groups);
    fill(context, &grouping, &groups, &mut table);
    table.build()
}

/// All rows, by thread and time.
fn gather(grouping: &Grouping, scan: &Scan) -> Result<Vec<Sample>> {
    let mut scan = grouping.with_keys(scan);
    let [tid, start, ts, tgid] = columns(&mut scan, ["tid", "start", "ts", "tgid"])?;
    let counters = columns(&mut scan, COUNTERS)?;
    let levels = columns(&mut scan, LEVELS)?;
    let [runtime] = columns(&mut scan, ["runtime"])?;
    let states = columns(&mut scan, STATES)?;
    let sample = |rows: &Rows, row: usize| {
        let value = |column| rows.get(column, row).map(i64::cast_unsigned);
        let mut counters = counters.map(value);
        let (user, system) =
            shares(counters[0].unwrap_or(0), counters[1].unwrap_or(0), rows.raw(runtime, row));
        (counters[0], counters[1]) = (Some(user), Some(system));
        Sample {
            tid: rows.raw(tid, row),
            start: rows.raw(start, row),
            ts: rows.raw(ts, row),
            tgid: rows.raw(tgid, row),
            key: grouping.key(rows, row),
            counters,
            levels: levels.map(value),
            states: states.map(|column| rows.raw(column, row)),
        }
    };
    let fold =
        |all: &mut Vec<_>, chunk: &Chunk| all.extend(chunk.each().map(|row| sample(chunk.rows(), row)));
    let mut samples = scan.fold(Vec::new, fold, Extend::extend);
    samples.sort_by_key(|sample| (sample.tid, sample.ts));
    Ok(samples)
}

fn columns<const N: usize>(scan: &mut Scan, names: [&str; N]) -> Result<[usize; N]> {
    let mut found = [0; N];
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = scan.column(name)?;
    }
    Ok(found)
}

/// The exact CPU time, shared out as what was counted by the tick; the kernel does the same for /proc.
fn shares(user: u64, system: u64, runtime: u64) -> (u64, u64) {
    let ticks = u128::from(user) + u128::from(system);
    if ticks == 0 {
        return (runtime, 0);
    }
    let system = (u128::from(runtime) * u128::from(system) / ticks) as u64;
    (runtime - system, system)
}

/// What a thread used from row to row; from its creation on, if that was in the recording.
fn differences(context: &Context, grouping: &Grouping, rows: &[Sample]) -> Vec<(Key, Used)> {
    let first = &rows[0];
    let zero = Sample { ts: first.start, counters: [Some(0); COUNTERS.len()], ..first.clone() };
    let born = first.start >= context.trace.span.from && first.start >= context.window.from;
    let rows: Vec<&Sample> = born.then_some(&zero).into_iter().chain(rows).collect();
    let part = |pair: &[&Sample]| {
        let (before, after) = (pair[0], pair[1]);
        let mut used = Used { last: (after.ts, after.states), ..Used::default() };
        for (at, sum) in used.counters.iter_mut().enumerate() {
            // User and system time may each fall a little when their sum is shared out anew.
            *sum = after.counters[at]
                .zip(before.counters[at])
                .map(|(after, before)| after.saturating_sub(before));
        }
        used.levels
            .insert(after.tgid, after.levels.map(|level| (level.unwrap_or(0), u64::from(level.is_some()))));
        let middle = u64::midpoint(before.ts, after.ts);
        (after.key.in_bin(grouping.bins.of(middle)), used)
    };
    rows.windows(2).map(part).collect()
}

fn fill(context: &Context, grouping: &Grouping, groups: &[Group<Used>], table: &mut Builder) {
    let asked = |flag| context.flag(flag).is_some();
    let all = !["u", "r", "d", "w", "v", "s", "R"].into_iter().any(asked);
    let mut floats = |name: &str, value: &dyn Fn(&Used) -> Option<f64>, scale: Option<f64>| {
        let seconds = |group| scale.map_or(1.0, |scale| Context::seconds(grouping, group) * scale);
        let of = |group| Some(seconds(group)).filter(|&seconds| seconds > 0.0);
        let values = groups.iter().map(|group| Some(value(&group.state)? / of(group)?));
        table.floats(context.output(name), values);
    };
    let counter = |name: &'static str| move |used: &Used| used.counter(name);
    let level = |name: &'static str, unit: f64| move |used: &Used| used.level(name).map(|level| level / unit);
    let percent = Some(1e7);
    if all || asked("u") {
        floats("usr_pct", &counter("utime"), percent);
        floats("system_pct", &counter("stime"), percent);
        floats("guest_pct", &counter("guest"), percent);
        floats("wait_pct", &counter("wait"), percent);
        floats("cpu_pct", &|used| Some(used.counter("utime")? + used.counter("stime")?), percent);
    }
    if asked("r") {
        floats("minflt_s", &counter("minor_faults"), Some(1.0));
        floats("majflt_s", &counter("major_faults"), Some(1.0));
        floats("vsz_kb", &level("vsz", 1024.0), None);
        floats("rss_kb", &level("rss", 1024.0), None);
    }
    if asked("d") {
        floats("rd_kb_s", &counter("read"), Some(1024.0));
        floats("wr_kb_s", &counter("written"), Some(1024.0));
        floats("ccwr_kb_s", &counter("cancelled"), Some(1024.0));
        floats("iodelay_ms", &|used| used.counter("io_wait").map(|ns| ns / 1e6), None);
    }
    if asked("w") {
        floats("cswch_s", &counter("voluntary"), Some(1.0));
        floats("nvcswch_s", &counter("involuntary"), Some(1.0));
    }
    if asked("v") {
        floats("threads", &level("threads", 1.0), None);
        floats("fds", &level("fds", 1.0), None);
    }
    if asked("s") {
        floats("stk_kb", &level("stack", 1024.0), None);
    }
    let last = || groups.iter().map(|group| group.state.last.1);
    if all || asked("u") {
        table.ints(context.output("cpu"), last().map(|[processor, ..]| Some(processor)));
    }
    if asked("R") {
        // The scheduler's own numbers: below 100 they are real time, the most urgent first.
        table.ints(
            context.output("prio"),
            last().map(|[_, priority, _]| Some(99u64.saturating_sub(priority))),
        );
        table.texts(context.output("policy"), last().map(|[.., policy]| Some(sysstat::policy(policy))));
    }
}

/// As sysstat's pidstat prints it.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let intervals = Lines::of(answer);
    if !intervals.has(TIME) {
        return sysstat::print("Average:", &intervals, out);
    }
    let all: Vec<Line> = intervals.iter().collect();
    for screen in all.chunk_by(|a, b| a.int(TIME) == b.int(TIME)) {
        sysstat::print_rows(&screen[0].time(&context.trace.clock), &intervals, screen, out)?;
    }
    let average = Answer::of(table(context, None).map_err(io::Error::other)?);
    sysstat::print("Average:", &Lines::of(&average), out)
}

#[cfg(test)]
mod tests {
    use super::shares;
    use crate::analyze::testkit::{START, Tape};

    const MS: i64 = 1_000_000;

    /// A worker that runs from before the start and one that lives for half a second.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        let head = [
            "ts:u64",
            "cpu:u16",
            "exited:u32",
            "tgid:u32>task",
            "tid:u32>task",
            "start:u64",
            "runtime:u64?ns",
        ];
        let counters = super::COUNTERS.map(|name| format!("{name}:u64"));
        let levels = super::LEVELS.map(|name| format!("{name}:u64"));
        let columns: Vec<&str> = head
            .into_iter()
            .chain(counters.iter().map(String::as_str))
            .chain(levels.iter().map(String::as_str))
            .chain(["processor:u32", "priority:u32", "policy:u32"])
            .collect();
        tape.table("task_stat", &columns);
        tape.task(0, 70, 70, "web").task(0, 80, 80, "short");
        let row = |tape: &mut Tape, at: i64, who: i64, start: i64, cpu: i64, faults: i64| {
            let counters = [3 * cpu / 4, cpu / 4, 0, cpu / 10, 0, faults, 0, 10, 5, 4096, 8192, 0];
            let ids = [0, who, who, start, cpu];
            let levels = [1 << 20, 1 << 19, 1, 7, 135_168, 1, 89, 1];
            let cells: Vec<i64> = ids.into_iter().chain(counters).chain(levels).collect();
            tape.event::<25>("task_stat", at as u64, cells.try_into().expect("25 cells"));
        };
        row(&mut tape, 0, 70, 5, 900 * MS, 100);
        row(&mut tape, 750 * MS, 70, 5, 1_200 * MS, 150);
        row(&mut tape, 1_250 * MS, 80, START.cast_signed() + 750 * MS, 100 * MS, 40);
        row(&mut tape, 1_750 * MS, 70, 5, 1_200 * MS, 150);
        row(&mut tape, 2_750 * MS, 70, 5, 1_700 * MS, 250);
        tape
    }

    fn lines(args: &[&str]) -> Vec<String> {
        let all: Vec<&str> = ["pidstat", "--format", "csv"].iter().chain(args).copied().collect();
        let (exit, out, messages) = tape().run(&all);
        assert_eq!(exit, 0, "{messages}");
        out.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn differences_are_shares_of_their_interval_and_idle_ones_are_left_out() {
        assert_eq!(
            lines(&["--interval", "1s"])
                .iter()
                .map(|line| line.split_once(',').expect("time").1)
                .collect::<Vec<_>>(),
            [
                "0,70,web,false,30.0,10.0,0.0,4.0,40.0,1",
                "0,80,short,false,7.5,2.5,0.0,1.0,10.0,1",
                "0,70,web,false,37.5,12.5,0.0,5.0,50.0,1"
            ]
        );
        assert_eq!(lines(&["-r", "-p", "80"]).len(), 1);
        assert_eq!(lines(&["-v", "-t", "-p", "70"]), ["0,70,web,70,false,1.0,7.0"]);
        assert_eq!(lines(&["-s", "-R", "-p", "70"]), ["0,70,web,false,132.0,10,FIFO"]);
        assert_eq!(tape().run(&["pidstat", "-p", "x"]).0, 2);
    }

    #[test]
    fn the_exact_time_is_shared_out_by_ticks() {
        assert_eq!(shares(30, 10, 4_000), (3_000, 1_000));
        assert_eq!(shares(0, 0, 77), (77, 0));
        assert_eq!(shares(u64::MAX, u64::MAX, u64::MAX), (u64::MAX / 2 + 1, u64::MAX / 2));
    }

    #[test]
    fn the_layout_of_sysstat_is_there_too() {
        let out = tape().run(&["pidstat", "--compat", "--interval", "1s"]).1;
        let expected = concat!(
            "12:01:07      UID       PID    %usr %system  %guest   %wait    %CPU   CPU  Command\n",
            "12:01:07        0        70   30.00   10.00    0.00    4.00   40.00     1  web\n\n",
        );
        assert!(out.starts_with(expected), "{out}");
        let (_, average) = out.split_once("\nAverage:").expect("a block for the whole span");
        let lines: Vec<&str> = average.lines().skip(1).collect();
        let expected = [
            "Average:        0        70   21.82    7.27    0.00    2.91   29.09     -  web",
            "Average:        0        80    2.73    0.91    0.00    0.36    3.64     -  short",
        ];
        assert_eq!(lines, [expected[0], expected[1], ""], "{out}");
        let whole = tape().run(&["pidstat", "--compat"]).1;
        assert!(whole.starts_with("Average:") && whole.contains(expected[0]), "{whole}");
        let out = tape().run(&["pidstat", "--compat", "-s", "-R"]).1;
        assert!(out.contains("PID StkSize  Command\nAverage:        0        70     132  web\n"), "{out}");
        assert!(
            out.contains("  prio policy  Command\nAverage:        0        70    10   FIFO  web\n"),
            "{out}"
        );
        assert!(
            tape()
                .run(&["pidstat", "--compat", "-w"])
                .1
                .starts_with("Average:      UID       PID   cswch/s nvcswch/s")
        );
    }
}
