//! What stock zstd, stock capnp and the independent reader make of a trace.

use super::content::{bounds, open};
use super::made::{calls, trace};
use crate::tools::{output, tools};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Batch, ColumnDef, ColumnType, Text, TraceReader};

fn in_file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    fs::write(&path, bytes).expect("the folder is writable");
    path
}

#[test]
fn stock_tools_read_a_trace() {
    if !tools(&["zstd", "capnp"]) {
        return;
    }
    let bytes = trace(10, 24, 2500);
    let path = in_file("stock.bin", &bytes);
    output(Command::new("zstd").arg("-tq").arg(&path), b"");
    let messages = output(Command::new("zstd").arg("-dcq").arg(&path), b"");
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/trace.capnp");
    let text = output(Command::new("capnp").args(["decode", "--short", schema, "Frame"]), &messages);
    let expected: usize = open(&bytes).frames.iter().map(|frame| frame.header.parts.len()).sum();
    assert_eq!(text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count(), expected);
    fs::remove_file(path).expect("a file of ours");
}

#[test]
fn the_independent_reader_agrees() {
    if !tools(&["zstd", "capnp", "python3"]) {
        return;
    }
    for bytes in [trace(11, 7, 12), trace(11, 24, 2500), calls(9000)] {
        let path = in_file("independent.bin", &bytes);
        let found = output(independent_reader().arg(&path), b"");
        let found: String = String::from_utf8(found).expect("JSON").split_whitespace().collect();
        assert_eq!(found, summary(&open(&bytes)));
        fs::remove_file(path).expect("a file of ours");
    }
}

#[test]
fn calls_are_stored_as_the_gaps_between_them_and_sorted_bytes() {
    if !tools(&["zstd", "capnp"]) {
        return;
    }
    let messages = output(Command::new("zstd").arg("-dcq"), &calls(9000));
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/trace.capnp");
    let text = output(Command::new("capnp").args(["decode", "--short", schema, "Frame"]), &messages);
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("transform = span") && text.contains("sorted = 1"));
}

#[test]
fn the_independent_reader_prints_rows_and_names_damage() {
    if !tools(&["zstd", "capnp", "python3"]) {
        return;
    }
    let mut bytes = trace(12, 7, 12);
    let path = in_file("rows.bin", &bytes);
    let rows = output(independent_reader().args(["--rows", "--table", "sock_send"]).arg(&path), b"");
    let reader = open(&bytes);
    let expected = reader.footer.as_ref().expect("a clean end").totals[&1].rows;
    assert_eq!(
        rows.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"ts\": ")).count() as u64,
        expected
    );
    bytes[bounds(&reader)[4] + 100] ^= 1;
    fs::write(&path, &bytes).expect("the folder is writable");
    let damaged = independent_reader().arg(&path).output().expect("python runs");
    assert_eq!(damaged.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("damaged: byte"));
    fs::remove_file(path).expect("a file of ours");
}

fn independent_reader() -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/independent_reader.py"));
    command
}

/// What the independent reader prints of an undamaged trace, without white space.
fn summary(reader: &TraceReader) -> String {
    let mut scratch = Scratch::new();
    let mut send = (0, 0);
    let mut tables = Vec::new();
    for def in &reader.tables {
        let read = |frame| reader.read(frame, None, &mut scratch).expect("undamaged");
        let batches: Vec<Batch> = reader.frames_of(def.number).map(read).collect();
        let rows: usize = batches.iter().map(|batch| batch.rows).sum();
        let columns: Vec<String> =
            def.columns.iter().enumerate().map(|(at, info)| column_summary(info, at, &batches)).collect();
        tables.push(format!(r#""{}":{{"rows":{rows},"columns":{{{}}}}}"#, def.name, columns.join(",")));
        if def.name == "sock_send" {
            let sent = values(&def.columns[2], 2, &batches);
            send = (rows, sent.flatten().filter(|&value| value > 0).sum::<i128>());
        }
    }
    let tables = tables.join(",");
    format!(
        r#"{{"ended":true,"tables":{{{tables}}},"sock_send":{{"calls":{},"bytes":{}}},"damage":[]}}"#,
        send.0, send.1
    )
}

fn values<'a>(info: &'a ColumnDef, at: usize, batches: &'a [Batch]) -> impl Iterator<Item = Option<i128>> {
    let raw = batches
        .iter()
        .flat_map(move |batch| (0..batch.rows).filter_map(move |row| batch.columns[at].number(row)));
    raw.map(|raw| info.value(raw))
}

fn column_summary(info: &ColumnDef, at: usize, batches: &[Batch]) -> String {
    let mut to = format!(r#""{}":{{"#, info.name);
    if matches!(info.kind, ColumnType::Number { .. }) {
        let known: Vec<i128> = values(info, at, batches).flatten().collect();
        let nulls = values(info, at, batches).count() - known.len();
        let sum = known.iter().sum::<i128>().rem_euclid(1 << 64);
        write!(to, r#""sum":{sum},"nulls":{nulls}"#).expect("a String grows");
        if let (Some(min), Some(max)) = (known.iter().min(), known.iter().max()) {
            write!(to, r#","min":{min},"max":{max}"#).expect("a String grows");
        }
    } else {
        let all: Vec<&[u8]> =
            batches.iter().filter_map(|batch| batch.columns[at].text()).flat_map(Text::iter).collect();
        let bytes: usize = all.iter().map(|value| value.len()).sum();
        let crc = all.iter().fold(0, |crc, value| {
            let length = u32::try_from(value.len()).expect("short text");
            crc32c::crc32c_append(crc32c::crc32c_append(crc, &length.to_le_bytes()), value)
        });
        write!(to, r#""count":{},"bytes":{bytes},"crc32c":{crc}"#, all.len()).expect("a String grows");
    }
    to.push('}');
    to
}
