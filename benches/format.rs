//! What the trace file costs, in memory and on one core: `cargo bench --bench format --no-default-features`.
//!
//! Two million rows of a table like `sock_send` go through the writer (transform, zstd, checksum) and
//! back through the reader. The best of some rounds counts: the others measure the neighbours.

use std::hint::black_box;
use std::time::{Duration, Instant};
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{
    Batch, Column, ColumnDef, ColumnType, Host, Kind, Role, TableDef, TraceReader, TraceWriter,
};

const ROWS: usize = 2_000_000;
const ROUNDS: usize = 5;
const LEVEL: i32 = 1;

fn main() {
    println!("{:>9} {:>12} {:>12} {:>12} {:>9} {:>9}", "rows", "encode", "decode", "three", "raw", "file");
    for rows in [200, 1_400, 1_500, 6_000, 22_000] {
        let batches = generate(rows);
        let (encode, file) = best(|| encode(&batches));
        let reader = TraceReader::from_bytes(file).expect("a trace that was just written");
        let (decode, count) = best(|| decode(&reader, None));
        let (three, _) = best(|| decode_some(&reader, &[0, 3, 5]));
        assert_eq!(count, ROWS);
        let raw: usize = batches.iter().flat_map(|batch| &batch.columns).map(Column::raw_bytes).sum();
        let each = |total: f64| total / ROWS as f64;
        println!(
            "{rows:>9} {:>12} {:>12} {:>12} {:>7.2} B {:>7.2} B",
            rate(encode),
            rate(decode),
            rate(three),
            each(raw as f64),
            each(reader.length() as f64)
        );
    }
    println!(
        "rows: per frame. three: decode of the columns ts, sock and ret only. ns per event, events per second."
    );
}

fn rate(time: Duration) -> String {
    let each = time.as_nanos() as f64 / ROWS as f64;
    format!("{each:.0} ns {:.1} M", 1e3 / each)
}

fn best<R>(mut work: impl FnMut() -> R) -> (Duration, R) {
    let mut round = || {
        let start = Instant::now();
        let result = black_box(work());
        (start.elapsed(), result)
    };
    let first = round();
    (1..ROUNDS).map(|_| round()).fold(first, |best, next| if next.0 < best.0 { next } else { best })
}

fn encode(batches: &[Batch]) -> Vec<u8> {
    let host = Host { required_reader: 1, ..Host::default() };
    let to = Vec::with_capacity(64 << 20);
    let mut writer = TraceWriter::new(to, LEVEL, &host, vec![table()]).expect("a Vec takes everything");
    for batch in batches {
        writer.append(Kind::Events, 0, batch).expect("a Vec takes everything");
    }
    writer.finish("done").expect("a Vec takes everything").0
}

fn decode(reader: &TraceReader, wanted: Option<&[usize]>) -> usize {
    let mut scratch = Scratch::new();
    reader
        .frames_of(0)
        .map(|frame| black_box(reader.read(frame, wanted, &mut scratch)).expect("undamaged").rows)
        .sum()
}

fn decode_some(reader: &TraceReader, wanted: &[usize]) -> usize {
    decode(reader, Some(wanted))
}

fn table() -> TableDef {
    let number = |name: &str, width, signed| ColumnDef::new(name, ColumnType::Number { width, signed });
    let mut columns = vec![
        number("ts", 8, false),
        number("cpu", 2, false),
        number("tid", 4, false),
        number("sock", 4, false),
        number("requested", 4, false),
        number("ret", 4, true),
        number("seq", 4, false),
        number("latency", 8, false),
        number("flags", 4, false),
        number("exact", 4, false),
    ];
    columns[6].by = "sock".into();
    columns[7].histogram = true;
    columns[7].null = Some(0);
    let (name, doc) = ("sock_send".into(), String::new());
    TableDef { number: 0, name, role: Role::Event, group: "net".into(), doc, columns }
}

/// One ring of a busy server: 64 sockets of 8 threads, a send every 3 µs, few sizes, log-normal latencies.
fn generate(rows: usize) -> Vec<Batch> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut clock = 1_000_000_000_000u64;
    let mut next: Vec<u32> = (0..64).map(|_| random.next() as u32).collect();
    let mut left = ROWS;
    let mut batches = Vec::new();
    while left > 0 {
        let rows = rows.min(left);
        left -= rows;
        batches.push(generate_batch(rows, &mut random, &mut clock, &mut next));
    }
    batches
}

fn generate_batch(rows: usize, random: &mut Random, clock: &mut u64, next: &mut [u32]) -> Batch {
    let (mut ts, mut latency) = (Vec::new(), Vec::new());
    let (mut tid, mut sock, mut requested, mut seq) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        *clock += 500 + (-random.unit().ln() * 2_500.0) as u64;
        let id = (random.next() % 64) as usize;
        let size = if random.next().is_multiple_of(20) { 1_448 } else { 120 };
        ts.push(*clock);
        tid.push(4_000 + (random.next() % 8) as u32);
        sock.push(100 + id as u32);
        requested.push(size);
        seq.push(next[id]);
        next[id] = next[id].wrapping_add(size);
        latency.push((6_000.0 * (random.normal() * 0.4).exp()) as u64);
    }
    let columns = vec![
        Column::U64(ts),
        Column::U16(vec![1; rows]),
        Column::U32(tid),
        Column::U32(sock),
        Column::U32(requested.clone()),
        Column::U32(requested),
        Column::U32(seq),
        Column::U64(latency),
        Column::U32(vec![0x4000; rows]),
        Column::U32(vec![1; rows]),
    ];
    Batch { table: 0, stream: 1, rows, columns }
}

/// xorshift64*: the same rows on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() & 0xFFFF_FFFF) + 1) as f64 / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}
