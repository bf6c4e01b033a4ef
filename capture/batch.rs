//! Records to columns (stop 3).
//!
//! A record is appended to its table's tile, which stays in the cache; a full tile is transposed into
//! the batch's columns by one loop that knows widths and offsets and no table. A batch is sealed when
//! it holds enough or is old enough.

use super::layout::{Field, FieldKind, Layout};
use super::stacks::Stacks;
use crate::schema::{Batch, Column, ColumnType, Role, Text};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows in a tile: small enough for the first-level cache, large enough to make the strided loop pay.
const TILE: usize = 128;
/// A batch of this many bytes is sealed: smaller compresses worse, larger loses more in a crash.
const SEAL_BYTES: usize = 1 << 20;
/// So is one of this age: with the time that passes until a ring is looked at, and until the disk has it
/// ([`super::disk`]), no row waits for more than a second.
pub const SEAL_AGE: Duration = Duration::from_millis(700);
/// Offset of the table's number in every record (`EVENT` in `bpf/event.h`).
const TABLE_AT: usize = 8;

/// What leaves a batcher.
#[derive(Debug)]
pub enum Sealed {
    /// Rows of an event table.
    Events(Batch),
    /// Records of identity tables, each behind its length.
    Identity(Vec<u8>),
}

impl Sealed {
    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Events(batch) => batch.columns.iter().map(Column::raw_bytes).sum(),
            Self::Identity(records) => records.len(),
        }
    }
}

/// The batches of one stream, one per table.
pub struct Batcher {
    tables: Vec<Builder>,
    identity: Vec<u8>,
    stacks: Option<Arc<Stacks>>,
    /// No row that waits is older than this.
    opened: Option<Instant>,
    /// When the ring was last looked at: what it holds came later.
    looked: Instant,
    /// Bytes of all tables' rows, and how many there may be.
    bytes: usize,
    room: usize,
    malformed: u64,
}

impl Batcher {
    /// For the records of one ring, of which it may hold `room` bytes.
    #[must_use]
    pub fn new(layouts: &Arc<Vec<Layout>>, stream: u16, room: usize) -> Self {
        let builder = |index| Builder::new(Arc::clone(layouts), index, stream);
        let tables = (0..layouts.len()).map(builder).collect();
        Self {
            tables,
            identity: Vec::new(),
            stacks: None,
            opened: None,
            looked: Instant::now(),
            bytes: 0,
            room,
            malformed: 0,
        }
    }

    /// With what numbers the stacks in its records.
    #[must_use]
    pub fn numbering(mut self, stacks: Option<Arc<Stacks>>) -> Self {
        self.stacks = stacks;
        self
    }

    /// Whether rows wait to be sealed.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.opened.is_some()
    }

    /// To be called before records are read: what they refer to in memory has not changed later than now.
    pub fn prepare(&self) {
        if let Some(stacks) = &self.stacks {
            stacks.update();
        }
    }

    /// Takes one record as a probe left it. True: something should be sealed.
    pub fn push(&mut self, record: &[u8]) -> bool {
        let number =
            record.get(TABLE_AT..TABLE_AT + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
        let Some(builder) = number.and_then(|number| self.tables.get_mut(number)) else {
            self.malformed += 1;
            return false;
        };
        if self.opened.is_none() {
            self.opened = Some(self.looked);
        }
        if builder.layout().def.role == Role::Identity {
            push_framed(&mut self.identity, record);
            return self.identity.len() >= SEAL_BYTES;
        }
        let identity = &mut self.identity;
        let number = |ts, stack: &[u8]| {
            let stacks = self.stacks.as_ref().filter(|_| !stack.is_empty());
            stacks.map_or(0, |stacks| stacks.number(ts, stack, |row| push_framed(identity, &row)))
        };
        if builder.push_with(record, number) {
            self.bytes += record.len();
        } else {
            self.malformed += 1;
        }
        builder.bytes >= SEAL_BYTES || self.bytes >= self.room
    }

    /// Records that were shorter than their table says, or of no table: a bug in a probe.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Seals the batches that are full (with no room left, the largest), or all if the oldest row has waited
    /// long enough or `all` says so. Identity goes first, so that what events refer to is known when they arrive.
    pub fn seal(&mut self, all: bool, mut to: impl FnMut(Sealed)) {
        let all = all || self.opened.is_some_and(|opened| opened.elapsed() >= SEAL_AGE);
        if !self.identity.is_empty() {
            to(Sealed::Identity(std::mem::take(&mut self.identity)));
        }
        let largest = self.tables.iter().map(|builder| builder.bytes).max().unwrap_or(0);
        let full = if self.bytes >= self.room { largest.min(SEAL_BYTES) } else { SEAL_BYTES };
        for builder in &mut self.tables {
            if builder.rows > 0 && (all || builder.bytes >= full) {
                self.bytes -= builder.bytes;
                to(Sealed::Events(builder.seal()));
            }
        }
        if all {
            self.opened = None;
        }
    }

    /// The ring is empty: what comes from now on is younger.
    pub fn looked(&mut self) {
        self.looked = Instant::now();
    }
}

/// Appends a record behind its length.
fn push_framed(to: &mut Vec<u8>, record: &[u8]) {
    to.extend(u32::try_from(record.len()).expect("a ring record is below 512 MiB").to_le_bytes());
    to.extend_from_slice(record);
}

/// The records in the bytes of [`Sealed::Identity`].
pub fn framed(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some(record)
    })
}

/// One table's rows on their way into columns.
pub struct Builder {
    layouts: Arc<Vec<Layout>>,
    index: usize,
    stream: u16,
    tile: Vec<u8>,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Builder {
    /// For table number `index` of `layouts`.
    #[must_use]
    pub fn new(layouts: Arc<Vec<Layout>>, index: usize, stream: u16) -> Self {
        let columns = empty_columns(&layouts[index]);
        Self { layouts, index, stream, tile: Vec::new(), columns, rows: 0, bytes: 0 }
    }

    fn layout(&self) -> &Layout {
        &self.layouts[self.index]
    }

    /// Takes one record without stacks; false if it is too short for the table.
    pub fn push(&mut self, record: &[u8]) -> bool {
        self.push_with(record, |_, _| 0)
    }

    /// Takes one record, whose stacks at that time `number` numbers; false if it is too short for the table.
    ///
    /// # Panics
    /// Never: a record begins with its time.
    pub fn push_with(&mut self, record: &[u8], mut number: impl FnMut(u64, &[u8]) -> u32) -> bool {
        let layout = &self.layouts[self.index];
        let Some(fixed) = record.get(..layout.size) else { return false };
        self.tile.extend_from_slice(fixed);
        for (field, column) in layout.fields.iter().zip(&mut self.columns) {
            match (field.kind, column) {
                (FieldKind::Trailing, Column::Text(text)) => text.push(trailing(record, field.offset)),
                (FieldKind::Stack, Column::U32(ids)) => {
                    let ts = u64::from_le_bytes(*record.first_chunk().expect("it has a time"));
                    ids.push(number(ts, trailing(record, field.offset)));
                }
                _ => {}
            }
        }
        self.rows += 1;
        self.bytes += record.len();
        if self.tile.len() >= TILE * layout.size {
            self.transpose();
        }
        true
    }

    fn transpose(&mut self) {
        let layout = &self.layouts[self.index];
        for (field, column) in layout.fields.iter().zip(&mut self.columns) {
            append(&self.tile, layout.size, *field, column);
        }
        self.tile.clear();
    }

    /// The rows so far; the builder starts anew.
    ///
    /// # Panics
    /// Never: a recording has at most 64 tables.
    pub fn seal(&mut self) -> Batch {
        self.transpose();
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let columns = std::mem::replace(&mut self.columns, empty_columns(&self.layouts[self.index]));
        Batch { table: u16::try_from(self.index).expect("few tables"), stream: self.stream, rows, columns }
    }
}

fn empty_columns(layout: &Layout) -> Vec<Column> {
    let empty = |column: &crate::schema::ColumnDef| match column.kind {
        _ if !column.absent.is_empty() => Column::Absent,
        ColumnType::Unknown(_) => Column::Absent,
        ColumnType::Number { width: 1, .. } => Column::U8(Vec::new()),
        ColumnType::Number { width: 2, .. } => Column::U16(Vec::new()),
        ColumnType::Number { width: 4, .. } => Column::U32(Vec::new()),
        ColumnType::Number { .. } => Column::U64(Vec::new()),
        ColumnType::Text | ColumnType::Ip => Column::Text(Text::default()),
    };
    layout.def.columns.iter().map(empty).collect()
}

/// The bytes at `offset` of each record, one after the other.
fn strided<const WIDTH: usize>(tile: &[u8], size: usize, offset: usize) -> impl Iterator<Item = [u8; WIDTH]> {
    tile.chunks_exact(size).map(move |record| {
        let bytes = record[offset..].first_chunk::<WIDTH>();
        *bytes.expect("a field lies within its record")
    })
}

fn append(tile: &[u8], size: usize, field: Field, to: &mut Column) {
    let at = field.offset;
    match to {
        _ if field.kind == FieldKind::Stack => {} // done in push_with()
        Column::U8(to) => to.extend(strided::<1>(tile, size, at).map(|b| b[0])),
        Column::U16(to) => to.extend(strided(tile, size, at).map(u16::from_le_bytes)),
        Column::U32(to) => to.extend(strided(tile, size, at).map(u32::from_le_bytes)),
        Column::U64(to) => to.extend(strided(tile, size, at).map(u64::from_le_bytes)),
        Column::Text(to) => match field.kind {
            FieldKind::Ip => tile.chunks_exact(size).for_each(|record| to.push(&record[at..at + 16])),
            FieldKind::Chars(length) => {
                tile.chunks_exact(size).for_each(|record| to.push(until_nul(&record[at..at + length])));
            }
            _ => {} // done in push_with()
        },
        Column::Absent => {}
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

/// The text that the `str_t` at `at` points to; empty where it points outside.
pub(crate) fn trailing(record: &[u8], at: usize) -> &[u8] {
    let Some([o0, o1, l0, l1]) = record.get(at..at + 4).and_then(|bytes| bytes.first_chunk()) else {
        return &[];
    };
    let (offset, length) =
        (usize::from(u16::from_le_bytes([*o0, *o1])), usize::from(u16::from_le_bytes([*l0, *l1])));
    record.get(offset..offset + length).unwrap_or(&[])
}
