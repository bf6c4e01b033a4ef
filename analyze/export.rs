//! CSV and Parquet: the result's columns under their own names, nothing around them.

use super::clock::Clock;
use super::escape::visible;
use super::json;
use super::table::{Show, Table};
use anyhow::Result;
use polars::prelude::{DataType, TimeUnit, TimeZone};
use polars_io::parquet::write::ParquetWriter;
use serde_json::Value;

/// What is done to names in CSV, of columns too: a trace defines its own. Without either they are data, as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// A terminal must not obey them.
    pub terminal: bool,
    /// A spreadsheet must not compute them (`--csv-safe`).
    pub safe: bool,
}

impl Text {
    fn field(self, text: &str) -> String {
        let formula = self.safe && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let text = if formula { format!("'{text}") } else { text.to_owned() };
        quote(&if self.terminal { visible(&text) } else { text })
    }
}

/// RFC 4180: CRLF, quotes doubled.
pub(crate) fn csv(table: &Table, clock: &Clock, text: Text) -> String {
    let names: Vec<String> = table.headings.iter().map(|heading| text.field(&heading.name)).collect();
    let mut lines = names.join(",") + "\r\n";
    for row in 0..table.height() {
        let field = |column| match json::cell(table, clock, column, row) {
            Value::Null => String::new(),
            Value::String(value) => text.field(&value),
            other => other.to_string(),
        };
        let fields: Vec<String> = (0..table.headings.len()).map(field).collect();
        lines.push_str(&(fields.join(",") + "\r\n"));
    }
    lines
}

fn quote(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
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
        assert_eq!(
            (quote("a,b"), quote("say \"x\""), quote("=1+1")),
            ("\"a,b\"".into(), "\"say \"\"x\"\"\"".into(), "=1+1".into())
        );
    }

    #[test]
    fn a_terminal_and_a_spreadsheet_are_protected_at_once() {
        let field = |terminal, safe| Text { terminal, safe }.field("=\x1b[31m");
        assert_eq!(field(false, false), "=\x1b[31m");
        assert_eq!(field(true, false), "=\\x1b[31m");
        assert_eq!(field(false, true), "'=\x1b[31m");
        assert_eq!(field(true, true), "'=\\x1b[31m");
    }
}
