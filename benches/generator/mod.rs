//! Records of made-up events, as probes leave them in a ring, through the recorder's own path to a file.
//!
//! Tables are those of the programs, so a trace that is made here is one that a recording could have written.

pub mod turns;
pub mod work;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tapedeck::capture::batch::Batcher;
use tapedeck::capture::budget::{Budget, Gauge};
use tapedeck::capture::host::describe;
use tapedeck::capture::layout::{FieldKind, Layout};
use tapedeck::capture::medium::Single;
use tapedeck::capture::names;
use tapedeck::capture::plan::Plan;
use tapedeck::capture::preface::Preface;
use tapedeck::capture::record::{Own, Row};
use tapedeck::capture::recorder::{Message, Recorder, Rules};
use tapedeck::capture::rings::drain;
use tapedeck::capture::source::EventSource;
use tapedeck::capture::stacks::{Places, Stacks};
use tapedeck::capture::stage::Stage;
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

/// Who takes a record.
pub type Take<'t> = &'t mut dyn FnMut(&[u8]);

/// What a trace tells of.
pub trait Story: Send {
    /// Groups that were recorded.
    fn groups(&self) -> &'static [&'static str];

    /// As the recorder's filters are noted.
    fn filters(&self) -> Vec<String> {
        Vec::new()
    }

    /// Events of one turn.
    fn events(&self) -> u64;

    /// What events refer to.
    fn define(&mut self, maker: &mut Maker, take: Take);

    /// Some events that belong together.
    fn turn(&mut self, maker: &mut Maker, take: Take);
}

/// Writes a trace of so many events of a story.
pub fn make(
    sink: impl Write + Send + 'static,
    events: u64,
    story: impl Story + 'static,
) -> anyhow::Result<Made> {
    let groups: Vec<String> = story.groups().iter().map(|&group| group.into()).collect();
    let layouts = Arc::new(Plan::new(&groups)?.layouts);
    let host = Host { groups, filters: story.filters(), ..describe(Vec::new()) };
    let tables = layouts.iter().map(|layout| layout.def.clone()).collect();
    let medium = Single::new(&Preface::new(host.clone(), 1, tables), sink, None)?;
    let recorder = Recorder::start(Box::new(medium), &layouts, Rules::default())?;
    recorder.to.send(Message::Rows(Own::Enum, names::rows(&layouts)))?;
    let generator = Generator::new(Maker::new(&layouts, host.start_mono), events, story);
    let end = Arc::clone(&generator.end);
    let (began, cpu) = (Instant::now(), cpu_time());
    let (budget, stacks) = (Budget::new(None, None), Stacks::new(&layouts));
    let batcher = Batcher::new(&layouts, 0, budget.filling).numbering(stacks.clone());
    let queue = Gauge::new(budget.queued);
    drain(generator, batcher, (&recorder.to, &queue), &Stage::over(), None);
    if let Some(stacks) = stacks {
        recorder.to.send(Message::Rows(Own::Symbol, symbols(&stacks.places())))?;
    }
    let written = recorder.finish("all events are made", end.load(Ordering::Relaxed));
    Ok(Made { bytes: written.progress.bytes, wall: began.elapsed().as_secs_f64(), cpu: cpu_time() - cpu })
}

/// Names of functions, of which each has a few places: no file knows made-up addresses.
fn symbols(places: &Places) -> Vec<Vec<u8>> {
    let row = |frame: u32, kernel: bool| {
        let name = format!("{}_{}", if kernel { "kernel" } else { "user" }, frame / 3);
        Row::new().u64(0).u32(frame).u32(0).u64(0).text(&name).text("").bytes()
    };
    (1..).zip(&places.frames).map(|(frame, place)| row(frame, place.kernel)).collect()
}

fn cpu_time() -> f64 {
    let own = tapedeck::capture::cost::own_usage();
    (own.user_ns + own.system_ns) as f64 / 1e9
}

/// Makes records by the layouts of their tables.
pub struct Maker {
    layouts: Arc<Vec<Layout>>,
    /// The same in every run.
    pub random: Random,
    /// Moment of the next record.
    pub now: u64,
    record: Vec<u8>,
}

impl Maker {
    fn new(layouts: &Arc<Vec<Layout>>, start: u64) -> Self {
        Self { layouts: Arc::clone(layouts), random: Random(0x5EED), now: start, record: Vec::new() }
    }

    /// Builds a record of a table from its columns' numbers and hands it out.
    pub fn emit(&mut self, table: &str, numbers: &[(&str, u64)], take: Take) {
        self.emit_with(table, numbers, &[], take);
    }

    /// The same with texts and stacks.
    pub fn emit_with(&mut self, table: &str, numbers: &[(&str, u64)], texts: &[(&str, &[u8])], take: Take) {
        let layouts = Arc::clone(&self.layouts);
        let number = layouts.iter().position(|layout| layout.def.name == table).expect("a table");
        let layout = &layouts[number];
        let field = |name: &str| {
            layout.find(|column| column.name == name).unwrap_or_else(|| panic!("{table}.{name}"))
        };
        let record = &mut self.record;
        record.clear();
        record.resize(layout.size, 0);
        record[8..10].copy_from_slice(&(number as u16).to_le_bytes());
        for (name, value) in numbers.iter().chain(&[("ts", self.now)]) {
            let field = field(name);
            let FieldKind::Number(width) = field.kind else { panic!("{table}.{name} is no number") };
            record[field.offset..field.offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        for (name, text) in texts {
            let field = field(name);
            if let FieldKind::Chars(_) = field.kind {
                record[field.offset..field.offset + text.len()].copy_from_slice(text);
                continue;
            }
            let place = [record.len(), text.len()].map(|number| (number as u16).to_le_bytes());
            record[field.offset..field.offset + 4].copy_from_slice(place.as_flattened());
            record.extend_from_slice(text);
        }
        take(record);
    }
}

/// Turns of a story, as a ring gives them out.
struct Generator<S> {
    maker: Maker,
    left: u64,
    story: S,
    defined: bool,
    /// The moment up to which events are made.
    end: Arc<AtomicU64>,
}

impl<S: Story> Generator<S> {
    fn new(maker: Maker, events: u64, story: S) -> Self {
        Self { maker, left: events / story.events(), story, defined: false, end: Arc::default() }
    }
}

impl<S: Story> EventSource for Generator<S> {
    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize {
        if !std::mem::replace(&mut self.defined, true) {
            self.story.define(&mut self.maker, take);
        }
        let turns = self.left.min(10_000);
        (0..turns).for_each(|_| self.story.turn(&mut self.maker, take));
        self.left -= turns;
        self.end.store(self.maker.now, Ordering::Relaxed);
        turns as usize
    }

    fn wait(&mut self, _timeout: Duration) {}
}

/// xorshift64*, after Vigna: seeded, so that every run makes the same trace.
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of so many, the first ones more often than the last.
    pub fn skewed(&mut self, many: u64) -> u64 {
        (self.unit().powi(3) * many as f64) as u64 % many
    }

    /// Box–Muller, one of the pair.
    pub fn log_normal(&mut self, mean: f64, deviation: f64) -> u64 {
        let (a, b) = (self.unit().max(1e-12), self.unit());
        (mean + deviation * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()).exp() as u64
    }
}
