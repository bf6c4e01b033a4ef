//! An open trace: the file, its clock and span, and what its small tables say, read when first asked for.
//!
//! A frame that cannot be decoded is noted here and otherwise absent: no report fails because of it,
//! and every report says so.

use super::clock::{Clock, SECOND};
use super::identity::Identity;
use super::input::Input;
use super::ledger::Ledger;
use super::probes::Probes;
use super::rows::{Labels, Rows};
use super::scratch::{Lent, Scratches};
use super::stacks::{Functions, Naming};
use super::window::Window;
use crate::schema::frame::FrameHeader;
use crate::schema::reader::{Damage, Frame, Scratch};
use crate::schema::singles::Footer;
use crate::schema::{Batch, Column, Host, Kind, Role, TableDef, TraceReader};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Rows are in the file this long after their event: a batch waits a second, names half of one.
pub(crate) const LAG: u64 = 2 * SECOND;

/// A frame that is there but cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Its table.
    pub table: u16,
    /// Rows in it.
    pub rows: u64,
    /// Smallest and largest `ts` in it.
    pub times: (u64, u64),
    /// Why.
    pub why: String,
}

/// What the file holds of a table.
#[derive(Clone, Debug, Default)]
struct Extent {
    rows: u64,
    stored: u64,
    /// Positions among all frames.
    frames: Vec<u32>,
}

/// An open trace.
#[derive(Debug)]
pub(crate) struct Trace {
    /// What the user called it.
    pub name: String,
    /// The file.
    pub reader: TraceReader,
    /// Of a set: its files, by where each begins.
    files: Vec<(u64, String)>,
    /// Definitions; numbers are positions.
    pub tables: Vec<Arc<TableDef>>,
    /// Moments to wall clock.
    pub clock: Clock,
    /// From time zero to the last event; of a file that is being written, to where all is there.
    pub span: Window,
    /// Of a file that is being written, as [`Trace::up_to_settled`] takes it: the moment up to which all is there.
    pub settled: Option<u64>,
    /// By table: a long recording has a hundred thousand frames, and a page asks for those of each table a few times.
    extents: Vec<Extent>,
    pool: Arc<rayon::ThreadPool>,
    scratches: Scratches,
    unreadable: Mutex<BTreeMap<u64, Unreadable>>,
    identities: Mutex<HashMap<String, Option<Arc<Identity>>>>,
    inputs: Mutex<HashMap<u16, Arc<[Input]>>>,
    functions: Mutex<HashMap<Naming, Arc<Functions>>>,
    labels: OnceLock<Labels>,
    ledger: OnceLock<Ledger>,
    probes: OnceLock<Probes>,
}

impl Trace {
    /// A trace that is already open.
    pub fn new(name: String, reader: TraceReader, threads: usize, utc: bool) -> anyhow::Result<Self> {
        let pool = super::threads::pool(threads)?;
        let Host { start_mono, start_real, zone_offset, .. } = reader.host;
        let first = (start_mono, start_real.cast_signed());
        let mut trace = Self {
            name,
            files: Vec::new(),
            tables: reader.tables.iter().cloned().map(Arc::new).collect(),
            span: span(&reader),
            settled: None,
            extents: extents(&reader),
            reader,
            clock: Clock::new(first, [], zone_offset),
            pool,
            scratches: Scratches::default(),
            unreadable: Mutex::default(),
            identities: Mutex::default(),
            inputs: Mutex::default(),
            functions: Mutex::default(),
            labels: OnceLock::new(),
            ledger: OnceLock::new(),
            probes: OnceLock::new(),
        };
        let clock = Clock::new(first, trace.clock_rows(), zone_offset);
        trace.clock = if utc { clock.in_utc() } else { clock };
        Ok(trace)
    }

    /// The names and lengths of the files that lie behind each other in it: places in it are named by them.
    pub fn of_files(mut self, files: Vec<(String, u64)>) -> Self {
        if files.len() < 2 {
            return self;
        }
        let mut start = 0;
        for (name, length) in files {
            self.files.push((start, name));
            start += length;
        }
        self
    }

    /// The file of a set that a byte is in, and where that file begins.
    pub fn file_at(&self, offset: u64) -> Option<(u64, &str)> {
        let after = self.files.partition_point(|(start, _)| *start <= offset);
        self.files.get(after.wrapping_sub(1)).map(|(start, name)| (*start, name.as_str()))
    }

    /// Whether several files of one recording are this trace.
    pub fn is_a_set(&self) -> bool {
        !self.files.is_empty()
    }

    /// How a byte is named.
    pub fn place(&self, offset: u64) -> String {
        match self.file_at(offset) {
            Some((start, name)) => format!("{name}: byte {}", offset - start),
            None => format!("byte {offset}"),
        }
    }

    /// A trace that is being written ends, for whoever asks, where no row can come any more.
    pub fn up_to_settled(mut self) -> Self {
        if self.reader.growing {
            let rows = self.reader.frames.iter().filter(|frame| frame.header.kind.has_rows());
            let last = rows.map(|frame| frame.header.max_time).max().unwrap_or(0);
            let settled = last.saturating_sub(LAG).clamp(self.span.from, self.span.to - 1);
            self.settled = Some(settled);
            self.span.to = settled + 1;
        }
        self
    }

    /// That the file is being written, and what that means for the answer.
    pub fn still_written(&self) -> Option<String> {
        let settled = self.settled?;
        let time = self.clock.time_of_day(self.clock.wall(settled), 3);
        Some(format!("{}: still being recorded: this is what it says up to {time}", self.name))
    }

    /// The same trace as these epochs alone know it: what its ids mean there, found without reading the others.
    pub fn of_epochs(&self, epochs: &BTreeSet<u32>) -> anyhow::Result<Self> {
        // What an epoch learned at its end may stand in the next one.
        let wanted = |epoch: u32| epochs.contains(&epoch) || epochs.contains(&epoch.wrapping_sub(1));
        let keep = |frame: &Frame| match frame.header.kind {
            Kind::Identity => wanted(frame.header.epoch),
            kind => kind != Kind::Events,
        };
        Self::new(self.name.clone(), self.reader.view(keep)?, 1, false)
    }

    /// Runs on this trace's threads.
    pub fn install<R: Send>(&self, run: impl FnOnce() -> R + Send) -> R {
        self.pool.install(run)
    }

    /// Memory to decode frames into.
    pub fn scratch(&self) -> Lent<'_> {
        self.scratches.lend()
    }

    /// Something from each item, on this trace's threads, in order.
    pub fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        of: impl Fn(&mut Scratch, &T) -> R + Sync + Send,
    ) -> Vec<R> {
        self.install(|| items.par_iter().map_init(|| self.scratch(), |lent, item| of(lent, item)).collect())
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableDef>> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Event tables in file order.
    pub fn events(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.tables.iter().filter(|table| table.role == Role::Event)
    }

    fn extent(&self, table: u16) -> Option<&Extent> {
        self.extents.get(usize::from(table))
    }

    /// Rows of a table that the file holds.
    pub fn rows_of(&self, table: u16) -> u64 {
        self.extent(table).map_or(0, |extent| extent.rows)
    }

    /// Bytes that they take in the file.
    pub fn stored_of(&self, table: u16) -> u64 {
        self.extent(table).map_or(0, |extent| extent.stored)
    }

    /// The frames that hold rows of a table, in file order.
    pub fn frames_of(&self, table: u16) -> impl Iterator<Item = &Frame> {
        self.positions_of(table).map(|at| self.frame(at))
    }

    /// Where they are among all frames.
    pub fn positions_of(&self, table: u16) -> impl Iterator<Item = u32> {
        self.extent(table).into_iter().flat_map(|extent| extent.frames.iter().copied())
    }

    /// The frame there.
    pub fn frame(&self, at: u32) -> &Frame {
        &self.reader.frames[at as usize]
    }

    /// Where and how the file ends, if not with the end of a recording.
    pub fn cut(&self) -> Option<String> {
        let last = self.files.last().map_or((0, "the file"), |(start, name)| (*start, name));
        cut(&self.reader, last)
    }

    /// Why nothing is known of any table; `None`: the tables are defined.
    pub fn undefined(&self) -> Option<String> {
        if !self.tables.is_empty() {
            return None;
        }
        let damaged = self.reader.damage.iter().find(|damage| damage.what.starts_with("Tables"));
        let why = |damage: &Damage| format!("damaged at byte {}: {}", damage.offset, damage.what);
        self.cut().or_else(|| damaged.map(why)).or_else(|| Some("no frame defines any".into()))
    }

    /// Decodes the columns `wanted` of a frame; a damaged frame is noted and gives `None`.
    pub fn read(&self, frame: &Frame, wanted: Option<&[usize]>, scratch: &mut Scratch) -> Option<Rows> {
        let def = self.tables.get(usize::from(frame.header.table));
        match (self.reader.read(frame, wanted, scratch), def) {
            (Ok(batch), Some(def)) => Some(Rows::new(Arc::clone(def), batch)),
            (Err(error), _) => {
                self.note(frame, error.to_string());
                None
            }
            (Ok(_), None) => None,
        }
    }

    /// Looks whether a frame's header is whole in its own place; if not, that is noted, and costs no row.
    pub fn verify_header(&self, frame: &Frame) {
        if let Err(error) = self.reader.verify_header(frame) {
            self.note(
                &Frame { header: FrameHeader { rows: 0, ..frame.header.clone() }, ..*frame },
                error.to_string(),
            );
        }
    }

    /// Unpacks a frame without rows, such as a checkpoint; what cannot be is noted.
    pub fn verify(&self, frame: &Frame, scratch: &mut Scratch) {
        if let Err(error) = self.reader.verify(frame, scratch) {
            self.note(frame, error.to_string());
        }
    }

    fn note(&self, frame: &Frame, why: String) {
        let header = &frame.header;
        let noted = Unreadable {
            table: header.table,
            rows: header.rows.into(),
            times: (header.min_time, header.max_time),
            why,
        };
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).insert(frame.offset, noted);
    }

    /// The frames that could not be decoded so far, by file offset.
    pub fn unreadable(&self) -> Vec<(u64, Unreadable)> {
        let noted = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().map(|(&offset, frame)| (offset, frame.clone())).collect()
    }

    /// All rows of a small table, in file order.
    pub fn gather(&self, table: &str) -> Option<Rows> {
        let def = self.table(table)?;
        let frames: Vec<&Frame> = self.frames_of(def.number).collect();
        let batches = self.each(&frames, |scratch, frame| self.batch(frame, scratch));
        let parts = frames.into_iter().zip(batches).filter_map(|(frame, batch)| Some((frame, batch?)));
        Some(self.join(def, parts))
    }

    fn batch(&self, frame: &Frame, scratch: &mut Scratch) -> Option<Batch> {
        self.reader.read(frame, None, scratch).map_err(|error| self.note(frame, error.to_string())).ok()
    }

    /// Rows of several frames, one after the other; a frame with other columns is noted and left out.
    pub fn join<'f>(&self, def: &Arc<TableDef>, parts: impl IntoIterator<Item = (&'f Frame, Batch)>) -> Rows {
        let mut all =
            Batch { table: def.number, columns: vec![Column::Absent; def.columns.len()], ..Batch::default() };
        for (frame, batch) in parts {
            if !append(&mut all, batch) {
                self.note(frame, "its columns differ from those of the frames before".into());
            }
        }
        Rows::new(Arc::clone(def), all)
    }

    /// An identity table, if the trace has it, with all its columns.
    pub fn identity(&self, table: &str) -> Option<Arc<Identity>> {
        let identity = self.rows_behind(table)?;
        identity.need_all(self);
        Some(identity)
    }

    /// An identity table of which columns are read as they are needed.
    pub fn rows_behind(&self, table: &str) -> Option<Arc<Identity>> {
        let mut known = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = known.get(table) {
            return identity.clone();
        }
        let identity = Identity::load(self, table).map(Arc::new);
        known.insert(table.to_owned(), identity.clone());
        identity
    }

    /// What can be named for a table, as it was listed when that was first asked.
    pub fn inputs(&self, table: u16, list: impl FnOnce() -> Vec<Input>) -> Arc<[Input]> {
        let mut known = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(table).or_insert_with(|| list().into()))
    }

    /// The functions of frames, as they were read when that was first asked in this way.
    pub fn functions(&self, naming: &Naming, read: impl FnOnce() -> Functions) -> Arc<Functions> {
        let mut known = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(naming.clone()).or_insert_with(|| read().into()))
    }

    /// Names of numbers. They are read by one thread: if it is one of ours that asks, in the midst of a frame, and it waited
    /// for others, it could be given another frame meanwhile, and ask again while it waits for itself.
    pub fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| {
            let Some(def) = self.table("enum") else { return Labels::default() };
            let mut scratch = self.scratch();
            let frames = self.frames_of(def.number);
            let rows =
                self.join(def, frames.filter_map(|frame| Some((frame, self.batch(frame, &mut scratch)?))));
            let columns = ["name", "value", "label"].map(|name| rows.def.column(name));
            let [Some(name), Some(value), Some(label)] = columns else { return Labels::default() };
            let text = |column, row| super::escape::lossless(rows.bytes(column, row));
            let mut labels = Labels::default();
            for row in 0..rows.len() {
                let label = (rows.raw(value, row).cast_signed(), text(label, row).into());
                labels.entry(text(name, row)).or_default().extend([label]);
            }
            labels
        })
    }

    /// The number that an enumeration calls so; `None`: this trace has no such name.
    pub fn number(&self, enumeration: &str, label: &str) -> Option<i64> {
        let mut labels = self.labels().get(enumeration)?.iter();
        labels.find(|(_, text)| &***text == label).map(|(number, _)| *number)
    }

    /// What was counted as lost.
    pub fn ledger(&self) -> &Ledger {
        self.ledger.get_or_init(|| Ledger::load(self))
    }

    /// What each probe got.
    pub fn probes(&self) -> &Probes {
        self.probes.get_or_init(|| Probes::load(self))
    }

    fn clock_rows(&self) -> Vec<(u64, i64)> {
        let Some(rows) = self.gather("clock") else { return Vec::new() };
        let (Some(ts), Some(real)) = (rows.def.column("ts"), rows.def.column("realtime")) else {
            return Vec::new();
        };
        (0..rows.len()).map(|row| (rows.raw(ts, row), rows.raw(real, row).cast_signed())).collect()
    }
}

/// Where and how a file ends, if not with the end of a recording; its name, and where it begins.
pub(crate) fn cut(reader: &TraceReader, (start, name): (u64, &str)) -> Option<String> {
    if reader.growing || reader.footer.is_some() {
        return None;
    }
    let length = reader.length();
    let last = reader.damage.last().filter(|damage| damage.offset.saturating_add(damage.length) >= length);
    Some(match last {
        Some(damage) => {
            let at = damage.offset.saturating_sub(start);
            format!("{name} is cut or damaged at byte {at}: {}", damage.what)
        }
        None => format!("{name} ends at byte {} without the end of a recording", length - start),
    })
}

/// Events are what a span is about; identity rows may be older than the start.
fn span(reader: &TraceReader) -> Window {
    let all = || reader.frames.iter().chain(&reader.cut);
    let events = all().filter(|frame| frame.header.kind == Kind::Events);
    let start = reader.host.start_mono;
    let from = events.map(|frame| frame.header.min_time).min().map_or(start, |first| first.min(start));
    let end = last_moment(all(), reader.footer.as_ref()).unwrap_or(start);
    Window { from, to: end.max(from).saturating_add(1) }
}

/// The moment of the last event, or of the end that the footer of the last file tells of if that was later. What the
/// recorder says of itself it still says, also from file to file, when nothing is recorded any more.
pub(crate) fn last_moment<'f>(
    frames: impl Iterator<Item = &'f Frame>,
    footer: Option<&Footer>,
) -> Option<u64> {
    let events = frames.filter(|frame| frame.header.kind == Kind::Events);
    events.map(|frame| frame.header.max_time).chain(footer.map(|footer| footer.end_mono)).max()
}

fn extents(reader: &TraceReader) -> Vec<Extent> {
    let mut extents = vec![Extent::default(); reader.tables.len()];
    for (at, Frame { header, .. }) in
        (0..).zip(&reader.frames).filter(|(_, frame)| frame.header.kind.has_rows())
    {
        let Some(extent) = extents.get_mut(usize::from(header.table)) else { continue };
        extent.rows += u64::from(header.rows);
        extent.stored += header.length();
        extent.frames.push(at);
    }
    extents
}

/// Adds rows; false if they do not have the same columns.
fn append(all: &mut Batch, batch: Batch) -> bool {
    if all.rows == 0 {
        *all = batch;
        return true;
    }
    let alike = |(a, b): (&Column, &Column)| std::mem::discriminant(a) == std::mem::discriminant(b);
    if !all.columns.iter().zip(&batch.columns).all(alike) {
        return false;
    }
    all.rows += batch.rows;
    all.columns.iter_mut().zip(batch.columns).all(|(to, from)| to.append(from))
}
