//! What a trace says, and whether that is true after damage.

use std::collections::BTreeMap;
use std::collections::HashMap;
use tapedeck::schema::frame::TRAILER;
use tapedeck::schema::histogram::Histogram;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Batch, FormatError, Host, TableDef, TraceReader, TraceTotals};

/// Reason, end, totals and histograms of a footer.
pub type End = (String, u64, HashMap<u16, TraceTotals>, HashMap<(u16, u16), Histogram>);

/// Everything that a program can learn from a trace. Rows are found by stream and sequence number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub host: Host,
    pub tables: Vec<TableDef>,
    pub batches: BTreeMap<(u16, u64), Batch>,
    pub footer: Option<End>,
}

/// With the number of things that were reported wrong.
pub fn content(reader: &TraceReader) -> (Content, usize) {
    let mut wrong = reader.damage.len() + reader.missing().len();
    let mut scratch = Scratch::new();
    let mut content =
        Content { host: reader.host.clone(), tables: reader.tables.clone(), ..Content::default() };
    for frame in reader.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
        match reader.read(frame, None, &mut scratch) {
            Ok(batch) => {
                let twice = content.batches.insert((frame.header.stream, frame.header.sequence), batch);
                assert_eq!(twice, None, "the rows of {:?} count twice", frame.header);
            }
            Err(_) => wrong += 1,
        }
    }
    content.footer = reader
        .footer
        .clone()
        .map(|footer| (footer.reason, footer.end_mono, footer.totals, footer.histograms));
    (content, wrong)
}

pub fn open(bytes: &[u8]) -> TraceReader {
    TraceReader::from_bytes(bytes.to_vec()).expect("a trace")
}

/// Whatever was done to the file: what is read is true, and what is not read is reported.
pub fn assert_true_or_reported(whole: &Content, bytes: &[u8], what: &str) {
    let reader = match TraceReader::from_bytes(bytes.to_vec()) {
        Ok(reader) => reader,
        Err(FormatError::NotATrace { .. }) => return,
        Err(error) => panic!("{what}: {error}"),
    };
    let (found, wrong) = content(&reader);
    for (place, batch) in &found.batches {
        assert_eq!(Some(batch), whole.batches.get(place), "{what}: the rows of {place:?} changed");
    }
    assert!(found == *whole || wrong > 0, "{what}: something is missing, and nothing is reported");
    let host = found.host == whole.host || found.host == Host::default();
    let tables = found.tables == whole.tables || found.tables.is_empty();
    let footer = found.footer == whole.footer || found.footer.is_none();
    assert!(host && tables && footer, "{what}: host, tables or footer changed");
}

/// Where each frame begins, and where the last one ends.
pub fn bounds(reader: &TraceReader) -> Vec<usize> {
    let starts = reader.frames.iter().map(|frame| frame.offset);
    starts
        .chain([reader.length() - TRAILER as u64])
        .map(|at| usize::try_from(at).expect("a small file"))
        .collect()
}
