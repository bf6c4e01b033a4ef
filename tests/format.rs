//! The trace file from outside: what comes back, from whole files and from damaged ones.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tapedeck::schema::frame::{FrameHeader, MAX_MESSAGE, MAX_PARTS, Part, RECORDER, TRAILER};
use tapedeck::schema::histogram::Histogram;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{
    Batch, Column, ColumnDef, ColumnType, FormatError, Host, Kind, Role, TableDef, Text, TraceReader,
    TraceTotals, TraceWriter,
};

#[path = "fuzz/targets.rs"]
mod targets;

// ---- made-up rows ----

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }
}

/// How the values of a column run.
#[derive(Clone, Copy, Debug)]
enum Run {
    Constant,
    Few,
    Rising,
    Any,
    Extremes,
}

const RUNS: [Run; 5] = [Run::Constant, Run::Few, Run::Rising, Run::Any, Run::Extremes];

fn numbers(run: Run, rows: usize, random: &mut Random) -> Vec<u64> {
    let start = random.next();
    let mut last = start;
    let mut value = |_| match run {
        Run::Constant => start,
        Run::Few => start.wrapping_add(random.below(7)),
        Run::Any => random.next(),
        Run::Extremes => [0, 1, u64::MAX, 1 << 63, i64::MAX.cast_unsigned(), 0x8080_8080_8080_8080]
            [random.below(6) as usize],
        Run::Rising => {
            last = last.wrapping_add(random.below(5000));
            last
        }
    };
    (0..rows).map(&mut value).collect()
}

fn column(kind: ColumnType, run: Run, rows: usize, random: &mut Random) -> Column {
    match kind {
        ColumnType::Text => texts(run, rows, random, |random| random.below(9) as usize),
        ColumnType::Ip => texts(run, rows, random, |_| 16),
        ColumnType::Number { width, .. } => {
            let values = numbers(run, rows, random).into_iter();
            match width {
                1 => Column::U8(values.map(|value| value as u8).collect()),
                2 => Column::U16(values.map(|value| value as u16).collect()),
                4 => Column::U32(values.map(|value| value as u32).collect()),
                _ => Column::U64(values.collect()),
            }
        }
    }
}

fn texts(run: Run, rows: usize, random: &mut Random, length: impl Fn(&mut Random) -> usize) -> Column {
    let mut value = || (0..length(random)).map(|_| random.next() as u8).collect::<Vec<u8>>();
    let few: Vec<Vec<u8>> = (0..5).map(|_| value()).collect();
    let mut text = Text::default();
    for row in 0..rows {
        match run {
            Run::Constant => text.push(&few[0]),
            Run::Few => text.push(&few[row * row % 5]),
            Run::Rising | Run::Any | Run::Extremes => text.push(&value()),
        }
    }
    Column::Text(text)
}

fn number(width: u8, signed: bool) -> ColumnType {
    ColumnType::Number { width, signed }
}

fn kinds() -> Vec<ColumnType> {
    let numbers = [1, 2, 4, 8].into_iter().flat_map(|width| [number(width, false), number(width, true)]);
    numbers.chain([ColumnType::Text, ColumnType::Ip]).collect()
}

fn table(number: u16, name: &str, columns: Vec<ColumnDef>) -> TableDef {
    TableDef {
        number,
        name: name.into(),
        role: Role::Event,
        group: "test".into(),
        doc: String::new(),
        columns,
    }
}

// ---- what a trace says ----

/// Reason, end, totals and histograms of a footer.
type End = (String, u64, HashMap<u16, TraceTotals>, HashMap<(u16, u16), Histogram>);

/// Everything that a program can learn from a trace. Rows are found by stream and sequence number.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    host: Host,
    tables: Vec<TableDef>,
    batches: BTreeMap<(u16, u64), Batch>,
    footer: Option<End>,
}

/// With the number of things that were reported wrong.
fn content(reader: &TraceReader) -> (Content, usize) {
    let mut wrong = reader.damage.len() + reader.missing().len();
    let mut scratch = Scratch::new();
    let mut content =
        Content { host: reader.host.clone(), tables: reader.tables.clone(), ..Content::default() };
    for frame in reader.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
        match reader.read(frame, None, &mut scratch) {
            Ok(batch) => {
                let twice = content.batches.insert((frame.header.stream, frame.header.sequence), batch);
                assert_eq!(twice, None, "the rows of {:?} count twice", frame.header);
            }
            Err(_) => wrong += 1,
        }
    }
    content.footer = reader
        .footer
        .clone()
        .map(|footer| (footer.reason, footer.end_mono, footer.totals, footer.histograms));
    (content, wrong)
}

fn open(bytes: &[u8]) -> TraceReader {
    TraceReader::from_bytes(bytes.to_vec()).expect("a trace")
}

/// Whatever was done to the file: what is read is true, and what is not read is reported.
fn assert_true_or_reported(whole: &Content, bytes: &[u8], what: &str) {
    let reader = match TraceReader::from_bytes(bytes.to_vec()) {
        Ok(reader) => reader,
        Err(FormatError::NotATrace { .. }) => return,
        Err(error) => panic!("{what}: {error}"),
    };
    let (found, wrong) = content(&reader);
    for (place, batch) in &found.batches {
        assert_eq!(Some(batch), whole.batches.get(place), "{what}: the rows of {place:?} changed");
    }
    assert!(found == *whole || wrong > 0, "{what}: something is missing, and nothing is reported");
    let host = found.host == whole.host || found.host == Host::default();
    let tables = found.tables == whole.tables || found.tables.is_empty();
    let footer = found.footer == whole.footer || found.footer.is_none();
    assert!(host && tables && footer, "{what}: host, tables or footer changed");
}

fn host() -> Host {
    let text = |text: &str| text.to_owned();
    Host {
        required_reader: 1,
        recorder: text("test"),
        hostname: text("höst"),
        command: vec![text("capture"), text("-o")],
        start_mono: 17,
        zone_offset: -3600,
        ..Host::default()
    }
}

/// Three streams with two tables, `frames` frames of at most `rows` rows, and a clean end.
fn trace(seed: u64, frames: usize, rows: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut all = ColumnDef::new("ts", number(8, false));
    all.histogram = true;
    let mut columns = vec![all];
    columns.extend(kinds().into_iter().enumerate().map(|(at, kind)| ColumnDef::new(&format!("c{at}"), kind)));
    columns.push(ColumnDef { by: "c4".into(), ..ColumnDef::new("seq", number(4, false)) });
    columns[8].null = Some(1 << 63);
    let sends =
        ["ts", "sock"].map(|name| ColumnDef::new(name, number(if name == "ts" { 8 } else { 4 }, false)));
    let ret = ColumnDef { null: Some(0xffff_ffff), ..ColumnDef::new("ret", number(4, true)) };
    let tables =
        vec![table(0, "all", columns), table(1, "sock_send", sends.into_iter().chain([ret]).collect())];
    let mut writer = TraceWriter::new(Vec::new(), 1, &host(), tables).expect("a Vec takes everything");
    for frame in 0..frames {
        let def = writer.tables()[frame % 2].clone();
        let rows = 1 + random.below(rows) as usize;
        let made = def.columns.iter().enumerate().map(|(at, info)| {
            let run = if info.name == "c4" { Run::Few } else { RUNS[(at + frame) % 5] };
            column(info.kind, run, rows, &mut random)
        });
        let batch = Batch { table: def.number, stream: (frame % 3) as u16, rows, columns: made.collect() };
        writer.append(Kind::Events, 0, &batch).expect("a batch that fits");
    }
    writer.finish("done").expect("a Vec takes everything").0
}

/// Where each frame begins, and where the last one ends.
fn bounds(reader: &TraceReader) -> Vec<usize> {
    let starts = reader.frames.iter().map(|frame| frame.offset);
    starts
        .chain([reader.length() - TRAILER as u64])
        .map(|at| usize::try_from(at).expect("a small file"))
        .collect()
}

// ---- round trip ----

fn any_columns() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    prop::collection::vec((0..kinds().len(), 0..RUNS.len(), any::<bool>()), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_come_back(
        shape in any_columns(),
        rows in prop_oneof![1..40usize, 1490..1510usize, Just(4000usize)],
        seed in 1..u64::MAX,
        wanted in prop::collection::vec(0..14usize, 0..5),
    ) {
        let mut random = Random(seed);
        // Column 0 is a key that few rows share, 1 one that none does; both are hints to some of the others.
        let mut columns = vec![ColumnDef::new("few", number(4, false)), ColumnDef::new("any", number(4, false))];
        let mut values = vec![
            column(columns[0].kind, Run::Few, rows, &mut random),
            column(columns[1].kind, Run::Any, rows, &mut random),
        ];
        for (at, &(kind, run, keyed)) in shape.iter().enumerate() {
            let by = ["", "few", "any", "c0", "c1"][if keyed { random.below(5) as usize } else { 0 }];
            columns.push(ColumnDef { by: by.into(), ..ColumnDef::new(&format!("c{at}"), kinds()[kind]) });
            let absent = random.below(10) == 0;
            values.push(if absent { Column::Absent } else { column(kinds()[kind], RUNS[run], rows, &mut random) });
        }
        let batch = Batch { table: 0, stream: 3, rows, columns: values };
        let mut writer = TraceWriter::new(Vec::new(), 1, &host(), vec![table(0, "t", columns)]).expect("a Vec takes everything");
        for _ in 0..2 {
            writer.append(Kind::Events, 0, &batch).expect("a batch that fits");
        }
        let (bytes, length) = writer.finish("done").expect("a Vec takes everything");
        prop_assert_eq!(bytes.len() as u64, length);
        let reader = open(&bytes);
        prop_assert!(reader.damage.is_empty() && reader.missing().is_empty());
        for frame in reader.frames_of(0) {
            prop_assert_eq!(&reader.read(frame, None, &mut Scratch::new()).expect("undamaged"), &batch);
            let some = reader.read(frame, Some(&wanted), &mut Scratch::new()).expect("undamaged");
            for (index, column) in some.columns.iter().enumerate() {
                let expected = if wanted.contains(&index) { &batch.columns[index] } else { &Column::Absent };
                prop_assert_eq!(column, expected);
            }
        }
        prop_assert_eq!(reader.footer.expect("a clean end").totals[&0].rows, 2 * rows as u64);
    }
}

#[test]
fn a_batch_that_contradicts_its_definition_is_not_written() {
    let tables =
        vec![table(0, "t", vec![ColumnDef::new("a", number(4, false)), ColumnDef::new("b", ColumnType::Ip)])];
    let mut writer = TraceWriter::new(Vec::new(), 1, &host(), tables).expect("a Vec takes everything");
    let before = writer.bytes();
    let mut append =
        |table, rows, columns| writer.append(Kind::Events, 0, &Batch { table, stream: 0, rows, columns });
    let short = Column::Text(Text { lengths: vec![4], bytes: vec![127, 0, 0, 1] });
    for columns in [
        vec![Column::U32(vec![1])],
        vec![Column::U64(vec![1]), Column::Absent],
        vec![Column::U32(vec![1, 2]), Column::Absent],
        vec![Column::U32(vec![1]), short],
    ] {
        assert!(matches!(append(0, 1, columns), Err(FormatError::Batch(_))));
    }
    assert!(matches!(append(7, 1, Vec::new()), Err(FormatError::Batch(_))));
    let many = vec![1; 9 << 20];
    assert!(matches!(
        append(0, many.len(), vec![Column::U32(many), Column::Absent]),
        Err(FormatError::Batch(_))
    ));
    append(0, 1, vec![Column::U32(vec![1]), Column::Absent]).expect("a batch that fits");
    assert!(writer.bytes() > before);
    let columns = vec![ColumnDef::new("a", number(1, false)); MAX_PARTS + 1];
    assert!(TraceWriter::new(Vec::new(), 1, &host(), vec![table(0, "t", columns)]).is_err());
    assert!(TraceWriter::new(Vec::new(), 1, &host(), vec![table(1, "t", Vec::new())]).is_err());
}

// ---- damage ----

#[test]
fn a_file_cut_at_any_byte_yields_every_complete_frame() {
    let bytes = trace(1, 7, 12);
    let (whole, wrong) = content(&open(&bytes));
    assert_eq!(wrong, 0);
    let reader = open(&bytes);
    let bounds = bounds(&reader);
    for cut in 0..bytes.len() {
        assert_true_or_reported_when_cut(&whole, &bytes[..cut], &bounds);
        let complete = bounds[1..].iter().filter(|&&end| end <= cut).count();
        match TraceReader::from_bytes(bytes[..cut].to_vec()) {
            Ok(found) => assert_eq!(found.frames, reader.frames[..complete], "cut at {cut}"),
            Err(FormatError::NotATrace { .. }) => assert_eq!(complete, 0, "cut at {cut}"),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
}

/// A cut between two frames leaves no trace but the missing footer.
fn assert_true_or_reported_when_cut(whole: &Content, bytes: &[u8], bounds: &[usize]) {
    let Ok(reader) = TraceReader::from_bytes(bytes.to_vec()) else { return };
    let (found, wrong) = content(&reader);
    assert!(found.batches.iter().all(|(place, batch)| whole.batches.get(place) == Some(batch)));
    assert_eq!(wrong == 0, bounds.contains(&bytes.len()), "cut at {}", bytes.len());
    let before_footer = bytes.len() < bounds[bounds.len() - 1];
    assert_eq!(found.footer.is_none(), before_footer, "cut at {}", bytes.len());
}

#[test]
fn no_changed_byte_changes_what_is_read() {
    let bytes = trace(2, 7, 12);
    let (whole, _) = content(&open(&bytes));
    for at in 0..bytes.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert_true_or_reported(&whole, &changed, &format!("byte {at} of {} ^ {flip:#04x}", bytes.len()));
        }
    }
}

#[test]
fn frames_twice_or_out_of_order_or_gone_are_reported() {
    let bytes = trace(3, 7, 12);
    let reader = open(&bytes);
    let (whole, _) = content(&reader);
    let bounds = bounds(&reader);
    let frames: Vec<&[u8]> = bounds.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
    let end = &bytes[bounds[bounds.len() - 1]..];
    let joined = |frames: &[&[u8]]| [&frames.concat(), end].concat();
    for at in 0..frames.len() {
        for to in 0..frames.len() {
            let mut moved = frames.clone();
            moved.swap(at, to);
            assert_true_or_reported(&whole, &joined(&moved), &format!("frames {at} and {to} swapped"));
            let mut twice = frames.clone();
            twice.insert(to, frames[at]);
            assert_true_or_reported(&whole, &joined(&twice), &format!("frame {at} again before {to}"));
        }
        let mut without = frames.clone();
        without.remove(at);
        assert_true_or_reported(&whole, &joined(&without), &format!("without frame {at}"));
    }
}

/// How many rows are gone is known from the footer even where no later frame of the stream tells.
#[test]
fn the_last_frame_of_a_table_is_missed() {
    let bytes = trace(3, 7, 12);
    let reader = open(&bytes);
    let bounds = bounds(&reader);
    let last = reader.frames.iter().rposition(|frame| frame.header.kind.has_rows()).expect("there are rows");
    let without = [&bytes[..bounds[last]], &bytes[bounds[last + 1]..]].concat();
    let missing = open(&without).missing();
    let header = &reader.frames[last].header;
    let rows: u64 = missing.iter().filter(|one| one.table == Some(header.table)).map(|one| one.rows).sum();
    assert_eq!(rows, u64::from(header.rows), "{missing:?}");
}

#[test]
fn a_hole_costs_the_frames_that_it_touches_and_no_others() {
    let bytes = trace(4, 60, 300);
    let reader = open(&bytes);
    let (whole, _) = content(&reader);
    let bounds = bounds(&reader);
    for start in (bounds[2]..bytes.len() - 8192).step_by(1777) {
        let mut holed = bytes.clone();
        holed[start..start + 4096].fill(0);
        assert_true_or_reported(&whole, &holed, &format!("hole at {start}"));
        let found = content(&open(&holed)).0.batches;
        for (frame, pair) in reader.frames.iter().zip(bounds.windows(2)) {
            let touched = pair[0] < start + 4096 && start < pair[1];
            let key = (frame.header.stream, frame.header.sequence);
            let expected = frame.header.kind.has_rows() && !touched;
            assert_eq!(
                found.contains_key(&key) && frame.header.kind.has_rows(),
                expected,
                "hole at {start}: {:?}",
                frame.header
            );
        }
    }
}

#[test]
fn a_file_that_lost_a_piece_yields_what_is_behind_it() {
    let bytes = trace(4, 60, 300);
    let bounds = bounds(&open(&bytes));
    let (whole, _) = content(&open(&bytes));
    let (from, to) = (bounds[40] + 200, bounds[40] + 250);
    let shorter = [&bytes[..from], &bytes[to..]].concat();
    assert_true_or_reported(&whole, &shorter, "a piece is lost");
    assert!(content(&open(&shorter)).0.batches.len() >= whole.batches.len() - 2);
    // The frame that lost its end claims to reach past the end of the file; what is there is still found.
    let footer = open(&bytes).frames.len() - 1;
    let shorter = [&bytes[..bounds[40] + 200], &bytes[bounds[footer]..]].concat();
    assert!(bounds[41] > shorter.len());
    assert_eq!(content(&open(&shorter)).0.footer, whole.footer);
}

/// One file is one trace: the second of two has other tables and ids.
#[test]
fn a_trace_behind_another_is_left_alone() {
    let (first, second) = (trace(5, 7, 12), trace(6, 40, 12));
    let (whole, _) = content(&open(&first));
    let reader = open(&[&first[..], &second].concat());
    let (found, wrong) = content(&reader);
    assert_eq!((found, wrong), (whole, 1));
    assert_eq!((reader.damage[0].offset, reader.damage[0].length), (first.len() as u64, second.len() as u64));
    let cut = &first[..bounds(&open(&first))[5]];
    let (found, wrong) = content(&open(&[cut, &second].concat()));
    assert_eq!((found, wrong), (content(&open(cut)).0, 1));
}

// ---- hostile files ----

fn with_part(stored: u32, raw: u32, rows: u32) -> FrameHeader {
    let parts = vec![Part { column: u16::MAX, stored, raw }];
    let (table, stream, epoch, sequence) = (0, 7, 0, 0);
    let (min_time, max_time, rows_before) = (0, 0, 0);
    let kind = Kind::Events;
    FrameHeader { kind, table, stream, rows, epoch, sequence, min_time, max_time, rows_before, parts }
}

#[test]
fn oversized_lengths_are_refused() {
    for header in [
        with_part(u32::MAX, 8, 1),
        with_part(8, MAX_MESSAGE + 1, 1),
        with_part(8, 8, u32::MAX),
        FrameHeader {
            parts: vec![Part { column: 0, stored: 0, raw: MAX_MESSAGE / 2 }; 3],
            ..with_part(0, 0, 1)
        },
    ] {
        assert!(FrameHeader::parse(&header.to_bytes(), 0).is_err(), "{header:?}");
    }
}

#[test]
fn a_bomb_does_not_go_off() {
    let before = trace(7, 2, 12);
    let zeros = zstd::bulk::compress(&vec![0; MAX_MESSAGE as usize], 1).expect("zstd takes everything");
    let stored = u32::try_from(zeros.len()).expect("zeros are small");
    for raw in [64, MAX_MESSAGE] {
        let bomb = [&with_part(stored, raw, 1).to_bytes()[..], &zeros].concat();
        let cut = bounds(&open(&before))[3];
        let reader = open(&[&before[..cut], &bomb].concat());
        let frame = reader.frames.last().expect("the bomb");
        assert!(reader.read(frame, None, &mut Scratch::new()).is_err());
    }
}

/// Each is 16 bytes and costs a look, so time must not grow with the square of their number.
#[test]
fn a_file_of_false_headers_opens_in_time() {
    let header = &with_part(8, 8, 1).to_bytes()[..16];
    let bytes = [trace(8, 1, 2), header.repeat(1 << 16)].concat();
    let start = std::time::Instant::now();
    assert_eq!(open(&bytes).damage.len(), 1);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_trace_for_newer_readers_is_refused() {
    let host = Host { required_reader: 2, ..host() };
    let writer = TraceWriter::new(Vec::new(), 1, &host, Vec::new()).expect("a Vec takes everything");
    let bytes = writer.finish("done").expect("a Vec takes everything").0;
    let error = TraceReader::from_bytes(bytes).expect_err("a newer format");
    assert!(matches!(error, FormatError::TooNew { required: 2, supported: 1 }), "{error}");
}

#[test]
fn unknown_kinds_are_skipped() {
    let bytes = trace(9, 7, 12);
    let (whole, _) = content(&open(&bytes));
    let unknown = FrameHeader { kind: Kind::Unknown(200), ..with_part(5, 9, 1) };
    let at = bounds(&open(&bytes))[4];
    let mixed = [&bytes[..at], &unknown.to_bytes(), b"12345", &bytes[at..]].concat();
    let reader = open(&mixed);
    // The trailer points at the footer, which the insertion moved: that is reported, and nothing else.
    assert_eq!(content(&reader), (whole, 1));
    assert_eq!(reader.damage[0].offset, (mixed.len() - TRAILER) as u64);
}

#[test]
fn what_is_no_trace_is_refused() {
    for bytes in [&b""[..], b"tapedeck", &[0; 5000], b"\x28\xb5\x2f\xfd\x00\x00\x00\x00"] {
        assert!(matches!(TraceReader::from_bytes(bytes.to_vec()), Err(FormatError::NotATrace { .. })));
    }
}

// ---- stock tools ----

/// Whether these programs are there. With `REQUIRE_TOOLS=1` they must be.
pub fn tools(names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            let mut command = Command::new(name);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("REQUIRE_TOOLS").is_none(), "not installed: {missing:?}");
    eprintln!("SKIPPED: not installed: {missing:?}");
    false
}

/// Its standard output; it must succeed.
pub fn output(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("a child");
    feed.join().expect("no panic").expect("the program reads all of its input");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}

fn in_file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    fs::write(&path, bytes).expect("the folder is writable");
    path
}

#[test]
fn stock_tools_read_a_trace() {
    if !tools(&["zstd", "capnp"]) {
        return;
    }
    let bytes = trace(10, 24, 2500);
    let path = in_file("stock.bin", &bytes);
    output(Command::new("zstd").arg("-tq").arg(&path), b"");
    let messages = output(Command::new("zstd").arg("-dcq").arg(&path), b"");
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/trace.capnp");
    let text = output(Command::new("capnp").args(["decode", "--short", schema, "Frame"]), &messages);
    let expected: usize = open(&bytes).frames.iter().map(|frame| frame.header.parts.len()).sum();
    assert_eq!(text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count(), expected);
    fs::remove_file(path).expect("a file of ours");
}

#[test]
fn the_independent_reader_agrees() {
    if !tools(&["zstd", "capnp", "python3"]) {
        return;
    }
    for (frames, rows) in [(7, 12), (24, 2500)] {
        let bytes = trace(11, frames, rows);
        let path = in_file("independent.bin", &bytes);
        let found = output(independent_reader().arg(&path), b"");
        let found: String = String::from_utf8(found).expect("JSON").split_whitespace().collect();
        assert_eq!(found, summary(&open(&bytes)));
        fs::remove_file(path).expect("a file of ours");
    }
}

#[test]
fn the_independent_reader_prints_rows_and_names_damage() {
    if !tools(&["zstd", "capnp", "python3"]) {
        return;
    }
    let mut bytes = trace(12, 7, 12);
    let path = in_file("rows.bin", &bytes);
    let rows = output(independent_reader().args(["--rows", "--table", "sock_send"]).arg(&path), b"");
    let reader = open(&bytes);
    let expected = reader.footer.as_ref().expect("a clean end").totals[&1].rows;
    assert_eq!(
        rows.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"ts\": ")).count() as u64,
        expected
    );
    bytes[bounds(&reader)[4] + 100] ^= 1;
    fs::write(&path, &bytes).expect("the folder is writable");
    let damaged = independent_reader().arg(&path).output().expect("python runs");
    assert_eq!(damaged.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("damaged: byte"));
    fs::remove_file(path).expect("a file of ours");
}

fn independent_reader() -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/independent_reader.py"));
    command
}

/// What the independent reader prints of an undamaged trace, without white space.
fn summary(reader: &TraceReader) -> String {
    let mut scratch = Scratch::new();
    let mut send = (0, 0);
    let mut tables = Vec::new();
    for def in &reader.tables {
        let read = |frame| reader.read(frame, None, &mut scratch).expect("undamaged");
        let batches: Vec<Batch> = reader.frames_of(def.number).map(read).collect();
        let rows: usize = batches.iter().map(|batch| batch.rows).sum();
        let columns: Vec<String> =
            def.columns.iter().enumerate().map(|(at, info)| column_summary(info, at, &batches)).collect();
        tables.push(format!(r#""{}":{{"rows":{rows},"columns":{{{}}}}}"#, def.name, columns.join(",")));
        if def.name == "sock_send" {
            let sent = values(&def.columns[2], 2, &batches);
            send = (rows, sent.flatten().filter(|&value| value > 0).sum::<i128>());
        }
    }
    let tables = tables.join(",");
    format!(
        r#"{{"ended":true,"tables":{{{tables}}},"sock_send":{{"calls":{},"bytes":{}}},"damage":[]}}"#,
        send.0, send.1
    )
}

fn values<'a>(info: &'a ColumnDef, at: usize, batches: &'a [Batch]) -> impl Iterator<Item = Option<i128>> {
    let raw = batches
        .iter()
        .flat_map(move |batch| (0..batch.rows).filter_map(move |row| batch.columns[at].number(row)));
    raw.map(|raw| info.value(raw))
}

fn column_summary(info: &ColumnDef, at: usize, batches: &[Batch]) -> String {
    let mut to = format!(r#""{}":{{"#, info.name);
    if matches!(info.kind, ColumnType::Number { .. }) {
        let known: Vec<i128> = values(info, at, batches).flatten().collect();
        let nulls = values(info, at, batches).count() - known.len();
        let sum = known.iter().sum::<i128>().rem_euclid(1 << 64);
        write!(to, r#""sum":{sum},"nulls":{nulls}"#).expect("a String grows");
        if let (Some(min), Some(max)) = (known.iter().min(), known.iter().max()) {
            write!(to, r#","min":{min},"max":{max}"#).expect("a String grows");
        }
    } else {
        let all: Vec<&[u8]> =
            batches.iter().filter_map(|batch| batch.columns[at].text()).flat_map(Text::iter).collect();
        let bytes: usize = all.iter().map(|value| value.len()).sum();
        let crc = all.iter().fold(0, |crc, value| {
            let length = u32::try_from(value.len()).expect("short text");
            crc32c::crc32c_append(crc32c::crc32c_append(crc, &length.to_le_bytes()), value)
        });
        write!(to, r#""count":{},"bytes":{bytes},"crc32c":{crc}"#, all.len()).expect("a String grows");
    }
    to.push('}');
    to
}

// ---- fuzz corpus ----

type Target = (&'static str, fn(&[u8]));

/// The committed inputs of the fuzz targets; `WRITE_CORPUS=1` writes anew those that are made from a trace.
#[test]
fn fuzz_corpus_is_harmless() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    if std::env::var_os("WRITE_CORPUS").is_some() {
        write_corpus(&corpus);
    }
    let runs: [Target; 3] =
        [("header", targets::header), ("payload", targets::payload), ("file", targets::file)];
    for (name, run) in runs {
        let entries: Vec<_> =
            fs::read_dir(corpus.join(name)).expect("the corpus is part of the sources").collect();
        assert!(!entries.is_empty(), "no input for {name}");
        for entry in entries {
            run(&fs::read(entry.expect("a folder entry").path()).expect("an input"));
        }
    }
}

fn write_corpus(corpus: &Path) {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(name), bytes))
            .expect("the folder is writable");
    };
    let bytes = corpus_trace();
    let reader = open(&bytes);
    put("file", "whole", &bytes);
    put("file", "cut", &bytes[..bytes.len() * 2 / 3]);
    for (at, (frame, pair)) in reader.frames.iter().zip(bounds(&reader).windows(2)).enumerate() {
        let header = &frame.header;
        let start = pair[0] + header.header_length();
        put("header", &format!("{at}"), &bytes[pair[0]..start]);
        let kind = match header.kind {
            Kind::Events => 0u8,
            Kind::Host => 2,
            Kind::Tables => 3,
            Kind::Footer => 4,
            _ => continue,
        };
        let mut start = start;
        for part in header.parts.iter().take(9) {
            let end = start + part.stored as usize;
            let message = zstd::bulk::decompress(&bytes[start..end], part.raw as usize).expect("undamaged");
            let input = [&[kind, header.table as u8], &header.rows.to_le_bytes()[..], &message].concat();
            if input.len() < 2500 {
                put("payload", &format!("{at}-{}", part.column), &input);
            }
            start = end;
        }
    }
    put("header", "trailer", &bytes[bytes.len() - TRAILER..]);
}

/// One small frame of each run, in the tables that the targets know, and one of split columns.
fn corpus_trace() -> Vec<u8> {
    let mut random = Random(99);
    let mut writer =
        TraceWriter::new(Vec::new(), 1, &Host::default(), targets::tables()).expect("a Vec takes everything");
    let def = writer.tables()[0].clone();
    let mut append = |stream, rows, run: Run, random: &mut Random| {
        let columns = def.columns.iter().map(|info| column(info.kind, run, rows, random)).collect();
        writer
            .append(Kind::Events, 0, &Batch { table: 0, stream, rows, columns })
            .expect("a batch that fits");
    };
    for (stream, run) in (0..).zip([Run::Few, Run::Rising, Run::Any]) {
        append(stream, 6, run, &mut random);
    }
    append(RECORDER, 1500, Run::Constant, &mut random);
    writer.finish("done").expect("a Vec takes everything").0
}
