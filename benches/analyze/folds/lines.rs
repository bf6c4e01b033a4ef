//! Every send as a line of CSV, in the order of time.

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use rayon::prelude::*;
use std::io::Write as _;
use tapedeck::schema::reader::{Frame, Scratch};
use tapedeck::schema::{Column, TraceReader};

/// Frames whose lines wait to be printed.
const WAVE: usize = 32;
const COLUMNS: [&str; 10] =
    ["ts", "cpu", "tid", "sock", "requested", "ret", "seq", "latency", "flags", "exact"];
const SECOND: i128 = 1_000_000_000;

/// Prints the lines; how many, and the sum of all latencies.
pub fn sends(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let def = reader.table("sock_send").context("no table sock_send")?;
    let wanted: Option<Vec<usize>> = COLUMNS.iter().map(|name| def.column(name)).collect();
    let wanted = wanted.context("a column is missing")?;
    let mut frames: Vec<&Frame> = reader.frames_of(def.number).collect();
    frames.sort_by_key(|frame| frame.header.min_time);
    let apart = frames.windows(2).all(|two| two[0].header.max_time < two[1].header.min_time);
    ensure!(apart, "frames overlap: their rows would have to be sorted");
    let to_wall = i128::from(reader.host.start_real) - i128::from(reader.host.start_mono);
    let mut out = std::io::stdout().lock();
    writeln!(out, "time,{}\r", COLUMNS[1..].join(","))?;
    let (mut count, mut latencies) = (0, 0);
    for wave in frames.chunks(WAVE) {
        let lines: Vec<(String, u64, u64)> = wave
            .par_iter()
            .map_init(Scratch::new, |scratch, frame| {
                let batch = reader.read(frame, Some(&wanted), scratch).expect("the file is whole");
                let columns: Vec<&Column> = wanted.iter().map(|&at| &batch.columns[at]).collect();
                let sum = columns[7].u64s().iter().sum();
                (text(&columns, batch.rows, to_wall), batch.rows as u64, sum)
            })
            .collect();
        for (text, rows, sum) in lines {
            out.write_all(text.as_bytes())?;
            count += rows;
            latencies += sum;
        }
    }
    Ok(vec![count, latencies])
}

fn text(columns: &[&Column], rows: usize, to_wall: i128) -> String {
    let mut text = String::with_capacity(rows * 80);
    let (mut second, mut begin) = (-1, String::new());
    let mut digits = itoa::Buffer::new();
    let signed = |at: &usize| COLUMNS[*at] == "ret";
    let numbers: Vec<Vec<i64>> = (1..columns.len()).map(|at| all(columns[at], signed(&at))).collect();
    for (row, &ts) in columns[0].u64s().iter().enumerate() {
        let wall = i128::from(ts) + to_wall;
        if wall / SECOND != second {
            second = wall / SECOND;
            let stamp = Timestamp::from_nanosecond(second * SECOND).expect("a time");
            begin = stamp.to_string().replace('Z', ".");
        }
        text.push_str(&begin);
        let fraction = (wall % SECOND + SECOND) as u64;
        text.push_str(&digits.format(fraction)[1..]);
        text.push('Z');
        for column in &numbers {
            text.push(',');
            text.push_str(digits.format(column[row]));
        }
        text.push_str("\r\n");
    }
    text
}

fn all(column: &Column, signed: bool) -> Vec<i64> {
    match column {
        Column::U64(values) => values.iter().map(|&value| value.cast_signed()).collect(),
        Column::U32(values) if signed => values.iter().map(|&value| value.cast_signed().into()).collect(),
        Column::U32(values) => values.iter().map(|&value| value.into()).collect(),
        Column::U16(values) => values.iter().map(|&value| value.into()).collect(),
        Column::U8(values) => values.iter().map(|&value| value.into()).collect(),
        Column::Text(_) | Column::Absent => Vec::new(),
    }
}
