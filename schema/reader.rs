//! Opens a trace, whole or not.
//!
//! A missing footer is normal and a bad frame is absent: the reader walks from header to header,
//! searches for the next one where a place is damaged, and says what is missing from sequence numbers
//! and row counts. Nothing that the file says is believed before it is checked against a cap.
//!
//! A frame counts once and in order: one whose sequence number is not above those before it in its
//! stream is skipped as damage, so that no row is counted twice. One file is one trace: what follows
//! the end of a trace, or a second host, belongs to another recording with other tables and ids, and
//! is left alone and reported as damage.

use super::column::{Batch, Column};
use super::error::{FormatError, Result};
use super::frame::{self, FrameHeader, Kind, MAX_HEADER, Part};
use super::histogram::Histogram;
use super::host::{FORMAT, Host};
use super::message;
use super::table::TableDef;
use super::trace_capnp::{footer, frame as root};
use super::writer::TraceTotals;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use zstd::bulk::Decompressor;

/// Where a trace's bytes are: read by position, never mapped, so that a file that shrinks is an error and not a crash.
#[derive(Debug)]
enum Source {
    File(File, u64),
    Memory(Vec<u8>),
}

impl Source {
    fn length(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Up to `to.len()` bytes from `offset`; fewer only at the end.
    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => read_at(file, offset, to),
            Self::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
                let length = rest.len().min(to.len());
                to[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            }
        }
    }
}

fn read_at(file: &File, mut offset: u64, mut to: &mut [u8]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let mut done = 0;
    while !to.is_empty() {
        match file.read_at(to, offset) {
            Ok(0) => break,
            Ok(length) => {
                done += length;
                offset += length as u64;
                to = &mut to[length..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A frame that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Position in the file.
    pub offset: u64,
    /// What it holds.
    pub header: FrameHeader,
}

/// A place of the file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First byte.
    pub offset: u64,
    /// Bytes skipped.
    pub length: u64,
    /// What was expected and found.
    pub what: String,
}

/// Rows that the sequence numbers prove to be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Stream of the frames; [`frame::RECORDER`] for rows of which only the footer knows.
    pub stream: u16,
    /// Table, where a later frame of it tells how many rows are gone.
    pub table: Option<u16>,
    /// Frames, counted over all tables of the stream; 0 in an entry for rows.
    pub frames: u64,
    /// Rows.
    pub rows: u64,
}

/// What a cleanly ended trace says of itself.
#[derive(Clone, Debug, Default)]
pub struct Footer {
    /// Why the recording ended.
    pub reason: String,
    /// Largest `ts`.
    pub end_mono: u64,
    /// Per table number.
    pub totals: HashMap<u16, TraceTotals>,
    /// Per table number and column index.
    pub histograms: HashMap<(u16, u16), Histogram>,
}

const OTHER_TRACE: &str =
    "a trace ended before this byte, and one file holds one: cut off the rest and analyze it by itself";

/// Where a frame stands among those before it.
enum Place {
    Next,
    /// Its number, or a later one, was there already.
    Before(String),
    /// In another trace.
    Elsewhere,
}

/// What the sequence numbers of a file allow next.
#[derive(Default)]
struct Order {
    next: HashMap<u16, u64>,
    host: bool,
}

impl Order {
    fn check(&mut self, header: &FrameHeader) -> Place {
        if header.kind == Kind::Host && std::mem::replace(&mut self.host, true) {
            return Place::Elsewhere;
        }
        let next = self.next.entry(header.stream).or_default();
        if header.sequence < *next {
            let (stream, found, next) = (header.stream, header.sequence, *next);
            return Place::Before(format!(
                "frame {found} of stream {stream} where {next} or a later one was expected"
            ));
        }
        *next = header.sequence.saturating_add(1);
        Place::Next
    }
}

/// An open trace.
#[derive(Debug)]
pub struct TraceReader {
    source: Source,
    /// The machine and the recording.
    pub host: Host,
    /// Definitions, by position; numbers in the file equal positions.
    pub tables: Vec<TableDef>,
    /// Every readable frame in file order.
    pub frames: Vec<Frame>,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Present after a clean end.
    pub footer: Option<Footer>,
}

/// Buffers that one thread uses again for each frame.
pub struct Scratch {
    decompressor: Decompressor<'static>,
    stored: Vec<u8>,
    words: Vec<capnp::Word>,
}

impl Scratch {
    /// Empty buffers.
    ///
    /// # Panics
    /// When zstd cannot allocate its context.
    #[must_use]
    pub fn new() -> Self {
        let decompressor = Decompressor::new().expect("zstd allocates a context");
        Self { decompressor, stored: Vec::new(), words: Vec::new() }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl TraceReader {
    /// Opens a file; `-` is standard input, which is read to its end first.
    ///
    /// # Errors
    /// When it cannot be read, or holds no trace that this build can read.
    pub fn open(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map_err(FormatError::io("read standard input"))?;
            return Self::from_bytes(bytes);
        }
        let file = File::open(path).map_err(FormatError::io("open"))?;
        let meta = file.metadata().map_err(FormatError::io("open"))?;
        if !meta.is_file() {
            let mut bytes = Vec::new();
            (&file).read_to_end(&mut bytes).map_err(FormatError::io("read"))?;
            return Self::from_bytes(bytes);
        }
        Self::from_source(Source::File(file, meta.len()))
    }

    /// Opens a trace that is in memory.
    ///
    /// # Errors
    /// When it holds no trace that this build can read.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::from_source(Source::Memory(bytes))
    }

    fn from_source(source: Source) -> Result<Self> {
        let mut reader = Self {
            source,
            host: Host::default(),
            tables: Vec::new(),
            frames: Vec::new(),
            damage: Vec::new(),
            footer: None,
        };
        reader.walk()?;
        if reader.frames.is_empty() {
            return Err(FormatError::NotATrace { length: reader.source.length() });
        }
        reader.read_singles()?;
        Ok(reader)
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.source.length()
    }

    /// The definition of a table by name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&TableDef> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The frames that hold rows of a table, in file order.
    pub fn frames_of(&self, table: u16) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(move |frame| frame.header.kind.has_rows() && frame.header.table == table)
    }

    /// From header to header to the end of the trace.
    fn walk(&mut self) -> Result<()> {
        let end = self.source.length();
        let mut order = Order::default();
        let mut offset = 0;
        while offset < end {
            offset = match self.header_at(offset)? {
                Ok(header) if offset + header.length() <= end => match order.check(&header) {
                    Place::Next => self.add_frame(offset, header),
                    Place::Before(what) => self.add_damage(offset, header.length(), what),
                    Place::Elsewhere => self.add_damage(offset, end - offset, OTHER_TRACE.into()),
                },
                Ok(header) => {
                    let missing = offset + header.length() - end;
                    self.skip(offset, format!("a frame is cut: {missing} bytes are missing"))?
                }
                Err(_) if self.is_trailer(offset)? => self.end_trace(offset + frame::TRAILER as u64),
                Err(what) => self.skip(offset, what)?,
            };
        }
        Ok(())
    }

    fn add_frame(&mut self, offset: u64, header: FrameHeader) -> u64 {
        let next = offset + header.length();
        self.frames.push(Frame { offset, header });
        next
    }

    /// To the next place where a header may be. A frame that claims to reach past the end is searched too:
    /// the file may have lost a piece inside it.
    fn skip(&mut self, offset: u64, what: String) -> Result<u64> {
        let next = self.next_header(offset + 1)?.unwrap_or(self.source.length());
        Ok(self.add_damage(offset, next - offset, what))
    }

    fn end_trace(&mut self, offset: u64) -> u64 {
        let rest = self.source.length() - offset;
        if rest > 0 { self.add_damage(offset, rest, OTHER_TRACE.into()) } else { offset }
    }

    /// Notes it, and returns where it ends. What adjoins the damage before is one with it, so that a
    /// file of nothing but false headers does not take more memory than it has bytes.
    fn add_damage(&mut self, offset: u64, length: u64, what: String) -> u64 {
        match self.damage.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => self.damage.push(Damage { offset, length, what }),
        }
        offset + length
    }

    fn header_at(&self, offset: u64) -> Result<std::result::Result<FrameHeader, String>> {
        let mut bytes = [0; 512];
        let length = self.source.read(offset, &mut bytes).map_err(FormatError::io("read the trace"))?;
        let Some(announced) = FrameHeader::announced_length(&bytes[..length]) else {
            return Ok(Err("expected a frame header".into()));
        };
        let mut long = Vec::new();
        let mut header = &bytes[..length];
        if announced > length {
            long.resize(announced.min(MAX_HEADER), 0);
            let length = self.source.read(offset, &mut long).map_err(FormatError::io("read the trace"))?;
            header = &long[..length];
        }
        match FrameHeader::parse(header, offset) {
            Ok(header) => Ok(Ok(header)),
            Err(error @ FormatError::TooNew { .. }) => Err(error),
            Err(FormatError::Damaged { what, .. }) => Ok(Err(what)),
            Err(other) => Ok(Err(other.to_string())),
        }
    }

    /// Whether here is the trailer that belongs to the footer just read.
    fn is_trailer(&self, offset: u64) -> Result<bool> {
        let mut bytes = [0; frame::TRAILER];
        let length = self.source.read(offset, &mut bytes).map_err(FormatError::io("read the trace"))?;
        let footer = self.frames.last().filter(|frame| frame.header.kind == Kind::Footer);
        Ok(frame::footer_offset(&bytes[..length])
            .is_some_and(|at| footer.is_some_and(|frame| frame.offset == at)))
    }

    /// The next place from `offset` on where a header can begin.
    fn next_header(&self, mut offset: u64) -> Result<Option<u64>> {
        // Short at first: where headers are near each other, reading far ahead each time would be quadratic.
        let mut bytes = vec![0; 1 << 9];
        loop {
            let length = self.source.read(offset, &mut bytes).map_err(FormatError::io("read the trace"))?;
            let found = bytes[..length]
                .windows(16)
                .position(|window| window[..4] == frame::MAGIC.to_le_bytes() && window[8..] == frame::SYNC);
            if let Some(at) = found {
                return Ok(Some(offset + at as u64));
            }
            if length < bytes.len() {
                return Ok(None);
            }
            offset += (length - 15) as u64;
            bytes.resize((2 * length).min(1 << 16), 0);
        }
    }

    /// Host, tables and footer.
    fn read_singles(&mut self) -> Result<()> {
        let mut scratch = Scratch::new();
        self.host = self.single(&mut scratch, Kind::Host, read_host)?.unwrap_or_default();
        self.tables = self.single(&mut scratch, Kind::Tables, read_tables)?.unwrap_or_default();
        self.footer = self.single(&mut scratch, Kind::Footer, read_footer)?;
        if self.host.required_reader > FORMAT {
            return Err(FormatError::TooNew { required: self.host.required_reader, supported: FORMAT });
        }
        let known = |(position, table): (usize, &TableDef)| usize::from(table.number) == position;
        if !self.tables.iter().enumerate().all(known) {
            return Err(FormatError::Batch("table numbers are not their positions".into()));
        }
        Ok(())
    }

    /// The first readable message of a kind; damaged ones are noted.
    fn single<R>(
        &mut self,
        scratch: &mut Scratch,
        kind: Kind,
        take: impl Fn(root::Reader) -> Result<R>,
    ) -> Result<Option<R>> {
        for frame in self.frames.iter().filter(|frame| frame.header.kind == kind) {
            let offset = frame.offset + frame.header.header_length() as u64;
            let Some(&part) = frame.header.parts.first() else { continue };
            let what = match self.message(scratch, offset, part, &take) {
                Ok(value) => return Ok(Some(value)),
                Err(error @ FormatError::Io { .. }) => return Err(error),
                Err(FormatError::Damaged { what, .. }) => what,
                Err(other) => other.to_string(),
            };
            self.damage.push(Damage {
                offset,
                length: part.stored.into(),
                what: format!("{kind:?}: {what}"),
            });
        }
        Ok(None)
    }

    fn message<R>(
        &self,
        scratch: &mut Scratch,
        offset: u64,
        part: Part,
        take: impl FnOnce(root::Reader) -> Result<R>,
    ) -> Result<R> {
        let damaged = |what: String| FormatError::Damaged { offset, what };
        scratch.stored.resize(part.stored as usize, 0);
        let length =
            self.source.read(offset, &mut scratch.stored).map_err(FormatError::io("read the trace"))?;
        if length < part.stored as usize {
            return Err(damaged(format!("payload of {} bytes, {length} are there", part.stored)));
        }
        let raw = part.raw as usize;
        scratch.words.resize(raw.div_ceil(8), capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        let bytes = &mut capnp::Word::words_to_bytes_mut(&mut scratch.words)[..raw];
        let length = scratch
            .decompressor
            .decompress_to_buffer(&scratch.stored, bytes)
            .map_err(|error| damaged(format!("zstd: {error}")))?;
        if length != raw {
            return Err(damaged(format!("a message of {length} bytes, the header says {raw}")));
        }
        message::parse(&capnp::Word::words_to_bytes(&scratch.words)[..raw], take)
    }

    /// Decodes a frame: the columns at the positions `wanted` (all with `None`), the others absent.
    ///
    /// # Errors
    /// When a part that is needed is damaged; then the whole frame counts as missing.
    pub fn read(&self, frame: &Frame, wanted: Option<&[usize]>, scratch: &mut Scratch) -> Result<Batch> {
        let header = &frame.header;
        let unknown =
            || FormatError::Batch(format!("rows of table {}, which the trace does not define", header.table));
        let def = self.tables.get(usize::from(header.table)).ok_or_else(unknown)?;
        let mut batch = Batch {
            table: header.table,
            stream: header.stream,
            rows: header.rows as usize,
            columns: vec![Column::Absent; def.columns.len()],
        };
        let needed = wanted.map_or_else(|| vec![true; def.columns.len()], |wanted| with_keys(def, wanted));
        let mut parts = Vec::with_capacity(header.parts.len());
        let mut offset = frame.offset + header.header_length() as u64;
        for part in &header.parts {
            if part.column == frame::ALL_COLUMNS
                || needed.get(usize::from(part.column)).is_some_and(|&needed| needed)
            {
                parts.push((offset, *part));
            }
            offset += u64::from(part.stored);
        }
        // A keyed column needs its key first, and the key may stand behind it.
        for keyed in [false, true] {
            for &(offset, part) in &parts {
                if is_keyed(def, part) == keyed {
                    self.message(scratch, offset, part, |root| read_rows(def, root, &needed, &mut batch))?;
                }
            }
        }
        if let Some(wanted) = wanted {
            drop_unwanted(&mut batch.columns, wanted);
        }
        Ok(batch)
    }

    /// What the sequence numbers prove to be gone, besides what [`TraceReader::damage`] names.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = self.gaps();
        let Some(footer) = &self.footer else { return missing };
        // No later frame of its stream tells of the last one of a table; the totals do.
        let mut seen: HashMap<u16, u64> = HashMap::new();
        for Frame { header, .. } in self.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
            *seen.entry(header.table).or_default() += u64::from(header.rows);
        }
        for gap in &missing {
            if let Some(table) = gap.table {
                let rows = seen.entry(table).or_default();
                *rows = rows.saturating_add(gap.rows);
            }
        }
        let mut totals: Vec<_> = footer.totals.iter().collect();
        totals.sort_unstable_by_key(|&(&table, _)| table);
        for (&table, totals) in totals {
            let rows = totals.rows.saturating_sub(seen.get(&table).copied().unwrap_or(0));
            if rows > 0 {
                missing.push(Missing { stream: frame::RECORDER, table: Some(table), frames: 0, rows });
            }
        }
        missing
    }

    fn gaps(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut sequence: HashMap<u16, u64> = HashMap::new();
        let mut rows: HashMap<(u16, u16), u64> = HashMap::new();
        for Frame { header, .. } in &self.frames {
            let next = sequence.entry(header.stream).or_default();
            if header.sequence > *next {
                missing.push(Missing {
                    stream: header.stream,
                    table: None,
                    frames: header.sequence - *next,
                    rows: 0,
                });
            }
            *next = header.sequence.saturating_add(1);
            if header.kind.has_rows() {
                let before = rows.entry((header.stream, header.table)).or_default();
                if header.rows_before > *before {
                    let gone = header.rows_before - *before;
                    missing.push(Missing {
                        stream: header.stream,
                        table: Some(header.table),
                        frames: 0,
                        rows: gone,
                    });
                }
                *before = header.rows_before.saturating_add(header.rows.into());
            }
        }
        missing
    }
}

/// Per column: whether it was asked for, or one that was may be keyed by it.
fn with_keys(def: &TableDef, wanted: &[usize]) -> Vec<bool> {
    let mut needed = vec![false; def.columns.len()];
    for &index in wanted {
        let Some(column) = def.columns.get(index) else { continue };
        needed[index] = true;
        if let Some(key) = def.column(&column.by) {
            needed[key] = true;
        }
    }
    needed
}

/// Keys that only had to be there for the decoding.
fn drop_unwanted(columns: &mut [Column], wanted: &[usize]) {
    let unwanted = |(index, _): &(usize, &mut Column)| !wanted.contains(index);
    columns.iter_mut().enumerate().filter(unwanted).for_each(|(_, column)| *column = Column::Absent);
}

fn is_keyed(def: &TableDef, part: Part) -> bool {
    def.columns.get(usize::from(part.column)).is_some_and(|column| !column.by.is_empty())
}

fn read_rows(def: &TableDef, from: root::Reader, needed: &[bool], to: &mut Batch) -> Result<()> {
    match from.which()? {
        root::Batch(batch) => message::read_batch(def, batch?, needed, to),
        _ => Err(FormatError::Batch("expected rows".into())),
    }
}

fn read_host(from: root::Reader) -> Result<Host> {
    match from.which()? {
        root::Host(host) => Host::read(host?),
        _ => Err(FormatError::Batch("expected a host".into())),
    }
}

fn read_tables(from: root::Reader) -> Result<Vec<TableDef>> {
    match from.which()? {
        root::Tables(tables) => {
            let tables = tables?;
            at_most(frame::MAX_TABLES, tables.len(), "tables")?;
            tables.iter().map(TableDef::read).collect()
        }
        _ => Err(FormatError::Batch("expected table definitions".into())),
    }
}

fn read_footer(from: root::Reader) -> Result<Footer> {
    match from.which()? {
        root::Footer(footer) => footer_of(footer?),
        _ => Err(FormatError::Batch("expected a footer".into())),
    }
}

/// Lists that are larger in memory than in the file have a bound of their own.
fn at_most(limit: usize, found: u32, what: &str) -> Result<()> {
    if found as usize > limit {
        return Err(FormatError::Batch(format!("{found} {what}, at most {limit} are possible")));
    }
    Ok(())
}

fn footer_of(from: footer::Reader) -> Result<Footer> {
    let mut footer = Footer {
        reason: from.get_reason()?.to_string()?,
        end_mono: from.get_end_mono(),
        ..Footer::default()
    };
    at_most(frame::MAX_TABLES, from.get_tables()?.len(), "totals")?;
    at_most(frame::MAX_TABLES, from.get_histograms()?.len(), "histograms")?;
    for table in from.get_tables()? {
        let totals = TraceTotals {
            rows: table.get_rows(),
            raw_bytes: table.get_raw_bytes(),
            stored_bytes: table.get_stored_bytes(),
        };
        footer.totals.insert(table.get_table(), totals);
    }
    for from in from.get_histograms()? {
        let mut histogram = Histogram::default();
        let (buckets, counts) = (from.get_buckets()?, from.get_counts()?);
        buckets.iter().zip(counts.iter()).for_each(|(bucket, count)| histogram.add_bucket(bucket, count));
        footer.histograms.insert((from.get_table(), from.get_column()), histogram);
    }
    Ok(footer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_of_more_histograms_than_columns_is_refused() {
        let message = message::build(64, |root| {
            root.init_footer().init_histograms(frame::MAX_TABLES as u32 + 1);
        });
        assert!(matches!(message::parse(&message, read_footer), Err(FormatError::Batch(_))));
    }

    #[test]
    fn definitions_of_more_columns_than_a_frame_has_parts_are_refused() {
        let message = message::build(64, |root| {
            root.init_tables(1).get(0).init_columns(frame::MAX_PARTS as u32 + 1);
        });
        assert!(matches!(message::parse(&message, read_tables), Err(FormatError::Batch(_))));
    }
}
