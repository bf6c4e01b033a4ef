//! A trace of each released format stays readable, and says what it said.
//!
//! `fixtures/format-1.bin` is the first half second of the fixture `execs`, written by the first release and never again.

use std::path::Path;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Column, TraceReader};

/// Rows of each table that has any, and a checksum over all their values.
const FORMAT_1: &[(&str, u64, u32)] = &[
    ("process_exec", 202, 0x30bd_49da),
    ("task", 608, 0xa558_2934),
    ("process_fork", 201, 0x4470_4726),
    ("process_exit", 202, 0x19c0_984d),
    ("task_rename", 202, 0x1639_01c1),
    ("clock", 2, 0x3279_9209),
    ("ledger", 43, 0xe274_895c),
    ("probe", 26, 0x4afe_0124),
    ("enum", 16, 0x26ae_b7a9),
    ("cost", 3, 0xce4e_4434),
];

#[test]
fn the_first_format_reads_as_it_was_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1.bin");
    let trace = TraceReader::open(&path).expect("a trace");
    assert_eq!((trace.host.required_reader, trace.damage.len(), trace.missing().len()), (1, 0, 0));
    assert!(trace.footer.is_some());
    let mut scratch = Scratch::new();
    let mut found = Vec::new();
    for def in &trace.tables {
        let (mut rows, mut sum) = (0u64, 0);
        for frame in trace.frames_of(def.number) {
            let batch = trace.read(frame, None, &mut scratch).expect("a whole frame");
            rows += batch.rows as u64;
            sum = batch.columns.iter().fold(sum, checksum);
        }
        if rows > 0 {
            found.push((def.name.as_str(), rows, sum));
        }
    }
    assert_eq!(found, FORMAT_1);
}

fn checksum(mut sum: u32, column: &Column) -> u32 {
    if let Some(text) = column.text() {
        return text.iter().fold(sum, crc32c::crc32c_append);
    }
    column.each_number(|value| sum = crc32c::crc32c_append(sum, &value.to_le_bytes()));
    sum
}
