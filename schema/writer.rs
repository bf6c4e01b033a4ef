//! Writes a trace: append only, never seeks, so that it works into a pipe.

use super::column::{Batch, Column};
use super::error::{FormatError, Result};
use super::frame::{self, FrameHeader, Kind, Part};
use super::histogram::Histogram;
use super::host::Host;
use super::message;
use super::table::TableDef;
use std::collections::HashMap;
use std::io::Write;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// From this many rows on each column is a message of its own: smaller, and readers skip what they do not need.
const SPLIT_ROWS: usize = 1500;
/// Frames between two checkpoints.
const CHECKPOINT_FRAMES: usize = 256;

/// What a table has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceTotals {
    /// Rows.
    pub rows: u64,
    /// Bytes in memory.
    pub raw_bytes: u64,
    /// Bytes in the file.
    pub stored_bytes: u64,
}

/// Appends frames to a byte sink.
pub struct TraceWriter<W: Write> {
    to: W,
    offset: u64,
    compressor: Compressor<'static>,
    tables: Vec<TableDef>,
    sequences: HashMap<u16, u64>,
    rows_before: HashMap<(u16, u16), u64>,
    totals: Vec<TraceTotals>,
    histograms: HashMap<(u16, u16), Histogram>,
    index: Vec<(u64, u64)>,
    last_checkpoint: u64,
    last_time: u64,
}

impl<W: Write> TraceWriter<W> {
    /// Starts a trace: writes the host and the table definitions, whose numbers must be their positions.
    ///
    /// # Errors
    /// When the sink refuses, zstd cannot be set up, or no reader would accept the definitions.
    pub fn new(to: W, level: i32, host: &Host, tables: Vec<TableDef>) -> Result<Self> {
        check_tables(&tables)?;
        let mut compressor = Compressor::new(level).map_err(FormatError::io("set up zstd"))?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(FormatError::io("set up zstd"))?;
        let mut writer = Self {
            to,
            offset: 0,
            compressor,
            sequences: HashMap::new(),
            rows_before: HashMap::new(),
            totals: vec![TraceTotals::default(); tables.len()],
            histograms: HashMap::new(),
            index: Vec::new(),
            last_checkpoint: 0,
            last_time: host.start_mono,
            tables,
        };
        let message = message::build(256, |root| host.write(root.init_host()));
        writer.write_frame(header(Kind::Host, frame::RECORDER), vec![(frame::ALL_COLUMNS, message)])?;
        writer.write_tables()?;
        Ok(writer)
    }

    fn write_tables(&mut self) -> Result<()> {
        let message = message::build(4096, |root| {
            let mut list = root.init_tables(message::count(self.tables.len()));
            for (index, table) in self.tables.iter().enumerate() {
                table.write(list.reborrow().get(message::count(index)));
            }
        });
        self.write_frame(header(Kind::Tables, frame::RECORDER), vec![(frame::ALL_COLUMNS, message)])?;
        Ok(())
    }

    /// The definitions that the trace began with.
    #[must_use]
    pub fn tables(&self) -> &[TableDef] {
        &self.tables
    }

    /// What each table has written so far.
    #[must_use]
    pub fn totals(&self) -> &[TraceTotals] {
        &self.totals
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// The sink.
    pub fn sink(&self) -> &W {
        &self.to
    }

    /// Writes the rows of a batch as one frame.
    ///
    /// # Errors
    /// When the batch does not fit its definition or the caps of a frame: the file is as it was before. When the
    /// sink refuses: the batch is then not in the file, and nor is anything after it.
    ///
    /// # Panics
    /// Never: the numbers that it converts are checked against the caps first.
    pub fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        if batch.rows == 0 {
            return Ok(());
        }
        let def = self.tables.get(usize::from(batch.table));
        let def =
            def.ok_or_else(|| FormatError::Batch(format!("no table has the number {}", batch.table)))?;
        check(def, batch)?;
        let present: Vec<usize> =
            (0..def.columns.len()).filter(|&index| batch.columns[index] != Column::Absent).collect();
        let mut messages = Vec::new();
        if batch.rows < SPLIT_ROWS {
            messages.push((frame::ALL_COLUMNS, message::build_batch(def, batch, &present)));
        } else {
            for &index in &present {
                let column = u16::try_from(index).expect("at most MAX_PARTS columns");
                messages.push((column, message::build_batch(def, batch, &[index])));
            }
        }
        let (min_time, max_time) = self.time_span(batch);
        let before = self.rows_before.entry((batch.table, batch.stream)).or_default();
        let header = FrameHeader {
            table: batch.table,
            rows: message::count(batch.rows),
            epoch,
            min_time,
            max_time,
            rows_before: *before,
            ..header(kind, batch.stream)
        };
        *before += batch.rows as u64;
        self.last_time = self.last_time.max(max_time);
        self.count_histograms(batch);
        let stored = self.write_frame(header, messages)?;
        let totals = &mut self.totals[usize::from(batch.table)];
        totals.rows += batch.rows as u64;
        totals.raw_bytes += batch.columns.iter().map(Column::raw_bytes).sum::<usize>() as u64;
        totals.stored_bytes += stored;
        self.checkpoint_if_due()
    }

    fn time_span(&self, batch: &Batch) -> (u64, u64) {
        let times =
            self.tables[usize::from(batch.table)].time().map_or(&[][..], |at| batch.columns[at].u64s());
        (times.iter().min().copied().unwrap_or(0), times.iter().max().copied().unwrap_or(0))
    }

    fn count_histograms(&mut self, batch: &Batch) {
        let def = &self.tables[usize::from(batch.table)];
        for (index, column) in def.columns.iter().enumerate().filter(|(_, column)| column.histogram) {
            let key = (batch.table, u16::try_from(index).expect("at most MAX_PARTS columns"));
            let histogram = self.histograms.entry(key).or_default();
            batch.columns[index].each_number(|value| {
                if Some(value) != column.null {
                    histogram.add(value);
                }
            });
        }
    }

    /// Returns its length.
    fn write_frame(&mut self, mut header: FrameHeader, messages: Vec<(u16, Vec<u8>)>) -> Result<u64> {
        let mut payload = Vec::new();
        for (column, message) in messages {
            let stored = self.compressor.compress(&message).map_err(FormatError::io("compress"))?;
            header.parts.push(Part {
                column,
                stored: message::count(stored.len()),
                raw: message::count(message.len()),
            });
            payload.extend(stored);
        }
        let sequence = self.sequences.entry(header.stream).or_default();
        header.sequence = *sequence;
        *sequence += 1;
        let mut bytes = header.to_bytes();
        bytes.extend(payload);
        self.index.push((self.offset, bytes.len() as u64));
        self.put(&bytes)?;
        Ok(bytes.len() as u64)
    }

    fn checkpoint_if_due(&mut self) -> Result<()> {
        if self.index.len() >= CHECKPOINT_FRAMES { self.checkpoint() } else { Ok(()) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(FormatError::io("write the trace"))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Writes the index of what came since the last one.
    ///
    /// # Errors
    /// When the sink refuses.
    pub fn checkpoint(&mut self) -> Result<()> {
        // Without the definitions no row can be read, so one damaged copy must not be the only one.
        self.write_tables()?;
        let index = std::mem::take(&mut self.index);
        let (offset, previous) = (self.offset, self.last_checkpoint);
        let message = message::build(index.len() * 2 + 16, |root| {
            let mut to = root.init_checkpoint();
            to.set_previous(previous);
            let mut list = to.init_frames(message::count(index.len()));
            for (at, (offset, length)) in index.iter().enumerate() {
                let mut info = list.reborrow().get(message::count(at));
                info.set_offset(*offset);
                info.set_length(*length);
            }
        });
        self.write_frame(header(Kind::Checkpoint, frame::RECORDER), vec![(frame::ALL_COLUMNS, message)])?;
        self.last_checkpoint = offset;
        Ok(())
    }

    /// Ends the trace: the last index, the totals, and where to find them. Returns the sink and its bytes.
    ///
    /// # Errors
    /// When the sink refuses.
    pub fn finish(mut self, reason: &str) -> Result<(W, u64)> {
        self.checkpoint()?;
        let offset = self.offset;
        let message = message::build(4096, |root| self.fill_footer(root.init_footer(), reason));
        self.write_frame(header(Kind::Footer, frame::RECORDER), vec![(frame::ALL_COLUMNS, message)])?;
        self.put(&frame::trailer(offset))?;
        self.to.flush().map_err(FormatError::io("write the trace"))?;
        Ok((self.to, self.offset))
    }

    fn fill_footer(&self, mut to: super::trace_capnp::footer::Builder, reason: &str) {
        to.set_checkpoint(self.last_checkpoint);
        to.set_reason(reason);
        to.set_end_mono(self.last_time);
        let mut tables = to.reborrow().init_tables(message::count(self.totals.len()));
        for (index, totals) in self.totals.iter().enumerate() {
            let mut table = tables.reborrow().get(message::count(index));
            table.set_table(self.tables[index].number);
            table.set_rows(totals.rows);
            table.set_raw_bytes(totals.raw_bytes);
            table.set_stored_bytes(totals.stored_bytes);
        }
        let mut keys: Vec<_> = self.histograms.keys().copied().collect();
        keys.sort_unstable();
        let mut list = to.init_histograms(message::count(keys.len()));
        for (at, key) in keys.iter().enumerate() {
            let counts: Vec<(u32, u64)> = self.histograms[key].buckets().collect();
            let mut histogram = list.reborrow().get(message::count(at));
            histogram.set_table(key.0);
            histogram.set_column(key.1);
            let mut buckets = histogram.reborrow().init_buckets(message::count(counts.len()));
            counts.iter().enumerate().for_each(|(at, &(bucket, _))| buckets.set(message::count(at), bucket));
            let mut totals = histogram.init_counts(message::count(counts.len()));
            counts.iter().enumerate().for_each(|(at, &(_, count))| totals.set(message::count(at), count));
        }
    }
}

/// What a reader would refuse, or misread, is not written in the first place.
fn check(def: &TableDef, batch: &Batch) -> Result<()> {
    let wrong = |what: String| Err(FormatError::Batch(format!("{}: {what}", def.name)));
    if batch.columns.len() != def.columns.len() {
        return wrong(format!("{} columns, the definition has {}", batch.columns.len(), def.columns.len()));
    }
    for (column, info) in batch.columns.iter().zip(&def.columns) {
        if !column.fits(info.kind) || (*column != Column::Absent && column.len() != batch.rows) {
            return wrong(format!("column {} is not {} rows of {:?}", info.name, batch.rows, info.kind));
        }
    }
    let raw: usize = batch.columns.iter().map(Column::raw_bytes).sum();
    if raw > frame::MAX_APPEND || batch.rows > frame::MAX_ROWS as usize {
        return wrong(format!("{} rows of {raw} bytes are more than a frame holds", batch.rows));
    }
    Ok(())
}

fn check_tables(tables: &[TableDef]) -> Result<()> {
    let known = |(position, table): (usize, &TableDef)| usize::from(table.number) == position;
    if !tables.iter().enumerate().all(known) {
        return Err(FormatError::Batch("table numbers are not their positions".into()));
    }
    if tables.len() > frame::MAX_TABLES || tables.iter().any(|table| table.columns.len() > frame::MAX_PARTS) {
        return Err(FormatError::Batch("more tables or columns than a trace holds".into()));
    }
    Ok(())
}

fn header(kind: Kind, stream: u16) -> FrameHeader {
    FrameHeader {
        kind,
        table: u16::MAX,
        stream,
        rows: 0,
        epoch: 0,
        sequence: 0,
        min_time: 0,
        max_time: 0,
        rows_before: 0,
        parts: Vec::new(),
    }
}
