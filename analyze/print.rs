//! Tables for people: aligned columns, names made harmless, lower bounds marked `≥`, scaled counts `≈`, and what is at
//! most so large `≤`.

use super::answer::{Answer, Body, Page, Section};
use super::clock::Clock;
use super::escape::visible;
use super::ledger::Losses;
use super::table::{Show, Table};
use polars::prelude::AnyValue;
use std::fmt::Write as _;

/// The whole answer as text.
pub(crate) fn page(page: &Page) -> String {
    let mut text = String::new();
    if let Some(table) = &page.answer.table {
        text.push_str(&grid(table, page.clock));
    }
    if !text.is_empty() && !page.answer.sections.is_empty() {
        text.push('\n');
    }
    text + &below(page.answer, page.clock)
}

/// What stands below the table: sections and notes.
pub(crate) fn below(answer: &Answer, clock: &Clock) -> String {
    let mut text = sections(answer, clock);
    if !answer.notes.is_empty() {
        text.push('\n');
    }
    answer.notes.iter().for_each(|note| writeln!(text, "# {}", visible(note)).expect("a String grows"));
    text
}

/// What goes with the table, part by part.
pub(crate) fn sections(answer: &Answer, clock: &Clock) -> String {
    let parts: Vec<String> = answer.sections.iter().map(|part| section(part, clock)).collect();
    parts.join("\n")
}

fn section(section: &Section, clock: &Clock) -> String {
    let mut text = String::new();
    if !section.title.is_empty() {
        writeln!(text, "{}", visible(&section.title)).expect("a String grows");
    }
    match &section.body {
        Body::Facts(facts) => {
            let width = facts.iter().map(|fact| fact.0.len()).max().unwrap_or(0);
            for (name, _, shown) in facts {
                writeln!(text, "{name:width$}  {}", visible(shown)).expect("a String grows");
            }
        }
        Body::Table(table) => text.push_str(&grid(table, clock)),
        Body::Histogram(histogram, unit) => text.push_str(&histogram.render(unit)),
        Body::Lines(lines) => {
            for line in lines {
                writeln!(text, "{}", visible(line)).expect("a String grows");
            }
        }
    }
    text
}

/// One table: numbers to the right, the last column as long as it is.
pub(crate) fn grid(table: &Table, clock: &Clock) -> String {
    continued(table, clock, &mut Vec::new(), true)
}

/// More rows of a table, below those that came before with their `widths`; the first ones have the heading above.
pub(crate) fn continued(table: &Table, clock: &Clock, widths: &mut Vec<usize>, first: bool) -> String {
    let shown: Vec<usize> =
        (0..table.headings.len()).filter(|&at| table.headings[at].show != Show::Hidden).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    if first {
        rows.push(shown.iter().map(|&at| visible(&table.headings[at].name)).collect());
    }
    rows.extend((0..table.height()).map(|row| {
        let mark = mark(table, row);
        shown.iter().map(|&at| cell(table, clock, (at, row), mark)).collect::<Vec<_>>()
    }));
    let right: Vec<bool> = shown.iter().map(|&at| is_number(table, at)).collect();
    widths.resize(shown.len(), 0);
    for (at, width) in widths.iter_mut().enumerate() {
        *width = rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(*width);
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, &width), &right) in row.iter().zip(&*widths).zip(&right) {
            let pad = " ".repeat(width - cell.chars().count());
            let (before, after) = if right { (pad.as_str(), "") } else { ("", pad.as_str()) };
            write!(line, "{before}{cell}{after}  ").expect("a String grows");
        }
        writeln!(text, "{}", line.trim_end()).expect("a String grows");
    }
    text
}

fn is_number(table: &Table, column: usize) -> bool {
    let number = table.frame.columns().get(column).is_some_and(|column| column.dtype().is_numeric());
    number && !matches!(table.headings[column].show, Show::Time(_))
}

/// What stands before the counts of a row.
fn mark(table: &Table, row: usize) -> &'static str {
    match (table.is_lower_bound(row), table.is_approximate(row)) {
        (true, _) => "≥",
        (_, true) => "≈",
        _ => "",
    }
}

fn cell(table: &Table, clock: &Clock, (column, row): (usize, usize), mark: &str) -> String {
    let show = table.headings[column].show;
    let text = match (table.cell(column, row), show) {
        (AnyValue::Null, _) => return "-".to_owned(),
        (AnyValue::Int64(wall), Show::Time(digits)) => clock.time_of_day(wall, digits),
        (
            AnyValue::Float64(number),
            Show::Decimal(digits) | Show::Measure(digits) | Show::Typical(digits),
        ) => {
            format!("{number:.digits$}")
        }
        (AnyValue::String(text), _) => visible(text),
        (AnyValue::StringOwned(text), _) => visible(&text),
        (AnyValue::Int64(number), _) => number.to_string(),
        (AnyValue::UInt64(number), _) => number.to_string(),
        (other, _) => other.to_string(),
    };
    match show {
        Show::Count | Show::Decimal(_) => format!("{mark}{text}"),
        Show::Typical(_) if table.is_of_long_ones(row) => format!("≤{text}"),
        _ => text,
    }
}

/// The files that lack events, where there are several.
fn within(losses: &Losses) -> String {
    const NAMED: usize = 5;
    let of = |(file, events): &(String, u64)| format!("{events} in {}", visible(file));
    let named: Vec<String> = losses.within.iter().take(NAMED).map(of).collect();
    match losses.within.len() {
        0 => String::new(),
        all if all > NAMED => format!("; {}, and in {} more", named.join(", "), all - NAMED),
        _ => format!("; {}", named.join(", ")),
    }
}

/// What a reader must know before believing a number; `None` if nothing is missing.
pub(crate) fn banner(losses: &Losses) -> Option<String> {
    if losses.none() && losses.steps.is_empty() {
        return None;
    }
    let mut text = String::new();
    if losses.events() > 0 {
        let causes: Vec<String> =
            losses.causes().iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        let (all, causes, within) = (losses.events(), causes.join(", "), within(losses));
        write!(text, "{all} events of this span are missing ({causes}{within}): ").expect("a String grows");
        text.push_str("counts marked ≥ are lower bounds\n");
    }
    for step in &losses.steps {
        writeln!(text, "{}", visible(step)).expect("a String grows");
    }
    if !losses.steps.is_empty() {
        text.push_str("counts marked ≈ are scaled by what was left out\n");
    }
    if losses.filter_missed > 0 {
        writeln!(
            text,
            "the filters missed {} forks or connections that they should have followed, and nobody knows what these \
             did: counts marked ≥ are lower bounds",
            losses.filter_missed
        )
        .expect("a String grows");
    }
    for what in &losses.absent {
        writeln!(text, "{}", visible(what)).expect("a String grows");
    }
    for place in losses.damage.iter().take(5) {
        writeln!(text, "damaged: {}", visible(place)).expect("a String grows");
    }
    if losses.damage.len() > 5 {
        writeln!(text, "damaged: {} more places; `check` lists them", losses.damage.len() - 5)
            .expect("a String grows");
    }
    Some(text)
}
