//! Traces whose frames are all in order and whose contents are not: fixtures are taken apart, changed where the
//! input says, and written with the real writer, so that a fuzzer gets past every checksum.

use std::sync::LazyLock;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{
    Batch, Column, ColumnDef, ColumnType, Host, Kind, Role, TableDef, Text, TraceReader, TraceWriter,
};

/// Decisions that an input stands for; where it has ended, each is the first of its choices.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below a limit; 0 where there is nothing to choose from.
    pub fn below(&mut self, limit: usize) -> usize {
        let high = if limit > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (high | usize::from(self.byte())) % limit.max(1)
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Small ones, so that ids meet; the ends of every width; any.
    fn number(&mut self) -> u64 {
        const ENDS: [u64; 9] =
            [u64::MAX, 0, 255, 65_535, u32::MAX as u64, 1 << 31, 1 << 62, 1 << 63, u64::MAX - 1];
        match self.below(4) {
            0 => self.below(8) as u64,
            1 => self.below(65_536) as u64,
            2 => self.of(&ENDS),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    fn name(&mut self) -> &'static [u8] {
        self.of(&[
            b"",
            b"nginx",
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
pub struct Pieces {
    host: Host,
    tables: Vec<TableDef>,
    frames: Vec<(Kind, u32, Batch)>,
}

/// Frames of each table that are taken from a fixture.
const FRAMES: usize = 3;

/// Fixtures with few frames of few rows, so that a run is short; at least one for every table that there is. New ones
/// go to the end: the corpus numbers them.
pub static FIXTURES: LazyLock<[Pieces; 11]> = LazyLock::new(|| {
    [
        Pieces::of(include_bytes!("../../fixtures/pingpong.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/execs.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/files.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/burn.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/lossy.bin"), 6),
        Pieces::of(include_bytes!("../../fixtures/block.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/storm.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/naps.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/calls.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/stat.bin"), 12),
        Pieces::of(include_bytes!("../../fixtures/named.bin"), 6),
    ]
});

impl Pieces {
    fn of(trace: &[u8], rows: usize) -> Self {
        let reader = TraceReader::from_bytes(trace.to_vec()).expect("a fixture");
        let mut scratch = Scratch::new();
        let mut frames = Vec::new();
        let mut seen = vec![0; reader.tables.len()];
        for frame in reader.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
            seen[usize::from(frame.header.table)] += 1;
            if seen[usize::from(frame.header.table)] > FRAMES {
                continue;
            }
            let mut batch = reader.read(frame, None, &mut scratch).expect("a whole fixture");
            batch.columns.iter_mut().for_each(|column| cut(column, rows));
            batch.rows = batch.rows.min(rows);
            frames.push((frame.header.kind, frame.header.epoch, batch));
        }
        Self { host: reader.host.clone(), tables: reader.tables.clone(), frames }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let tables = self.tables.clone();
        let mut writer = TraceWriter::new(Vec::new(), 1, &self.host, tables).expect("numbers are positions");
        for (kind, epoch, batch) in &self.frames {
            // What the writer refuses no file of ours has; those of others are for target `file`.
            let _ = writer.append(*kind, *epoch, batch);
        }
        writer.finish("made to mislead").expect("a Vec takes all").0
    }

    /// One thing that is not as it was.
    pub fn mutate(&mut self, choices: &mut Choices) {
        match choices.below(9) {
            0 => self.host(choices),
            1 if self.frames.len() > 1 => {
                let at = choices.below(self.frames.len());
                self.frames.remove(at);
            }
            2 => {
                let frame = self.frames[choices.below(self.frames.len())].clone();
                self.frames.push(frame);
            }
            3 => self.definition(choices),
            _ => self.values(choices),
        }
    }

    fn host(&mut self, choices: &mut Choices) {
        match choices.below(5) {
            0 => self.host.start_mono = choices.number(),
            1 => self.host.start_real = choices.number(),
            2 => self.host.zone_offset = choices.number() as i32,
            3 => self.host.cpus = choices.number() as u32,
            _ => self.host.hostname = String::from_utf8_lossy(choices.name()).into_owned(),
        }
    }

    /// The storage stays, so that the rows still fit; what it means does not.
    fn definition(&mut self, choices: &mut Choices) {
        let names: Vec<String> = self.tables.iter().map(|table| table.name.clone()).collect();
        let at = choices.below(self.tables.len());
        let table = &mut self.tables[at];
        if choices.below(4) == 0 {
            table.role = choices.of(&[Role::Event, Role::Identity, Role::Record]);
            return;
        }
        if choices.below(6) == 0 {
            table.name.clone_from(&names[choices.below(names.len())]);
            return;
        }
        let others: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
        let Some(column) = table.columns.get_mut(choices.below(others.len())) else { return };
        match choices.below(8) {
            0 => column.name.clone_from(&others[choices.below(others.len())]),
            1 => column.references.clone_from(&names[choices.below(names.len())]),
            2 => column.key = !column.key,
            3 => column.null = Some(choices.number()),
            4 => column.enumeration = "tcp_state".into(),
            5 => column.unit = choices.of(&["ns", "mono_ns", "us", "bytes", "ip", ""]).into(),
            6 => column.absent = "for no reason".into(),
            _ => column.name = String::from_utf8_lossy(choices.name()).into_owned(),
        }
    }

    fn values(&mut self, choices: &mut Choices) {
        let at = choices.below(self.frames.len());
        let batch = &mut self.frames[at].2;
        let keys = batch.columns.iter().find(|column| !column.u32s().is_empty());
        let keys = keys.map(|column| column.u32s().to_vec()).unwrap_or_default();
        let at = choices.below(batch.columns.len());
        let one = choices.below(batch.rows);
        let all = choices.below(3) == 0;
        let rows = (0..batch.rows).filter(|&row| all || row == one);
        match &mut batch.columns[at] {
            // An id that is its own parent, owner or successor.
            Column::U32(values) if choices.below(3) == 0 => *values = keys,
            Column::U8(values) => rows.for_each(|row| values[row] = choices.number() as u8),
            Column::U16(values) => rows.for_each(|row| values[row] = choices.number() as u16),
            Column::U32(values) => rows.for_each(|row| values[row] = choices.number() as u32),
            Column::U64(values) => rows.for_each(|row| values[row] = choices.number()),
            Column::Text(text) => {
                let mut to = Text::default();
                for (row, value) in text.iter().enumerate() {
                    let new = value.len() != 16 && (all || row == one);
                    to.push(if new { choices.name() } else { value });
                }
                *text = to;
            }
            Column::Absent => {}
        }
    }

    /// Identity of the input's own making: up to seven rows of each table, and events that refer to them.
    pub fn name_anew(&mut self, choices: &mut Choices) {
        self.frames.retain(|frame| frame.0 != Kind::Identity);
        for (_, _, batch) in &mut self.frames {
            let def = &self.tables[usize::from(batch.table)];
            for (column, info) in batch.columns.iter_mut().zip(&def.columns) {
                if let Column::U32(values) = column
                    && !info.references.is_empty()
                {
                    for value in values {
                        *value = choices.below(8) as u32;
                    }
                }
            }
        }
        for def in self.tables.iter().filter(|def| def.role == Role::Identity) {
            for epoch in 0..=choices.below(2) as u32 {
                let rows = choices.below(8);
                let columns = def.columns.iter().map(|info| made(info, rows, choices)).collect();
                let batch = Batch { table: def.number, stream: 0, rows, columns };
                self.frames.insert(choices.below(self.frames.len()), (Kind::Identity, epoch, batch));
            }
        }
    }
}

/// A column of the input's making.
fn made(info: &ColumnDef, rows: usize, choices: &mut Choices) -> Column {
    let numbers = (0..rows).map(|_| choices.number());
    match info.kind {
        ColumnType::Number { width: 1, .. } => Column::U8(numbers.map(|number| number as u8).collect()),
        ColumnType::Number { width: 2, .. } => Column::U16(numbers.map(|number| number as u16).collect()),
        ColumnType::Number { width: 4, .. } => Column::U32(numbers.map(|number| number as u32).collect()),
        ColumnType::Number { .. } | ColumnType::Unknown(_) => Column::U64(numbers.collect()),
        ColumnType::Text | ColumnType::Ip => {
            let mut text = Text::default();
            for _ in 0..rows {
                match (info.kind, choices.below(2)) {
                    (ColumnType::Ip, _) => text.push(&choices.number().to_le_bytes().repeat(2)),
                    (_, 0) => text.push(choices.name()),
                    // Lists of numbers, as the frames of a stack are.
                    _ => text.push(&(0..choices.below(6)).map(|_| choices.byte()).collect::<Vec<u8>>()),
                }
            }
            Column::Text(text)
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
