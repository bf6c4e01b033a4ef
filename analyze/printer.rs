//! Intervals one after the other, under one heading.

use super::answer::Answer;
use super::clock::Clock;
use super::export::{self, Text};
use super::options::{Format, Options};
use super::table::Table;
use super::{json, print};
use anyhow::Result;
use std::io::Write;

/// What was printed so far decides how the next rows stand.
pub(crate) struct Printer {
    format: Format,
    text: Text,
    widths: Vec<usize>,
    first: bool,
}

impl Printer {
    /// As the options say.
    pub fn new(options: &Options, terminal: bool) -> Self {
        let text = Text { terminal, safe: options.csv_safe };
        Self { format: options.format(), text, widths: Vec::new(), first: true }
    }

    /// The answer for one interval.
    pub fn print(&mut self, answer: &Answer, clock: &Clock, out: &mut dyn Write) -> Result<()> {
        if let Some(table) = &answer.table {
            out.write_all(self.rows(table, clock).as_bytes())?;
        }
        if self.format == Format::Table {
            out.write_all(print::sections(answer, clock).as_bytes())?;
        }
        Ok(out.flush()?)
    }

    /// More rows; the first ones have their heading above.
    pub fn rows(&mut self, table: &Table, clock: &Clock) -> String {
        let first = std::mem::replace(&mut self.first, false);
        match self.format {
            Format::Ndjson => json::rows(table, clock).map(|row| json::text(&row, false)).collect(),
            Format::Csv => {
                let text = export::csv(table, clock, self.text);
                let begin = if first { 0 } else { text.find("\r\n").map_or(0, |end| end + 2) };
                text[begin..].to_owned()
            }
            _ => print::continued(table, clock, &mut self.widths, first),
        }
    }
}
