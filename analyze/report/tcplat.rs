//! How long does TCP take from a send to what answers it?
//!
//! ```text
//! $ analyze trace.bin tcplat
//! metric         side      n   p50_us   p90_us   p99_us  p99_9_us   max_us  …
//! ack            client  300    9.847   14.102   21.336         -   30.118
//! response       client  300 1083.201 1117.940 1160.225         -  1213.04
//! ```
//!
//! Four metrics, each by socket and sequence number and never by thread, for IPv4 and IPv6:
//!
//! - `ack`: entry of the send → first segment on the same socket that acknowledges its last byte;
//! - `response`: entry of the first send of a turn → first segment with new data on the same socket. On the
//!   server's side that is the time until the next request;
//! - `delivery`: entry of the send → first segment on the peer's socket that covers its last byte,
//!   where both ends are in the recording (loopback, containers);
//! - `first_segment`: entry of the last send → next segment of any kind, as naive tools measure it.
//!
//! Sends whose answer had not come when the recording ended are `open`, pairs between whose ends events
//! were lost are `lost`: both are counted, never guessed. Percentiles are exact order statistics; one that
//! n cannot support is not printed.
//!
//! ```text
//! $ analyze trace.bin tcplat --metric response --by flow
//! $ analyze trace.bin tcplat --each --metric ack --sort latency_us --top 10
//! $ analyze trace.bin tcplat --hist --where "rport = 6379"
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::{Answer, Body};
use crate::analyze::error::Failure;
use crate::analyze::group::{Group, Merge};
use crate::analyze::latency::{Found, Latencies};
use crate::analyze::pairs::{Metric, Unpaired};
use crate::analyze::quantile::{Log2, inverse_cdf, supported};
use crate::analyze::rows::Value;
use crate::analyze::table::{Builder, Output};
use crate::analyze::trace::Trace;
use anyhow::Result;
use std::collections::BTreeMap;

/// Latency from a send to its answer.
pub static REPORT: Report = Report {
    name: "tcplat",
    question: "how long does TCP take from a send to its ACK, its response, its delivery?",
    exactness: "latency from the entry of tcp_sendmsg, paired by socket and sequence number; percentiles are values \
                that occurred (inverse CDF), and are left out where n is too small for them",
    needs: &[Need { table: "sock_send", group: "net" }, Need { table: "tcp_rx", group: "net-rx" }],
    outputs: &[
        Output::new("n", "", "latencies"),
        Output::measure("min_us", "us", 3, "shortest"),
        Output::measure("p50_us", "us", 3, "half are at most this"),
        Output::measure("p90_us", "us", 3, "90 % are at most this"),
        Output::measure("p99_us", "us", 3, "99 % are at most this; needs n of 100"),
        Output::measure("p99_9_us", "us", 3, "99.9 % are at most this; needs n of 1000"),
        Output::measure("max_us", "us", 3, "longest"),
        Output::new("bytes", "bytes", "of the sends that were paired"),
        Output::new("open", "", "not answered before the recording ended"),
        Output::new("lost", "", "dropped, since events were lost between the two ends"),
        Output::new("pid", "", "--each: process of the sender"),
        Output::new("comm", "", "--each: name of the sender"),
        Output::new("family", "", "--each"),
        Output::new("laddr", "", "--each: local address"),
        Output::new("lport", "", "--each: local port"),
        Output::new("raddr", "", "--each: remote address"),
        Output::new("rport", "", "--each: remote port"),
        Output::new("netns", "", "--each: network namespace of the socket"),
        Output::new("size", "bytes", "--each: bytes that the caller asked to send"),
        Output::new("sent", "bytes", "--each: bytes that were accepted, of all sends of a turn for response"),
        Output::measure("latency_us", "us", 3, "--each"),
    ],
    defaults: Defaults { by: "none", sort: "", top: None, interval: None },
    flags: &[
        Flag {
            name: "metric",
            value: Some("METRICS"),
            doc: "ack, response, delivery, first_segment; several with commas",
        },
        Flag { name: "each", value: None, doc: "a row for each latency, with its 5-tuple and sender" },
        Flag { name: "hist", value: None, doc: "a histogram by powers of two for each metric" },
    ],
    run,
    compat: None,
};

fn run(context: &Context) -> Result<Answer> {
    let metrics = metrics(context.flag("metric"))?;
    let scan = context.scan("sock_send")?;
    let grouping = context.grouping(&scan)?;
    let latencies = Latencies::gather(context, &grouping)?;
    let found = latencies.pair(context, &metrics);
    let mut answer = if context.flag("each").is_some() {
        Answer { events: true, sort: Some("time"), ..Answer::of(each(context, &latencies, &found)?) }
    } else {
        let sides = Sides::of(context.trace);
        let parts = found.iter().flat_map(|found| series(&latencies, &sides, found));
        let groups = expand(grouping.collect(parts));
        let mut table = context.keys(&grouping, &groups);
        fill(context, &mut table, &groups);
        Answer::of(table.build()?)
    };
    if context.flag("hist").is_some() {
        histograms(&metrics, &found, &mut answer);
    }
    if scan.def.column("latency").is_some_and(|at| !scan.def.columns[at].absent.is_empty()) {
        answer = answer
            .note("this trace has no entry times of sends: latencies count from the return of the call");
    }
    Ok(answer)
}

fn metrics(words: Option<&str>) -> Result<Vec<Metric>, Failure> {
    let Some(words) = words else { return Ok(Metric::ALL.to_vec()) };
    let names = || Metric::ALL.map(Metric::name).join(", ");
    let metric = |word: &str| {
        let known = Metric::ALL.into_iter().find(|metric| metric.name() == word.trim());
        known.ok_or_else(|| Failure::usage(format!("--metric {word}: expected {}", names())))
    };
    words.split(',').map(metric).collect()
}

/// Latencies of one metric and side.
#[derive(Clone, Debug, Default)]
struct Series {
    values: Vec<u64>,
    bytes: u64,
    unpaired: Unpaired,
}

/// All series of a group, by metric and side.
#[derive(Default)]
struct All(BTreeMap<(Metric, Value), Series>);

impl Merge for All {
    fn merge(&mut self, later: Self) {
        for (key, series) in later.0 {
            let to = self.0.entry(key).or_default();
            to.values.extend(series.values);
            to.bytes += series.bytes;
            to.unpaired.open += series.unpaired.open;
            to.unpaired.lost += series.unpaired.lost;
        }
    }
}

/// Which side of its connection a socket is.
struct Sides<'a>(&'a Trace);

impl<'a> Sides<'a> {
    fn of(trace: &'a Trace) -> Self {
        Self(trace)
    }

    fn side(&self, sock: u32) -> Value {
        self.0
            .identity("sock")
            .map_or(Value::Null, |socks| socks.look_up(self.0, sock.into(), u64::MAX, "side"))
    }
}

/// The latencies of a socket, by the groups of their sends.
fn series(latencies: &Latencies, sides: &Sides, found: &Found) -> Vec<(crate::analyze::group::Key, All)> {
    let side = sides.side(found.sock);
    let mut by_key: BTreeMap<u32, Series> = BTreeMap::new();
    for &(pair, row) in &found.pairs {
        let series = by_key.entry(latencies.details[row as usize].key).or_default();
        series.values.push(pair.end - pair.start);
        series.bytes += pair.bytes;
    }
    if found.unpaired != Unpaired::default() {
        by_key.entry(latencies.details[found.first as usize].key).or_default().unpaired = found.unpaired;
    }
    let all = |series| All(BTreeMap::from([((found.metric, side.clone()), series)]));
    by_key.into_iter().map(|(key, series)| (latencies.keys[key as usize], all(series))).collect()
}

type Line = Group<((Metric, Value), Series)>;

/// A row per metric and side, values sorted.
fn expand(groups: Vec<Group<All>>) -> Vec<Line> {
    let lines = groups.into_iter().flat_map(|group| {
        let Group { bin, keys, state } = group;
        state.0.into_iter().map(move |state| Group { bin, keys: keys.clone(), state })
    });
    let mut lines: Vec<Line> = lines.collect();
    for line in &mut lines {
        line.state.1.values.sort_unstable();
    }
    lines
}

fn fill(context: &Context, table: &mut Builder, lines: &[Line]) {
    let name = |line: &Line| Value::Text(line.state.0.0.name().into());
    let series = || lines.iter().map(|line| &line.state.1);
    let us = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1000.0);
    table.key("metric", "", true, lines.iter().map(name));
    table.key("side", "", true, lines.iter().map(|line| line.state.0.1.clone()));
    table.ints(context.output("n"), series().map(|series| Some(series.values.len() as u64)));
    table.floats(context.output("min_us"), series().map(|series| us(series.values.first().copied())));
    for (name, q) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p99_9_us", 0.999)] {
        let value = |series: &Series| {
            let values = &series.values;
            us(inverse_cdf(values, q).filter(|_| q <= 0.5 || supported(values.len(), q)))
        };
        table.floats(context.output(name), series().map(value));
    }
    table.floats(context.output("max_us"), series().map(|series| us(series.values.last().copied())));
    table.ints(context.output("bytes"), series().map(|series| Some(series.bytes)));
    table.ints(context.output("open"), series().map(|series| Some(series.unpaired.open)));
    table.ints(context.output("lost"), series().map(|series| Some(series.unpaired.lost)));
}

/// A row for each latency, in the order of time.
fn each(context: &Context, latencies: &Latencies, found: &[Found]) -> Result<crate::analyze::table::Table> {
    let trace = context.trace;
    let mut lines: Vec<_> = found
        .iter()
        .flat_map(|found| {
            found.pairs.iter().map(move |&(pair, row)| (pair.start, found.sock, found.metric, pair, row))
        })
        .collect();
    lines.sort_unstable_by_key(|line| (line.0, line.1, line.2));
    let (tasks, socks) = (trace.identity("task"), trace.identity("sock"));
    let detail = |row: u32| latencies.details[row as usize];
    let task = |row: u32, name: &str| {
        tasks.as_ref().map_or(Value::Null, |tasks| {
            tasks.look_up(trace, detail(row).tid.into(), detail(row).returned, name)
        })
    };
    let sock = |id: u32, name: &str| {
        socks.as_ref().map_or(Value::Null, |socks| socks.look_up(trace, id.into(), u64::MAX, name))
    };
    let mut table = Builder::default();
    table.time(6, lines.iter().map(|line| trace.clock.wall(line.0)));
    table.key("metric", "", true, lines.iter().map(|line| Value::Text(line.2.name().into())));
    table.key("side", "", true, lines.iter().map(|line| sock(line.1, "side")));
    table.values(context.output("pid"), false, lines.iter().map(|line| task(line.4, "tgid")));
    table.values(context.output("comm"), true, lines.iter().map(|line| task(line.4, "comm")));
    for (name, text) in [
        ("family", true),
        ("laddr", true),
        ("lport", false),
        ("raddr", true),
        ("rport", false),
        ("netns", false),
    ] {
        table.values(context.output(name), text, lines.iter().map(|line| sock(line.1, name)));
    }
    table.ints(context.output("size"), lines.iter().map(|line| detail(line.4).requested.map(u64::from)));
    table.ints(context.output("sent"), lines.iter().map(|line| Some(line.3.bytes)));
    table.floats(
        context.output("latency_us"),
        lines.iter().map(|line| Some((line.3.end - line.3.start) as f64 / 1000.0)),
    );
    table.build()
}

fn histograms(metrics: &[Metric], found: &[Found], answer: &mut Answer) {
    for &metric in metrics {
        let mut histogram = Log2::default();
        let pairs = found.iter().filter(|found| found.metric == metric).flat_map(|found| &found.pairs);
        pairs.for_each(|(pair, _)| histogram.add((pair.end - pair.start) / 1000));
        if !histogram.slots().is_empty() {
            answer.section(metric.name(), metric.name(), Body::Histogram(Box::new(histogram), "usecs"));
        }
    }
}
