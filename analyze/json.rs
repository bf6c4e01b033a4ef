//! JSON: one object with the answer and all around it, or one object per row (NDJSON).

use super::answer::{Body, Page, Section};
use super::clock::Clock;
use super::escape::is_unsafe;
use super::ledger::Losses;
use super::table::{Show, Table};
use polars::prelude::AnyValue;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The answer as one object.
pub(crate) fn page(page: &Page) -> Value {
    let mut all = Map::new();
    all.insert("report".into(), page.report.into());
    all.insert("trace".into(), page.trace.into());
    let moment = |mono| page.clock.rfc3339(page.clock.wall(mono));
    all.insert("from".into(), moment(page.window.from).into());
    all.insert("to".into(), moment(page.window.to.saturating_sub(1)).into());
    if let Some(table) = &page.answer.table {
        all.insert("columns".into(), columns(table));
        all.insert("rows".into(), rows(table, page.clock).collect());
    }
    page.answer.sections.iter().for_each(|part| insert(&mut all, part, page.clock));
    all.insert("notes".into(), page.answer.notes.clone().into());
    all.insert("lost".into(), lost(page.losses));
    Value::Object(all)
}

/// Histograms that have a title of their own are a list.
fn insert(all: &mut Map<String, Value>, part: &Section, clock: &Clock) {
    let mut value = section(part, clock);
    if !matches!(part.body, Body::Histogram(..)) || part.title.is_empty() || part.title == part.name {
        all.insert(part.name.into(), value);
        return;
    }
    value["title"] = part.title.clone().into();
    if let Value::Array(list) = all.entry(part.name).or_insert_with(|| json!([])) {
        list.push(value);
    }
}

fn columns(table: &Table) -> Value {
    table.headings.iter().map(|heading| json!({"name": heading.name, "unit": heading.unit})).collect()
}

/// An object per row.
pub(crate) fn rows<'a>(table: &'a Table, clock: &'a Clock) -> impl Iterator<Item = Value> + 'a {
    (0..table.height()).map(move |row| {
        let field = |at: usize| (table.headings[at].name.clone(), cell(table, clock, at, row));
        Value::Object((0..table.headings.len()).map(field).collect())
    })
}

/// A cell: times as RFC 3339, everything else as the type that it has.
pub(crate) fn cell(table: &Table, clock: &Clock, column: usize, row: usize) -> Value {
    match (table.cell(column, row), table.headings[column].show) {
        (AnyValue::Int64(wall), Show::Time(_)) => clock.rfc3339(wall).into(),
        (AnyValue::Null, _) => Value::Null,
        (AnyValue::Boolean(value), _) => value.into(),
        (AnyValue::Int64(value), _) => value.into(),
        (AnyValue::UInt64(value), _) => value.into(),
        (AnyValue::UInt32(value), _) => value.into(),
        (AnyValue::Float64(value), _) => value.into(),
        (AnyValue::String(value), _) => value.into(),
        (AnyValue::StringOwned(value), _) => value.as_str().into(),
        (other, _) => other.to_string().into(),
    }
}

fn section(section: &Section, clock: &Clock) -> Value {
    match &section.body {
        Body::Facts(facts) => {
            Value::Object(facts.iter().map(|(name, value, _)| ((*name).to_owned(), value.clone())).collect())
        }
        Body::Table(table) => rows(table, clock).collect(),
        Body::Histogram(histogram, unit) => {
            let slot = |(low, high, count)| json!({"low": low, "high": high, "count": count});
            json!({"unit": unit, "slots": histogram.slots().into_iter().map(slot).collect::<Value>()})
        }
        Body::Lines(lines) => lines.clone().into(),
    }
}

fn lost(losses: &Losses) -> Value {
    json!({
        "events": losses.events(),
        "ring_full": losses.counts.ring_full,
        "state_full": losses.counts.state_full,
        "discarded": losses.counts.discarded,
        "kernel_missed": losses.kernel_missed,
        "filter_missed": losses.filter_missed,
        "missing_rows": losses.missing_rows,
        "damage": losses.absent.iter().chain(&losses.damage).collect::<Vec<_>>(),
    })
}

/// As text, with every character escaped that a terminal might act on: all of those are inside strings.
pub(crate) fn text(value: &Value, pretty: bool) -> String {
    let plain = if pretty { format!("{value:#}") } else { value.to_string() };
    let mut text = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        if c != '\n' && is_unsafe(c) {
            write!(text, "\\u{:04x}", u32::from(c)).expect("a String grows");
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_json_cannot_command_a_terminal_and_reads_back() {
        let value = json!({"comm": "a\u{1b}[2J\u{9b}\u{202e}\"\n"});
        let text = text(&value, true);
        assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it is JSON"), value);
    }
}
