//! What a fold written for one question takes: columns by position, maps by id, no names, no options.

mod lines;
mod turns;
mod work;

use anyhow::{Context as _, bail};
use rayon::prelude::*;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use tapedeck::schema::reader::{Frame, Scratch};
use tapedeck::schema::{Batch, Column, TraceReader};

/// Answers one question and prints figures of the answer, which are those of all who answer it.
pub fn run(what: &str, file: &Path) -> anyhow::Result<()> {
    let threads = if what.ends_with("-1") { 1 } else { 2 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let reader = TraceReader::open(file)?;
    let found = pool.install(|| match what.trim_end_matches("-1") {
        "zstd" => Ok(vec![decompress(&reader, file)?]),
        "decode" => Ok(vec![decode(&reader)]),
        "sends" => Ok(vec![turns::sends(&reader)?]),
        "tasks" => Ok(vec![turns::by_id(&reader, "tid")?]),
        "bytes" => Ok(vec![turns::by_id(&reader, "sock")?]),
        "flows" => turns::flows(&reader),
        "lines" => lines::sends(&reader),
        "calls" => work::calls(&reader),
        "queued" => work::queued(&reader),
        "sleeps" => work::sleeps(&reader),
        "files" => work::files(&reader),
        "requests" => work::requests(&reader),
        "samples" => work::samples(&reader),
        other => bail!("no fold is called {other}"),
    })?;
    let figures: Vec<String> = found.iter().map(u64::to_string).collect();
    println!("{} {}", super::answers::MARK, figures.join(" "));
    Ok(())
}

/// Every part of every frame with rows, decompressed and not looked at.
fn decompress(reader: &TraceReader, file: &Path) -> anyhow::Result<u64> {
    let file = std::fs::File::open(file)?;
    let frames: Vec<&Frame> = reader.frames.iter().filter(|frame| frame.header.kind.has_rows()).collect();
    let start = || (zstd::bulk::Decompressor::new().expect("zstd sets up"), Vec::new(), Vec::new());
    let bytes = frames.par_iter().map_init(start, |(zstd, stored, raw), frame| {
        let mut total = 0;
        let mut offset = frame.offset + frame.header.header_length() as u64;
        for part in &frame.header.parts {
            stored.resize(part.stored as usize, 0);
            raw.resize(part.raw as usize, 0);
            file.read_exact_at(stored, offset).expect("the file is whole");
            total += zstd.decompress_to_buffer(&stored[..], &mut raw[..]).expect("the file is whole") as u64;
            offset += u64::from(part.stored);
        }
        total
    });
    Ok(bytes.sum())
}

fn decode(reader: &TraceReader) -> u64 {
    let frames: Vec<&Frame> = reader.frames.iter().filter(|frame| frame.header.kind.has_rows()).collect();
    let rows = frames.par_iter().map_init(Scratch::new, |scratch, frame| {
        let batch = black_box(reader.read(frame, None, scratch).expect("the file is whole"));
        let rows = batch.rows as u64;
        scratch.reuse(batch);
        rows
    });
    rows.sum()
}

/// Folds columns of a table, merging in any order.
fn fold<S: Default + Send>(
    reader: &TraceReader,
    table: &str,
    columns: &[&str],
    each: impl Fn(&mut S, &[&Column], usize) + Sync,
    merge: impl Fn(&mut S, S) + Sync,
) -> anyhow::Result<S> {
    let def = reader.table(table).with_context(|| format!("no table {table}"))?;
    let wanted: Option<Vec<usize>> = columns.iter().map(|name| def.column(name)).collect();
    let wanted = wanted.with_context(|| format!("{table} lacks one of {columns:?}"))?;
    let frames: Vec<&Frame> = reader.frames_of(def.number).collect();
    let start = || (Scratch::new(), S::default());
    let add = |(mut scratch, mut state): (Scratch, S), frame: &&Frame| {
        let batch: Batch = reader.read(frame, Some(&wanted), &mut scratch).expect("the file is whole");
        let columns: Vec<&Column> = wanted.iter().map(|&at| &batch.columns[at]).collect();
        each(&mut state, &columns, batch.rows);
        scratch.reuse(batch);
        (scratch, state)
    };
    let join = |mut a: S, b: S| {
        merge(&mut a, b);
        a
    };
    Ok(frames.par_iter().fold(start, add).map(|folded| folded.1).reduce(S::default, join))
}

type Map = BuildHasherDefault<Mix>;
type ById<S> = HashMap<u32, S, Map>;

/// Multiply and fold.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are words");
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
