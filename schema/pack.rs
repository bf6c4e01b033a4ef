//! Batches to frames: all of writing that needs no place in a file.
//!
//! A packed frame has neither its sequence number nor the count of rows before it: those belong to the
//! file that it ends up in. So frames can wait in memory, be dropped, and be written to a file of their own.

use super::column::{Batch, Column};
use super::error::{FormatError, Result};
use super::frame::{self, FrameHeader, Kind, Part};
use super::histogram::Histogram;
use super::message::{self, Message};
use super::table::TableDef;
use super::top::{self, Total};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// From this many rows on each column is a message of its own: smaller, and readers skip what they do not need.
const SPLIT_ROWS: usize = 1500;

/// A frame that no file has yet.
#[derive(Clone, Debug)]
pub struct Packed {
    pub(super) header: FrameHeader,
    pub(super) payload: Vec<u8>,
    /// Bytes that its rows took in memory.
    pub(super) raw_bytes: u64,
    /// Per column with a histogram: its values, as (bucket, count).
    pub(super) histograms: Vec<(u16, Vec<(u32, u64)>)>,
    /// Per column with totals: those of its ids.
    pub(super) totals: Vec<(u16, Vec<(u32, Total)>)>,
}

impl Packed {
    /// The last moment of its rows; 0 when they have no time.
    #[must_use]
    pub fn max_time(&self) -> u64 {
        self.header.max_time
    }

    /// Its rows, and the number of their table.
    #[must_use]
    pub fn rows(&self) -> (u16, u64) {
        (self.header.table, self.header.rows.into())
    }

    /// Bytes that it takes in memory; in a file a little less.
    #[must_use]
    pub fn size(&self) -> usize {
        let buckets: usize = self.histograms.iter().map(|(_, counts)| counts.len() * 16).sum();
        let totals: usize = self.totals.iter().map(|(_, ids)| ids.len() * size_of::<(u32, Total)>()).sum();
        let parts = self.header.parts.len() * size_of::<Part>();
        size_of::<Self>() + self.payload.capacity() + parts + buckets + totals
    }
}

/// Makes frames.
pub struct Packer {
    compressor: Compressor<'static>,
    buffer: Vec<u8>,
    tables: Vec<TableDef>,
}

impl Packer {
    /// For batches of these tables, whose numbers must be their positions.
    ///
    /// # Errors
    /// When zstd cannot be set up, or no reader would accept the definitions.
    pub fn new(level: i32, tables: Vec<TableDef>) -> Result<Self> {
        check_tables(&tables)?;
        let mut compressor = Compressor::new(level).map_err(FormatError::io("set up zstd"))?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(FormatError::io("set up zstd"))?;
        Ok(Self { compressor, buffer: Vec::new(), tables })
    }

    /// The definitions.
    #[must_use]
    pub fn tables(&self) -> &[TableDef] {
        &self.tables
    }

    /// The rows of a batch as one frame.
    ///
    /// # Errors
    /// When the batch does not fit its definition or the caps of a frame.
    ///
    /// # Panics
    /// Never: the numbers that it converts are checked against the caps first.
    pub fn pack(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<Packed> {
        let def = self.tables.get(usize::from(batch.table));
        let def =
            def.ok_or_else(|| FormatError::Batch(format!("no table has the number {}", batch.table)))?;
        check(def, batch)?;
        let (min_time, max_time) = time_span(def, batch);
        let header = FrameHeader {
            table: batch.table,
            rows: message::count(batch.rows),
            epoch,
            min_time,
            max_time,
            ..header(kind, batch.stream)
        };
        let (messages, histograms) = (messages(def, batch), histograms(def, batch));
        let raw_bytes = batch.columns.iter().map(Column::raw_bytes).sum::<usize>() as u64;
        let totals = top::totals(def, epoch, batch);
        Ok(Packed { raw_bytes, histograms, totals, ..self.compress(header, &messages)? })
    }

    pub(super) fn compress(
        &mut self,
        mut header: FrameHeader,
        messages: &[(u16, Message)],
    ) -> Result<Packed> {
        let mut payload = Vec::new();
        for (column, message) in messages {
            let before = payload.len();
            for piece in message.pieces() {
                self.buffer.resize(self.buffer.len().max(zstd::zstd_safe::compress_bound(piece.len())), 0);
                let stored = self.compressor.compress_to_buffer(piece, &mut self.buffer[..]);
                payload.extend(&self.buffer[..stored.map_err(FormatError::io("compress"))?]);
            }
            header.parts.push(Part {
                column: *column,
                stored: message::count(payload.len() - before),
                raw: message::count(message.bytes.len()),
            });
        }
        Ok(Packed { header, payload, raw_bytes: 0, histograms: Vec::new(), totals: Vec::new() })
    }
}

fn messages(def: &TableDef, batch: &Batch) -> Vec<(u16, Message)> {
    let present: Vec<usize> =
        (0..def.columns.len()).filter(|&index| batch.columns[index] != Column::Absent).collect();
    if batch.rows < SPLIT_ROWS {
        return vec![(frame::ALL_COLUMNS, message::build_batch(def, batch, &present))];
    }
    let column = |&index: &usize| {
        let number = u16::try_from(index).expect("at most MAX_PARTS columns");
        (number, message::build_batch(def, batch, &[index]))
    };
    present.iter().map(column).collect()
}

fn time_span(def: &TableDef, batch: &Batch) -> (u64, u64) {
    let times = def.time().map_or(&[][..], |at| batch.columns[at].u64s());
    (times.iter().min().copied().unwrap_or(0), times.iter().max().copied().unwrap_or(0))
}

fn histograms(def: &TableDef, batch: &Batch) -> Vec<(u16, Vec<(u32, u64)>)> {
    let wanted = def.columns.iter().enumerate().filter(|(_, column)| column.histogram);
    let count = |(index, column): (usize, &super::table::ColumnDef)| {
        let mut histogram = Histogram::default();
        batch.columns[index].each_number(|value| {
            if Some(value) != column.null {
                histogram.add(value);
            }
        });
        (u16::try_from(index).expect("at most MAX_PARTS columns"), histogram.buckets().collect())
    };
    wanted.map(count).collect()
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
    let columns: usize = tables.iter().map(|table| table.columns.len()).sum();
    if tables.len() > frame::MAX_TABLES
        || columns > frame::MAX_COLUMNS
        || tables.iter().any(|table| table.columns.len() > frame::MAX_PARTS)
    {
        return Err(FormatError::Batch("more tables or columns than a trace holds".into()));
    }
    Ok(())
}

/// A header of a kind, all else as where there are no rows.
pub(super) fn header(kind: Kind, stream: u16) -> FrameHeader {
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
