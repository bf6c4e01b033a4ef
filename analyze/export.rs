//! CSV and Parquet: the result's columns under their own names, nothing around them.

use super::cells::{Cell, Cells, Field};
use super::clock::Clock;
use super::escape::{is_plain, visible};
use super::json::push_number;
use super::table::{Show, Table};
use super::{blocks, json};
use anyhow::Result;
use polars::prelude::{DataType, TimeUnit, TimeZone};
use polars_io::parquet::write::ParquetWriter;
use std::io;
use std::ops::Range;

/// What is done to names in CSV, of columns too: a trace defines its own. Without either they are data, as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// A terminal must not obey them.
    pub terminal: bool,
    /// A spreadsheet must not compute them (`--csv-safe`).
    pub safe: bool,
}

impl Text {
    fn push(self, text: &str, to: &mut String) {
        let formula = self.safe && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if !formula && is_plain(text) {
            quote(text, to);
            return;
        }
        let text = if formula { format!("'{text}") } else { text.to_owned() };
        quote(&if self.terminal { visible(&text) } else { text }, to);
    }
}

/// RFC 4180: CRLF, quotes doubled. Some rows at a time; `first`: below the names of the columns.
pub(crate) fn csv(
    table: &Table,
    clock: &Clock,
    text: Text,
    (first, threads): (bool, usize),
    out: &mut dyn io::Write,
) -> io::Result<()> {
    if first {
        let mut top = String::new();
        for (column, heading) in table.headings.iter().enumerate() {
            top.push_str(if column > 0 { "," } else { "" });
            text.push(&heading.name, &mut top);
        }
        out.write_all((top + "\r\n").as_bytes())?;
    }
    let cells = Cells::of(table);
    let lines = |rows: Range<usize>, to: &mut String| {
        let (fields, mut stamps) = (cells.fields(&table.headings), clock.stamps());
        for row in rows {
            for (column, field) in fields.iter().enumerate() {
                if column > 0 {
                    to.push(',');
                }
                match field {
                    Field::Times(walls) => stamps.push_rfc3339(walls[row], to),
                    Field::Ints(numbers) => push_number(numbers[row], to),
                    Field::UInts(numbers) => push_number(numbers[row], to),
                    Field::Others(values) => match (values.get(row), table.headings[column].show) {
                        (Cell::Null, _) => {}
                        (Cell::Text(value), _) => text.push(&value, to),
                        (Cell::Int(wall), Show::Time(_)) => stamps.push_rfc3339(wall, to),
                        (Cell::Float(number), _) if !number.is_finite() => {}
                        (other, _) => json::push_plain(&other, to),
                    },
                }
            }
            to.push_str("\r\n");
        }
    };
    blocks::write(table.height(), threads, lines, out)
}

fn quote(text: &str, to: &mut String) {
    if text.contains([',', '"', '\r', '\n']) {
        to.push('"');
        to.push_str(&text.replace('"', "\"\""));
        to.push('"');
    } else {
        to.push_str(text);
    }
}

/// Typed columns; times are UTC timestamps.
pub(crate) fn parquet(table: &Table) -> Result<Vec<u8>> {
    let mut frame = table.frame.clone();
    for heading in table.headings.iter().filter(|heading| matches!(heading.show, Show::Time(_))) {
        let stamp = DataType::Datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC));
        let column = frame.column(&heading.name)?.cast(&stamp)?;
        frame.with_column(column)?;
    }
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut frame)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_needs_it_and_nothing_else() {
        let quoted = |text| {
            let mut to = String::new();
            quote(text, &mut to);
            to
        };
        assert_eq!(["a,b", "say \"x\"", "=1+1"].map(quoted), ["\"a,b\"", "\"say \"\"x\"\"\"", "=1+1"]);
    }

    #[test]
    fn a_terminal_and_a_spreadsheet_are_protected_at_once() {
        let field = |terminal, safe| {
            let mut to = String::new();
            Text { terminal, safe }.push("=\x1b[31m", &mut to);
            to
        };
        assert_eq!(field(false, false), "=\x1b[31m");
        assert_eq!(field(true, false), "=\\x1b[31m");
        assert_eq!(field(false, true), "'=\x1b[31m");
        assert_eq!(field(true, true), "'=\\x1b[31m");
    }
}
