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

use super::absent::Absent;
use super::column::{Batch, Column};
use super::error::{FormatError, Result};
use super::frame::{self, FrameHeader, Kind, Part};
use super::host::{FORMAT, Host};
use super::lock;
use super::message;
use super::singles::{Footer, read_footer, read_host, read_tables};
use super::source::Source;
use super::spool;
use super::table::{ColumnDef, ColumnType, TableDef};
use super::trace_capnp::frame as root;
use super::undo::Spare;
use super::walk::Order;
use std::fs::File;
use std::io;
use std::path::Path;
use zstd::bulk::Decompressor;

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

/// An open trace.
#[derive(Debug)]
pub struct TraceReader {
    pub(super) source: Source,
    /// The machine and the recording.
    pub host: Host,
    /// Definitions, by position; numbers in the file equal positions.
    pub tables: Vec<TableDef>,
    /// Every readable frame in file order.
    pub frames: Vec<Frame>,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Parts in the middle that are not here, also those of what the file was made of.
    pub absent: Vec<Absent>,
    /// Frames with rows whose headers are whole, and of whose rows not all are there.
    pub cut: Vec<Frame>,
    /// Present after a clean end.
    pub footer: Option<Footer>,
    /// It may go on: that there is no end yet says nothing.
    pub growing: bool,
    /// The headers are the index's, and nobody has looked at those of the frames.
    pub(super) indexed: bool,
    /// How far the walk from header to header has come.
    pub(super) walked: u64,
    pub(super) order: Order,
}

/// Memory that one thread uses again for each frame.
pub struct Scratch {
    buffers: Buffers,
    spare: Spare,
}

/// What a message passes through; as long as the longest was, so that nothing is zeroed twice.
struct Buffers {
    decompressor: Decompressor<'static>,
    stored: Vec<u8>,
    words: Vec<capnp::Word>,
}

/// The first so many; there are more from now on if there were fewer.
fn first<T: Clone>(buffer: &mut Vec<T>, length: usize, none: T) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, none);
    }
    &mut buffer[..length]
}

impl Scratch {
    /// Empty buffers.
    ///
    /// # Panics
    /// When zstd cannot allocate its context.
    #[must_use]
    pub fn new() -> Self {
        let decompressor = Decompressor::new().expect("zstd allocates a context");
        let buffers = Buffers { decompressor, stored: Vec::new(), words: Vec::new() };
        Self { buffers, spare: Spare::default() }
    }

    /// Takes back the memory of rows that nobody needs any more: the next ones are decoded into it.
    pub fn reuse(&mut self, batch: Batch) {
        batch.columns.into_iter().for_each(|column| self.spare.keep(column));
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl TraceReader {
    /// Opens a file; `-` is standard input, which is read to its end first, as all that is no file is. A file that
    /// somebody is recording into is `growing`, and has what is in it by now.
    ///
    /// # Errors
    /// When it cannot be read, holds no trace that this build can read, or a recorder has written nothing yet.
    pub fn open(path: &Path) -> Result<Self> {
        let length = |file: &File| file.metadata().map_err(FormatError::io("open"));
        let file = if path.as_os_str() == "-" {
            spool::whole(io::stdin().lock())?
        } else {
            let file = File::open(path).map_err(FormatError::io("open"))?;
            if !length(&file)?.is_file() {
                spool::whole(file)?
            } else if lock::is_held(&file) {
                // Asked before it is read: whoever ends meanwhile has left a footer.
                return Self::of_recorder(file);
            } else {
                file
            }
        };
        let length = length(&file)?.len();
        Self::from_source(Source::File(file, length))
    }

    /// What is there of a file that somebody is recording into.
    fn of_recorder(file: File) -> Result<Self> {
        let reader = Self::follow(file)?;
        if reader.tables.is_empty() {
            return Err(FormatError::JustBegun);
        }
        Ok(Self { growing: reader.footer.is_none(), ..reader })
    }

    /// Opens a trace that is in memory.
    ///
    /// # Errors
    /// When it holds no trace that this build can read.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::from_source(Source::Memory(bytes))
    }

    /// Opens a file that may still be written: what is cut at its end is not there yet, and may come
    /// with [`TraceReader::refresh`]. There may be nothing in it so far.
    ///
    /// # Errors
    /// When it cannot be read, or holds no trace that this build can read.
    pub fn follow(file: File) -> Result<Self> {
        let length = file.metadata().map_err(FormatError::io("open"))?.len();
        let mut reader = Self { growing: true, ..Self::unread(Source::File(file, length)) };
        reader.take_new()?;
        Ok(reader)
    }

    /// Reads on where the file ended so far.
    ///
    /// # Errors
    /// When it cannot be read, is no trace, or has become shorter.
    pub fn refresh(&mut self) -> Result<()> {
        self.source.refresh().map_err(FormatError::io("read the trace"))?;
        self.take_new()
    }

    /// Nothing more will come: what is cut at the end is damage from now on.
    ///
    /// # Errors
    /// As [`TraceReader::refresh`].
    pub fn end(&mut self) -> Result<()> {
        self.growing = false;
        self.refresh()
    }

    fn take_new(&mut self) -> Result<()> {
        let length = self.source.length();
        if length < self.walked {
            let what = format!("the file has become shorter: {} bytes of it had been read", self.walked);
            return Err(FormatError::Damaged { offset: length, what });
        }
        self.walk(self.growing)?;
        if self.frames.is_empty() && self.walked > 0 {
            return Err(FormatError::NotATrace { length });
        }
        let ended = self.frames.last().is_some_and(|frame| frame.header.kind == Kind::Footer);
        if self.tables.is_empty() || (ended && self.footer.is_none()) {
            self.read_singles()?;
        }
        Ok(())
    }

    /// The same trace with some of its frames, as if it went on.
    ///
    /// # Errors
    /// When the system refuses another handle of the file.
    pub fn view(&self, keep: impl Fn(&Frame) -> bool) -> Result<Self> {
        Ok(Self {
            source: self.source.share().map_err(FormatError::io("share the trace"))?,
            host: self.host.clone(),
            tables: self.tables.clone(),
            frames: self.frames.iter().filter(|frame| keep(frame)).cloned().collect(),
            damage: self.damage.clone(),
            absent: self.absent.clone(),
            cut: self.cut.clone(),
            footer: None,
            growing: self.growing,
            indexed: self.indexed,
            walked: self.walked,
            order: self.order.clone(),
        })
    }

    fn unread(source: Source) -> Self {
        Self {
            source,
            host: Host::default(),
            tables: Vec::new(),
            frames: Vec::new(),
            damage: Vec::new(),
            absent: Vec::new(),
            cut: Vec::new(),
            footer: None,
            growing: false,
            indexed: false,
            walked: 0,
            order: Order::default(),
        }
    }

    fn from_source(source: Source) -> Result<Self> {
        let mut reader = Self::unread(source);
        if !reader.take_index()? {
            reader.walk(false)?;
        }
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

    /// Host, tables and footer.
    fn read_singles(&mut self) -> Result<()> {
        let mut scratch = Scratch::new();
        self.host = self.single(&mut scratch.buffers, Kind::Host, read_host)?.unwrap_or_default();
        self.tables = self.single(&mut scratch.buffers, Kind::Tables, read_tables)?.unwrap_or_default();
        self.footer = self.single(&mut scratch.buffers, Kind::Footer, read_footer)?;
        self.absent = self.footer.as_ref().map_or_else(Vec::new, |footer| footer.absent.clone());
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
        buffers: &mut Buffers,
        kind: Kind,
        take: impl Fn(root::Reader) -> Result<R>,
    ) -> Result<Option<R>> {
        for frame in self.frames.iter().filter(|frame| frame.header.kind == kind) {
            let offset = frame.offset + frame.header.header_length() as u64;
            let Some(&part) = frame.header.parts.first() else { continue };
            let what = match self.message(buffers, offset, part, &take) {
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

    /// The message of a frame that has one; `None` where it is damaged.
    pub(super) fn single_at<R>(
        &self,
        scratch: &mut Scratch,
        frame: &Frame,
        take: impl FnOnce(root::Reader) -> Result<R>,
    ) -> Result<Option<R>> {
        let Some(&part) = frame.header.parts.first() else { return Ok(None) };
        let offset = frame.offset + frame.header.header_length() as u64;
        match self.message(&mut scratch.buffers, offset, part, take) {
            Err(error @ FormatError::Io { .. }) => Err(error),
            other => Ok(other.ok()),
        }
    }

    fn message<R>(
        &self,
        buffers: &mut Buffers,
        offset: u64,
        part: Part,
        take: impl FnOnce(root::Reader) -> Result<R>,
    ) -> Result<R> {
        let damaged = |what: String| FormatError::Damaged { offset, what };
        let stored = first(&mut buffers.stored, part.stored as usize, 0);
        let length = self.source.read(offset, stored).map_err(FormatError::io("read the trace"))?;
        if length < stored.len() {
            return Err(damaged(format!("payload of {} bytes, {length} are there", part.stored)));
        }
        let raw = part.raw as usize;
        let words = first(&mut buffers.words, raw.div_ceil(8), capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        let bytes = &mut capnp::Word::words_to_bytes_mut(words)[..raw];
        let length = buffers
            .decompressor
            .decompress_to_buffer(stored, bytes)
            .map_err(|error| damaged(format!("zstd: {error}")))?;
        if length != raw {
            return Err(damaged(format!("a message of {length} bytes, the header says {raw}")));
        }
        message::parse(bytes, take)
    }

    /// Unpacks the messages of a frame of any kind that is known, whatever they say.
    ///
    /// # Errors
    /// When one of them is damaged.
    pub fn verify(&self, frame: &Frame, scratch: &mut Scratch) -> Result<()> {
        let mut offset = frame.offset + frame.header.header_length() as u64;
        for &part in &frame.header.parts {
            self.message(&mut scratch.buffers, offset, part, |_| Ok(()))?;
            offset += u64::from(part.stored);
        }
        Ok(())
    }

    /// Decodes a frame: the columns at the positions `wanted` (all with `None`), the others absent.
    ///
    /// # Errors
    /// When a part that is needed is damaged; then the whole frame counts as missing.
    pub fn read(&self, frame: &Frame, wanted: Option<&[usize]>, scratch: &mut Scratch) -> Result<Batch> {
        self.is_not_another(frame)?;
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
        let needed = needed(def, wanted);
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
        let Scratch { buffers, spare } = scratch;
        spare.next_frame();
        // A keyed column needs its key first, and the key may stand behind it.
        for keyed in [false, true] {
            for &(offset, part) in &parts {
                if is_keyed(def, part) == keyed {
                    let read = |root: root::Reader| read_rows(def, root, &needed, spare, &mut batch);
                    self.message(buffers, offset, part, read)?;
                }
            }
        }
        if let Some(wanted) = wanted {
            drop_unwanted(&mut batch.columns, wanted, spare);
        }
        Ok(batch)
    }
}

/// Per column: whether it is to be decoded. What is of an unknown type cannot be.
fn needed(def: &TableDef, wanted: Option<&[usize]>) -> Vec<bool> {
    let mut needed = wanted.map_or_else(|| vec![true; def.columns.len()], |wanted| with_keys(def, wanted));
    let unknown = |column: &ColumnDef| matches!(column.kind, ColumnType::Unknown(_));
    needed.iter_mut().zip(&def.columns).for_each(|(needed, column)| *needed &= !unknown(column));
    needed
}

/// Per column: whether it was asked for, or one that was may be keyed by it.
fn with_keys(def: &TableDef, wanted: &[usize]) -> Vec<bool> {
    let mut needed = vec![false; def.columns.len()];
    for &index in wanted {
        let Some(column) = def.columns.get(index) else { continue };
        needed[index] = true;
        // The writer uses no key that has a key of its own.
        if let Some(key) = def.column(&column.by).filter(|&key| def.columns[key].by.is_empty()) {
            needed[key] = true;
        }
    }
    needed
}

/// Keys that only had to be there for the decoding.
fn drop_unwanted(columns: &mut [Column], wanted: &[usize], spare: &mut Spare) {
    let unwanted = |(index, _): &(usize, &mut Column)| !wanted.contains(index);
    columns
        .iter_mut()
        .enumerate()
        .filter(unwanted)
        .for_each(|(_, column)| spare.keep(std::mem::take(column)));
}

fn is_keyed(def: &TableDef, part: Part) -> bool {
    def.columns.get(usize::from(part.column)).is_some_and(|column| !column.by.is_empty())
}

fn read_rows(
    def: &TableDef,
    from: root::Reader,
    needed: &[bool],
    spare: &mut Spare,
    to: &mut Batch,
) -> Result<()> {
    match from.which()? {
        root::Batch(batch) => message::read_batch(def, batch?, needed, spare, to),
        _ => Err(FormatError::Batch("expected rows".into())),
    }
}
