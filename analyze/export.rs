//! CSV and Parquet: the result's columns under their own names, nothing around them.

use super::clock::Clock;
use super::escape::visible;
use super::json;
use super::table::{Show, Table};
use anyhow::Result;
use polars::prelude::{DataType, TimeUnit, TimeZone};
use polars_io::parquet::write::ParquetWriter;
use serde_json::Value;

/// What is done to names in CSV.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Text {
    /// Nothing: they are data.
    #[default]
    AsIs,
    /// A terminal must not obey them.
    Visible,
    /// A spreadsheet must not compute them (`--csv-safe`).
    NoFormula,
}

impl Text {
    /// For a terminal or not, as asked for.
    pub fn new(terminal: bool, safe: bool) -> Self {
        match (terminal, safe) {
            (true, _) => Self::Visible,
            (false, true) => Self::NoFormula,
            (false, false) => Self::AsIs,
        }
    }

    fn field(self, text: &str) -> String {
        match self {
            Self::Visible => quote(&visible(text)),
            Self::NoFormula if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
                quote(&format!("'{text}"))
            }
            Self::AsIs | Self::NoFormula => quote(text),
        }
    }
}

/// RFC 4180: CRLF, quotes doubled.
pub(crate) fn csv(table: &Table, clock: &Clock, text: Text) -> String {
    let names: Vec<String> = table.headings.iter().map(|heading| quote(&heading.name)).collect();
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
}
