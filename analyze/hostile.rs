//! Made to mislead: traces whose frames are all in order and whose contents are not. Every report runs on them; none may
//! panic, hang, or send a terminal a command. `HOSTILE_SECONDS=600 cargo test --release hostile` looks longer.

use super::args;
use super::report::REPORTS;
use super::run::run;
use super::testkit::{Folder, Tape};
use crate::schema::reader::Scratch;
use crate::schema::{Batch, Column, Host, Kind, Role, TableDef, Text, TraceReader, TraceWriter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn number(&mut self) -> u64 {
        let any = self.below(usize::MAX) as u64;
        self.of(&[
            0,
            1,
            2,
            7,
            255,
            65_535,
            u32::MAX.into(),
            1 << 31,
            1 << 62,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
            any,
        ])
    }

    fn name(&mut self) -> &'static [u8] {
        self.of(&[
            b"",
            b"\x1b[2J\x1b]0;owned\x07",
            b"\xff\xfe\x80",
            b"'; DROP TABLE events; --",
            b"=cmd|' /C calc'!A0",
            b"a,b\"c\r\nd\te",
            "\u{202e}evil\u{200b}\u{feff}".as_bytes(),
            b"\0\0\0",
            b"/../../etc/passwd",
        ])
    }
}

/// A trace in pieces.
#[derive(Clone)]
struct Pieces {
    host: Host,
    tables: Vec<TableDef>,
    frames: Vec<(Kind, u32, Batch)>,
}

impl Pieces {
    /// At most so many rows of each frame, so that a run is short.
    fn of(reader: &TraceReader, rows: usize) -> Self {
        let mut scratch = Scratch::new();
        let mut frames = Vec::new();
        for frame in reader.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
            let mut batch = reader.read(frame, None, &mut scratch).expect("a whole fixture");
            batch.columns.iter_mut().for_each(|column| cut(column, rows));
            batch.rows = batch.rows.min(rows);
            frames.push((frame.header.kind, frame.header.epoch, batch));
        }
        Self { host: reader.host.clone(), tables: reader.tables.clone(), frames }
    }

    fn bytes(&self) -> Vec<u8> {
        let tables = self.tables.clone();
        let mut writer = TraceWriter::new(Vec::new(), 1, &self.host, tables).expect("numbers are positions");
        for (kind, epoch, batch) in &self.frames {
            // What the writer refuses no file of ours has; those of others are the fuzzer's.
            let _ = writer.append(*kind, *epoch, batch);
        }
        writer.finish("made to mislead").expect("a Vec takes all").0
    }

    fn mutate(&mut self, random: &mut Random) {
        match random.below(9) {
            0 => self.host(random),
            1 => {
                let at = random.below(self.frames.len());
                self.frames.remove(at);
            }
            2 => {
                let frame = self.frames[random.below(self.frames.len())].clone();
                self.frames.push(frame);
            }
            3 => self.definition(random),
            _ => self.values(random),
        }
    }

    fn host(&mut self, random: &mut Random) {
        match random.below(5) {
            0 => self.host.start_mono = random.number(),
            1 => self.host.start_real = random.number(),
            2 => self.host.zone_offset = random.number() as i32,
            3 => self.host.cpus = random.number() as u32,
            _ => self.host.hostname = String::from_utf8_lossy(random.name()).into_owned(),
        }
    }

    /// The storage stays, so that the rows still fit; what it means does not.
    fn definition(&mut self, random: &mut Random) {
        let names: Vec<String> = self.tables.iter().map(|table| table.name.clone()).collect();
        let at = random.below(self.tables.len());
        let table = &mut self.tables[at];
        if random.below(4) == 0 {
            table.role = random.of(&[Role::Event, Role::Identity, Role::Record]);
            return;
        }
        if random.below(6) == 0 {
            table.name.clone_from(&names[random.below(names.len())]);
            return;
        }
        let others: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
        let Some(column) = table.columns.get_mut(random.below(others.len())) else { return };
        match random.below(8) {
            0 => column.name.clone_from(&others[random.below(others.len())]),
            1 => column.references.clone_from(&names[random.below(names.len())]),
            2 => column.key = !column.key,
            3 => column.null = Some(random.number()),
            4 => column.enumeration = "tcp_state".into(),
            5 => column.unit = random.of(&["ns", "mono_ns", "us", "bytes", "ip", ""]).into(),
            6 => column.absent = "for no reason".into(),
            _ => column.name = String::from_utf8_lossy(random.name()).into_owned(),
        }
    }

    fn values(&mut self, random: &mut Random) {
        let at = random.below(self.frames.len());
        let batch = &mut self.frames[at].2;
        let keys: Option<Vec<u32>> =
            batch.columns.iter().find(|c| !c.u32s().is_empty()).map(|c| c.u32s().to_vec());
        let at = random.below(batch.columns.len());
        let one = random.below(batch.rows);
        let all = random.below(3) == 0;
        let mut each = |row: usize| all || row == one;
        match &mut batch.columns[at] {
            // An id that is its own parent, owner or successor.
            Column::U32(values) if random.below(3) == 0 => values.clone_from(&keys.unwrap_or_default()),
            Column::U8(values) => put(values, &mut each, || random.number() as u8),
            Column::U16(values) => put(values, &mut each, || random.number() as u16),
            Column::U32(values) => put(values, &mut each, || random.number() as u32),
            Column::U64(values) => put(values, &mut each, || random.number()),
            Column::Text(text) => {
                let mut to = Text::default();
                for (row, value) in text.iter().enumerate() {
                    to.push(if each(row) && value.len() != 16 { random.name() } else { value });
                }
                *text = to;
            }
            Column::Absent => {}
        }
    }
}

fn put<T>(values: &mut [T], each: &mut impl FnMut(usize) -> bool, mut new: impl FnMut() -> T) {
    for (row, value) in values.iter_mut().enumerate() {
        if each(row) {
            *value = new();
        }
    }
}

fn cut(column: &mut Column, rows: usize) {
    match column {
        Column::Absent => {}
        Column::U8(values) => values.truncate(rows),
        Column::U16(values) => values.truncate(rows),
        Column::U32(values) => values.truncate(rows),
        Column::U64(values) => values.truncate(rows),
        Column::Text(text) => {
            text.lengths.truncate(rows);
            text.bytes.truncate(text.lengths.iter().map(|&length| length as usize).sum());
        }
    }
}

/// What is asked of each trace: every report and page, in turn with other options.
fn lines(random: &mut Random) -> Vec<Vec<&'static str>> {
    let more: [&[&str]; 8] = [
        &[],
        &["--format", "json"],
        &["--interval", "all", "--format", "csv"],
        &["--by", "comm", "--format", "ndjson"],
        &["--where", "comm LIKE '%a%' OR rport > 0"],
        &["--from", "1s", "--to", "-1s"],
        &["--by", "connection", "--format", "csv"],
        &["--interval", "10ms", "--top", "3", "--sort", "lower_bound"],
    ];
    let mut lines: Vec<Vec<&str>> = vec![vec![], vec!["info"], vec!["check", "--format", "json"]];
    for report in REPORTS {
        let mut line = vec![report.name];
        line.extend(random.of(&more));
        if report.name == "events" {
            line.extend([
                "--table",
                random.of(&["sock_send", "task", "sock", "ledger", "tcp_state", "process_exec"]),
            ]);
        }
        lines.push(line);
    }
    lines
}

/// Answers, or says why not; panics with what led to it.
fn ask(path: &Path, line: &[&str], seed: u64) {
    let file = path.display().to_string();
    let args: Vec<String> = ["analyze", &file].iter().chain(line).map(|&word| word.to_owned()).collect();
    let (mut out, mut messages, begin) = (Vec::new(), Vec::new(), Instant::now());
    let ran = catch_unwind(AssertUnwindSafe(|| run(&args, &mut out, &mut messages, true).map(drop)));
    let took = begin.elapsed();
    assert!(ran.is_ok(), "seed {seed}: {line:?} panicked; the trace is {file}");
    assert!(took < Duration::from_secs(60), "seed {seed}: {line:?} took {took:?}; the trace is {file}");
    let commands = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\n' | b'\r');
    assert!(!out.iter().any(commands), "seed {seed}: {line:?} sends control characters: {file}");
    assert!(!messages.iter().any(commands), "seed {seed}: {line:?} says control characters: {file}");
}

#[test]
fn hostile_contents_are_harmless() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let whole: Vec<Pieces> = ["execs", "pingpong", "lossy"]
        .iter()
        .map(|name| TraceReader::open(&fixtures.join(format!("{name}.bin"))).expect("a fixture"))
        .map(|reader| Pieces::of(&reader, 40))
        .collect();
    let seconds = std::env::var("HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let first: u64 = std::env::var("HOSTILE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = std::env::temp_dir().join(format!("tapedeck-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
    let path = folder.join("hostile.bin");
    let mut seed = first;
    while seed < first + 12 || Instant::now() < until {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut pieces = whole[random.below(whole.len())].clone();
        for _ in 0..=random.below(5) {
            pieces.mutate(&mut random);
        }
        std::fs::write(&path, pieces.bytes()).expect("the temporary folder takes a file");
        for line in lines(&mut random) {
            ask(&path, &line, seed);
        }
        seed += 1;
    }
    if seconds.is_some() {
        eprintln!("hostile: {} traces, seeds {first} to {}", seed - first, seed - 1);
    }
    std::fs::remove_dir_all(&folder).expect("a folder of ours");
}

#[test]
fn threads_that_are_their_own_parents_end() {
    let folder = Folder::new();
    let mut tape = Tape::new();
    for (tid, parent) in [(7u64, 8u64), (8, 7), (9, 9)] {
        let numbers = [tid, tid, parent, 0].map(super::testkit::Cell::from);
        let head = [super::testkit::START, 0].map(super::testkit::Cell::from);
        tape.push("task", head.into_iter().chain(numbers).chain(["loop".into()]).collect());
        tape.send(tid, tid, 1, 100, 100);
    }
    folder.put("a.bin", &tape.bytes());
    for line in ["tcpsend --by comm,ppid", "slice --to 1s -o b.bin", "redact -o c.bin", "check"] {
        assert_eq!(folder.run(&format!("a.bin {line}")).0, 0, "{line}");
    }
}

#[test]
fn names_do_not_become_conditions_formulas_or_commands() {
    let folder = Folder::new();
    let mut tape = Tape::new();
    tape.task(0, 7, 70, "'; DROP TABLE x; --").task(0, 8, 80, "=1+1").task(0, 9, 90, "\x1b[2Jx");
    (0..3).for_each(|at| {
        tape.send(at, 7 + at, 1, 100, 100);
    });
    tape.ledger(0, 3, 0);
    folder.put("a.bin", &tape.bytes());
    let csv =
        |more: &str| folder.run(&format!("a.bin tcpsend --by comm --interval all --format csv{more}")).1;
    assert!(csv("").contains("\n=1+1,") && csv("").contains("\x1b[2J"), "data is as it is");
    assert!(csv(" --csv-safe").contains("\n'=1+1,"), "{}", csv(" --csv-safe"));
    let (_, table, _) = folder.run("a.bin tcpsend --by comm --interval all");
    assert!(table.contains("\\x1b[2Jx") && !table.contains('\x1b'), "{table}");
    let (exit, out, _) =
        folder.run("a.bin tcpsend --interval all --format csv --where comm~=~'''~OR~1=1~--'");
    assert_eq!((exit, out.lines().nth(1)), (0, Some("false,0,0.0,0,0")), "{out}");
    let (exit, ..) = folder.run("a.bin tcpsend --where comm~=~'a';~DROP~TABLE~x");
    assert_eq!(exit, 2);
    assert!(args::report("tcpsend").is_some());
}
