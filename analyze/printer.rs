//! Intervals one after the other, under one heading.

use super::answer::Answer;
use super::clock::Clock;
use super::export::{self, Text};
use super::options::{Format, Options};
use super::table::Table;
use super::{json, print};
use anyhow::Result;
use std::io::{self, Write};

/// What was printed so far decides how the next rows stand.
pub(crate) struct Printer {
    format: Format,
    text: Text,
    widths: Vec<usize>,
    first: bool,
    threads: usize,
}

impl Printer {
    /// As the options say.
    pub fn new(options: &Options, terminal: bool) -> Self {
        let text = Text { terminal, safe: options.csv_safe };
        Self { format: options.format(), text, widths: Vec::new(), first: true, threads: options.threads }
    }

    /// The answer for one interval.
    pub fn print(&mut self, answer: &Answer, clock: &Clock, out: &mut dyn Write) -> Result<()> {
        if let Some(table) = &answer.table {
            self.rows(table, clock, out)?;
        }
        if self.format == Format::Table {
            out.write_all(print::sections(answer, clock).as_bytes())?;
        }
        Ok(out.flush()?)
    }

    /// More rows; the first ones have their heading above.
    pub fn rows(&mut self, table: &Table, clock: &Clock, out: &mut dyn Write) -> io::Result<()> {
        let (first, threads) = (std::mem::replace(&mut self.first, false), self.threads);
        match self.format {
            Format::Ndjson => json::lines(table, clock, threads, out),
            Format::Csv => export::csv(table, clock, self.text, (first, threads), out),
            _ => print::lines(table, clock, &mut self.widths, (first, threads), out),
        }
    }
}
