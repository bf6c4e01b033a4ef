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
//! that had not returned when the recording ended, or that never did, are not in it.
//! Percentiles are values that occurred; with `--hist` a histogram by powers of two.
//!
//! ```text
//! $ analyze trace.bin funclatency --hist --where "comm = 'redis-server'"
//! $ analyze trace.bin funclatency --probe nap --interval 1s
//! ```

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::{Answer, Body};
use crate::analyze::group::{Group, Merge, join};
use crate::analyze::named;
use crate::analyze::quantile::{Keep, Log2, Samples};
use crate::analyze::table::Output;
use anyhow::Result;

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
    flags: &[
        Flag { name: "probe", value: Some("NAMES"), doc: "only these probes" },
        Flag { name: "hist", value: None, doc: "a histogram of latencies by powers of two" },
    ],
    run,
    compat: None,
};

#[derive(Default)]
struct Calls {
    total: u64,
    longest: u64,
    latencies: Samples,
}

impl Merge for Calls {
    fn merge(&mut self, later: Self) {
        self.total = self.total.saturating_add(later.total);
        self.longest = self.longest.max(later.longest);
        self.latencies.merge(later.latencies);
    }
}

impl Calls {
    fn add(&mut self, latency: u64, keep: &Keep) {
        self.total = self.total.saturating_add(latency);
        self.longest = self.longest.max(latency);
        self.latencies.add(latency, keep);
    }
}

fn run(context: &Context) -> Result<Answer> {
    let mut scans = Vec::new();
    for table in named::tables(context, &["latency"])? {
        let mut scan = context.scan(&table.name)?;
        let latency = scan.column("latency")?;
        scans.push((scan, latency));
    }
    let keep = context.keep(&scans.iter().map(|(scan, _)| scan).collect::<Vec<_>>());
    let mut parts: Vec<Vec<Group<Calls>>> = Vec::new();
    let mut last = None;
    for (scan, latency) in &scans {
        let grouping = context.grouping(scan)?;
        let add = |calls: &mut Calls, [ns]: [Option<i64>; 1]| calls.add(ns.unwrap_or(0).cast_unsigned(), &keep);
        parts.push(grouping.sum(scan, [*latency], add));
        last = Some(grouping);
    }
    let mut groups = join(parts);
    let grouping = last.expect("there is a table, or it had said so");
    let quantiles: Vec<[Option<f64>; 3]> =
        groups.iter_mut().map(|group| [0.5, 0.9, 0.99].map(|q| group.state.latencies.us(q))).collect();
    let calls = || groups.iter().map(|group| &group.state);
    let micros = |calls: &Calls, ns: f64| (calls.latencies.len() > 0).then_some(ns / 1e3);
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("calls"), calls().map(|calls| Some(calls.latencies.len() as u64)))
        .floats(context.output("total_us"), calls().map(|calls| micros(calls, calls.total as f64)))
        .floats(
            context.output("avg_us"),
            calls().map(|calls| micros(calls, calls.total as f64 / calls.latencies.len() as f64)),
        )
        .floats(context.output("p50_us"), quantiles.iter().map(|of| of[0]))
        .floats(context.output("p90_us"), quantiles.iter().map(|of| of[1]))
        .floats(context.output("p99_us"), quantiles.iter().map(|of| of[2]))
        .floats(context.output("max_us"), calls().map(|calls| micros(calls, calls.longest as f64)));
    let mut answer = Answer::of(table.build()?);
    if context.flag("hist").is_some() {
        let mut histogram = Log2::default();
        for calls in calls() {
            calls.latencies.each(|latency, n| histogram.add_slot(latency.max(1).ilog2() as usize, n));
        }
        answer.section("latency", "latency", Body::Histogram(Box::new(histogram), "nsecs"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

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
        let (_, out, _) = tape.run(&["funclatency", "--hist"]);
        let counted: u64 = out
            .lines()
            .filter_map(|line| line.split_once(": ")?.1.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(counted, 10, "{out}");
        let (exit, _, messages) = tape.run(&["funclatency", "--probe", "tick"]);
        assert!(exit == 6 && messages.contains("whole calls"), "{messages}");
    }
}
