//! Whether all who are timed answer the same question: each runs once more, and figures of the answers are compared.

use anyhow::{Context as _, bail, ensure};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// A line of figures begins so.
pub const MARK: &str = "answer:";

/// The figures that a fold or a peer prints.
pub fn printed(command: &mut Command) -> anyhow::Result<Vec<u64>> {
    let mut figures = None;
    each_line(command, |line| {
        figures = line.strip_prefix(MARK).map(str::to_owned).or_else(|| figures.take());
        Ok(())
    })?;
    let figures = figures.with_context(|| format!("{command:?} printed no answer"))?;
    figures.split_whitespace().map(|figure| Ok(figure.parse()?)).collect()
}

/// What a command prints, a line at a time: the kernel counts what a parent has in memory as its children's peak.
fn each_line(command: &mut Command, mut each: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    for line in BufReader::new(child.stdout.take().context("a pipe")?).lines() {
        each(&line?)?;
    }
    // 3: something is missing, which a generated trace may well say of its ledger.
    let status = child.wait()?;
    if ![Some(0), Some(3)].contains(&status.code()) {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// The sums of columns of a report's result; microseconds count as nanoseconds, as they are in the trace.
pub fn of_report(report: &mut Command, columns: &[&str]) -> anyhow::Result<Vec<u64>> {
    if report.get_args().all(|word| word != "--format") {
        report.args(["--format", "csv"]);
    }
    let units = columns.iter().map(|name| if name.ends_with("_us") { 1e3 } else { 1.0 });
    let (mut sums, mut wanted) = (vec![0; columns.len()], Vec::new());
    each_line(report, |line| {
        let row: Vec<&str> = line.split(',').collect();
        if wanted.is_empty() {
            let at = |name: &&str| {
                let at = row.iter().position(|column| column == name);
                at.with_context(|| format!("no column {name} in {row:?}"))
            };
            wanted = columns.iter().map(at).collect::<anyhow::Result<Vec<usize>>>()?;
            return Ok(());
        }
        for ((sum, &at), unit) in sums.iter_mut().zip(&wanted).zip(units.clone()) {
            let number = row.get(at).and_then(|cell| cell.parse::<f64>().ok());
            *sum += number.map_or(0, |number| (number * unit).round() as u64);
        }
        Ok(())
    })?;
    ensure!(!wanted.is_empty(), "{report:?} printed no result");
    Ok(sums)
}

/// Fails where somebody's figures are not those of the report.
pub fn compare(question: &str, report: &[u64], name: &str, figures: &[u64]) -> anyhow::Result<()> {
    if report.iter().zip(figures).any(|(ours, theirs)| ours != theirs) {
        bail!("{question}: the report says {report:?}, {name} says {figures:?}");
    }
    Ok(())
}
