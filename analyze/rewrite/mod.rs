//! Verbs that write another trace: [`recover`], [`recompress`], [`mod@slice`], [`redact`], [`merge`].
//!
//! ```text
//! analyze broken.bin recover -o whole.bin
//! analyze trace.bin slice --from 10s --to 20s --where "rport = 443" -o part.bin
//! ```
//!
//! Each says what becomes of the rows ([`Plan`]), and one engine does the rest: it decodes and packs
//! frames in parallel, writes them in file order, and closes the ledger ([`books`]), so that the new file owns up to
//! what its source had lost. Where nothing is taken out, every report says the same of both files.
//!
//! The input is never touched. The output appears under its name when it is whole, for its owner only, and
//! replaces a file only with `--force`.

mod books;
mod merge;
mod names;
mod recompress;
mod recover;
mod redact;
mod slice;

use super::args::Call;
use super::error::{Exit, Failure};
use super::escape::visible;
use super::files;
use super::ledger::{not_here, overlap, span_of};
use super::output::Output;
use super::progress::Pass;
use super::rows::Rows;
use super::trace::Trace;
use super::window::Window;
use crate::schema::absent::Absent;
use crate::schema::pack::{Packed, Packer};
use crate::schema::reader::{Frame, Scratch};
use crate::schema::{Batch, Column, FormatError, FrameHeader, Host, Kind, TableDef, TraceWriter, frame};
use anyhow::{Context as _, Result};
use books::Books;
use clap::{ArgMatches, Args, Command};
use rayon::prelude::*;
use std::io::Write;
use std::sync::Arc;

/// Frames that are in memory at a time.
const WAVE: usize = 16;

/// What is made of several parts, or is less than one, must not be read as the one whose number it had.
const NO_PART: u32 = 0;

/// A verb that writes another trace.
#[derive(Debug)]
pub(crate) struct Verb {
    /// What it is called.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its own options.
    pub options: fn(Command) -> Command,
    /// The plan, and what the user should know of it.
    plan: for<'a> fn(&'a Job<'a>) -> Result<Plan<'a>>,
    /// zstd level where none is asked for.
    level: i32,
}

/// Every such verb.
pub(crate) static VERBS: [&Verb; 5] =
    [&recover::VERB, &slice::VERB, &merge::VERB, &redact::VERB, &recompress::VERB];

/// What a verb is to work on.
pub(crate) struct Job<'a> {
    /// The inputs, at least one.
    pub traces: &'a [Trace],
    /// The command line.
    pub call: &'a Call,
    /// The verb's own options.
    pub matches: &'a ArgMatches,
}

/// Options that all of them have.
#[derive(Args, Clone, Debug)]
struct Target {
    /// Replace the output if it exists
    #[arg(long, help_heading = "This verb")]
    force: bool,
    /// zstd level of the output, 1 to 19: higher is smaller and slower
    #[arg(short, long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19), help_heading = "This verb")]
    level: Option<i32>,
}

/// The new file.
pub(crate) struct Plan<'a> {
    host: Host,
    tables: Vec<TableDef>,
    parts: Vec<Part<'a>>,
    span: Window,
    reason: String,
    /// Parts of the recording that are in none of the inputs.
    absent: Vec<Absent>,
    /// What the user should know.
    notes: Vec<String>,
}

/// What becomes of a decoded frame; `None`: nothing of it is left.
type Edit<'a> = dyn Fn(&Frame, &mut Scratch) -> Option<Batch> + Sync + 'a;

/// What comes from one input.
pub(crate) struct Part<'a> {
    trace: &'a Trace,
    /// Per table its number in the new file; `None`: it is left out.
    numbers: Vec<Option<u16>>,
    /// What is added to the numbers of epochs.
    epoch: u32,
    edit: Box<Edit<'a>>,
    /// The span and the rows of events that were chosen, where not all were.
    sliced: Option<Window>,
}

impl<'a> Part<'a> {
    /// All of a trace, as it is.
    fn whole(trace: &'a Trace) -> Self {
        Self {
            trace,
            numbers: (0u16..).take(trace.tables.len()).map(Some).collect(),
            epoch: 0,
            edit: Box::new(|frame, scratch| trace.read(frame, None, scratch).map(Rows::into_batch)),
            sliced: None,
        }
    }
}

/// The rows that are to stay; `None`: none.
fn select(rows: &Rows, keep: impl Fn(usize) -> bool) -> Option<Batch> {
    let kept: Vec<u32> = (0..rows.len() as u32).filter(|&row| keep(row as usize)).collect();
    (!kept.is_empty()).then(|| rows.pick(&kept))
}

impl<'a> Plan<'a> {
    /// A copy of one trace.
    fn copy(job: &'a Job<'a>, verb: &str) -> Result<Self> {
        let [trace] = job.traces else {
            return Err(Failure::usage(format!("{verb} takes one trace"))
                .hint("analyze a.bin b.bin merge -o out.bin makes one of several")
                .into());
        };
        let mut host = trace.reader.host.clone();
        host.recorder = format!("{}; analyze {} {verb}", host.recorder, env!("CARGO_PKG_VERSION"));
        if trace.is_a_set() {
            host.part = NO_PART;
        }
        Ok(Self {
            host,
            tables: trace.reader.tables.clone(),
            parts: vec![Part::whole(trace)],
            span: trace.span,
            reason: ended(trace, &trace.reader.absent),
            absent: trace.reader.absent.clone(),
            notes: Vec::new(),
        })
    }
}

/// Why the recording ended, as far as its files say, and which of them are not there: for people, and for readers that do
/// not know the footer's list. What a copy says of it is said of what is not there of the copy.
fn ended(trace: &Trace, absent: &[Absent]) -> String {
    let cut = || "not by a clean stop: up to the last unfinished second may be missing".to_owned();
    let reason = trace.reader.footer.as_ref().map_or_else(cut, |footer| footer.reason.clone());
    let sentence = |absent: &Absent| format!("; {}", not_here(absent));
    let reason = trace.reader.absent.iter().fold(reason, |reason, it| reason.replace(&sentence(it), ""));
    let mut sentences: Vec<String> = absent.iter().map(sentence).collect();
    sentences.dedup();
    reason + &sentences.concat()
}

/// Runs a verb.
pub(crate) fn run(
    verb: &Verb,
    call: &Call,
    matches: &ArgMatches,
    out: &mut dyn Write,
    messages: &mut dyn Write,
) -> Result<Exit> {
    let refuse =
        |what: String| Err(Failure::usage(what).hint("analyze VERB --help lists its options").into());
    let Some(path) = &call.options.output else {
        return refuse(format!("{} needs a name for the new file: -o FILE", verb.name));
    };
    if let Some(option) = call.options.not_of(verb.name) {
        return refuse(format!("{} has no option --{option}", verb.name));
    }
    let inputs = files::named(&call.traces, messages)?;
    let traces = files::open_to_copy(&inputs, &call.options)?.all(messages)?;
    let job = Job { traces: &traces, call, matches };
    let plan = (verb.plan)(&job)?;
    let level = matches.get_one("level").copied().unwrap_or(verb.level);
    let mut to = Output::create(path, matches.get_flag("force"), &inputs, out)?;
    let (rows, bytes) = write(&plan, level, &mut to)?;
    to.finish()?;
    let report: &mut dyn Write = if path.as_os_str() == "-" { messages } else { out };
    let before: u64 = traces.iter().map(|trace| trace.reader.length()).sum();
    writeln!(report, "{}: {rows} rows in {bytes} bytes, from {before} bytes", path.display())?;
    if let Some(note) = left_out(&traces) {
        writeln!(report, "{note}")?;
    }
    plan.notes.iter().try_for_each(|note| writeln!(report, "{}", visible(note)))?;
    report_losses(&traces, &plan, messages)
}

/// What is missing from the traces; of parts that are not here, those that the new file lacks.
fn report_losses(traces: &[Trace], plan: &Plan, messages: &mut dyn Write) -> Result<Exit> {
    let lacks = plan.absent.iter().filter(|absent| overlap(span_of(absent), plan.span));
    let (mut exit, mut absent) = (Exit::Ok, lacks.map(not_here).collect());
    for trace in traces {
        let all: Vec<u16> = trace.tables.iter().map(|table| table.number).collect();
        let mut losses = trace.ledger().losses(trace, trace.span, &all);
        losses.absent = std::mem::take(&mut absent);
        exit = exit.max(super::run::report_losses(&losses, messages)?);
    }
    Ok(exit)
}

/// What a newer writer added cannot be copied by who does not know it.
fn left_out(traces: &[Trace]) -> Option<String> {
    let frames = traces.iter().flat_map(|trace| &trace.reader.frames);
    let unknown = frames.filter(|frame| matches!(frame.header.kind, Kind::Unknown(_))).count();
    (unknown > 0).then(|| {
        format!("left out: {unknown} frames of kinds that only a later version knows; use a newer analyze")
    })
}

/// Returns rows and bytes.
fn write(plan: &Plan, level: i32, to: impl Write) -> Result<(u64, u64)> {
    let mut writer = TraceWriter::new(to, level, &plan.host, plan.tables.clone())?;
    for part in &plan.parts {
        let mut books = Books::new(part, &plan.tables);
        let frames = &part.trace.reader.frames;
        let frames: Vec<&Frame> = frames.iter().filter(|frame| frame.header.kind.has_rows()).collect();
        let pass = Pass::over(&part.trace.name, frames.len());
        for wave in frames.chunks(WAVE) {
            let read = |scratch: &mut Scratch, frame: &&Frame| (part.edit)(frame, scratch);
            let batches: Vec<Option<Batch>> = part.trace.each(wave, read);
            let entered = batches.into_iter().map(|batch| books.enter(batch?));
            let named = wave.iter().zip(entered).filter_map(|(frame, batch)| Some((&frame.header, batch?)));
            for packed in pack(plan, part, level, named.collect())? {
                writer.append_packed(packed)?;
            }
            pass.steps(wave.len());
        }
        if let Some(batch) = books.close(part.trace) {
            writer.append(Kind::Stats, 0, &batch)?;
        }
    }
    writer.ends_at(plan.span.to.saturating_sub(1));
    writer.lacks(plan.absent.clone());
    let rows = writer.totals().iter().map(|table| table.rows).sum();
    let (_, bytes) = writer.finish(&plan.reason).context("the new file")?;
    Ok((rows, bytes))
}

/// Compresses in parallel, in order.
fn pack(plan: &Plan, part: &Part, level: i32, batches: Vec<(&FrameHeader, Batch)>) -> Result<Vec<Packed>> {
    let packer = || Packer::new(level, plan.tables.clone());
    let one = |packer: &mut Result<Packer, FormatError>, (header, batch): (&FrameHeader, Batch)| {
        let packer = packer.as_mut().map_err(|error| anyhow::anyhow!("{error}"))?;
        let epoch = header.epoch.saturating_add(part.epoch);
        let def = &plan.tables[usize::from(batch.table)];
        let fit = split(&Arc::new(def.clone()), batch);
        fit.iter().map(|batch| Ok(packer.pack(header.kind, epoch, batch)?)).collect::<Result<Vec<_>>>()
    };
    let packed: Result<Vec<Vec<Packed>>> =
        part.trace.install(|| batches.into_par_iter().map_init(packer, one).collect());
    Ok(packed?.into_iter().flatten().collect())
}

/// A batch that another writer made larger than ours may be becomes several.
fn split(def: &Arc<TableDef>, batch: Batch) -> Vec<Batch> {
    let (size, half) = (batch.columns.iter().map(Column::raw_bytes).sum::<usize>(), batch.rows / 2);
    if size <= frame::MAX_APPEND || half == 0 {
        return vec![batch];
    }
    let (first, second): (Vec<u32>, Vec<u32>) =
        (0..batch.rows as u32).partition(|&row| (row as usize) < half);
    let rows = Rows::new(Arc::clone(def), batch);
    [first, second].into_iter().flat_map(|half| split(def, rows.pick(&half))).collect()
}

#[cfg(test)]
mod tests;
