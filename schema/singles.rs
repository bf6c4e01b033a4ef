//! The messages that a trace has once: host, table definitions, footer.

use super::absent::{self, Absent};
use super::error::{FormatError, Result};
use super::frame::{self, FrameHeader};
use super::histogram::Histogram;
use super::host::Host;
use super::reader::Frame;
use super::table::TableDef;
use super::top::{Top, Total};
use super::trace_capnp::{footer, frame as root, frame_info};
use super::writer::TraceTotals;
use std::collections::HashMap;

/// What a cleanly ended trace says of itself.
#[derive(Clone, Debug, Default)]
pub struct Footer {
    /// File offset of the last checkpoint.
    pub checkpoint: u64,
    /// Why the recording ended.
    pub reason: String,
    /// Largest `ts`.
    pub end_mono: u64,
    /// Per table number.
    pub totals: HashMap<u16, TraceTotals>,
    /// Per table number and column index.
    pub histograms: HashMap<(u16, u16), Histogram>,
    /// Per table number and column index: the ids with most.
    pub tops: HashMap<(u16, u16), Top>,
    /// Parts of the recording that were not among the files that this one was made of.
    pub absent: Vec<Absent>,
}

/// What a checkpoint says: the frames since the one before, whose offset is `previous`.
pub(super) struct Checkpoint {
    pub previous: u64,
    /// `None`: one of the headers is not what it should be, or there is none, as in files of the first recorders.
    pub frames: Option<Vec<Frame>>,
}

/// A frame as the writer lists it.
pub(super) struct IndexPart {
    pub offset: u64,
    pub length: u64,
    /// The bytes of its header.
    pub header: Vec<u8>,
}

pub(super) fn read_host(from: root::Reader) -> Result<Host> {
    match from.which()? {
        root::Host(host) => Host::read(host?),
        _ => Err(FormatError::Batch("expected a host".into())),
    }
}

pub(super) fn read_tables(from: root::Reader) -> Result<Vec<TableDef>> {
    match from.which()? {
        root::Tables(tables) => {
            let tables = tables?;
            at_most(frame::MAX_TABLES, tables.len(), "tables")?;
            let mut columns = 0u32;
            for table in tables {
                columns = columns.saturating_add(table.get_columns()?.len());
            }
            at_most(frame::MAX_COLUMNS, columns, "columns of all tables")?;
            tables.iter().map(TableDef::read).collect()
        }
        _ => Err(FormatError::Batch("expected table definitions".into())),
    }
}

pub(super) fn read_footer(from: root::Reader) -> Result<Footer> {
    match from.which()? {
        root::Footer(footer) => footer_of(footer?),
        _ => Err(FormatError::Batch("expected a footer".into())),
    }
}

pub(super) fn read_checkpoint(from: root::Reader) -> Result<Checkpoint> {
    let root::Checkpoint(from) = from.which()? else {
        return Err(FormatError::Batch("expected a checkpoint".into()));
    };
    let from = from?;
    let part = |info: frame_info::Reader| {
        let offset = info.get_offset();
        let header = FrameHeader::parse(info.get_header()?, offset).ok();
        Ok(header
            .filter(|header| header.length() == info.get_length())
            .map(|header| Frame { offset, header }))
    };
    let frames = from.get_frames()?.iter().map(part).collect::<Result<_>>()?;
    Ok(Checkpoint { previous: from.get_previous(), frames })
}

/// Where a footer says that the last checkpoint is. Its totals are of no use to who looks for frames, and much longer.
pub(super) fn read_last_checkpoint(from: root::Reader) -> Result<u64> {
    match from.which()? {
        root::Footer(footer) => Ok(footer?.get_checkpoint()),
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
        checkpoint: from.get_checkpoint(),
        reason: from.get_reason()?.to_string()?,
        end_mono: from.get_end_mono(),
        absent: absent::read(from)?,
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
    at_most(frame::MAX_TABLES, from.get_tops()?.len(), "lists of ids")?;
    for from in from.get_tops()? {
        let (ids, weights) = (from.get_ids()?, from.get_weights()?);
        let (rows, epochs) = (from.get_rows()?, from.get_epochs()?);
        let mut top = Top::new(from.get_error(), ids.len() as usize);
        let values = ids.iter().zip(weights.iter()).zip(rows.iter().zip(epochs.iter()));
        values.for_each(|((id, weight), (rows, epoch))| top.add(id, Total { weight, rows, epoch }));
        footer.tops.insert((from.get_table(), from.get_column()), top);
    }
    Ok(footer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::message;

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

    #[test]
    fn definitions_of_many_tables_have_a_bound_for_all_their_columns() {
        let tables = frame::MAX_COLUMNS as u32 / 512 + 1;
        let message = message::build(64, |root| {
            let mut root = root.init_tables(tables);
            for table in 0..tables {
                root.reborrow().get(table).init_columns(512);
            }
        });
        assert!(matches!(message::parse(&message, read_tables), Err(FormatError::Batch(_))));
    }
}
