//! How fast the analyzer is, against what limits it and against others, in one interleaved run:
//! `make bench-analyze`, or
//!
//! ```text
//! cargo bench --bench analyze -- [EVENTS [FLOWS]]
//! ```
//!
//! Every contestant is a process of its own that reads the file anew, two threads each; the best of
//! some rounds counts, and rounds alternate, so that a busy neighbour meets all of them.
//!
//! - `analyze`: the report as a user runs it;
//! - `fold`: the same answer by a fold written for it alone, without names: the limit above;
//! - `zstd`: only decompression of the same frames, with the tool and with our threads: the limit below;
//! - `duckdb`, `polars`: the same question in SQL and as a lazy plan, on the same rows as Parquet, in the
//!   order of time, zstd. They need `make bench-analyze`, which installs them from `PyPI`; otherwise they
//!   are skipped, aloud.
//!
//! Before anybody is timed, figures of all answers to a question are compared, so that a wrong one is not a fast one.
//! The last table holds the targets against what was measured. On a busy machine only the ratios of CPU time hold.

#[path = "../generator/mod.rs"]
mod generator;

mod answers;
mod folds;
mod peers;
mod questions;
mod run;
mod targets;

use generator::{Made, turns::Turns, work::Work};
use questions::{Question, Trace, questions};
use run::{Usage, measure};
use std::path::{Path, PathBuf};
use std::process::Command;
use targets::Results;

const ROUNDS: usize = 3;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [child, what, file] = &words[..]
        && child == "--child"
    {
        return folds::run(what, Path::new(file));
    }
    let number =
        |at: usize, default: u64| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(default);
    let (events, flows) = (number(0, 10_000_000), number(1, 20_000) as u32);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("analyze-{events}-{flows}"));
    if words.last().is_some_and(|word| word == "--prepare") {
        return prepare(&folder, events, flows);
    }
    std::fs::create_dir_all(&folder)?;
    // A process of its own: the kernel counts what a parent has in memory as its children's peak.
    let mut child = Command::new(std::env::current_exe()?);
    let made = child.args([events.to_string(), flows.to_string(), "--prepare".to_owned()]).status()?;
    anyhow::ensure!(made.success(), "the traces could not be made");
    let peers = peers::interpreter();
    let mut results = Results::default();
    for question in questions() {
        results.add(question.name, contest(&question, &folder, events, peers.as_deref())?);
    }
    results.print(events, &folder);
    Ok(())
}

/// Makes the traces, and the rows of connections for others.
fn prepare(folder: &Path, events: u64, flows: u32) -> anyhow::Result<()> {
    let file = |trace: Trace| std::fs::File::create(trace.file(folder));
    made("connections", events, &generator::make(file(Trace::Turns)?, events, Turns::over(flows))?);
    made("other work", events, &generator::make(file(Trace::Work)?, events, Work::default())?);
    peers::prepare(&Trace::Turns.file(folder), folder)
}

fn made(what: &str, events: u64, made: &Made) {
    let each = made.bytes as f64 / events as f64;
    println!(
        "{what}: {events} events, {each:.2} bytes each, made in {:.1} s, {:.1} s of CPU",
        made.wall, made.cpu
    );
}

fn contest(
    question: &Question,
    folder: &Path,
    events: u64,
    peers: Option<&Path>,
) -> anyhow::Result<Vec<(String, Usage)>> {
    let trace = &question.trace.file(folder);
    let mut contestants: Vec<(String, Command)> =
        vec![("analyze".into(), analyze(trace, question.report, 2))];
    contestants.push(("analyze, 1 thread".into(), analyze(trace, question.report, 1)));
    for fold in question.folds {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", fold]).arg(trace);
        contestants.push(((*fold).into(), command));
    }
    if question.name == "decode all columns" {
        let mut command = Command::new("zstd");
        command.arg("-dc").arg(trace);
        contestants.push(("zstd -dc".into(), command));
    }
    if let (Some(python), Some(asked)) = (peers, question.peers) {
        let engine = |name: &str| (name.into(), peers::command(python, name, asked, folder));
        contestants.extend(["duckdb", "polars"].map(engine));
    }
    if !question.figures.is_empty() {
        let whole = [question.report, question.whole].concat();
        let ours = answers::of_report(&mut analyze(trace, &whole, 2), question.figures)?;
        for (name, command) in contestants.iter_mut().filter(|(name, _)| !name.starts_with("analyze")) {
            answers::compare(question.name, &ours, name, &answers::printed(command)?)?;
        }
    }
    let mut best: Vec<Option<Usage>> = vec![None; contestants.len()];
    for _ in 0..ROUNDS {
        for ((name, command), best) in contestants.iter_mut().zip(&mut best) {
            let usage = measure(command).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            *best = Some(best.map_or(usage, |best| best.min(usage)));
        }
    }
    println!("\n{}", question.name);
    println!(
        "  {:<18} {:>8} {:>8} {:>8} {:>9} {:>12} {:>12}",
        "", "wall s", "CPU s", "M ev/s", "peak MiB", "wall ratio", "CPU ratio"
    );
    let ours = best[0].unwrap_or_default();
    let mut found = Vec::new();
    for ((name, _), usage) in contestants.into_iter().zip(best) {
        let usage = usage.unwrap_or_default();
        let Usage { wall, cpu, rss } = usage;
        let rate = events as f64 / wall / 1e6;
        println!(
            "  {name:<18} {wall:>8.3} {cpu:>8.3} {rate:>8.1} {:>9.1} {:>12.2} {:>12.2}",
            rss as f64 / 1024.0,
            wall / ours.wall,
            cpu / ours.cpu
        );
        found.push((name, usage));
    }
    Ok(found)
}

fn analyze(trace: &Path, report: &[&str], threads: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_analyze"));
    command.arg(trace).args(report).args(["--threads", &threads.to_string()]);
    // polars has threads of its own.
    command.env("POLARS_MAX_THREADS", threads.to_string());
    command
}
