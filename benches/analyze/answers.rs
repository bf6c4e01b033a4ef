//! Whether all who are timed answer the same question: each runs once more, and figures of the answers are compared.

use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Stdio};

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
    // Line by line: the kernel counts what a parent has in memory as its children's peak.
    let mut child = report.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let head = lines.next().context("no result")??;
    let head: Vec<&str> = head.split(',').collect();
    let at = |name: &&str| {
        let at = head.iter().position(|column| column == name);
        at.with_context(|| format!("no column {name} in {head:?}"))
    };
    let wanted = columns.iter().map(at).collect::<anyhow::Result<Vec<usize>>>()?;
    let units = columns.iter().map(|name| if name.ends_with("_us") { 1e3 } else { 1.0 });
    let mut sums = vec![0; columns.len()];
    for line in lines {
        let line = line?;
        let row: Vec<&str> = line.split(',').collect();
        for ((sum, &at), unit) in sums.iter_mut().zip(&wanted).zip(units.clone()) {
            let number = row.get(at).and_then(|cell| cell.parse::<f64>().ok());
            *sum += number.map_or(0, |number| (number * unit).round() as u64);
        }
    }
    ended(report, child.wait()?, "")?;
    Ok(sums)
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
    ended(command, output.status, &String::from_utf8_lossy(&output.stderr))?;
    Ok(String::from_utf8(output.stdout)?)
}

/// 3: something is missing, which a generated trace may well say of its ledger.
fn ended(command: &Command, status: ExitStatus, said: &str) -> anyhow::Result<()> {
    if ![Some(0), Some(3)].contains(&status.code()) {
        bail!("{command:?} ended with {status}: {said}");
    }
    Ok(())
}
