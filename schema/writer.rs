//! Writes a trace: append only, never seeks, so that it works into a pipe.

use super::absent::{self, Absent};
use super::column::Batch;
use super::error::{FormatError, Result};
use super::frame::{self, FrameHeader, Kind};
use super::histogram::Histogram;
use super::host::Host;
use super::message;
use super::pack::{Packed, Packer, header};
use super::singles::IndexPart;
use super::table::TableDef;
use super::top::Top;
use std::collections::HashMap;
use std::io::Write;

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
    packer: Packer,
    sequences: HashMap<u16, u64>,
    rows_before: HashMap<(u16, u16), u64>,
    totals: Vec<TraceTotals>,
    histograms: HashMap<(u16, u16), Histogram>,
    tops: HashMap<(u16, u16), Top>,
    index: Vec<IndexPart>,
    last_checkpoint: u64,
    last_time: u64,
    end: Option<u64>,
    absent: Vec<Absent>,
}

impl<W: Write> TraceWriter<W> {
    /// Starts a trace: writes the host and the table definitions, whose numbers must be their positions.
    ///
    /// # Errors
    /// When the sink refuses, zstd cannot be set up, or no reader would accept the definitions.
    pub fn new(to: W, level: i32, host: &Host, tables: Vec<TableDef>) -> Result<Self> {
        let packer = Packer::new(level, tables)?;
        let mut writer = Self {
            to,
            offset: 0,
            sequences: HashMap::new(),
            rows_before: HashMap::new(),
            totals: vec![TraceTotals::default(); packer.tables().len()],
            histograms: HashMap::new(),
            tops: HashMap::new(),
            index: Vec::new(),
            last_checkpoint: 0,
            last_time: host.start_mono,
            end: None,
            absent: Vec::new(),
            packer,
        };
        let message = message::build(256, |root| host.write(root.init_host()));
        writer.write_single(Kind::Host, message)?;
        writer.write_tables()?;
        Ok(writer)
    }

    fn write_tables(&mut self) -> Result<()> {
        let message = message::build(4096, |root| {
            let mut list = root.init_tables(message::count(self.tables().len()));
            for (index, table) in self.tables().iter().enumerate() {
                table.write(list.reborrow().get(message::count(index)));
            }
        });
        self.write_single(Kind::Tables, message)
    }

    /// The definitions that the trace began with.
    #[must_use]
    pub fn tables(&self) -> &[TableDef] {
        self.packer.tables()
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

    /// Says when the recording ended, where that is not the time of the last row.
    pub fn ends_at(&mut self, moment: u64) {
        self.end = Some(moment);
    }

    /// Says which parts of the recording were not among the files that this one is made of.
    pub fn lacks(&mut self, absent: Vec<Absent>) {
        self.absent = absent;
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
    pub fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        if batch.rows == 0 {
            return Ok(());
        }
        let packed = self.packer.pack(kind, epoch, batch)?;
        self.append_packed(packed)
    }

    /// Writes a frame that was packed for the same tables.
    ///
    /// # Errors
    /// When the sink refuses: the frame is then not in the file, and nor is anything after it.
    pub fn append_packed(&mut self, packed: Packed) -> Result<()> {
        let (table, rows, raw_bytes) = (packed.header.table, u64::from(packed.header.rows), packed.raw_bytes);
        let before = self.rows_before.entry((table, packed.header.stream)).or_default();
        let header = FrameHeader { rows_before: *before, ..packed.header };
        *before += rows;
        self.last_time = self.last_time.max(header.max_time);
        for (column, counts) in packed.histograms {
            let histogram = self.histograms.entry((table, column)).or_default();
            for (bucket, count) in counts {
                histogram.add_bucket(bucket, count);
            }
        }
        for (column, ids) in packed.totals {
            let top = self.tops.entry((table, column)).or_default();
            for (id, total) in ids {
                top.add(id, total);
            }
        }
        let stored = self.write_frame(header, &packed.payload)?;
        let totals = &mut self.totals[usize::from(table)];
        totals.rows += rows;
        totals.raw_bytes += raw_bytes;
        totals.stored_bytes += stored;
        self.checkpoint_if_due()
    }

    /// A frame of the trace itself, without rows.
    fn write_single(&mut self, kind: Kind, message: Vec<u8>) -> Result<()> {
        let packed =
            self.packer.compress(header(kind, frame::RECORDER), &[(frame::ALL_COLUMNS, message.into())])?;
        self.write_frame(packed.header, &packed.payload).map(|_| ())
    }

    /// Returns its length.
    fn write_frame(&mut self, mut header: FrameHeader, payload: &[u8]) -> Result<u64> {
        let sequence = self.sequences.entry(header.stream).or_default();
        header.sequence = *sequence;
        *sequence += 1;
        let header = header.to_bytes();
        let length = (header.len() + payload.len()) as u64;
        let bytes = [&header[..], payload].concat();
        self.index.push(IndexPart { offset: self.offset, length, header });
        self.put(&bytes)?;
        Ok(length)
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
        let message = message::build(index.len() * 32 + 16, |root| {
            let mut to = root.init_checkpoint();
            to.set_previous(previous);
            let mut list = to.init_frames(message::count(index.len()));
            for (at, part) in (0..).zip(&index) {
                let mut info = list.reborrow().get(at);
                info.set_offset(part.offset);
                info.set_length(part.length);
                info.set_header(&part.header);
            }
        });
        self.write_single(Kind::Checkpoint, message)?;
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
        self.write_single(Kind::Footer, message)?;
        self.put(&frame::trailer(offset))?;
        self.to.flush().map_err(FormatError::io("write the trace"))?;
        Ok((self.to, self.offset))
    }

    fn fill_footer(&self, mut to: super::trace_capnp::footer::Builder, reason: &str) {
        to.set_checkpoint(self.last_checkpoint);
        to.set_reason(reason);
        to.set_end_mono(self.end.unwrap_or(self.last_time));
        let mut tables = to.reborrow().init_tables(message::count(self.totals.len()));
        for (index, totals) in self.totals.iter().enumerate() {
            let mut table = tables.reborrow().get(message::count(index));
            table.set_table(self.tables()[index].number);
            table.set_rows(totals.rows);
            table.set_raw_bytes(totals.raw_bytes);
            table.set_stored_bytes(totals.stored_bytes);
        }
        self.fill_histograms(to.reborrow());
        self.fill_tops(to.reborrow());
        absent::write(&self.absent, to);
    }

    fn fill_histograms(&self, to: super::trace_capnp::footer::Builder) {
        let all = sorted(&self.histograms);
        let mut list = to.init_histograms(message::count(all.len()));
        for (at, (&(table, column), histogram)) in (0..).zip(all) {
            let counts: Vec<(u32, u64)> = histogram.buckets().collect();
            let mut to = list.reborrow().get(at);
            to.set_table(table);
            to.set_column(column);
            let mut buckets = to.reborrow().init_buckets(message::count(counts.len()));
            (0..).zip(&counts).for_each(|(at, count)| buckets.set(at, count.0));
            let mut totals = to.init_counts(message::count(counts.len()));
            (0..).zip(&counts).for_each(|(at, count)| totals.set(at, count.1));
        }
    }

    fn fill_tops(&self, to: super::trace_capnp::footer::Builder) {
        let all = sorted(&self.tops);
        let mut list = to.init_tops(message::count(all.len()));
        for (at, (&(table, column), top)) in (0..).zip(all) {
            let totals = top.list();
            let count = message::count(totals.len());
            let mut to = list.reborrow().get(at);
            to.set_table(table);
            to.set_column(column);
            to.set_error(top.error);
            let mut ids = to.reborrow().init_ids(count);
            (0..).zip(&totals).for_each(|(at, (id, _))| ids.set(at, *id));
            let mut weights = to.reborrow().init_weights(count);
            (0..).zip(&totals).for_each(|(at, (_, total))| weights.set(at, total.weight));
            let mut rows = to.reborrow().init_rows(count);
            (0..).zip(&totals).for_each(|(at, (_, total))| rows.set(at, total.rows));
            let mut epochs = to.init_epochs(count);
            (0..).zip(&totals).for_each(|(at, (_, total))| epochs.set(at, total.epoch));
        }
    }
}

/// What the footer lists, in the order of tables and columns.
fn sorted<V>(all: &HashMap<(u16, u16), V>) -> Vec<(&(u16, u16), &V)> {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_unstable_by_key(|&(&key, _)| key);
    all
}
