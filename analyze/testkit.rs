//! Small traces in memory, with the tables of `bpf/event.h` that the tests need: this file makes and
//! opens them, the modules below have what their rows are made of.

mod block;
mod cell;
mod define;
mod files;
mod folder;
mod named;
mod sched;
mod stacks;
mod tcp;

use super::clock::SECOND;
use super::error::{Exit, Failure};
use super::run::run;
use super::trace::Trace;
use crate::schema::absent::Absent;
use crate::schema::{Host, Kind, Role, TableDef, TraceReader, TraceWriter};
pub(crate) use cell::Cell;
use cell::batch;
use define::def;
pub(crate) use folder::Folder;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `CLOCK_MONOTONIC` at time zero.
pub(crate) const START: u64 = 1_000 * SECOND;
/// 2026-11-22 12:01:07.25 at +01:00.
const REAL: u64 = 1_795_345_267_250_000_000;

/// A trace in the making: rows as lists of cells, by table.
#[derive(Clone)]
pub(crate) struct Tape {
    defs: Vec<TableDef>,
    rows: Vec<Vec<Vec<Cell>>>,
    per_frame: usize,
    host: Host,
}

impl Tape {
    /// No rows yet, all probes attached.
    pub fn new() -> Self {
        let send = [
            "ts:u64",
            "cpu:u16",
            "tid:u32+task/rows",
            "sock:u32+sock/ret",
            "requested:u32",
            "ret:i32",
            "latency:u64?ns",
        ];
        let counts = [
            "ts:u64",
            "until:u64",
            "cpu:u16",
            "table:u16",
            "stored:u64",
            "filtered:u64",
            "ring_full:u64",
            "state_full:u64",
            "discarded:u64",
            "left_out:u64",
        ];
        let probe = [
            "ts:u64",
            "name:text",
            "group:text",
            "kind:text",
            "wanted:text",
            "status:text",
            "reason:text",
            "absent:text",
            "missed:u64",
            "fills:text",
            "feeds:text",
        ];
        let defs = vec![
            def(
                "task",
                Role::Identity,
                &["ts:u64", "cpu:u16", "tid:u32*", "tgid:u32", "ppid:u32", "uid:u32", "comm:text"],
            ),
            def(
                "sock",
                Role::Identity,
                &[
                    "ts:u64",
                    "cpu:u16",
                    "sock:u32*",
                    "family:u16=family",
                    "lport:u16",
                    "rport:u16",
                    "laddr:ip",
                    "raddr:ip",
                    "netns:u32",
                    "owner:u32~task",
                ],
            ),
            def("sock_send", Role::Event, &send),
            def("ledger", Role::Record, &counts),
            def("probe", Role::Record, &probe),
            def("enum", Role::Record, &["name:text", "value:u64", "label:text"]),
        ];
        let host = Host {
            required_reader: 1,
            hostname: "box".into(),
            kernel: "6.12.0".into(),
            cpus: 2,
            start_mono: START,
            start_real: REAL,
            zone: "CET".into(),
            zone_offset: 3600,
            ..Host::default()
        };
        let mut tape = Self { rows: Vec::new(), defs: Vec::new(), per_frame: 1000, host };
        for def in defs {
            tape.define(def);
        }
        for (value, label) in [(2u64, "IPv4"), (10, "IPv6")] {
            tape.push("enum", vec!["family".into(), value.into(), label.into()]);
        }
        tape.probe("attached", "fentry", 0);
        tape
    }

    fn define(&mut self, def: TableDef) {
        self.defs.push(TableDef { number: self.defs.len() as u16, ..def });
        self.rows.push(Vec::new());
    }

    /// A probe that a filter learns from.
    pub fn feeds(&mut self, name: &str, missed: u64, knob: &str) -> &mut Self {
        let cells = [name, "proc", "tracepoint", "tracepoint", "attached", "", ""].map(Cell::from);
        let row = std::iter::once(START.into()).chain(cells);
        self.push("probe", row.chain([missed.into(), "".into(), knob.into()]).collect())
    }

    /// An event table that this kit does not have from the start.
    pub fn table(&mut self, name: &str, columns: &[&str]) -> &mut Self {
        self.define(def(name, Role::Event, columns));
        self
    }

    /// What /proc/loadavg said: three averages in hundredths, and how many tasks could run, of how many.
    pub fn load(&mut self, at: u64, averages: [u64; 3], (runnable, tasks): (u64, u64)) -> &mut Self {
        if !self.defs.iter().any(|def| def.name == "load") {
            let columns = ["ts:u64", "load1:u64", "load5:u64", "load15:u64", "runnable:u64", "tasks:u64"];
            self.define(def("load", Role::Record, &columns));
        }
        let cells = [&[START + at], &averages[..], &[runnable, tasks]].concat();
        self.push("load", cells.into_iter().map(Cell::from).collect())
    }

    /// A reading of the wall clock, so far ahead of what the host's start says.
    pub fn clock(&mut self, at: u64, ahead: u64) -> &mut Self {
        if !self.defs.iter().any(|def| def.name == "clock") {
            self.define(def("clock", Role::Record, &["ts:u64", "realtime:u64", "boottime:u64"]));
        }
        let real = self.host.start_real + at + ahead;
        self.push("clock", vec![(START + at).into(), real.into(), (START + at).into()])
    }

    /// All clocks but the trace's have gone on for so long while the host was suspended.
    pub fn woken(&mut self, at: u64, asleep: u64) -> &mut Self {
        self.clock(at, asleep);
        let boot = START + at + asleep;
        let table = self.defs.iter().position(|def| def.name == "clock").expect("clock() has just made it");
        self.rows[table].last_mut().expect("the row just pushed")[2] = boot.into();
        self
    }

    /// A row of any table.
    pub fn push(&mut self, table: &str, cells: Vec<Cell>) -> &mut Self {
        let at = self.defs.iter().position(|def| def.name == table).expect("a table of this tape");
        self.rows[at].push(cells);
        self
    }

    /// An event: its time after the start, processor 0, and numbers.
    pub fn event<const N: usize>(&mut self, table: &str, at: u64, cells: [i64; N]) -> &mut Self {
        let head = [START + at, 0].map(Cell::Number);
        let cells = cells.map(|cell| Cell::Number(cell.cast_unsigned()));
        self.push(table, head.into_iter().chain(cells).collect())
    }

    /// What the probe `sock_send` got; the last one counts.
    pub fn probe(&mut self, status: &str, kind: &str, missed: u64) -> &mut Self {
        let reason = if status == "failed" { "everything was refused" } else { "" };
        let cells = ["sock_send", "net", kind, "fentry", status, reason, ""].map(Cell::from);
        let rest = [missed.into(), "".into(), "".into()];
        let row = std::iter::once(START.into()).chain(cells).chain(rest).collect();
        self.push("probe", row)
    }

    /// What was counted about `sock_send` from `at` on, for a second.
    pub fn ledger(&mut self, at: u64, stored: u64, ring_full: u64) -> &mut Self {
        let cells = [START + at, START + at + SECOND, 0, 2, stored, 0, ring_full, 0, 0, 0];
        self.push("ledger", cells.map(Cell::from).to_vec())
    }

    /// Sends of a second that were recorded, and left out by the governor.
    pub fn left_out(&mut self, at: u64, stored: u64, left_out: u64) -> &mut Self {
        let cells = [START + at, START + at + SECOND, 0, 2, stored, 0, 0, 0, 0, left_out];
        self.push("ledger", cells.map(Cell::from).to_vec())
    }

    /// From then on the governor has a group record one of so many ids.
    pub fn step(&mut self, at: u64, group: &str, one_of: u64) -> &mut Self {
        if self.defs.iter().all(|def| def.name != "governor") {
            self.define(def(
                "governor",
                Role::Record,
                &["ts:u64", "group:text", "one_of:u64", "why:text", "bare:u64"],
            ));
        }
        let cells = vec![(START + at).into(), group.into(), one_of.into(), "a bound".into(), 0u64.into()];
        self.push("governor", cells)
    }

    /// The group that a table is of.
    pub fn group(&mut self, table: &str, group: &str) -> &mut Self {
        self.defs.iter_mut().filter(|def| def.name == table).for_each(|def| def.group = group.into());
        self
    }

    /// No row of this trace has that column of `sock_send`.
    pub fn without(&mut self, column: &str, why: &str) -> &mut Self {
        let at = self.defs[2].column(column).expect("a column");
        self.defs[2].columns[at].absent = why.into();
        self
    }

    /// Rows in a frame.
    pub fn rows_per_frame(&mut self, rows: usize) -> &mut Self {
        self.per_frame = rows;
        self
    }

    /// Changes what the recording says of itself.
    pub fn host(&mut self, change: impl FnOnce(&mut Host)) -> &mut Self {
        change(&mut self.host);
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        self.ending("test")
    }

    /// The file, with its last words.
    pub fn ending(&self, reason: &str) -> Vec<u8> {
        self.writer().finish(reason).expect("a Vec takes all").0
    }

    /// The file of a recording that ended at that moment.
    pub fn ending_at(&self, moment: u64) -> Vec<u8> {
        let mut writer = self.writer();
        writer.ends_at(moment);
        writer.finish("test").expect("a Vec takes all").0
    }

    /// The file, made of a set without these parts.
    pub fn lacking(&self, absent: Vec<Absent>) -> Vec<u8> {
        let mut writer = self.writer();
        writer.lacks(absent);
        writer.finish("test").expect("a Vec takes all").0
    }

    fn writer(&self) -> TraceWriter<Vec<u8>> {
        let mut writer =
            TraceWriter::new(Vec::new(), 1, &self.host, self.defs.clone()).expect("a Vec takes all");
        for (def, rows) in self.defs.iter().zip(&self.rows) {
            let kind = match def.role {
                Role::Event => Kind::Events,
                Role::Identity => Kind::Identity,
                Role::Record => Kind::Stats,
            };
            for rows in rows.chunks(self.per_frame) {
                writer.append(kind, 0, &batch(def, rows)).expect("a Vec takes all");
            }
        }
        writer
    }

    /// The trace, opened.
    pub fn open(&self) -> Trace {
        Self::open_bytes(self.bytes(), 2)
    }

    /// A file, opened with a number of threads.
    pub fn open_bytes(bytes: Vec<u8>, threads: usize) -> Trace {
        let reader = TraceReader::from_bytes(bytes).expect("a trace");
        Trace::new("test.bin".into(), reader, threads, false).expect("a trace")
    }

    /// Exit code, output and messages of a command line without program and trace.
    pub fn run(&self, line: &[&str]) -> (i32, String, String) {
        run_bytes(&self.bytes(), line)
    }
}

/// As [`Tape::run`], on the bytes of a file.
pub(crate) fn run_bytes(bytes: &[u8], line: &[&str]) -> (i32, String, String) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("tapedeck-{}-{}.bin", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder takes a file");
    let file = path.display().to_string();
    let args: Vec<String> = ["analyze", &file].iter().chain(line).map(|&arg| arg.to_owned()).collect();
    let (mut out, mut messages) = (Vec::new(), Vec::new());
    let exit = run(&args, &mut out, &mut messages, false).unwrap_or_else(|error| {
        let failure = error.downcast_ref::<Failure>();
        let hint = failure.and_then(|failure| failure.hint.clone()).unwrap_or_default();
        messages.extend(format!("{error:#}\n{hint}").into_bytes());
        failure.map_or(Exit::Unusable, |failure| failure.exit)
    });
    std::fs::remove_file(&path).expect("the file is still there");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8").replace(&file, "test.bin");
    (exit as i32, text(out), text(messages))
}
