//! Records of made-up turns, as probes leave them in a ring, through the recorder's own path to a file.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tapedeck::capture::batch::Batcher;
use tapedeck::capture::budget::{Budget, Gauge};
use tapedeck::capture::host::describe;
use tapedeck::capture::layout::{FieldKind, Layout};
use tapedeck::capture::medium::Single;
use tapedeck::capture::plan::Plan;
use tapedeck::capture::preface::Preface;
use tapedeck::capture::recorder::{Recorder, Rules};
use tapedeck::capture::rings::drain;
use tapedeck::capture::source::EventSource;
use tapedeck::schema::Host;

/// What it took.
pub struct Made {
    /// Of the file.
    pub bytes: u64,
    /// Seconds.
    pub wall: f64,
    /// Seconds of all threads.
    pub cpu: f64,
}

/// Writes a trace of so many events over so many connections.
pub fn make(sink: impl Write + Send + 'static, events: u64, flows: u32) -> anyhow::Result<Made> {
    let plan = Plan::new(&["net".into(), "net-rx".into(), "proc".into()])?;
    let layouts = Arc::new(plan.layouts);
    let host = Host { groups: vec!["net".into(), "net-rx".into()], ..describe(Vec::new()) };
    let tables = layouts.iter().map(|layout| layout.def.clone()).collect();
    let medium = Single::new(&Preface::new(host.clone(), 1, tables), sink, None)?;
    let recorder = Recorder::start(Box::new(medium), &layouts, Rules::default())?;
    let generator = Generator::new(&layouts, host.start_mono, events, flows);
    let (began, cpu) = (Instant::now(), cpu_time());
    let budget = Budget::new(None, None);
    let (batcher, queue) = (Batcher::new(&layouts, 0, budget.filling), Gauge::new(budget.queued));
    drain(generator, batcher, (&recorder.to, &queue), &AtomicBool::new(false), None);
    let written = recorder.finish("all events are made");
    Ok(Made { bytes: written.progress.bytes, wall: began.elapsed().as_secs_f64(), cpu: cpu_time() - cpu })
}

fn cpu_time() -> f64 {
    let own = tapedeck::capture::cost::own_usage();
    (own.user_ns + own.system_ns) as f64 / 1e9
}

/// Records of made-up turns.
struct Generator {
    layouts: Arc<Vec<Layout>>,
    tables: HashMap<&'static str, usize>,
    random: Random,
    now: u64,
    left: u64,
    flows: u32,
    sequences: Vec<[u32; 2]>,
    record: Vec<u8>,
    defined: bool,
}

impl Generator {
    fn new(layouts: &Arc<Vec<Layout>>, start: u64, events: u64, flows: u32) -> Self {
        let names = ["task", "sock", "sock_send", "sock_recv", "tcp_rx"];
        let number = |name: &str| layouts.iter().position(|layout| layout.def.name == name).expect("a table");
        Self {
            layouts: Arc::clone(layouts),
            tables: names.map(|name| (name, number(name))).into(),
            random: Random(0x5EED),
            now: start,
            left: events,
            flows,
            sequences: (0..flows)
                .map(|flow| [flow.wrapping_mul(0x9E37_79B9), flow.wrapping_mul(0x85EB_CA6B)])
                .collect(),
            record: Vec::new(),
            defined: false,
        }
    }

    /// Builds a record of a table from its columns' values and hands it out.
    fn emit(&mut self, table: &'static str, values: &[(&str, u64)], take: &mut dyn FnMut(&[u8])) {
        let number = self.tables[table];
        let layout = &self.layouts[number];
        self.record.clear();
        self.record.resize(layout.size, 0);
        self.record[8..10].copy_from_slice(&(number as u16).to_le_bytes());
        for (name, value) in values.iter().chain(&[("ts", self.now)]) {
            let field =
                layout.find(|column| column.name == *name).unwrap_or_else(|| panic!("{table}.{name}"));
            let FieldKind::Number(width) = field.kind else { panic!("{table}.{name} is no number") };
            self.record[field.offset..field.offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        take(&self.record);
    }

    fn define(&mut self, take: &mut dyn FnMut(&[u8])) {
        for tid in 1..=9u64 {
            self.emit("task", &[("tid", 1000 + tid), ("tgid", 1000 + tid), ("ppid", 1)], take);
        }
        for flow in 0..self.flows {
            let (client, server) = (u64::from(2 * flow + 1), u64::from(2 * flow + 2));
            let port = 10_000 + u64::from(flow) % 50_000;
            self.emit(
                "sock",
                &[("sock", client), ("family", 2), ("lport", port), ("rport", 6379), ("owner", 1001)],
                take,
            );
            self.emit(
                "sock",
                &[
                    ("sock", server),
                    ("family", 2),
                    ("lport", 6379),
                    ("rport", port),
                    ("owner", 1009),
                    ("side", 1),
                ],
                take,
            );
        }
    }

    /// Send, segment at the peer, its receive, and the ACK.
    fn turn(&mut self, take: &mut dyn FnMut(&[u8])) {
        let skewed = self.random.unit().powi(3);
        let flow = (skewed * f64::from(self.flows)) as usize % self.flows as usize;
        let (client, server) = (2 * flow as u64 + 1, 2 * flow as u64 + 2);
        let size = [64, 64, 64, 200, 1448][(self.random.next() % 5) as usize];
        let [seq, ack] = self.sequences[flow].map(u64::from);
        self.sequences[flow][0] = (seq + size) as u32;
        let tid = 1001 + client % 8;
        self.now += 800 + self.random.next() % 2000;
        let rx = [
            ("seq", seq),
            ("ack", ack),
            ("len", size),
            ("srtt", 30 + seq % 7),
            ("cwnd", 10),
            ("flags", 24),
            ("state", 1),
        ];
        self.emit("tcp_rx", &[&[("sock", server)][..], &rx].concat(), take);
        self.now += 300 + self.random.next() % 500;
        let latency = self.random.log_normal(9.0, 0.6) as u64;
        let send = [
            ("tid", tid),
            ("sock", client),
            ("requested", size),
            ("ret", size),
            ("seq", seq),
            ("latency", latency),
            ("exact", 1),
        ];
        self.emit("sock_send", &send, take);
        self.now += 500 + self.random.next() % 900;
        self.emit("sock_recv", &[("tid", 1009), ("sock", server), ("ret", size), ("seq", seq + size)], take);
        self.now += 500 + self.random.next() % 900;
        let acked = [
            ("sock", client),
            ("seq", ack),
            ("ack", (seq + size) & 0xffff_ffff),
            ("srtt", 31),
            ("cwnd", 10),
            ("flags", 16),
            ("state", 1),
        ];
        self.emit("tcp_rx", &acked, take);
    }
}

impl EventSource for Generator {
    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize {
        if !std::mem::replace(&mut self.defined, true) {
            self.define(take);
        }
        let turns = (self.left / 4).min(10_000);
        (0..turns).for_each(|_| self.turn(take));
        self.left -= turns * 4;
        turns as usize
    }

    fn wait(&mut self, _timeout: Duration) {}
}

/// xorshift64*, after Vigna: seeded, so that every run makes the same trace.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Box–Muller, one of the pair.
    fn log_normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let (a, b) = (self.unit().max(1e-12), self.unit());
        (mean + deviation * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()).exp()
    }
}
