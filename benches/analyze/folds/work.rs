//! Of everything else that a machine does.

use super::{Map, fold};
use anyhow::Context as _;
use std::collections::HashMap;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Column, TraceReader};

/// Rows that the report of files is asked for.
const MOST_FILES: usize = 20;
/// `file_type` of a regular file, `block_part` of what a request goes through, `io_op` of a write.
const REGULAR: u32 = 8;
const START: u32 = 1;
const ISSUE: u32 = 3;
const COMPLETE: u32 = 5;
const WRITE: u32 = 2;

/// Durations, and how they are distributed.
#[derive(Clone)]
struct Times {
    values: Vec<u64>,
    sum: u64,
    slots: [u64; 64],
}

impl Default for Times {
    fn default() -> Self {
        Self { values: Vec::new(), sum: 0, slots: [0; 64] }
    }
}

impl Times {
    fn add(&mut self, ns: u64) {
        self.values.push(ns);
        self.sum += ns;
        self.slots[(ns / 1000).max(1).ilog2() as usize] += 1;
    }

    fn merge(&mut self, later: Self) {
        self.values.extend(later.values);
        self.sum += later.sum;
        self.slots.iter_mut().zip(later.slots).for_each(|(slot, more)| *slot += more);
    }

    /// How many, some of their quantiles from the lowest on, and the longest.
    fn figures(&mut self, quantiles: &[f64]) -> Vec<u64> {
        let n = self.values.len();
        let mut from = 0;
        let mut quantile = |q: f64| {
            let rank = ((n as f64 * q).ceil() as usize).max(1) - 1;
            let begin = std::mem::replace(&mut from, rank);
            if n == 0 { 0 } else { *self.values[begin..].select_nth_unstable(rank - begin).1 }
        };
        let found = quantiles.iter().chain(&[1.0]).map(|&q| quantile(q));
        std::iter::once(n as u64).chain(found).collect()
    }
}

fn u16s(column: &Column) -> &[u16] {
    if let Column::U16(values) = column { values } else { &[] }
}

#[derive(Clone, Default)]
struct Calls {
    errors: u64,
    open: u64,
    times: Times,
}

/// System calls by number.
pub fn calls(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let add = |all: &mut Vec<Calls>, columns: &[&Column], rows: usize| {
        let (number, errno) = (u16s(columns[0]), u16s(columns[1]));
        let (open, latency) = (columns[2].u32s(), columns[3].u64s());
        for row in 0..rows {
            let number = usize::from(number[row]);
            if number >= all.len() {
                all.resize(number + 1, Calls::default());
            }
            let calls = &mut all[number];
            if open[row] == 1 {
                calls.open += 1;
                continue;
            }
            calls.errors += u64::from(errno[row] != 0);
            calls.times.add(latency[row]);
        }
    };
    let merge = |all: &mut Vec<Calls>, later: Vec<Calls>| {
        all.resize(all.len().max(later.len()), Calls::default());
        for (calls, more) in all.iter_mut().zip(later) {
            (calls.errors, calls.open) = (calls.errors + more.errors, calls.open + more.open);
            calls.times.merge(more.times);
        }
    };
    let mut all = fold(reader, "syscall", &["syscall", "errno", "open", "latency"], add, merge)?;
    let mut figures = vec![0; 5];
    for calls in &mut all {
        let [n, median, high, longest] = calls.times.figures(&[0.5, 0.99])[..] else { continue };
        let found = [n, calls.errors, median, high, longest];
        figures.iter_mut().zip(found).for_each(|(sum, figure)| *sum += figure);
    }
    Ok(figures)
}

/// How long tasks waited for a processor.
pub fn queued(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let add = |times: &mut Times, columns: &[&Column], _: usize| {
        columns[0].u64s().iter().filter(|&&ns| ns > 0).for_each(|&ns| times.add(ns));
    };
    let mut times = fold(reader, "sched_wait", &["queued"], add, Times::merge)?;
    Ok(times.figures(&[0.5, 0.9, 0.99, 0.999]))
}

/// Weights by some stacks.
type Weights<K> = HashMap<K, u64, Map>;

fn merge_weights<K: std::hash::Hash + Eq>(all: &mut Weights<K>, later: Weights<K>) {
    for (key, weight) in later {
        *all.entry(key).or_default() += weight;
    }
}

/// Goes through some columns of a table that is small, one batch after the other.
fn go_through<const N: usize>(
    reader: &TraceReader,
    table: &str,
    columns: [&str; N],
    mut each: impl FnMut([&Column; N]),
) -> anyhow::Result<()> {
    let def = reader.table(table).with_context(|| format!("no table {table}"))?;
    let columns = columns.map(|name| def.column(name).expect("the table has it"));
    let mut scratch = Scratch::new();
    for frame in reader.frames_of(def.number) {
        let batch = reader.read(frame, Some(&columns), &mut scratch)?;
        each(columns.map(|column| &batch.columns[column]));
        scratch.reuse(batch);
    }
    Ok(())
}

/// Texts of a column, one by one.
fn texts(column: &Column) -> impl Iterator<Item = &[u8]> {
    let (lengths, mut rest) = match column {
        Column::Text(text) => (&text.lengths[..], &text.bytes[..]),
        _ => (&[][..], &[][..]),
    };
    lengths.iter().map(move |&length| {
        let (text, later) = rest.split_at(length as usize);
        rest = later;
        text
    })
}

/// The functions of stacks, innermost first, by numbers that stand for their names.
fn functions(reader: &TraceReader) -> anyhow::Result<Vec<Vec<u32>>> {
    let (mut names, mut of_frame) = (HashMap::new(), Vec::new());
    go_through(reader, "symbol", ["frame", "function"], |[frames, functions]| {
        for (&frame, name) in frames.u32s().iter().zip(texts(functions)) {
            of_frame.resize(of_frame.len().max(frame as usize + 1), 0);
            let next = names.len() as u32;
            of_frame[frame as usize] = *names.entry(name.to_vec()).or_insert(next);
        }
    })?;
    let mut stacks = Vec::new();
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    go_through(reader, "stack", ["stack", "frames"], |[ids, frames]| {
        for (&stack, frames) in ids.u32s().iter().zip(texts(frames)) {
            stacks.resize(stacks.len().max(stack as usize + 1), Vec::new());
            stacks[stack as usize] =
                frames.chunks_exact(4).map(|frame| of_frame[word(frame) as usize]).collect();
        }
    })?;
    Ok(stacks)
}

/// Weights of each function: as the innermost, and wherever in a stack it is.
fn by_function(reader: &TraceReader, weights: &Weights<(u32, u32)>) -> anyhow::Result<Vec<u64>> {
    let (stacks, none) = (functions(reader)?, Vec::new());
    let of = |stack: u32| stacks.get(stack as usize).unwrap_or(&none).iter();
    let mut sums: Vec<(u64, u64, u64)> = Vec::new();
    for (at, (&(kernel, user), weight)) in (1..).zip(weights) {
        for (depth, &function) in of(kernel).chain(of(user)).enumerate() {
            sums.resize(sums.len().max(function as usize + 1), (0, 0, 0));
            let (own, total, last) = &mut sums[function as usize];
            *own += if depth == 0 { *weight } else { 0 };
            *total += if std::mem::replace(last, at) == at { 0 } else { *weight };
        }
    }
    Ok(vec![sums.iter().map(|sum| sum.0).sum(), sums.iter().map(|sum| sum.1).sum()])
}

/// How long tasks slept, by function.
pub fn sleeps(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let add = |all: &mut Weights<(u32, u32)>, columns: &[&Column], rows: usize| {
        let (off, state) = (columns[0].u64s(), columns[1].u32s());
        let (kernel, user) = (columns[2].u32s(), columns[3].u32s());
        for row in (0..rows).filter(|&row| off[row] > 0 && state[row] != 0) {
            *all.entry((kernel[row], user[row])).or_default() += off[row] / 1000;
        }
    };
    let columns = ["off", "state", "kstack", "ustack"];
    let found = by_function(reader, &fold(reader, "sched_wait", &columns, add, merge_weights)?)?;
    Ok(found.into_iter().map(|us| us * 1000).collect())
}

/// Samples by function.
pub fn samples(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let add = |all: &mut Weights<(u32, u32)>, columns: &[&Column], _: usize| {
        for (&kernel, &user) in columns[0].u32s().iter().zip(columns[1].u32s()) {
            *all.entry((kernel, user)).or_default() += 1;
        }
    };
    by_function(reader, &fold(reader, "cpu_sample", &["kstack", "ustack"], add, merge_weights)?)
}

/// Calls and bytes, read and written, by thread and file.
pub fn files(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    type Sums = HashMap<(u32, u32), [u64; 4], Map>;
    let mut regular = Vec::new();
    go_through(reader, "file", ["file", "type"], |[files, kinds]| {
        for (&file, &kind) in files.u32s().iter().zip(kinds.u32s()) {
            let file = file as usize;
            regular.resize(regular.len().max(file + 1), false);
            regular[file] = kind == REGULAR;
        }
    })?;
    let add = |all: &mut Sums, columns: &[&Column], rows: usize| {
        let [tid, file, op, ret] = [0, 1, 2, 3].map(|at| columns[at].u32s());
        for row in (0..rows).filter(|&row| regular.get(file[row] as usize).is_some_and(|&regular| regular)) {
            let at = usize::from(op[row] == WRITE);
            let sums = all.entry((tid[row], file[row])).or_default();
            sums[at] += 1;
            sums[2 + at] += u64::try_from(ret[row].cast_signed()).unwrap_or(0);
        }
    };
    let merge = |all: &mut Sums, later: Sums| {
        for (key, more) in later {
            all.entry(key).or_default().iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    };
    let all = fold(reader, "file_io", &["tid", "file", "op", "ret"], add, merge)?;
    let mut largest: Vec<u64> = all.values().map(|sums| sums.iter().sum()).collect();
    largest.sort_unstable();
    Ok(vec![largest.iter().rev().take(MOST_FILES).sum()])
}

/// A part of a request: when, which, what, and whether there is more of it.
type Part = (u64, u64, u32, u32);

/// From issue to completion of requests to disks.
pub fn requests(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let add = |all: &mut Vec<Part>, columns: &[&Column], rows: usize| {
        let (ts, rq) = (columns[0].u64s(), columns[1].u64s());
        let (part, left) = (columns[2].u32s(), columns[3].u32s());
        all.extend((0..rows).map(|row| (ts[row], rq[row], part[row], left[row])));
    };
    let mut parts = fold(reader, "block_rq", &["ts", "rq", "part", "left"], add, Vec::extend)?;
    parts.sort_unstable();
    let mut issued: HashMap<u64, Option<u64>, Map> = HashMap::default();
    let mut times = Times::default();
    for (ts, rq, part, left) in parts {
        match part {
            START => _ = issued.insert(rq, None),
            ISSUE => *issued.entry(rq).or_default() = Some(ts),
            COMPLETE if left == 0 => {
                issued.remove(&rq).flatten().into_iter().for_each(|began| times.add(ts - began));
            }
            _ => {}
        }
    }
    Ok(times.figures(&[0.5, 0.9, 0.99, 0.999]))
}
