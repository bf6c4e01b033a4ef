//! Which values did an argument have, and how often?
//!
//! ```text
//! $ capture -o trace.bin -e malloc -- ls -l /etc
//! $ analyze trace.bin argdist -C size --probe malloc --top 3
//! size  hits  share_pct
//!    5    36        7.7
//!   56    31        6.6
//!    8    30        6.4
//! ```
//!
//! `-C` counts the hits of each value, or of each combination of several columns (`-C size,comm`); `-H` shows how one
//! number is distributed: its mean, percentiles that occurred, and a histogram by powers of two. A column is whatever the probe
//! recorded, `latency` and `ret` of whole calls, or what the event refers to (`comm`, `pid`). Numbers are as they were
//! recorded: latencies in ns. Of several probes those count that have the column; `--probe` picks some. Hits that the kernel
//! added up count as those that were recorded one by one, where the column is what they were added up by; of what
//! `{hist=COLUMN}` added up a percentile is the mean of its power of two, and all else is exact.
//!
//! ```text
//! $ analyze trace.bin argdist -H size --by function
//! $ analyze trace.bin argdist -C ret --where "comm = 'curl'" --interval 1s
//! ```

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::error::Failure;
use crate::analyze::escape::visible;
use crate::analyze::group::{Group, Grouping, Merge, join};
use crate::analyze::input::Inputs;
use crate::analyze::load::Scan;
use crate::analyze::named::{self, Probes};
use crate::analyze::named_sums::{self, Hits, Measure};
use crate::analyze::spread::{self, Pictures, Spread};
use crate::analyze::table::Output;
use anyhow::Result;
use std::collections::BTreeMap;
use std::io;

/// Values of arguments.
pub static REPORT: Report = Report {
    name: "argdist",
    question: "which values did an argument have, and how often?",
    exactness: "hits of the probes that the user named; calls are counted at their return",
    needs: named::NEEDS,
    outputs: &[
        Output::count("hits", "", "how often; of -H those with a number that is not negative"),
        Output::measure("share_pct", "%", 1, "share of the interval's hits"),
        Output::measure("avg", "", 1, "mean"),
        Output::new("p50", "", "half were at most so large"),
        Output::new("p90", "", "nine in ten were; empty where the hits are too few to say"),
        Output::new("p99", "", "99 in 100 were"),
        Output::new("max", "", "the largest"),
    ],
    defaults: Defaults { by: "none", sort: "hits", top: None, interval: None },
    flags: &[
        named::PROBE,
        Flag::valued("C", "COLUMNS", "count the values of these columns").needed(),
        Flag::valued("H", "COLUMN", "a histogram of this column by powers of two").needed(),
    ],
    fit: Some(|trace| named::all(Probes::of(trace)).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    match (context.flag("C"), context.flag("H")) {
        (Some(columns), None) => count(context, columns),
        (None, Some(column)) => distribute(context, column),
        _ => Err(Failure::usage("argdist takes either -C COLUMNS or -H COLUMN")
            .hint("-C size counts values, -H latency shows how they are distributed; `events --table PROBE` has all columns")
            .into()),
    }
}

fn count(context: &Context, columns: &str) -> Result<Answer> {
    let by = match context.options.by.as_deref() {
        None | Some("none") => columns.to_owned(),
        Some(by) => format!("{by},{columns}"),
    };
    let mut parts: Vec<Vec<Group<Hits>>> = Vec::new();
    let mut last = None;
    for mut scan in scans(context, columns, false)? {
        let grouping = context.grouping_on(&scan, &by)?;
        parts.push(named_sums::count(&grouping, &mut scan)?);
        last = Some(grouping);
    }
    let (groups, grouping) = (join(parts), last.expect("there is a table, or it had said so"));
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for group in &groups {
        *sums.entry(group.bin).or_default() += group.state.0;
    }
    let share = |group: &Group<Hits>| Some(100.0 * group.state.0 as f64 / sums[&group.bin].max(1) as f64);
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("hits"), groups.iter().map(|group| Some(group.state.0)))
        .floats(context.output("share_pct"), groups.iter().map(share));
    Ok(Answer::of(table.build()?))
}

/// The rows of the probes that have the columns, or `sums` of the one.
fn scans<'a>(context: &Context<'a>, columns: &str, sums: bool) -> Result<Vec<Scan<'a>>> {
    let mut found = Vec::new();
    let mut first = None;
    for table in named::all(Probes::asked(context))? {
        let added = named::adds_up(table) && table.column(&format!("{columns}_sum")).is_some();
        match Inputs::of(context.trace, table).list(columns) {
            Err(reason) if !(sums && added) => first = first.or(Some(reason)),
            _ => found.push(context.scan_of(table)?),
        }
    }
    match first {
        Some(reason) if found.is_empty() => Err(reason.into()),
        _ => Ok(found),
    }
}

/// How a number is distributed, and how many were negative.
#[derive(Default)]
struct Numbers {
    spread: Spread,
    negative: u64,
}

impl Merge for Numbers {
    fn merge(&mut self, later: Self) {
        self.spread.merge(later.spread);
        self.negative += later.negative;
    }
}

fn distribute(context: &Context, column: &str) -> Result<Answer> {
    let scans = scans(context, column, true)?;
    let keep = context.keep(&scans.iter().collect::<Vec<_>>());
    let mut parts: Vec<Vec<Group<Numbers>>> = Vec::new();
    let mut last = None;
    for mut scan in scans {
        let value = Measure::of(context, &mut scan, column)?;
        let grouping = context.grouping(&scan)?;
        parts.push(grouping.fold(&scan, |numbers: &mut Numbers, rows, row| {
            numbers.negative += value.add(&mut numbers.spread, rows, row, &keep);
        }));
        last = Some(grouping);
    }
    let grouping = last.expect("there is a table, or it had said so");
    answer(context, &grouping, join(parts), column)
}

fn answer(
    context: &Context,
    grouping: &Grouping,
    mut groups: Vec<Group<Numbers>>,
    column: &str,
) -> Result<Answer> {
    let mut table = context.keys(grouping, &groups);
    let spreads = || groups.iter().map(|group| &group.state.spread);
    table.ints(context.output("hits"), spreads().map(|spread| Some(spread.count())));
    table.floats(context.output("avg"), spreads().map(Spread::mean));
    let most: Vec<Option<u64>> = spreads().map(Spread::max).collect();
    let quantiles: Vec<_> =
        grouping.of_each(&mut groups, |numbers| numbers.spread.quantiles([0.5, 0.9, 0.99]));
    for (at, name) in ["p50", "p90", "p99"].into_iter().enumerate() {
        let rounded = quantiles.iter().map(|of| of[at].map(|value| value.round() as u64));
        table.ints(context.output(name), rounded);
    }
    table.ints(context.output("max"), most.into_iter());
    let mut answer =
        spread::remark(Answer::of(table.build()?), groups.iter().map(|group| &group.state.spread));
    let negative: u64 = groups.iter().map(|group| group.state.negative).sum();
    spread::picture(&mut answer, grouping, &groups, |numbers| &numbers.spread, (Pictures::Few, "value"));
    Ok(match negative {
        0 => answer,
        count => answer.note(format!("{count} hits with a negative {column} are in no figure above")),
    })
}

/// As bcc's argdist prints it: the least frequent first.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let Some(columns) = context.flag("C") else { return spread::compat(context, answer, out) };
    writeln!(out, "{}\n\t{:<10} EVENT", context.flag("probe").unwrap_or(columns), "COUNT")?;
    let mut lines: Vec<(i64, String)> = Lines::of(answer)
        .iter()
        .map(|line| {
            let events = columns.split(',').map(|name| format!("{name} = {}", visible(&line.text(name))));
            (line.int("hits"), events.collect::<Vec<_>>().join(", "))
        })
        .collect();
    lines.reverse();
    lines.sort_by_key(|line| line.0);
    lines.iter().try_for_each(|(hits, event)| writeln!(out, "\t{hits:<10} {event}"))
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.named("alloc", &["malloc", "calloc"], &["size:u64"], true);
        tape.named("tick", &["tick"], &["n:i32"], false).task(0, 7, 70, "web").task(0, 8, 80, "db");
        for (at, tid, function, latency, size) in
            [(1, 7, 0, 100, 16), (2, 7, 0, 200, 16), (3, 8, 1, 300, 4096), (4, 8, 0, 400, 16)]
        {
            tape.event("alloc", at, [tid, function, latency, 1, size]);
        }
        for n in [-5, -1, 0, 9] {
            tape.event("tick", 9, [7, 0, n]);
        }
        tape
    }

    fn lines(words: &[&str]) -> Vec<String> {
        let (exit, out, messages) = tape().run(&[&["argdist", "--format", "csv"], words].concat());
        assert_eq!(exit, 0, "{messages}");
        out.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn values_and_combinations_of_values_are_counted() {
        assert_eq!(lines(&["-C", "size"]), ["16,false,3,75.0", "4096,false,1,25.0"]);
        let with_comm = lines(&["-C", "size", "--by", "comm"]);
        assert_eq!(with_comm, ["web,16,false,2,50.0", "db,16,false,1,25.0", "db,4096,false,1,25.0"]);
        assert_eq!(lines(&["-C", "comm,function", "--top", "1"]), ["web,tick,false,4,50.0"]);
        let compat = tape().run(&["argdist", "-C", "size", "--compat"]).1;
        assert_eq!(compat, "size\n\tCOUNT      EVENT\n\t1          size = 4096\n\t3          size = 16\n");
    }

    #[test]
    fn what_was_added_up_counts_as_often_as_it_was_hit() {
        let mut tape = Tape::new();
        let columns = ["flags:u32", "hits:u64", "size_log2:u8!255", "size_sum:u64", "size_max:u64"];
        tape.added_up("alloc", &["malloc"], &columns).task(0, 7, 70, "web");
        for row in [
            [0, 7, 0, 1, 60, 4, 1_200, 31],
            [0, 7, 0, 2, 40, 12, 200_000, 8_000],
            [0, 7, 0, 3, 25, 255, 0, 0],
        ] {
            tape.event("alloc", 1_000, row);
        }
        let lines = |words: &[&str]| {
            let (exit, out, messages) = tape.run(&[&["argdist", "--format", "csv"], words].concat());
            assert_eq!(exit, 0, "{messages}");
            out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&["-C", "flags", "--where", "flags < 3"]), ["1,false,60,60.0", "2,false,40,40.0"]);
        assert_eq!(lines(&["-H", "size"]), ["false,100,2012.0,20,5000,5000,8000"]);
        assert_eq!(lines(&["-H", "flags"]), ["false,125,1.72,2,3,3,3"]);
        let (_, out, _) = tape.run(&["argdist", "-H", "size"]);
        let told =
            out.contains("less than a factor of 2 off") && out.contains("25 hits with a negative size");
        assert!(told && out.contains("4096 -> 8191      : 40 "), "{out}");
        assert_eq!(tape.run(&["argdist", "-C", "size"]).0, 2);
    }

    #[test]
    fn a_number_is_distributed_and_negative_ones_are_told() {
        assert_eq!(lines(&["-H", "latency"]), ["false,4,250.0,200,,,400"]);
        assert_eq!(lines(&["-H", "size", "--by", "function"])[0], "malloc,false,3,16.0,16,,,16");
        let (_, out, _) = tape().run(&["argdist", "-H", "n"]);
        assert!(out.contains("2 hits with a negative n"), "{out}");
        let (_, out, _) = tape().run(&["argdist", "-H", "size", "--compat"]);
        assert!(out.contains("        16 -> 31        : 3  "), "{out}");
        for wrong in [&["argdist"][..], &["argdist", "-C", "siz"], &["argdist", "-H", "comm"]] {
            let (exit, _, messages) = tape().run(wrong);
            assert_eq!(exit, 2, "{wrong:?}: {messages}");
        }
    }
}
