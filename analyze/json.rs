//! JSON: one object with the answer and all around it, or one object per row (NDJSON).

use super::answer::{Body, Page, Section};
use super::blocks;
use super::cells::{Cell, Cells, Field};
use super::clock::{Clock, Stamps};
use super::escape::{is_plain, is_unsafe};
use super::ledger::Losses;
use super::table::{Heading, Show, Table};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io;
use std::ops::Range;

/// What the rows are called in the object.
const ROWS: &str = "rows";

/// The answer as one object.
pub(crate) fn page(page: &Page) -> Value {
    let mut all = before(page);
    if let Some(table) = &page.answer.table {
        all.insert(ROWS.into(), rows(table, page.clock).collect());
    }
    all.extend(behind(page));
    Value::Object(all)
}

/// The same as text, how far it is written. Its rows may come part by part: as an object, millions of them would take
/// ten times the room of their table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text {
    /// The list of rows is open.
    begun: bool,
    /// Rows are in it.
    rows: bool,
}

impl Text {
    /// Writes the rows of a page, and what stands before them.
    pub fn rows(&mut self, page: &Page, threads: usize, out: &mut dyn io::Write) -> io::Result<()> {
        let Some(table) = &page.answer.table else { return Ok(()) };
        if !std::mem::replace(&mut self.begun, true) {
            entries(&before(page), "{", out)?;
            write!(out, ",\n  \"{ROWS}\": [")?;
        }
        let open = self.rows;
        self.rows |= table.height() > 0;
        objects((table, page.clock), &PRETTY, open, threads, out)
    }

    /// Writes a page, or what is left of it.
    pub fn finish(mut self, page: &Page, threads: usize, out: &mut dyn io::Write) -> io::Result<()> {
        self.rows(page, threads, out)?;
        match (self.begun, self.rows) {
            (false, _) => entries(&before(page), "{", out)?,
            (true, false) => out.write_all(b"]")?,
            (true, true) => out.write_all(b"\n  ]")?,
        }
        entries(&behind(page), ",", out)?;
        out.write_all(b"\n}\n")
    }
}

/// Keys and values on lines of their own; `first` stands before them.
fn entries(all: &Map<String, Value>, first: &str, out: &mut dyn io::Write) -> io::Result<()> {
    for (at, (name, value)) in all.iter().enumerate() {
        let mut text = format!("{}\n  ", if at == 0 { first } else { "," });
        push_string(name, &mut text);
        text.push_str(": ");
        push_escaped(&format!("{value:#}").replace('\n', "\n  "), &mut text);
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// All that stands before the rows.
fn before(page: &Page) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("report".into(), page.report.into());
    all.insert("trace".into(), page.trace.into());
    let moment = |mono| page.clock.rfc3339(page.clock.wall(mono));
    all.insert("from".into(), moment(page.window.from).into());
    all.insert("to".into(), moment(page.window.to.saturating_sub(1)).into());
    if let Some(table) = &page.answer.table {
        all.insert("columns".into(), columns(table));
    }
    all
}

/// All that stands behind them.
fn behind(page: &Page) -> Map<String, Value> {
    let mut all = Map::new();
    page.answer.sections.iter().for_each(|part| insert(&mut all, part, page.clock));
    all.insert("notes".into(), page.answer.notes.clone().into());
    all.insert("lost".into(), lost(page.losses));
    all
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
fn rows<'a>(table: &'a Table, clock: &'a Clock) -> impl Iterator<Item = Value> + 'a {
    let cells = Cells::of(table);
    (0..table.height()).map(move |row| {
        let field = |at: usize| {
            let value = match (cells.get(at, row), table.headings[at].show) {
                (Cell::Int(wall), Show::Time(_)) => clock.rfc3339(wall).into(),
                (Cell::Null, _) => Value::Null,
                (Cell::Bool(value), _) => value.into(),
                (Cell::Int(value), _) => value.into(),
                (Cell::UInt(value), _) => value.into(),
                (Cell::Float(value), _) => value.into(),
                (Cell::Text(value), _) => value.into(),
            };
            (table.headings[at].name.clone(), value)
        };
        Value::Object((0..table.headings.len()).map(field).collect())
    })
}

/// What stands between objects, and around the parts of one.
struct Style {
    comma: &'static str,
    begin: &'static str,
    between: &'static str,
    colon: &'static str,
    end: &'static str,
}

/// A line for each.
const LINE: Style = Style { comma: "", begin: "{", between: ",", colon: ":", end: "}\n" };
/// Within a list within an object, as `serde_json` prints them.
const PRETTY: Style =
    Style { comma: ",", begin: "\n    {\n      ", between: ",\n      ", colon: ": ", end: "\n    }" };

/// An object per row on a line of its own: times as RFC 3339, everything else as the type that it
/// has. Characters that a terminal might act on are escaped, as [`text`] does it.
pub(crate) fn lines(table: &Table, clock: &Clock, threads: usize, out: &mut dyn io::Write) -> io::Result<()> {
    objects((table, clock), &LINE, false, threads, out)
}

/// `open`: another row stands before these.
fn objects(
    (table, clock): (&Table, &Clock),
    style: &Style,
    open: bool,
    threads: usize,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let key = |(at, heading): (usize, &Heading)| {
        let mut key = String::from(if at == 0 { "" } else { style.between });
        push_string(&heading.name, &mut key);
        key + style.colon
    };
    let keys: Vec<String> = table.headings.iter().enumerate().map(key).collect();
    let cells = Cells::of(table);
    let of = |rows: Range<usize>, to: &mut String| {
        let (fields, mut stamps) = (cells.fields(&table.headings), clock.stamps());
        for row in rows {
            to.push_str(if open || row > 0 { style.comma } else { "" });
            to.push_str(style.begin);
            for (column, (key, field)) in keys.iter().zip(&fields).enumerate() {
                to.push_str(key);
                match field {
                    Field::Times(walls) => push_time(&mut stamps, walls[row], to),
                    Field::Ints(numbers) => push_number(numbers[row], to),
                    Field::UInts(numbers) => push_number(numbers[row], to),
                    Field::Others(values) => match (values.get(row), table.headings[column].show) {
                        (Cell::Int(wall), Show::Time(_)) => push_time(&mut stamps, wall, to),
                        (Cell::Text(value), _) => push_string(&value, to),
                        (other, _) => push_plain(&other, to),
                    },
                }
            }
            to.push_str(style.end);
        }
    };
    blocks::write(table.height(), threads, of, out)
}

/// Adds a whole number.
#[inline]
pub(super) fn push_number(number: impl itoa::Integer, to: &mut String) {
    to.push_str(itoa::Buffer::new().format(number));
}

fn push_time(stamps: &mut Stamps, wall: i64, to: &mut String) {
    to.push('"');
    stamps.push_rfc3339(wall, to);
    to.push('"');
}

/// Adds what needs no quotes.
pub(super) fn push_plain(cell: &Cell, to: &mut String) {
    match cell {
        Cell::Null => to.push_str("null"),
        Cell::Bool(value) => to.push_str(if *value { "true" } else { "false" }),
        Cell::Int(value) => push_number(*value, to),
        Cell::UInt(value) => push_number(*value, to),
        Cell::Float(value) => write!(to, "{}", Value::from(*value)).expect("a String grows"),
        Cell::Text(text) => to.push_str(text),
    }
}

fn push_string(text: &str, to: &mut String) {
    if is_plain(text) && !text.contains(['"', '\\']) {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        push_escaped(&Value::from(text).to_string(), to);
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
pub(crate) fn text(value: &Value) -> String {
    let plain = format!("{value:#}");
    let mut text = String::with_capacity(plain.len() + 1);
    push_escaped(&plain, &mut text);
    text.push('\n');
    text
}

fn push_escaped(plain: &str, to: &mut String) {
    for c in plain.chars() {
        if c != '\n' && is_unsafe(c) {
            c.encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| write!(to, "\\u{unit:04x}").expect("a String grows"));
        } else {
            to.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::answer::Answer;
    use crate::analyze::rows::Value as Value1;
    use crate::analyze::table::{Builder, Output};
    use crate::analyze::window::Window;

    #[test]
    fn a_name_in_json_cannot_command_a_terminal_and_reads_back() {
        let value = json!({"comm": "a\u{1b}[2J\u{9b}\u{202e}\u{e0041}\"\n"});
        let text = text(&value);
        assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it is JSON"), value);
    }

    #[test]
    fn rows_that_are_written_as_they_come_are_those_of_the_whole() {
        const SHARE: Output = Output::decimal("share", "", 1, "not in every row");
        for rows in [0, 1, 2, 10_000] {
            let mut table = Builder::default();
            table.time(6, (0..rows).map(|row| row * 1_000_000_123));
            let name = |row| Value1::Text(format!("a\u{1b}\u{202e}\"\\ {row}").into());
            table.key("n\u{9b}", "", true, (0..rows).map(name));
            let some = |row: i64| (row % 3 > 0).then_some(row as f64 / 3.0);
            table.floats(&SHARE, (0..rows).map(some));
            let answer = Answer::of(table.build().expect("a table")).note("a\nb");
            let (clock, losses) = (Clock::new((0, 0), [], 3600), Losses::default());
            let window = Window { from: 0, to: 1 };
            let all =
                Page { report: "r", trace: "t", window, clock: &clock, answer: &answer, losses: &losses };
            let mut written = Vec::new();
            Text::default().finish(&all, 2, &mut written).expect("a Vec takes everything");
            assert!(String::from_utf8(written).expect("UTF-8") == text(&page(&all)), "{rows}");
            let table = answer.table.as_ref().expect("it has one");
            let mut found = Vec::new();
            lines(table, &clock, 2, &mut found).expect("a Vec takes everything");
            let mut expected = String::new();
            for row in page(&all)["rows"].as_array().expect("a list") {
                push_escaped(&format!("{row}\n"), &mut expected);
            }
            assert!(found == expected.as_bytes(), "{rows}");
        }
    }
}
