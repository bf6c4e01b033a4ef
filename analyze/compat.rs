//! What the printers behind `--compat` share: cells of an answer by the name of their column.

use super::answer::Answer;
use super::clock::Clock;
use super::escape::visible;
use super::table::{TIME, Table};
use polars::prelude::AnyValue;

/// The rows of an answer.
pub(crate) struct Lines<'a> {
    table: Option<&'a Table>,
}

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    table: &'a Table,
    row: usize,
}

impl<'a> Lines<'a> {
    /// Of an answer, in its order.
    pub fn of(answer: &'a Answer) -> Self {
        Self { table: answer.table.as_ref() }
    }

    /// Whether the answer has such a column: counts of `--by` do not.
    pub fn has(&self, column: &str) -> bool {
        self.table.is_some_and(|table| table.heading(column).is_ok())
    }

    /// Each row.
    pub fn iter(&self) -> impl Iterator<Item = Line<'a>> {
        self.table.into_iter().flat_map(|table| (0..table.height()).map(move |row| Line { table, row }))
    }
}

/// How tcpconnect and tcpconnlat of bcc begin a line, and without one, the head.
pub(crate) fn opened(line: Option<&Line>) -> String {
    let [pid, comm, ip, saddr, daddr] = match line {
        None => ["PID", "COMM", "IP", "SADDR", "DADDR"].map(str::to_owned),
        Some(line) => {
            let number = |column| line.int(column).to_string();
            [number("pid"), line.text("comm"), number("ip"), line.text("laddr"), line.text("raddr")]
        }
    };
    format!("{pid:<7} {comm:<12.12} {ip:<2} {saddr:<16} {daddr:<16}")
}

impl Line<'_> {
    fn cell(&self, column: &str) -> AnyValue<'_> {
        let at = self.table.headings.iter().position(|heading| heading.name == column);
        at.map_or(AnyValue::Null, |at| self.table.cell(at, self.row))
    }

    /// A text, harmless for terminals; `-` where it is not known.
    pub fn text(&self, column: &str) -> String {
        match self.cell(column) {
            AnyValue::String(text) => visible(text),
            AnyValue::StringOwned(text) => visible(&text),
            AnyValue::Null => "-".into(),
            other => other.to_string(),
        }
    }

    /// A whole number; 0 where it is not known, as bcc prints it.
    pub fn int(&self, column: &str) -> i64 {
        self.cell(column).try_extract().unwrap_or(0)
    }

    /// A number with a fraction.
    pub fn float(&self, column: &str) -> f64 {
        self.cell(column).try_extract().unwrap_or(0.0)
    }

    /// An address and a port.
    pub fn endpoint(&self, address: &str, port: &str) -> String {
        format!("{}:{}", self.text(address), self.int(port))
    }

    /// Whether its sockets are IPv6.
    pub fn is_v6(&self) -> bool {
        self.text("laddr").contains(':')
    }

    /// The begin of its interval, or its own time.
    pub fn time(&self, clock: &Clock) -> String {
        clock.time_of_day(self.int(TIME), 0)
    }
}
