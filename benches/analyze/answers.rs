//! Whether all who are timed answer the same question: each runs once more, and figures of the answers are compared.

use anyhow::{Context as _, bail};
use std::process::Command;

/// A line of figures begins so.
pub const MARK: &str = "answer:";

/// The figures that a fold or a peer prints.
pub fn printed(command: &mut Command) -> anyhow::Result<Vec<u64>> {
    let text = output(command)?;
    let line = text.lines().rev().find_map(|line| line.strip_prefix(MARK));
    let figures = line.with_context(|| format!("{command:?} printed no answer: {text}"))?.split_whitespace();
    figures.map(|figure| Ok(figure.parse()?)).collect()
}

/// The sums of columns of a report's result; microseconds count as nanoseconds, as they are in the trace.
pub fn of_report(report: &mut Command, columns: &[&str]) -> anyhow::Result<Vec<u64>> {
    if report.get_args().all(|word| word != "--format") {
        report.args(["--format", "csv"]);
    }
    let text = output(report)?;
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().context("no result")?;
    let rows: Vec<Vec<&str>> = lines.collect();
    let sum = |name: &&str| {
        let at = head.iter().position(|column| column == name);
        let at = at.with_context(|| format!("no column {name} in {head:?}"))?;
        let unit = if name.ends_with("_us") { 1e3 } else { 1.0 };
        let numbers = rows.iter().filter_map(|row| row.get(at)?.parse::<f64>().ok());
        Ok(numbers.map(|number| (number * unit).round() as u64).sum())
    };
    columns.iter().map(sum).collect()
}

/// Fails where somebody's figures are not those of the report.
pub fn compare(question: &str, report: &[u64], name: &str, figures: &[u64]) -> anyhow::Result<()> {
    if report.iter().zip(figures).any(|(ours, theirs)| ours != theirs) {
        bail!("{question}: the report says {report:?}, {name} says {figures:?}");
    }
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    // 3: something is missing, which a generated trace may well say of its ledger.
    if ![Some(0), Some(3)].contains(&output.status.code()) {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
