//! Which system calls, how many, how slow, by whom?
//!
//! ```text
//! $ analyze trace.bin syscount
//! syscall   calls  errors  total_us  avg_us  p50_us  p99_us    max_us  open
//! openat    12071      11  18412.11   1.525   1.298   4.301   181.302     0
//! read       8013       0   9120.40   1.138   0.790   3.012   911.012     1
//! ```
//!
//! A call is one that returned; those that had not when the recording ended are in `open` and nowhere
//! else. `exit` and `exit_group` never return. Calls that began before the recording are calls without a latency, and those that
//! span all of it are not seen. Errors are calls that
//! returned an error number.
//!
//! A recording without a filter adds calls up in the kernel, by process, number, error and power of
//! two of the latency, per interval (`capture --agg-interval`, 1 s). Counts, sums and the longest are
//! exact; a percentile is then the mean of the calls in the power of two that holds it, so the true one is less than a
//! factor of two away, and an interval of the result has the calls of the recorded intervals that end in it. Where each call was recorded (a filter, or `capture
//! --syscalls each`), percentiles are values that occurred.
//!
//! ```text
//! $ analyze trace.bin syscount --process --latency
//! $ analyze trace.bin syscount --failed --by syscall,errno
//! $ analyze trace.bin syscount --where "comm = 'nginx'" --interval 1s --hist
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::coarse::Place;
use crate::analyze::compat::{Line, Lines};
use crate::analyze::group::{Group, Grouping, Merge, join};
use crate::analyze::load::Scan;
use crate::analyze::quantile::Keep;
use crate::analyze::spread::{self, Pictures, Spread};
use crate::analyze::table::{Output, TIME};
use anyhow::Result;
use std::io;

/// System calls by number, process or error.
pub static REPORT: Report = Report {
    name: "syscount",
    question: "which system calls, how many, how slow, and by whom?",
    exactness: "calls that returned; counts, sums and the longest are exact",
    needs: &[Need::of("syscall", "syscalls"), Need::of("syscall_agg", "syscalls")],
    outputs: &[
        Output::count("calls", "", "calls that returned"),
        Output::count("errors", "", "those that returned an error number"),
        Output::decimal("total_us", "us", 3, "sum of their latencies"),
        Output::typical("avg_us", "us", 3, "mean latency"),
        Output::typical("p50_us", "us", 3, "median latency"),
        Output::typical("p99_us", "us", 3, "99th percentile; empty where the calls are too few for it"),
        Output::measure("max_us", "us", 3, "longest latency"),
        Output::count("open", "", "calls that had not returned when the recording ended"),
    ],
    defaults: Defaults { by: "syscall", sort: "calls", top: Some(10), interval: None },
    flags: &[
        Flag::switch("latency", "order by the sum of latencies").letter('L'),
        Flag::switch("failed", "only calls that returned an error").letter('x'),
        Flag::switch("process", "by process").letter('P'),
        Flag::switch("hist", "a histogram by powers of two for each row"),
    ],
    fit: None,
    run,
    compat: Some(compat),
};

/// What is known of the calls of a group.
#[derive(Default)]
struct Calls {
    count: u64,
    errors: u64,
    open: u64,
    latency: Spread,
}

impl Merge for Calls {
    fn merge(&mut self, later: Self) {
        self.count = self.count.saturating_add(later.count);
        self.errors = self.errors.saturating_add(later.errors);
        self.open = self.open.saturating_add(later.open);
        self.latency.merge(later.latency);
    }
}

fn run(context: &Context) -> Result<Answer> {
    let mut tables = Vec::new();
    let mut parts = Vec::new();
    for name in ["syscall_agg", "syscall"] {
        let empty = context.trace.rows_of(context.table(name)?.number) == 0;
        // One of the two is what the recording wrote; with neither, the answer is an empty table.
        if empty && (name == "syscall_agg" || !tables.is_empty()) {
            continue;
        }
        let (grouping, groups) = fold(context, name)?;
        tables.push((name, grouping));
        parts.push(groups);
    }
    let groups = join(parts);
    let (_, grouping) = tables.last().expect("one table is read even if it is empty");
    let mut answer = fill(context, grouping, groups)?;
    answer.sort = context.flag("latency").map(|_| "total_us");
    Ok(answer)
}

fn fold<'a>(context: &Context<'a>, table: &str) -> Result<(Grouping<'a>, Vec<Group<Calls>>)> {
    let mut scan = context.scan(table)?;
    let keep = context.keep(&[&scan]);
    if context.flag("failed").is_some() {
        let errno = scan.column("errno")?;
        scan = scan.only([errno], |[errno]| errno != Some(0));
    }
    let by = if context.flag("process").is_some() { "task" } else { context.report.defaults.by };
    let grouping = context.grouping_by(&scan, by)?;
    let groups = if table == "syscall" { each(&grouping, scan, &keep) } else { added_up(&grouping, scan) }?;
    Ok((grouping, groups))
}

fn each(grouping: &Grouping, mut scan: Scan, keep: &Keep) -> Result<Vec<Group<Calls>>> {
    let columns = scan.columns(["errno", "open", "latency"])?;
    Ok(grouping.sum(&scan, columns, |calls: &mut Calls, [errno, open, latency]| {
        if open == Some(1) {
            calls.open += 1;
            return;
        }
        calls.count += 1;
        calls.errors += u64::from(errno.unwrap_or(0) != 0);
        if let Some(latency) = latency.map(i64::cast_unsigned) {
            calls.latency.add(latency, latency, keep);
        }
    }))
}

fn added_up(grouping: &Grouping, mut scan: Scan) -> Result<Vec<Group<Calls>>> {
    let columns = scan.columns(["calls", "errno", "open", "slot", "total", "longest"])?;
    Ok(grouping.sum(&scan, columns, |calls: &mut Calls, [count, errno, open, slot, total, longest]| {
        let [number, total, longest] = [count, total, longest].map(|sum| sum.unwrap_or(0).cast_unsigned());
        if open == Some(1) {
            calls.open = calls.open.saturating_add(number);
            return;
        }
        calls.count = calls.count.saturating_add(number);
        let failed = errno.unwrap_or(0) != 0;
        calls.errors = calls.errors.saturating_add(if failed { number } else { 0 });
        if let Some(slot) = slot {
            calls.latency.add_up(Place::Slot(slot.cast_unsigned()), number, (total, longest));
        }
    }))
}

fn fill(context: &Context, grouping: &Grouping, mut groups: Vec<Group<Calls>>) -> Result<Answer> {
    let us = |ns: f64| ns / 1e3;
    let quantiles: Vec<[Option<f64>; 2]> =
        grouping.of_each(&mut groups, |calls| calls.latency.quantiles([0.5, 0.99]).map(|q| q.map(us)));
    let calls = || groups.iter().map(|group| &group.state);
    let latencies = || calls().map(|calls| &calls.latency);
    let mut table = context.keys(grouping, &groups);
    table
        .ints(context.output("calls"), calls().map(|calls| Some(calls.count)))
        .ints(context.output("errors"), calls().map(|calls| Some(calls.errors)))
        .floats(context.output("total_us"), latencies().map(Spread::total_us))
        .floats(context.output("avg_us"), latencies().map(|latency| latency.mean().map(us)))
        .floats(context.output("p50_us"), quantiles.iter().map(|of| of[0]))
        .floats(context.output("p99_us"), quantiles.iter().map(|of| of[1]))
        .floats(context.output("max_us"), latencies().map(|latency| latency.max().map(|ns| us(ns as f64))))
        .ints(context.output("open"), calls().map(|calls| Some(calls.open)));
    let mut answer = spread::remark(Answer::of(table.build()?), latencies());
    if context.flag("hist").is_some() {
        let which = Pictures::asked(context);
        spread::picture(&mut answer, grouping, &groups, |calls| &calls.latency, (which, "nsecs"));
    }
    Ok(answer)
}

/// As bcc's syscount prints it: the time with --latency alone, process or call as they were asked for.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let lines = Lines::of(answer);
    let process = lines.has("pid");
    let all: Vec<Line> = lines.iter().collect();
    for screen in all.chunk_by(|a, b| a.int(TIME) == b.int(TIME)) {
        if lines.has(TIME) {
            writeln!(out, "[{}]", screen[0].time(&context.trace.clock))?;
        }
        write!(out, "{:<22} {:>8}", if process { "PID    COMM" } else { "SYSCALL" }, "COUNT")?;
        let latency = context.flag("latency").is_some();
        writeln!(out, "{}", if latency { format!(" {:>16}", "TIME (us)") } else { String::new() })?;
        for line in screen {
            if process {
                write!(out, "{:<6} {:<15}", line.int("pid"), line.text("comm"))?;
            } else {
                write!(out, "{:<22}", line.text("syscall"))?;
            }
            write!(out, " {:>8}", line.int("calls"))?;
            let time = format!(" {:>16.3}", line.float("total_us"));
            writeln!(out, "{}", if latency { time } else { String::new() })?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn empty() -> Tape {
        let mut tape = Tape::new();
        let head = ["ts:u64", "cpu:u16"];
        let each = [
            "tid:u32>task",
            "syscall:u16=syscall",
            "errno:u16=errno",
            "open:u32",
            "ret:u64",
            "latency:u64^ns",
        ];
        tape.table("syscall", &[&head[..], &each].concat());
        let sums = ["since:u64", "tgid:u32>task", "syscall:u16=syscall", "errno:u16=errno"];
        let more = ["slot:u32", "open:u32", "calls:u64", "total:u64?ns", "longest:u64?ns"];
        tape.table("syscall_agg", &[&head[..], &sums, &more].concat());
        tape.task(0, 70, 70, "web").task(0, 80, 80, "db");
        for (value, label) in [(0u64, "read"), (1, "write")] {
            tape.push("enum", vec!["syscall".into(), value.into(), label.into()]);
        }
        tape
    }

    /// 100 reads of two latencies and a failed write in the first second, two reads in the next.
    fn sums() -> Tape {
        let mut tape = empty();
        let row = |tape: &mut Tape, at, who, what: [i64; 4], sums: [i64; 3]| {
            let [syscall, errno, slot, open] = what;
            let [calls, total, longest] = sums;
            tape.event("syscall_agg", at, [0, who, syscall, errno, slot, open, calls, total, longest]);
        };
        row(&mut tape, 700 * MS, 70, [0, 0, 10, 0], [60, 90_000, 2_000]);
        row(&mut tape, 700 * MS, 80, [0, 0, 12, 0], [40, 200_000, 8_000]);
        row(&mut tape, 700 * MS, 70, [1, 11, 8, 0], [1, 300, 300]);
        row(&mut tape, 1_700 * MS, 70, [0, 0, 10, 0], [2, 2_200, 1_200]);
        row(&mut tape, 1_700 * MS, 70, [0, 0, 30, 1], [1, 1_500_000_000, 1_500_000_000]);
        tape
    }

    fn lines(tape: &Tape, args: &[&str]) -> Vec<String> {
        let all: Vec<&str> = ["syscount", "--format", "csv"].iter().chain(args).copied().collect();
        let (exit, out, messages) = tape.run(&all);
        assert_eq!(exit, 0, "{messages}");
        out.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn sums_add_up_and_percentiles_are_means_of_their_slot() {
        assert_eq!(
            lines(&sums(), &[]),
            [
                "read,false,102,0,292.2,2.8647058823529408,1.4870967741935484,5.0,8.0,1",
                "write,false,1,1,0.3,0.3,0.3,,0.3,0"
            ]
        );
        assert_eq!(
            lines(&sums(), &["--process"])[0],
            "70,web,false,63,1,92.5,1.4682539682539681,1.4870967741935484,,2.0,1"
        );
        assert_eq!(lines(&sums(), &["--failed", "--by", "errno"]), ["11,false,1,1,0.3,0.3,0.3,,0.3,0"]);
        assert_eq!(lines(&sums(), &["--interval", "1s"]).len(), 3);
        assert_eq!(lines(&sums(), &["--process", "--latency"])[0].split(',').next(), Some("80"));
        assert_eq!(lines(&sums(), &["--where", "comm = 'db'"])[0].split(',').nth(2), Some("40"));
    }

    #[test]
    fn each_call_gives_percentiles_that_occurred() {
        let mut tape = empty();
        for at in 1..=100u64 {
            tape.event("syscall", 5 * at * MS, [70, 0, 0, 0, 8, at.cast_signed() * 1000]);
        }
        tape.event("syscall", 600 * MS, [70, 1, 11, 0, -11, 0]).event(
            "syscall",
            700 * MS,
            [70, 0, 0, 1, 0, 9 * 1_000_000],
        );
        assert_eq!(
            lines(&tape, &[]),
            ["read,false,100,0,5050.0,50.5,50.0,99.0,100.0,1", "write,false,1,1,,,,,,0"]
        );
        let (_, out, _) = tape.run(&["syscount", "--hist"]);
        assert!(out.contains("65536 -> 131071    : 35 "), "{out}");
        let (_, out, _) = sums().run(&["syscount", "--hist", "--top", "1"]);
        assert!(out.contains("\nsyscall = read\n") && !out.contains("\nsyscall = write\n"), "{out}");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = sums().run(&["syscount", "--compat"]).1;
        assert!(
            out.starts_with("SYSCALL                   COUNT\nread                        102\n"),
            "{out}"
        );
        let out = sums().run(&["syscount", "--compat", "--process", "--latency"]).1;
        assert!(out.contains("PID    COMM               COUNT        TIME (us)\n80     db                    40          200.000\n"), "{out}");
    }
}
