//! Small traces in memory, with the tables of `bpf/event.h` that the tests need.

use super::clock::SECOND;
use super::error::{Exit, Failure};
use super::run::run;
use super::trace::Trace;
use crate::schema::{
    Batch, Column, ColumnDef, ColumnType, Host, Kind, Role, TableDef, Text, TraceReader, TraceWriter,
};
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
}

/// A value of a row.
#[derive(Clone)]
pub(crate) enum Cell {
    /// As it is stored.
    Number(u64),
    /// A text or an address.
    Bytes(Vec<u8>),
}

fn def(name: &str, role: Role, columns: &[&str]) -> TableDef {
    let group = if role == Role::Event { "net" } else { "" };
    TableDef {
        number: 0,
        name: name.into(),
        role,
        group: group.into(),
        doc: String::new(),
        columns: columns.iter().map(|c| column(c)).collect(),
    }
}

/// `name:type`, with type u8, u16, u32, i32, u64, text or ip; `*` marks a key, `>table` a reference, `~table`
/// one that is null where it is 0, `=name` an enumeration, `?unit` a unit.
fn column(text: &str) -> ColumnDef {
    let (name, rest) = text.split_once(':').expect("name:type");
    let end = rest.find(['*', '>', '~', '=', '?']).unwrap_or(rest.len());
    let number = |width, signed| ColumnType::Number { width, signed };
    let kind = match &rest[..end] {
        "u8" => number(1, false),
        "u16" => number(2, false),
        "u32" => number(4, false),
        "i32" => number(4, true),
        "u64" => number(8, false),
        "text" => ColumnType::Text,
        "ip" => ColumnType::Ip,
        other => panic!("no type {other}"),
    };
    let mut column = ColumnDef::new(name, kind);
    match rest[end..].split_at_checked(1) {
        Some(("*", _)) => column.key = true,
        Some((">", table)) => column.references = table.into(),
        Some(("~", table)) => (column.references, column.null) = (table.into(), Some(0)),
        Some(("=", name)) => column.enumeration = name.into(),
        Some(("?", unit)) => column.unit = unit.into(),
        _ => {}
    }
    column
}

impl Tape {
    /// No rows yet, all probes attached.
    pub fn new() -> Self {
        let send = [
            "ts:u64",
            "cpu:u16",
            "tid:u32>task",
            "sock:u32>sock",
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
        let mut tape = Self { rows: Vec::new(), defs: Vec::new(), per_frame: 1000 };
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

    /// An event table that this kit does not have from the start.
    pub fn table(&mut self, name: &str, columns: &[&str]) -> &mut Self {
        self.define(def(name, Role::Event, columns));
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
        let row = std::iter::once(START.into()).chain(cells).chain([missed.into()]).collect();
        self.push("probe", row)
    }

    /// A thread, `at` ns after the start.
    pub fn task(&mut self, at: u64, tid: u64, tgid: u64, comm: &str) -> &mut Self {
        self.push(
            "task",
            vec![
                (START + at).into(),
                0u64.into(),
                tid.into(),
                tgid.into(),
                1u64.into(),
                0u64.into(),
                comm.into(),
            ],
        )
    }

    /// A socket from 10.0.0.1 to 10.0.0.2, or from `::1` to `::1`.
    pub fn sock(&mut self, at: u64, sock: u64, family: u64, lport: u64, rport: u64) -> &mut Self {
        self.owned(at, sock, (family, lport, rport), 0)
    }

    /// The same with its owner.
    pub fn owned(&mut self, at: u64, sock: u64, what: (u64, u64, u64), owner: u64) -> &mut Self {
        let (family, lport, rport) = what;
        let v4 = |last| Cell::Bytes(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]);
        let v6 = || Cell::Bytes(std::net::Ipv6Addr::LOCALHOST.octets().to_vec());
        let (local, remote) = if family == 2 { (v4(1), v4(2)) } else { (v6(), v6()) };
        self.push(
            "sock",
            vec![
                (START + at).into(),
                0u64.into(),
                sock.into(),
                family.into(),
                lport.into(),
                rport.into(),
                local,
                remote,
                4_026_531_833u64.into(),
                owner.into(),
            ],
        )
    }

    /// Adds table `tcp_state`.
    pub fn states(&mut self) -> &mut Self {
        let columns = [
            "ts:u64",
            "cpu:u16",
            "tid:u32~task",
            "sock:u32>sock",
            "old:u8=tcp_state",
            "new:u8=tcp_state",
            "acked:u64",
            "received:u64",
            "segs_in:u32",
            "retrans:u32",
            "srtt:u32?us",
        ];
        self.table("tcp_state", &columns)
    }

    /// A change of state from one to another, with bytes acknowledged and received and segments retransmitted.
    pub fn state(&mut self, at: u64, tid: i64, sock: i64, change: (i64, i64), counts: [i64; 3]) -> &mut Self {
        let [acked, received, retrans] = counts;
        self.event("tcp_state", at, [tid, sock, change.0, change.1, acked, received, 3, retrans, 25])
    }

    /// Adds table `sock_recv`.
    pub fn receives(&mut self) -> &mut Self {
        let columns =
            ["ts:u64", "cpu:u16", "tid:u32>task", "sock:u32>sock", "ret:i32", "flags:u32", "latency:u64?ns"];
        self.table("sock_recv", &columns)
    }

    /// A call of `tcp_recvmsg`.
    pub fn receive(&mut self, at: u64, tid: i64, sock: i64, ret: i64, flags: i64) -> &mut Self {
        self.event("sock_recv", at, [tid, sock, ret, flags, 2_500])
    }

    /// A call of `tcp_sendmsg`.
    pub fn send(&mut self, at: u64, tid: u64, sock: u64, requested: u64, ret: i32) -> &mut Self {
        let ret = Cell::Number(u64::from(ret.cast_unsigned()));
        self.push(
            "sock_send",
            vec![
                (START + at).into(),
                0u64.into(),
                tid.into(),
                sock.into(),
                requested.into(),
                ret,
                1_500u64.into(),
            ],
        )
    }

    /// What was counted about `sock_send` from `at` on, for a second.
    pub fn ledger(&mut self, at: u64, stored: u64, ring_full: u64) -> &mut Self {
        let cells = [START + at, START + at + SECOND, 0, 2, stored, 0, ring_full, 0, 0];
        self.push("ledger", cells.map(Cell::from).to_vec())
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

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
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
        let mut writer = TraceWriter::new(Vec::new(), 1, &host, self.defs.clone()).expect("a Vec takes all");
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
        writer.finish("test").expect("a Vec takes all").0
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

fn batch(def: &TableDef, rows: &[Vec<Cell>]) -> Batch {
    let columns = (0..def.columns.len())
        .map(|at| values(def.columns[at].kind, rows.iter().map(|row| &row[at])))
        .collect();
    Batch { table: def.number, stream: def.number, rows: rows.len(), columns }
}

fn values<'a>(kind: ColumnType, cells: impl Iterator<Item = &'a Cell>) -> Column {
    let number = |cell: &Cell| if let Cell::Number(number) = cell { *number } else { panic!("a number") };
    match kind {
        ColumnType::Number { width: 1, .. } => Column::U8(cells.map(|cell| number(cell) as u8).collect()),
        ColumnType::Number { width: 2, .. } => Column::U16(cells.map(|cell| number(cell) as u16).collect()),
        ColumnType::Number { width: 4, .. } => Column::U32(cells.map(|cell| number(cell) as u32).collect()),
        ColumnType::Number { .. } => Column::U64(cells.map(number).collect()),
        ColumnType::Text | ColumnType::Ip => {
            let mut text = Text::default();
            cells.for_each(
                |cell| if let Cell::Bytes(bytes) = cell { text.push(bytes) } else { panic!("bytes") },
            );
            Column::Text(text)
        }
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}
