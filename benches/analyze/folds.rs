//! What a fold written for one question takes: columns by position, maps by id, no names, no options.

use anyhow::{Context as _, bail};
use rayon::prelude::*;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use tapedeck::schema::reader::{Frame, Scratch};
use tapedeck::schema::{Batch, Column, TraceReader};

const SECOND: u64 = 1_000_000_000;

/// Rows that the reports of totals and of flows are asked for.
const MOST_BYTES: usize = 20;
const MOST_FLOWS: usize = 10;

/// Answers one question and prints figures of the answer, which are those of all who answer it.
pub fn run(what: &str, file: &Path) -> anyhow::Result<()> {
    let threads = if what.ends_with("-1") { 1 } else { 2 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let reader = TraceReader::open(file)?;
    let found = pool.install(|| match what.trim_end_matches("-1") {
        "zstd" => Ok(vec![decompress(&reader, file)?]),
        "decode" => Ok(vec![decode(&reader)]),
        "sends" => Ok(vec![sends(&reader)?]),
        "tasks" => Ok(vec![by_id(&reader, "tid")?]),
        "bytes" => Ok(vec![by_id(&reader, "sock")?]),
        "flows" => flows(&reader),
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

fn sent(ret: u32) -> u64 {
    u64::try_from(ret.cast_signed()).unwrap_or(0)
}

fn sends(reader: &TraceReader) -> anyhow::Result<u64> {
    type Seconds = HashMap<u64, (u64, u64, u64)>;
    let add = |seconds: &mut Seconds, columns: &[&Column], rows: usize| {
        let (ts, ret) = (columns[0].u64s(), columns[1].u32s());
        let mut last = (u64::MAX, (0, 0, 0));
        for row in 0..rows {
            if ts[row] / SECOND != last.0 {
                let sums = seconds.entry(last.0).or_default();
                *sums = (sums.0 + last.1.0, sums.1 + last.1.1, sums.2 + last.1.2);
                last = (ts[row] / SECOND, (0, 0, 0));
            }
            last.1.0 += 1;
            last.1.1 += sent(ret[row]);
            last.1.2 += u64::from(ret[row].cast_signed() < 0);
        }
        let sums = seconds.entry(last.0).or_default();
        *sums = (sums.0 + last.1.0, sums.1 + last.1.1, sums.2 + last.1.2);
    };
    let merge = |all: &mut Seconds, later: Seconds| {
        for (second, sums) in later {
            let to = all.entry(second).or_default();
            *to = (to.0 + sums.0, to.1 + sums.1, to.2 + sums.2);
        }
    };
    let all: Seconds = fold(reader, "sock_send", &["ts", "ret"], add, merge)?;
    Ok(all.values().map(|sums| sums.0).sum())
}

type ById<S> = HashMap<u32, S, BuildHasherDefault<Mix>>;

/// Multiply and fold.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are words");
    }

    fn write_u32(&mut self, word: u32) {
        let product = u128::from(self.0 ^ u64::from(word)) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Bytes sent and received by an id of the events.
fn by_id(reader: &TraceReader, id: &str) -> anyhow::Result<u64> {
    let merge = |all: &mut ById<[u64; 2]>, later: ById<[u64; 2]>| {
        for (id, sums) in later {
            let to = all.entry(id).or_default();
            *to = [to[0] + sums[0], to[1] + sums[1]];
        }
    };
    let add_sent = |all: &mut ById<[u64; 2]>, columns: &[&Column], _: usize| {
        for (&id, &ret) in columns[0].u32s().iter().zip(columns[1].u32s()) {
            all.entry(id).or_default()[0] += sent(ret);
        }
    };
    let add_received = |all: &mut ById<[u64; 2]>, columns: &[&Column], _: usize| {
        let flags = columns[2].u32s();
        for (row, (&id, &ret)) in columns[0].u32s().iter().zip(columns[1].u32s()).enumerate() {
            if flags[row] & 2 == 0 {
                all.entry(id).or_default()[1] += sent(ret);
            }
        }
    };
    let mut all = fold(reader, "sock_send", &[id, "ret"], add_sent, merge)?;
    merge(&mut all, fold(reader, "sock_recv", &[id, "ret", "flags"], add_received, merge)?);
    let mut list: Vec<(u64, u32)> = all.iter().map(|(&id, sums)| (sums[0] + sums[1], id)).collect();
    list.sort_unstable();
    Ok(list.iter().rev().take(MOST_BYTES).map(|(bytes, _)| bytes).sum())
}

#[derive(Default)]
struct Flow {
    calls: [u64; 2],
    bytes: [u64; 2],
    times: Option<(u64, u64)>,
    srtt: Option<(u64, u32)>,
    latencies: Vec<u64>,
}

impl Flow {
    fn see(&mut self, ts: u64) {
        let (first, last) = self.times.unwrap_or((ts, ts));
        self.times = Some((first.min(ts), last.max(ts)));
    }

    fn merge(&mut self, later: Self) {
        for way in 0..2 {
            self.calls[way] += later.calls[way];
            self.bytes[way] += later.bytes[way];
        }
        if let Some((first, last)) = later.times {
            self.see(first);
            self.see(last);
        }
        self.srtt = self.srtt.max(later.srtt);
        self.latencies.extend(later.latencies);
    }
}

fn flows(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let merge = |all: &mut ById<Flow>, later: ById<Flow>| {
        for (sock, flow) in later {
            all.entry(sock).or_default().merge(flow);
        }
    };
    let add_sends = |all: &mut ById<Flow>, columns: &[&Column], rows: usize| {
        let (sock, ts) = (columns[0].u32s(), columns[1].u64s());
        let (ret, latency) = (columns[2].u32s(), columns[3].u64s());
        for row in 0..rows {
            let flow = all.entry(sock[row]).or_default();
            flow.see(ts[row]);
            flow.calls[0] += 1;
            flow.bytes[0] += sent(ret[row]);
            flow.latencies.extend((latency[row] > 0).then_some(latency[row]));
        }
    };
    let add_receives = |all: &mut ById<Flow>, columns: &[&Column], rows: usize| {
        let (sock, ts) = (columns[0].u32s(), columns[1].u64s());
        let (ret, flags) = (columns[2].u32s(), columns[3].u32s());
        for row in (0..rows).filter(|&row| flags[row] & 2 == 0) {
            let flow = all.entry(sock[row]).or_default();
            flow.see(ts[row]);
            flow.calls[1] += 1;
            flow.bytes[1] += sent(ret[row]);
        }
    };
    let add_segments = |all: &mut ById<Flow>, columns: &[&Column], rows: usize| {
        let (sock, ts, srtt) = (columns[0].u32s(), columns[1].u64s(), columns[2].u32s());
        for row in 0..rows {
            let flow = all.entry(sock[row]).or_default();
            flow.see(ts[row]);
            flow.srtt = flow.srtt.max((srtt[row] > 0).then_some((ts[row], srtt[row])));
        }
    };
    let mut all = fold(reader, "sock_send", &["sock", "ts", "ret", "latency"], add_sends, merge)?;
    merge(&mut all, fold(reader, "sock_recv", &["sock", "ts", "ret", "flags"], add_receives, merge)?);
    merge(&mut all, fold(reader, "tcp_rx", &["sock", "ts", "srtt"], add_segments, merge)?);
    let quantiles = |flow: &mut Flow| {
        flow.latencies.sort_unstable();
        let n = flow.latencies.len();
        let of = |q: f64| flow.latencies.get(((n as f64 * q).ceil() as usize).max(1) - 1).copied();
        (flow.bytes[0] + flow.bytes[1], [0.5, 0.9, 0.99, 0.999, 1.0].map(of))
    };
    let mut found: Vec<_> = all.par_iter_mut().map(|(_, flow)| quantiles(flow)).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(MOST_FLOWS);
    let latencies = |at: usize| found.iter().filter_map(|flow| flow.1[at]).sum();
    Ok(std::iter::once(found.iter().map(|flow| flow.0).sum()).chain((0..5).map(latencies)).collect())
}
