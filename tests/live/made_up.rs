//! A table that the programs have never heard of, from the bytes of its records to a result's columns:
//! a C struct is all that it takes. Needs clang, but no privilege.

use super::support::{scratch, skip};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use tapedeck::capture::batch::{Batcher, Sealed};
use tapedeck::capture::layout::Layout;
use tapedeck::schema::{Host, Kind, TraceWriter};

/// The record as a C compiler lays it out, written down a second time.
#[repr(C)]
#[derive(Clone, Copy)]
struct MadeUp {
    ts: u64,
    table: u16,
    cpu: u16,
    small: u8,
    small_signed: i8,
    medium: u16,
    medium_signed: i16,
    unused: u16,
    large: u32,
    large_signed: i32,
    unused2: u32,
    huge: u64,
    huge_signed: i64,
    sometimes: u64,
    name: [u8; 12],
    text: [u16; 2],
    address: [u8; 16],
}

fn record(ts: u64, sign: i64, text: &str) -> Vec<u8> {
    let made_up = MadeUp {
        ts,
        table: 0,
        cpu: 3,
        small: 200,
        small_signed: -100 * sign as i8,
        medium: 60_000,
        medium_signed: -30_000 * sign as i16,
        unused: 0xdead,
        large: 4_000_000_000,
        large_signed: -2_000_000_000 * sign as i32,
        unused2: 0xdead_beef,
        huge: 9_000_000_000_000_000_000,
        huge_signed: -9_000_000_000_000_000_000 * sign,
        sometimes: if sign > 0 { 0 } else { 77 },
        name: *b"twelve\0\0\0\0\0\0",
        text: [size_of::<MadeUp>() as u16, text.len() as u16],
        address: std::net::Ipv6Addr::LOCALHOST.octets(),
    };
    // SAFETY: plain integers without padding (the sizes add up, which the layout test below proves).
    let bytes: [u8; size_of::<MadeUp>()] = unsafe { std::mem::transmute(made_up) };
    [&bytes[..], text.as_bytes()].concat()
}

/// None: there is no clang, which only a machine lacks that did not build this.
fn compile() -> Option<Vec<u8>> {
    let object = scratch("made-up").join("made_up.o");
    let clang = std::env::var("CLANG").ok().or_else(|| {
        let named = (14..=24).rev().map(|version| format!("clang-{version}"));
        std::iter::once("clang".to_owned())
            .chain(named)
            .find(|name| Command::new(name).arg("--version").output().is_ok())
    });
    let Some(clang) = clang else {
        skip("clang is not installed");
        return None;
    };
    let status = Command::new(clang)
        .args(["-g", "-O2", "-target", "bpf", "-I", "bpf", "-c", "tests/live/made_up.c", "-o"])
        .arg(&object)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.expect("clang runs").success());
    Some(std::fs::read(object).expect("clang wrote it"))
}

#[test]
fn a_struct_is_all_that_a_table_takes() {
    let Some(object) = compile() else { return };
    let tables = Layout::from_btf("made-up", &object).expect("a sound struct");
    let [(_, layout)] = &tables[..] else { panic!("one table") };
    assert_eq!(layout.size, size_of::<MadeUp>());
    let layouts = Arc::new(vec![layout.clone()]);
    let mut batcher = Batcher::new(&layouts, 0, 1 << 20);
    for row in 0..3000u64 {
        batcher.push(&record(
            1000 + row,
            if row % 2 == 0 { 1 } else { -1 },
            ["", "some text"][row as usize % 2],
        ));
    }
    let mut batches = Vec::new();
    batcher.seal(true, |sealed| {
        if let Sealed::Events(batch) = sealed {
            batches.push(batch);
        }
    });
    let host = Host { start_mono: 1000, required_reader: 1, ..Host::default() };
    let mut writer =
        TraceWriter::new(Vec::new(), 1, &host, vec![layout.def.clone()]).expect("a Vec takes it");
    for batch in &batches {
        writer.append(Kind::Events, 0, batch).expect("a Vec takes it");
    }
    let path = scratch("made-up-trace").join("made-up.bin");
    std::fs::write(&path, writer.finish("done").expect("a Vec takes it").0).expect("written");

    let words =
        ["analyze", path.to_str().expect("UTF-8"), "events", "--table", "made_up", "--format", "json"];
    let (mut out, mut messages) = (Vec::new(), Vec::new());
    tapedeck::analyze::run(&words.map(str::to_owned), &mut out, &mut messages, false)
        .expect("it reads any table");
    let result: Value = serde_json::from_slice(&out).expect("JSON");
    let rows = result["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3000);
    let expected = |row: &Value, sign: i64, text: &str| {
        json!({
            "time": row["time"], "cpu": 3, "small": 200, "small_signed": -100 * sign, "medium": 60_000,
            "medium_signed": -30_000 * sign, "large": 4_000_000_000_i64, "large_signed": -2_000_000_000 * sign,
            "huge": 9_000_000_000_000_000_000_i64, "huge_signed": -9_000_000_000_000_000_000 * sign,
            "sometimes": if sign > 0 { Value::Null } else { json!(77) }, "name": "twelve", "text": text, "address": "::1",
        })
    };
    assert_eq!(rows[0], expected(&rows[0], 1, ""));
    assert_eq!(rows[2999], expected(&rows[2999], -1, "some text"));
}
