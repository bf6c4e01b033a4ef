//! Reading what the programs leave, straight from the file: no code of the analyzer.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Column, Role, TraceReader};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Not known.
    Null,
    /// A number.
    Number(i128),
    /// Text.
    Text(Vec<u8>),
}

/// A row by column name.
pub type Row = BTreeMap<String, Cell>;

/// The number in a column; panics for anything else.
pub fn number(row: &Row, column: &str) -> i128 {
    if let Cell::Number(number) = row[column] { number } else { panic!("{column}: no number in {row:?}") }
}

/// The number in a column, if it is known.
pub fn known(row: &Row, column: &str) -> Option<i128> {
    if let Cell::Number(number) = row[column] { Some(number) } else { None }
}

/// The text in a column; panics for anything else.
pub fn bytes<'a>(row: &'a Row, column: &str) -> &'a [u8] {
    if let Cell::Text(text) = &row[column] { text } else { panic!("{column}: no text in {row:?}") }
}

/// Opens a trace that must be whole.
pub fn open(path: &Path) -> TraceReader {
    let trace = TraceReader::open(path).expect("a trace");
    assert!(
        trace.damage.is_empty() && trace.missing().is_empty(),
        "{:?} {:?}",
        trace.damage,
        trace.missing()
    );
    assert!(trace.footer.is_some(), "no footer");
    trace
}

/// The rows of a table of a whole trace, in the order of time: a thread that moves to another processor
/// goes on in the frames of another ring, so the order in the file is nobody's.
pub fn rows(path: &Path, table: &str) -> Vec<Row> {
    let mut rows = rows_of(&open(path), table);
    rows.sort_by_key(|row| row.contains_key("ts").then(|| number(row, "ts")));
    rows
}

/// The rows of a table that are there, in file order.
pub fn rows_of(trace: &TraceReader, table: &str) -> Vec<Row> {
    let def = trace.table(table).unwrap_or_else(|| panic!("no table {table}"));
    let mut scratch = Scratch::new();
    let mut rows = Vec::new();
    for frame in trace.frames_of(def.number) {
        let batch = trace.read(frame, None, &mut scratch).expect("a whole frame");
        let texts: Vec<Vec<&[u8]>> =
            batch.columns.iter().map(|c| c.text().map(|t| t.iter().collect()).unwrap_or_default()).collect();
        let cell = |index: usize, row: usize| match &batch.columns[index] {
            Column::Absent => Cell::Null,
            Column::Text(_) => Cell::Text(texts[index][row].to_vec()),
            column => {
                let value = column.number(row).and_then(|raw| def.columns[index].value(raw));
                value.map_or(Cell::Null, Cell::Number)
            }
        };
        let names = || def.columns.iter().enumerate();
        let row = |row| names().map(|(index, column)| (column.name.clone(), cell(index, row))).collect();
        rows.extend((0..batch.rows).map(row));
    }
    rows
}

/// Every event of a whole trace, with its table.
pub fn events(path: &Path) -> Vec<(String, Row)> {
    let trace = open(path);
    let tables = trace.tables.iter().filter(|table| table.role == Role::Event);
    tables
        .flat_map(|table| rows_of(&trace, &table.name).into_iter().map(|row| (table.name.clone(), row)))
        .collect()
}

/// Sum of a column over rows.
pub fn sum<'a>(rows: impl IntoIterator<Item = &'a Row>, column: &str) -> i128 {
    rows.into_iter().filter_map(|row| known(row, column)).sum()
}

/// The ledger's sum of a counter for a table.
pub fn total(path: &Path, table: &str, counter: &str) -> i128 {
    let trace = open(path);
    let wanted = i128::from(trace.table(table).expect("the table").number);
    let ledger = rows_of(&trace, "ledger");
    sum(ledger.iter().filter(|row| number(row, "table") == wanted), counter)
}

/// What a trace says that a socket is, by its id: the last word counts.
pub fn sockets(path: &Path) -> BTreeMap<i128, Row> {
    rows(path, "sock").into_iter().map(|row| (number(&row, "sock"), row)).collect()
}

/// The process of each thread.
pub fn processes(path: &Path) -> BTreeMap<i128, i128> {
    rows(path, "task").iter().map(|row| (number(row, "tid"), number(row, "tgid"))).collect()
}

/// The one socket with these ports.
pub fn socket(path: &Path, lport: i128, rport: i128) -> i128 {
    let with = |row: &Row| number(row, "lport") == lport && number(row, "rport") == rport;
    let found: Vec<i128> = sockets(path).into_iter().filter(|(_, row)| with(row)).map(|(id, _)| id).collect();
    let [id] = found[..] else { panic!("{} sockets {lport} -> {rport}: {found:?}", found.len()) };
    id
}

/// Rows of one socket.
pub fn of_socket(rows: Vec<Row>, socket: i128) -> Vec<Row> {
    rows.into_iter().filter(|row| known(row, "sock") == Some(socket)).collect()
}

/// The rows that one thread caused.
pub fn of_thread(rows: Vec<Row>, tid: i128) -> Vec<Row> {
    rows.into_iter().filter(|row| known(row, "tid") == Some(tid)).collect()
}

/// A number of the workload's account.
pub fn told(value: &Value) -> i128 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number")).into()
}

/// How far a sequence number is behind another (they wrap).
pub fn distance(from: i128, to: i128) -> i128 {
    i128::from((to as u32).wrapping_sub(from as u32).cast_signed())
}

/// How many bytes of a stream the segments carry: one that was sent twice (a guest that stands still for a while makes
/// the kernel do so) counts once.
pub fn carried(segments: &[Row]) -> i128 {
    let first = segments.first().map_or(0, |row| number(row, "seq"));
    let mut ranges: Vec<(i128, i128)> =
        segments.iter().map(|row| (distance(first, number(row, "seq")), number(row, "len"))).collect();
    ranges.sort_unstable();
    let mut reached = i128::MIN;
    let mut bytes = 0;
    for (at, length) in ranges {
        bytes += (at + length - reached.max(at)).max(0);
        reached = reached.max(at + length);
    }
    bytes
}

/// Sends must follow each other without gap and without overlap: each begins where the one before ended.
pub fn assert_contiguous(sends: &[Row]) {
    let first = sends.iter().min_by_key(|row| number(row, "ts")).map_or(0, |row| number(row, "seq"));
    let mut ranges: Vec<(i128, i128)> =
        sends.iter().map(|row| (distance(first, number(row, "seq")), number(row, "ret").max(0))).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].0 + pair[0].1, pair[1].0, "two sends next to each other, from {first}");
    }
}

/// Everything that stands in the file, as stock zstd unpacks it: what a search for a secret has to search.
pub fn unpacked(path: &Path) -> Vec<u8> {
    let output = Command::new("zstd").arg("-dcq").arg(path).output().expect("zstd runs");
    assert!(output.status.success(), "zstd takes it for a zstd file");
    output.stdout
}

/// Whether a text stands in the file.
pub fn mentions(path: &Path, text: &str) -> bool {
    unpacked(path).windows(text.len()).any(|window| window == text.as_bytes())
}
