//! Made-up rows, tables and traces.

use tapedeck::schema::{Batch, Column, ColumnDef, ColumnType, Host, Kind, Role, TableDef, Text, TraceWriter};

/// xorshift64*: the same numbers on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }
}

/// How the values of a column run.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    Constant,
    Few,
    Rising,
    Any,
    Extremes,
}

pub const RUNS: [Run; 5] = [Run::Constant, Run::Few, Run::Rising, Run::Any, Run::Extremes];

pub fn numbers(run: Run, rows: usize, random: &mut Random) -> Vec<u64> {
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

pub fn column(kind: ColumnType, run: Run, rows: usize, random: &mut Random) -> Column {
    match kind {
        ColumnType::Text => texts(run, rows, random, |random| random.below(9) as usize),
        ColumnType::Ip => texts(run, rows, random, |_| 16),
        ColumnType::Unknown(_) => Column::U64(numbers(run, rows, random)),
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

pub fn texts(run: Run, rows: usize, random: &mut Random, length: impl Fn(&mut Random) -> usize) -> Column {
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

pub fn number(width: u8, signed: bool) -> ColumnType {
    ColumnType::Number { width, signed }
}

pub fn kinds() -> Vec<ColumnType> {
    let numbers = [1, 2, 4, 8].into_iter().flat_map(|width| [number(width, false), number(width, true)]);
    numbers.chain([ColumnType::Text, ColumnType::Ip]).collect()
}

pub fn table(number: u16, name: &str, columns: Vec<ColumnDef>) -> TableDef {
    TableDef {
        number,
        name: name.into(),
        role: Role::Event,
        group: "test".into(),
        doc: String::new(),
        columns,
    }
}

pub fn host() -> Host {
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
pub fn trace(seed: u64, frames: usize, rows: u64) -> Vec<u8> {
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

/// Calls one after the other, each in one of two ways: what the last two transforms are for.
pub fn calls(rows: u64) -> Vec<u8> {
    let mut random = Random(5);
    let ts = ColumnDef { by: "latency".into(), ..ColumnDef::new("ts", number(8, false)) };
    let def = table(0, "syscall", vec![ts, ColumnDef::new("latency", number(8, false))]);
    let mut writer = TraceWriter::new(Vec::new(), 1, &host(), vec![def]).expect("a Vec takes everything");
    let latency =
        |random: &mut Random| [0x110 + random.below(13), 0x7c0 + random.below(29)][random.below(2) as usize];
    let latencies: Vec<u64> = (0..rows).map(|_| latency(&mut random)).collect();
    let ends = latencies.iter().scan(1 << 40, |end, latency| {
        *end += latency + 100 + random.below(9);
        Some(*end)
    });
    let columns = vec![Column::U64(ends.collect()), Column::U64(latencies)];
    let batch = Batch { rows: columns[0].len(), columns, ..Batch::default() };
    writer.append(Kind::Events, 0, &batch).expect("a batch that fits");
    writer.finish("done").expect("a Vec takes everything").0
}
