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
use crate::analyze::identity::Identity;
use crate::analyze::ids::Key;
use crate::analyze::latency::{self, Sink};
use crate::analyze::looked_up::LookedUp;
use crate::analyze::pairs::{Metric, Pair, Unpaired};
use crate::analyze::quantile::{Keep, Log2, Samples, us};
use crate::analyze::room::Row;
use crate::analyze::rows::{Value, named};
use crate::analyze::table::{Builder, Heading, Output, Show, Table};
use crate::analyze::trace::Trace;
use crate::schema::hash::FastMap;
use anyhow::Result;
use polars::prelude::NamedFrom as _;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Latency from a send to its answer.
pub static REPORT: Report = Report {
    name: "tcplat",
    question: "how long does TCP take from a send to its ACK, its response, its delivery?",
    exactness: "latency from the entry of tcp_sendmsg, paired by socket and sequence number; percentiles are values \
                that occurred (inverse CDF), and are left out where n is too small for them",
    needs: &[Need::of("sock_send", "net"), Need::of("tcp_rx", "net-rx")],
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
        Flag::valued("metric", "METRICS", "ack, response, delivery, first_segment; several with commas"),
        Flag::switch("each", "a row for each latency, with its 5-tuple and sender"),
        Flag::switch("hist", "a histogram by powers of two for each metric"),
    ],
    fit: None,
    run,
    compat: None,
};

fn run(context: &Context) -> Result<Answer> {
    let metrics = metrics(context.flag("metric"))?;
    let scan = context.scan("sock_send")?;
    let grouping = context.grouping(&scan)?;
    let mut answer = if context.flag("each").is_some() {
        // Each send may have a line of each metric; their texts are few.
        let lines = metrics.len();
        context.room(&[&scan], Row { numbers: 6 * lines, texts: 2 * lines }, false)?;
        let (found, _) = latency::fold(context, &grouping, &metrics, Lines::default)?;
        let mut histograms = Histograms::default();
        found.iter().flat_map(|lines| &lines.0).for_each(|(_, pair)| histograms.add(pair));
        let mut answer = Answer::of(each(context, found)?);
        (answer.events, answer.sort) = (true, Some("time"));
        context.flag("hist").into_iter().for_each(|_| histograms.show(&mut answer));
        answer
    } else {
        let sides = Sides::of(context.trace);
        let keep = context.keep(&vec![&scan; metrics.len()]);
        let (found, keys) = latency::fold(context, &grouping, &metrics, || All::new(&sides, keep.clone()))?;
        let mut histograms = Histograms::default();
        for all in &found {
            histograms.merge(&all.histograms);
        }
        let parts = found.into_iter().flat_map(|all| all.groups(&keys));
        let mut groups = expand(grouping.collect(parts));
        let mut table = context.keys(&grouping, &groups);
        fill(context, &mut table, &mut groups);
        let mut answer = Answer::of(table.build()?);
        context.flag("hist").into_iter().for_each(|_| histograms.show(&mut answer));
        answer
    };
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
    values: Samples,
    bytes: u64,
    unpaired: Unpaired,
}

impl Merge for Series {
    fn merge(&mut self, later: Self) {
        self.values.merge(later.values);
        self.bytes = self.bytes.saturating_add(later.bytes);
        self.unpaired.open = self.unpaired.open.saturating_add(later.unpaired.open);
        self.unpaired.lost = self.unpaired.lost.saturating_add(later.unpaired.lost);
    }
}

/// All series of a group, by metric and side.
#[derive(Default)]
struct BySide(BTreeMap<(Metric, Value), Series>);

impl Merge for BySide {
    fn merge(&mut self, later: Self) {
        later.0.into_iter().for_each(|(key, series)| self.0.entry(key).or_default().merge(series));
    }
}

/// Which side of its connection a socket is.
struct Sides<'a> {
    trace: &'a Trace,
    socks: Option<(Arc<Identity>, usize)>,
    /// By the socket's id as far as there are so many; asked for with each latency, so it must be near.
    near: Vec<Option<i8>>,
}

/// Sides of sockets with larger ids are looked up: the list has a bound whatever ids a file has.
const NEAR: u64 = 1 << 22;

impl<'a> Sides<'a> {
    fn of(trace: &'a Trace) -> Self {
        let socks = trace.identity("sock");
        let socks = socks.and_then(|socks| socks.column("side").map(|side| (socks, side)));
        let mut near = Vec::new();
        for (id, row) in socks.iter().flat_map(|(socks, _)| socks.latest()).filter(|socket| socket.0 < NEAR) {
            let (id, side) = (id as usize, socks.as_ref().and_then(|(socks, side)| socks.get(*side, row)));
            if near.len() <= id {
                near.resize(id + 1, None);
            }
            near[id] = side.and_then(|side| i8::try_from(side).ok());
        }
        Self { trace, socks, near }
    }

    /// As a number.
    fn of_socket(&self, sock: u32) -> Option<i64> {
        if let Some(Some(side)) = self.near.get(sock as usize) {
            return Some((*side).into());
        }
        let (socks, side) = self.socks.as_ref()?;
        socks.get(*side, socks.find(sock.into(), u64::MAX)?)
    }

    fn name(&self, side: Option<i64>) -> Value {
        let def =
            self.trace.table("sock").and_then(|def| def.columns.iter().find(|column| column.name == "side"));
        side.zip(def).map_or(Value::Null, |(side, def)| named(self.trace.labels(), &def.enumeration, side))
    }
}

type SeriesKey = (u32, Metric, Option<i64>);

/// The series of some sockets, by group, metric and side.
struct All<'a> {
    sides: &'a Sides<'a>,
    keep: Keep,
    /// Per metric the last one: neighbours are often of one series.
    last: [usize; Metric::ALL.len()],
    numbers: FastMap<SeriesKey, usize>,
    list: Vec<(SeriesKey, Series)>,
    histograms: Histograms,
}

impl<'a> All<'a> {
    fn new(sides: &'a Sides<'a>, keep: Keep) -> Self {
        Self {
            sides,
            keep,
            last: [0; 4],
            numbers: FastMap::default(),
            list: Vec::new(),
            histograms: Histograms::default(),
        }
    }

    fn series(&mut self, sock: u32, metric: Metric, key: u32) -> (&mut Series, &Keep) {
        let key = (key, metric, self.sides.of_socket(sock));
        let last = &mut self.last[metric as usize];
        if self.list.get(*last).is_none_or(|series| series.0 != key) {
            *last = *self.numbers.entry(key).or_insert(self.list.len());
            if *last == self.list.len() {
                self.list.push((key, Series::default()));
            }
        }
        (&mut self.list[*last].1, &self.keep)
    }

    fn groups(self, keys: &[Key]) -> impl Iterator<Item = (Key, BySide)> {
        let one = |((key, metric, side), series): (SeriesKey, Series)| {
            let named = BTreeMap::from([((metric, self.sides.name(side)), series)]);
            (keys[key as usize], BySide(named))
        };
        self.list.into_iter().map(one)
    }
}

impl Sink for All<'_> {
    fn pair(&mut self, sock: u32, pair: &Pair) {
        self.histograms.add(pair);
        let (series, keep) = self.series(sock, pair.metric, pair.send.key);
        series.values.add(pair.end - pair.send.entry, keep);
        series.bytes = series.bytes.saturating_add(pair.bytes);
    }

    fn unpaired(&mut self, sock: u32, metric: Metric, key: u32, unpaired: Unpaired) {
        self.series(sock, metric, key).0.merge(Series { unpaired, ..Series::default() });
    }
}

/// Every latency with its socket.
#[derive(Default)]
struct Lines(Vec<(u32, Pair)>);

impl Sink for Lines {
    fn pair(&mut self, sock: u32, pair: &Pair) {
        self.0.push((sock, *pair));
    }

    fn unpaired(&mut self, _: u32, _: Metric, _: u32, _: Unpaired) {}
}

/// By metric.
#[derive(Default)]
struct Histograms([Log2; Metric::ALL.len()]);

impl Histograms {
    fn add(&mut self, pair: &Pair) {
        self.0[pair.metric as usize].add((pair.end - pair.send.entry) / 1000);
    }

    fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(to, from)| to.merge(from));
    }

    fn show(&self, answer: &mut Answer) {
        for (metric, histogram) in Metric::ALL.into_iter().zip(&self.0) {
            if !histogram.slots().is_empty() {
                let body = Body::Histogram(Box::new(histogram.clone()), "usecs");
                answer.section(metric.name(), metric.name(), body);
            }
        }
    }
}

type Line = Group<((Metric, Value), Series)>;

/// A row per metric and side.
fn expand(groups: Vec<Group<BySide>>) -> Vec<Line> {
    let lines = groups.into_iter().flat_map(|group| {
        let Group { bin, keys, state } = group;
        state.0.into_iter().map(move |state| Group { bin, keys: keys.clone(), state })
    });
    lines.collect()
}

fn fill(context: &Context, table: &mut Builder, lines: &mut [Line]) {
    let name = |line: &Line| Value::Text(line.state.0.0.name().into());
    table.key("metric", "", true, lines.iter().map(name));
    table.key("side", "", true, lines.iter().map(|line| line.state.0.1.clone()));
    let quantiles = [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p99_9_us", 0.999)];
    let of = |line: &mut Line| line.state.1.values.all_us(quantiles.map(|(_, q)| q));
    let found: Vec<[Option<f64>; 4]> = context.trace.install(|| lines.par_iter_mut().map(of).collect());
    let series = || lines.iter().map(|line| &line.state.1);
    table.ints(context.output("n"), series().map(|series| Some(series.values.len() as u64)));
    table.floats(context.output("min_us"), series().map(|series| series.values.min().map(us)));
    for (at, (name, _)) in quantiles.into_iter().enumerate() {
        table.floats(context.output(name), found.iter().map(|found| found[at]));
    }
    table.floats(context.output("max_us"), series().map(|series| series.values.max().map(us)));
    table.ints(context.output("bytes"), series().map(|series| Some(series.bytes)));
    table.ints(context.output("open"), series().map(|series| Some(series.unpaired.open)));
    table.ints(context.output("lost"), series().map(|series| Some(series.unpaired.lost)));
}

/// A row for each latency, in the order of time.
fn each(context: &Context, found: Vec<Lines>) -> Result<Table> {
    let trace = context.trace;
    let mut lines: Vec<(u32, Pair)> = found.into_iter().flat_map(|lines| lines.0).collect();
    trace.install(|| {
        lines.par_sort_unstable_by_key(|(sock, pair)| {
            (pair.send.entry, *sock, pair.metric, pair.end, pair.send.end)
        });
    });
    let sent_by = |(_, pair): &(u32, Pair)| (pair.send.tid.into(), pair.send.returned);
    let tasks = LookedUp::of(trace, "task", lines.iter().map(sent_by));
    let socks = LookedUp::of(trace, "sock", lines.iter().map(|line| (line.0.into(), u64::MAX)));
    let plain = |name: &str| Heading::from(context.output(name));
    let key = |name: &str| Heading { name: name.into(), unit: String::new(), show: Show::Plain, key: true };
    let mut table = Builder::default();
    table.time(6, lines.iter().map(|line| trace.clock.wall(line.1.send.entry)));
    let metrics: Vec<&str> = lines.iter().map(|line| line.1.metric.name()).collect();
    table.series(key("metric"), polars::prelude::Series::new("".into(), metrics));
    table.series(key("side"), socks.series("side", true));
    table.series(plain("pid"), tasks.series("tgid", false));
    table.series(plain("comm"), tasks.series("comm", true));
    for name in ["family", "laddr", "lport", "raddr", "rport", "netns"] {
        table.series(plain(name), socks.series(name, matches!(name, "family" | "laddr" | "raddr")));
    }
    table.ints(context.output("size"), lines.iter().map(|line| line.1.send.requested.map(u64::from)));
    table.ints(context.output("sent"), lines.iter().map(|line| Some(line.1.bytes)));
    table.floats(
        context.output("latency_us"),
        lines.iter().map(|line| Some((line.1.end - line.1.send.entry) as f64 / 1000.0)),
    );
    table.build()
}
