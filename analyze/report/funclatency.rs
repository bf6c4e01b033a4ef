//! How long do calls of a function take?
//!
//! ```text
//! $ analyze trace.bin funclatency
//! function  calls  total_us  avg_us  p50_us  p90_us  p99_us    max_us
//! malloc     4011   3205.11   0.799   0.631   1.102   4.711    16.024
//! ```
//!
//! Calls are those of probes that record whole calls (`capture -e fx:…`, `kr:…`, `ur:…`), from entry to
//! return, what they call and wait for included. A recursive call is a call of its own, inside the outer one. Calls
//! that had not returned when the recording ended are not in it: a note counts them, and `events --table in_flight` lists
//! them. Calls that had begun before it are not seen at all: the kernel plants a return probe when a function is entered.
//! Percentiles are values that occurred; with `--hist` a histogram of each function by powers of two. Of calls that were added up in the kernel
//! counts, sums and the longest are exact: with `{hist}` a percentile is the mean of the power of two that holds it, with
//! `{count}` there is none; an interval has what the recorded intervals (1 s) that end in it have.
//!
//! ```text
//! $ analyze trace.bin funclatency --hist --where "comm = 'redis-server'"
//! $ analyze trace.bin funclatency --probe nap --interval 1s
//! ```

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::censored;
use crate::analyze::escape::visible;
use crate::analyze::group::{Group, Grouping, join};
use crate::analyze::named::{self, Probes};
use crate::analyze::named_sums::Measure;
use crate::analyze::rows::Value;
use crate::analyze::spread::{self, Pictures, Spread};
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Latency of the user's own probes.
pub static REPORT: Report = Report {
    name: "funclatency",
    question: "how long do calls of a function take?",
    exactness: "calls that returned, from entry to return; percentiles are values that occurred",
    needs: named::NEEDS,
    outputs: &[
        Output::count("calls", "", "calls that returned"),
        Output::measure("total_us", "us", 3, "sum of their latencies"),
        Output::measure("avg_us", "us", 3, "mean latency"),
        Output::measure("p50_us", "us", 3, "median latency"),
        Output::measure("p90_us", "us", 3, "90th percentile; empty where the calls are too few for it"),
        Output::measure("p99_us", "us", 3, "99th percentile"),
        Output::measure("max_us", "us", 3, "longest latency"),
    ],
    defaults: Defaults { by: "function", sort: "total_us", top: None, interval: None },
    flags: &[named::PROBE, Flag::switch("hist", "a histogram by powers of two for each row")],
    fit: Some(|trace| named::of_value(Probes::of(trace), "latency").map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn gather<'a>(context: &Context<'a>) -> Result<(Grouping<'a>, Vec<Group<Spread>>)> {
    let mut scans = Vec::new();
    for table in named::of_value(Probes::asked(context), "latency")? {
        let mut scan = context.scan_of(table)?;
        let value = Measure::of(context, &mut scan, "latency")?;
        scans.push((scan, value));
    }
    let keep = context.keep(&scans.iter().map(|(scan, _)| scan).collect::<Vec<_>>());
    let mut parts: Vec<Vec<Group<Spread>>> = Vec::new();
    let mut last = None;
    for (scan, value) in &scans {
        let grouping = context.grouping(scan)?;
        parts.push(grouping.fold(scan, |calls: &mut Spread, rows, row| {
            value.add(calls, rows, row, &keep);
        }));
        last = Some(grouping);
    }
    Ok((last.expect("there is a table, or it had said so"), join(parts)))
}

fn run(context: &Context) -> Result<Answer> {
    let (grouping, mut groups) = gather(context)?;
    let us = |ns: f64| ns / 1e3;
    let quantiles: Vec<[Option<f64>; 3]> =
        grouping.of_each(&mut groups, |calls| calls.quantiles([0.5, 0.9, 0.99]).map(|q| q.map(us)));
    let calls = || groups.iter().map(|group| &group.state);
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("calls"), calls().map(|calls| Some(calls.count())))
        .floats(context.output("total_us"), calls().map(Spread::total_us))
        .floats(context.output("avg_us"), calls().map(|calls| calls.mean().map(us)))
        .floats(context.output("p50_us"), quantiles.iter().map(|of| of[0]))
        .floats(context.output("p90_us"), quantiles.iter().map(|of| of[1]))
        .floats(context.output("p99_us"), quantiles.iter().map(|of| of[2]))
        .floats(context.output("max_us"), calls().map(|calls| calls.max().map(|ns| us(ns as f64))));
    let mut answer = spread::remark(Answer::of(table.build()?), calls());
    let tables = named::of_value(Probes::asked(context), "latency")?;
    answer.notes.extend(censored::remark(context, &tables));
    if context.flag("hist").is_some() {
        let which = Pictures::asked(context);
        spread::picture(&mut answer, &grouping, &groups, |calls| calls, (which, "nsecs"));
    }
    Ok(answer)
}

/// As bcc's funclatency prints it with -F.
fn compat(context: &Context, _: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let (grouping, groups) = gather(context).map_err(io::Error::other)?;
    for interval in groups.chunk_by(|a, b| a.bin == b.bin) {
        if let Some(time) = grouping.time(interval[0].bin) {
            writeln!(out, "\n{time}")?;
        }
        for group in interval {
            let name = group.keys.first().and_then(Value::as_text).unwrap_or("-");
            writeln!(out, "\nFunction = {}", visible(name))?;
            write!(out, "{}", spread::together([&group.state].into_iter()).render("nsecs"))?;
        }
        let calls: u64 = interval.iter().map(|group| group.state.count()).sum();
        let total = interval.iter().fold(0u64, |total, group| total.saturating_add(group.state.sum));
        let mean = total.checked_div(calls).unwrap_or(0);
        writeln!(out, "\navg = {mean} nsecs, total: {total} nsecs, count: {calls}\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn of_what_was_added_up_percentiles_are_means_and_the_rest_is_exact() {
        let mut tape = Tape::new();
        let sums = ["latency_sum:u64?ns", "latency_max:u64?ns"];
        tape.added_up("nap", &["nap"], &[&["ret:i32", "hits:u64", "latency_log2:u8"][..], &sums].concat());
        tape.added_up("tick", &["tick"], &[&["ret:i32", "hits:u64"][..], &sums].concat())
            .task(0, 7, 70, "web");
        tape.event("nap", 1_000, [0, 7, 0, 0, 60, 12, 300_000, 8_000]);
        tape.event("nap", 1_000, [0, 7, 0, -4, 40, 14, 800_000, 30_000]);
        tape.event("tick", 1_000, [0, 7, 0, 1, 4, 4_000, 2_000]);
        let (exit, out, messages) = tape.run(&["funclatency", "--format", "csv"]);
        assert_eq!(exit, 0, "{messages}");
        let lines: Vec<&str> = out.lines().skip(1).collect();
        assert_eq!(lines, ["nap,false,100,1100.0,11.0,5.0,20.0,20.0,30.0", "tick,false,4,4.0,1.0,,,,2.0"]);
        let (_, out, _) = tape.run(&["funclatency", "--by", "ret", "--probe", "nap", "--hist"]);
        assert!(
            out.contains("less than a factor of 2 off") && out.contains("16384 -> 32767     : 40 "),
            "{out}"
        );
    }

    #[test]
    fn latencies_are_exact_and_a_histogram_holds_each_call() {
        let mut tape = Tape::new();
        tape.named("nap", &["nap"], &[], true).named("tick", &["tick"], &[], false).task(0, 7, 70, "web");
        for n in 1..=10i64 {
            tape.event("nap", 1_000 * n.cast_unsigned(), [7, 0, n * 1000, 0]);
        }
        let (exit, out, messages) = tape.run(&["funclatency", "--format", "csv"]);
        assert_eq!(exit, 0, "{messages}");
        assert_eq!(out.lines().nth(1), Some("nap,false,10,55.0,5.5,5.0,9.0,,10.0"), "{out}");
        assert!(!out.contains("not returned"), "{out}");
        tape.in_flight(&[("nap", 6_000), ("other", 1)]);
        let (_, out, messages) = tape.run(&["funclatency"]);
        assert!(format!("{out}{messages}").contains("1 call had not returned when"), "{out}{messages}");
        let (_, out, _) = tape.run(&["funclatency", "--hist"]);
        let counted: u64 = out
            .lines()
            .filter_map(|line| line.split_once(": ")?.1.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(counted, 10, "{out}");
        tape.named("rest", &["rest"], &[], true).event("rest", 12_000, [7, 0, 300, 0]);
        let (_, out, _) = tape.run(&["funclatency", "--hist"]);
        assert!(out.contains("\nfunction = nap\n") && out.contains("\nfunction = rest\n"), "{out}");
        let (_, out, _) = tape.run(&["funclatency", "--compat"]);
        let rest = "\nFunction = rest\n                  nsecs : count     distribution\n";
        assert!(out.starts_with("\nFunction = nap\n") && out.contains(rest), "{out}");
        assert!(out.ends_with("\navg = 5027 nsecs, total: 55300 nsecs, count: 11\n\n"), "{out}");
        let (_, out, _) = tape.run(&["funclatency", "--compat", "--interval", "1s"]);
        assert!(out.starts_with("\n12:01:07\n\nFunction = nap\n"), "{out}");
        let (exit, _, messages) = tape.run(&["funclatency", "--probe", "tick"]);
        assert!(exit == 6 && messages.contains("whole calls"), "{messages}");
    }
}
