//! Between [`Batch`] and the Cap'n Proto message that carries it.

use super::column::{Batch, Column, Text};
use super::dictionary;
use super::error::{FormatError, Result};
use super::frame::MAX_MESSAGE;
use super::table::{self, ColumnType, TableDef};
use super::trace_capnp::{batch, column, frame, numbers};
use super::transform::{self, By, Coded, Number, Numbers, Transform};
use super::undo::{self, Spare};
use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use capnp::serialize;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// A plane of so many bytes is compressed by itself: a zstd frame takes 13 bytes, and the code in it some dozen.
const WORTH_A_CODE: usize = 4096;

/// Of the places where planes end, those between which enough lies.
fn worth_a_code(ends: &[usize]) -> impl Iterator<Item = usize> {
    let mut begin = 0;
    let last = ends.last().copied().unwrap_or(0);
    let apart = move |end: &usize| {
        let worth = end - begin >= WORTH_A_CODE && last - end >= WORTH_A_CODE;
        begin = if worth { *end } else { begin };
        worth
    };
    ends.iter().copied().filter(apart)
}

/// A list length as Cap'n Proto counts.
pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).expect("lists are bounded by MAX_ROWS and MAX_MESSAGE")
}

/// A message to be compressed.
pub(super) struct Message {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Where byte planes end within it.
    cuts: Vec<usize>,
}

impl Message {
    /// What is compressed by itself. zstd has one code for all literals of a block: of planes that share one, none
    /// gets the code that fits it.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.cuts.iter().copied());
        let ends = self.cuts.iter().copied().chain([self.bytes.len()]);
        begins.zip(ends).map(|(begin, end)| &self.bytes[begin..end])
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, cuts: Vec::new() }
    }
}

/// One message, as bytes in one segment.
pub(super) fn build(words: usize, fill: impl FnOnce(frame::Builder)) -> Vec<u8> {
    let segment = u32::try_from(words).unwrap_or(u32::MAX).max(64);
    let mut message = Builder::new(HeapAllocator::new().first_segment_words(segment));
    fill(message.init_root());
    serialize::write_message_to_words(&message)
}

/// Reads a message whose bytes are aligned, and hands out its root.
///
/// # Errors
/// When it is no message, or one that refers to more than its own bytes.
pub(super) fn parse<R>(bytes: &[u8], take: impl FnOnce(frame::Reader) -> Result<R>) -> Result<R> {
    let mut options = ReaderOptions::new();
    // Every byte may be visited a few times over; a cyclic message runs into this.
    options.traversal_limit_in_words(Some(bytes.len() / 2 + 1024)).nesting_limit(8);
    let mut rest = bytes;
    let message = serialize::read_message_from_flat_slice(&mut rest, options)?;
    if !rest.is_empty() {
        return Err(FormatError::Batch(format!("{} bytes behind the message", rest.len())));
    }
    take(message.get_root()?)
}

/// The message with the columns `chosen` of a batch.
pub(super) fn build_batch(def: &TableDef, from: &Batch, chosen: &[usize]) -> Message {
    let columns: Vec<Encoded> = chosen.iter().map(|&index| Encoded::new(def, from, index)).collect();
    let words = columns.iter().map(Encoded::words).sum::<usize>() + 16;
    let bytes = build(words, |root| {
        let mut to = root.init_batch();
        to.set_table(from.table);
        to.set_rows(count(from.rows));
        let mut list = to.init_columns(count(columns.len()));
        for (index, encoded) in columns.iter().enumerate() {
            encoded.write(list.reborrow().get(count(index)));
        }
    });
    let cuts = match &columns[..] {
        [column] if column.bytes.is_empty() => {
            // They are at the end, filled up to whole words.
            let begin = bytes.len() - column.numbers.1.bytes.len().next_multiple_of(8);
            let planes = &column.numbers.1;
            let inner = planes.codes.iter().copied().filter(|&code| code > 0 && code < planes.bytes.len());
            let all: BTreeSet<usize> = worth_a_code(&planes.ends).chain(inner).collect();
            all.into_iter().map(|end| begin + end).collect()
        }
        _ => Vec::new(),
    };
    Message { bytes, cuts }
}

struct Encoded {
    index: u16,
    numbers: Coded,
    /// How many, and their lengths.
    entries: Option<(usize, Coded)>,
    bytes: Vec<u8>,
}

impl Encoded {
    fn new(def: &TableDef, from: &Batch, index: usize) -> Self {
        let column = &def.columns[index];
        // A column that had one of its own could not be decoded first; two could even wait for each other.
        let by = def.column(&column.by).filter(|&by| by != index && def.columns[by].by.is_empty());
        let by = by.map(|by| {
            let column = u16::try_from(by).expect("MAX_PARTS columns");
            By { column, values: &from.columns[by] }
        });
        let signed = column.signed();
        let (numbers, entries, bytes) = match &from.columns[index] {
            Column::Absent => (transform::encode::<u8>(&[], false, None), None, Vec::new()),
            Column::U8(values) => (transform::encode(values, signed, by), None, Vec::new()),
            Column::U16(values) => (transform::encode(values, signed, by), None, Vec::new()),
            Column::U32(values) => (transform::encode(values, signed, by), None, Vec::new()),
            Column::U64(values) => (transform::encode(values, signed, by), None, Vec::new()),
            Column::Text(text) => encode_text(text),
        };
        Self { index: u16::try_from(index).expect("MAX_PARTS columns"), numbers, entries, bytes }
    }

    fn words(&self) -> usize {
        let entries = self.entries.as_ref().map_or(0, |(_, (_, planes))| planes.bytes.len());
        (self.numbers.1.bytes.len() + entries + self.bytes.len()) / 8 + 24
    }

    fn write(&self, mut to: column::Builder) {
        to.set_index(self.index);
        if let Some((entries, numbers)) = &self.entries {
            to.set_entry_count(count(*entries));
            write_numbers(numbers, to.reborrow().init_entries());
        }
        write_numbers(&self.numbers, to.reborrow().init_numbers());
        if !self.bytes.is_empty() {
            copy(&self.bytes, to.init_bytes(count(self.bytes.len())));
        }
    }
}

fn encode_text(text: &Text) -> (Coded, Option<(usize, Coded)>, Vec<u8>) {
    match dictionary::dictionary(text) {
        Some((codes, entries)) => {
            let lengths = transform::encode(&entries.lengths, false, None);
            (transform::encode(&codes, false, None), Some((entries.lengths.len(), lengths)), entries.bytes)
        }
        None => (transform::encode(&text.lengths, false, None), None, text.bytes.clone()),
    }
}

fn copy(bytes: &[u8], mut to: capnp::primitive_list::Builder<u8>) {
    to.as_slice().expect("a list that we just made is contiguous").copy_from_slice(bytes);
}

fn write_numbers((from, planes): &Coded, mut to: numbers::Builder) {
    to.set_transform(match from.transform {
        Transform::Offset => numbers::Transform::Offset,
        Transform::Delta => numbers::Transform::Delta,
        Transform::DeltaBy => numbers::Transform::DeltaBy,
        Transform::Apart => numbers::Transform::Apart,
        Transform::Span => numbers::Transform::Span,
    });
    to.set_base(from.base);
    to.set_by(from.by);
    to.set_new_planes(from.new_planes);
    to.set_sorted(from.sorted);
    if !planes.bytes.is_empty() {
        copy(&planes.bytes, to.init_planes(count(planes.bytes.len())));
    }
}

fn read_numbers(from: numbers::Reader) -> Result<Numbers> {
    Ok(Numbers {
        transform: match from.get_transform()? {
            numbers::Transform::Offset => Transform::Offset,
            numbers::Transform::Delta => Transform::Delta,
            numbers::Transform::DeltaBy => Transform::DeltaBy,
            numbers::Transform::Apart => Transform::Apart,
            numbers::Transform::Span => Transform::Span,
        },
        base: from.get_base(),
        by: from.get_by(),
        new_planes: from.get_new_planes(),
        sorted: from.get_sorted(),
    })
}

fn decode<T: Number>(
    from: numbers::Reader,
    rows: usize,
    by: Option<By>,
    spare: &mut Spare,
) -> Result<Vec<T>> {
    let list = from.get_planes()?;
    let planes = list.as_slice().map_or_else(|| Cow::Owned(table::numbers(list)), Cow::Borrowed);
    undo::decode(&read_numbers(from)?, &planes, rows, by, spare)
}

/// Adds the `needed` columns of one message to `to`, whose `rows` come from the header.
///
/// # Errors
/// When the message contradicts the header or the table's definition.
pub(super) fn read_batch(
    def: &TableDef,
    from: batch::Reader,
    needed: &[bool],
    spare: &mut Spare,
    to: &mut Batch,
) -> Result<()> {
    if from.get_table() != to.table || from.get_rows() as usize != to.rows {
        let (table, rows) = (from.get_table(), from.get_rows());
        let expected = (to.table, to.rows);
        return Err(FormatError::Batch(format!("table {table} with {rows} rows, header says {expected:?}")));
    }
    let columns = from.get_columns()?;
    // A column that others go by goes first.
    for keyed in [false, true] {
        for column in columns {
            let index = usize::from(column.get_index());
            let Some(info) = def.columns.get(index) else { continue };
            let transform = column.get_numbers()?.get_transform()?;
            let is_keyed = matches!(
                transform,
                numbers::Transform::DeltaBy | numbers::Transform::Apart | numbers::Transform::Span
            );
            if needed[index] && is_keyed == keyed && to.columns[index] == Column::Absent {
                to.columns[index] = read_column(info.kind, column, spare, to)?;
            }
        }
    }
    Ok(())
}

fn read_column(kind: ColumnType, from: column::Reader, spare: &mut Spare, batch: &Batch) -> Result<Column> {
    let numbers = from.get_numbers()?;
    let column = numbers.get_by();
    let by = batch.columns.get(usize::from(column)).map(|values| By { column, values });
    let rows = batch.rows;
    let room = room(kind, batch)?;
    Ok(match kind {
        ColumnType::Unknown(_) => Column::Absent,
        ColumnType::Number { width: 1, .. } => Column::U8(decode(numbers, rows, by, spare)?),
        ColumnType::Number { width: 2, .. } => Column::U16(decode(numbers, rows, by, spare)?),
        ColumnType::Number { width: 4, .. } => Column::U32(decode(numbers, rows, by, spare)?),
        ColumnType::Number { .. } => Column::U64(decode(numbers, rows, by, spare)?),
        ColumnType::Text | ColumnType::Ip => {
            let text = Column::Text(read_text(from, rows, room, spare)?);
            if !text.fits(kind) {
                return Err(FormatError::Batch("an address that is not 16 bytes long".into()));
            }
            text
        }
    })
}

/// Bytes that a column of `batch` may add to its fixed width; an error when not even that fits.
fn room(kind: ColumnType, batch: &Batch) -> Result<usize> {
    let width = if let ColumnType::Number { width, .. } = kind { usize::from(width) } else { 4 };
    let used = batch.columns.iter().map(Column::raw_bytes).sum::<usize>() + batch.rows * width;
    (MAX_MESSAGE as usize).checked_sub(used).ok_or_else(too_long)
}

fn too_long() -> FormatError {
    FormatError::Batch(format!("rows of more than {MAX_MESSAGE} bytes"))
}

fn read_text(from: column::Reader, rows: usize, room: usize, spare: &mut Spare) -> Result<Text> {
    let bytes: Vec<u8> = table::numbers(from.get_bytes()?);
    let first: Vec<u32> = decode(from.get_numbers()?, rows, None, spare)?;
    if !from.has_entries() {
        return if bytes.len() <= room { checked(first, bytes) } else { Err(too_long()) };
    }
    let entries = from.get_entry_count() as usize;
    if entries > rows {
        return Err(FormatError::Batch(format!("{entries} entries for {rows} rows")));
    }
    let lengths = decode(from.get_entries()?, entries, None, spare)?;
    dictionary::expand(&first, &checked(lengths, bytes)?, room)
}

fn checked(lengths: Vec<u32>, bytes: Vec<u8>) -> Result<Text> {
    let total: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
    if total != bytes.len() as u64 {
        return Err(FormatError::Batch(format!(
            "text of {} bytes, its lengths add up to {total}",
            bytes.len()
        )));
    }
    Ok(Text { lengths, bytes })
}

#[cfg(test)]
mod tests {
    use super::super::frame::MAX_ROWS;
    use super::super::table::{ColumnDef, Role};
    use super::*;

    fn table(columns: Vec<ColumnDef>) -> TableDef {
        TableDef {
            number: 0,
            name: "t".into(),
            role: Role::Event,
            group: String::new(),
            doc: String::new(),
            columns,
        }
    }

    fn read(def: &TableDef, rows: usize, bytes: &[u8]) -> Result<Batch> {
        let mut batch = Batch { rows, columns: vec![Column::Absent; def.columns.len()], ..Batch::default() };
        let needed = vec![true; def.columns.len()];
        parse(bytes, |root| match root.which()? {
            frame::Batch(from) => read_batch(def, from?, &needed, &mut Spare::default(), &mut batch),
            _ => panic!("expected rows"),
        })?;
        Ok(batch)
    }

    /// A thousand columns of four million rows, in a message of some kilobytes.
    #[test]
    fn constant_columns_do_not_fill_the_memory() {
        let columns = vec![ColumnDef::new("n", ColumnType::Number { width: 8, signed: false }); 1000];
        let def = table(columns);
        let rows = MAX_ROWS as usize;
        let bytes = build(64, |root| {
            let mut to = root.init_batch();
            to.set_rows(MAX_ROWS);
            let mut list = to.init_columns(1000);
            for index in 0..1000 {
                let mut column = list.reborrow().get(index);
                column.set_index(index as u16);
                column.init_numbers().set_base(7);
            }
        });
        let error = read(&def, rows, &bytes).expect_err("too large");
        assert!(error.to_string().contains("more than"), "{error}");
    }

    /// One entry of a megabyte, named by every row.
    #[test]
    fn a_dictionary_does_not_fill_the_memory() {
        let def = table(vec![ColumnDef::new("t", ColumnType::Text)]);
        let bytes = build(64, |root| {
            let mut to = root.init_batch();
            to.set_rows(1000);
            let mut column = to.init_columns(1).get(0);
            column.reborrow().init_numbers();
            column.set_entry_count(1);
            column.reborrow().init_entries().set_base(1 << 20);
            column.init_bytes(1 << 20);
        });
        let error = read(&def, 1000, &bytes).expect_err("too large");
        assert!(error.to_string().contains("exceeds"), "{error}");
    }

    #[test]
    fn columns_that_the_definition_does_not_know_are_skipped() {
        let def = table(vec![ColumnDef::new("n", ColumnType::Number { width: 4, signed: false })]);
        let bytes = build(64, |root| {
            let mut to = root.init_batch();
            to.set_rows(2);
            let mut list = to.init_columns(2);
            list.reborrow().get(0).set_index(9);
            list.get(1).init_numbers().set_base(7);
        });
        assert_eq!(
            read(&def, 2, &bytes).expect("the column that is known").columns,
            [Column::U32(vec![7, 7])]
        );
    }

    #[test]
    fn a_column_that_is_its_own_key_is_refused() {
        let mut column = ColumnDef::new("n", ColumnType::Number { width: 4, signed: false });
        column.by = "n".into();
        let def = table(vec![column]);
        let bytes = build(64, |root| {
            let mut to = root.init_batch();
            to.set_rows(2);
            to.init_columns(1).get(0).init_numbers().set_transform(numbers::Transform::DeltaBy);
        });
        assert!(matches!(read(&def, 2, &bytes), Err(FormatError::Batch(_))));
    }

    #[test]
    fn a_second_message_behind_the_first_is_not_overlooked() {
        let one = build(64, |root| {
            root.init_batch();
        });
        assert!(parse(&one, |_| Ok(())).is_ok());
        assert!(parse(&[&one[..], &one].concat(), |_| Ok(())).is_err());
    }
}
