//! What each fuzz target does with its input. The corpus is replayed by `cargo test` too, without a fuzzer.

use std::cell::RefCell;
use std::sync::LazyLock;
use tapedeck::schema::frame::{self, FrameHeader, Kind, Part, RECORDER};
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{ColumnDef, ColumnType, Host, Role, TableDef, TraceReader, TraceWriter};
use zstd::bulk::Compressor;

/// Bytes where a header is expected.
pub fn header(data: &[u8]) {
    let announced = FrameHeader::announced_length(data);
    if let Ok(header) = FrameHeader::parse(data, 0) {
        assert_eq!(announced, Some(header.header_length()));
        // The two reserved numbers are the only bytes that a header does not keep.
        let again = header.to_bytes();
        assert_eq!(FrameHeader::parse(&again, 0).expect("its own bytes"), header);
        assert!(header.length() <= u64::from(frame::MAX_MESSAGE) + frame::MAX_HEADER as u64);
    }
    let _ = frame::footer_offset(data);
}

/// A whole file.
pub fn file(data: &[u8]) {
    if let Ok(reader) = TraceReader::from_bytes(data.to_vec()) {
        read_all(&reader);
    }
}

/// A message in a frame whose header and checksums are right, so that the fuzzer gets past them. The
/// first bytes of the input are what the header says: kind, table, rows (u32).
pub fn payload(data: &[u8]) {
    let Some((&[kind, table, a, b, c, d], message)) = data.split_first_chunk() else { return };
    let kind = [Kind::Events, Kind::Identity, Kind::Host, Kind::Tables, Kind::Footer][usize::from(kind) % 5];
    let rows = u32::from_le_bytes([a, b, c, d]) % (frame::MAX_ROWS + 1);
    let [host, tables] = &*FRAMES;
    let own = |sequence| wrap(kind, table, rows, sequence, message);
    let file = match kind {
        Kind::Host => [&own(0)[..], tables].concat(),
        Kind::Tables => [host, &own(1)[..]].concat(),
        _ => [&host[..], tables, &own(2)].concat(),
    };
    if let Ok(reader) = TraceReader::from_bytes(file) {
        read_all(&reader);
    }
}

/// Everything that a program may ask of an open trace.
fn read_all(reader: &TraceReader) {
    let mut scratch = Scratch::new();
    for frame in reader.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
        let whole = reader.read(frame, None, &mut scratch);
        let some = reader.read(frame, Some(&[1, 9]), &mut scratch);
        if let (Ok(whole), Ok(some)) = (whole, some) {
            for index in [1, 9].into_iter().filter(|&index| index < whole.columns.len()) {
                assert_eq!(whole.columns[index], some.columns[index]);
            }
            for column in &whole.columns {
                assert!(column.is_empty() || column.len() == whole.rows);
                column.text().into_iter().for_each(|text| assert_eq!(text.iter().count(), whole.rows));
            }
        }
    }
    let _ = reader.missing();
    for histogram in reader.footer.iter().flat_map(|footer| footer.histograms.values()) {
        let _ = histogram.quantile(0.99);
    }
}

/// The tables that fuzzed rows belong to: number 0 has a column of every type, 1 has none.
pub fn tables() -> Vec<TableDef> {
    let widths = [1, 2, 4, 8];
    let numbers =
        |signed| widths.map(|width| (format!("n{width}{signed}"), ColumnType::Number { width, signed }));
    let mut kinds = vec![("ts".to_owned(), ColumnType::Number { width: 8, signed: false })];
    kinds.extend(numbers(false));
    kinds.extend(numbers(true));
    kinds.push(("text".into(), ColumnType::Text));
    kinds.push(("ip".into(), ColumnType::Ip));
    let mut columns: Vec<ColumnDef> =
        kinds.into_iter().map(|(name, kind)| ColumnDef::new(&name, kind)).collect();
    columns[7].by = "n4false".into();
    columns[8].by = "n4false".into();
    columns[4].histogram = true;
    let table = |number, columns| {
        let name = format!("table{number}");
        TableDef { number, name, role: Role::Event, group: String::new(), doc: String::new(), columns }
    };
    vec![table(0, columns), table(1, Vec::new())]
}

/// The two frames that a trace begins with.
static FRAMES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let writer = TraceWriter::new(Vec::new(), 1, &Host::default(), tables()).expect("a Vec takes everything");
    let bytes = writer.sink().clone();
    let reader = TraceReader::from_bytes(bytes.clone()).expect("a trace that was just written");
    let start = usize::try_from(reader.frames[1].offset).expect("a small file");
    [bytes[..start].to_vec(), bytes[start..].to_vec()]
});

thread_local! {
    static COMPRESSOR: RefCell<Compressor<'static>> = RefCell::new(Compressor::new(1).expect("zstd allocates a context"));
}

fn wrap(kind: Kind, table: u8, rows: u32, sequence: u64, message: &[u8]) -> Vec<u8> {
    let stored = COMPRESSOR.with_borrow_mut(|zstd| zstd.compress(message)).expect("zstd takes everything");
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a small input");
    let part = Part { column: frame::ALL_COLUMNS, stored: length(&stored), raw: length(message) };
    let (stream, table) = (RECORDER, table.into());
    let (epoch, min_time, max_time, rows_before) = (0, 0, 0, 0);
    let parts = vec![part];
    let header =
        FrameHeader { kind, table, stream, rows, epoch, sequence, min_time, max_time, rows_before, parts };
    [header.to_bytes(), stored].concat()
}
