//! What a verb answers: a table, further sections, notes on exactness, and what is missing.

use super::clock::Clock;
use super::json;
use super::ledger::Losses;
use super::quantile::Log2;
use super::table::Table;
use super::window::Window;
use serde_json::Value as Json;

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The result proper.
    pub table: Option<Table>,
    /// What goes with it.
    pub sections: Vec<Section>,
    /// Lines for other programs, in place of a page.
    pub plain: Option<String>,
    /// What of it has been written as JSON: its first rows.
    pub written: json::Text,
    /// What to know when reading it.
    pub notes: Vec<String>,
    /// Its rows are single events: `--top` cuts the whole, since no two are of one interval.
    pub events: bool,
    /// Its order, where that is not the report's usual one.
    pub sort: Option<&'static str>,
}

/// A titled part of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Its key for programs.
    pub name: &'static str,
    /// Its title for people; empty: none.
    pub title: String,
    /// What it shows.
    pub body: Body,
}

/// What a section shows.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Names and values: key, value for programs, text for people.
    Facts(Vec<(&'static str, Json, String)>),
    /// A small table.
    Table(Table),
    /// A distribution by powers of two, with the unit of its values.
    Histogram(Box<Log2>, &'static str),
    /// Sentences.
    Lines(Vec<String>),
}

impl Answer {
    /// A table alone.
    pub fn of(table: Table) -> Self {
        Self { table: Some(table), ..Self::default() }
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a section.
    pub fn section(&mut self, name: &'static str, title: impl Into<String>, body: Body) {
        self.sections.push(Section { name, title: title.into(), body });
    }
}

/// An answer with what surrounds it: all that a printer needs.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    /// The verb.
    pub report: &'a str,
    /// The file.
    pub trace: &'a str,
    /// The span.
    pub window: Window,
    /// For times.
    pub clock: &'a Clock,
    /// The answer.
    pub answer: &'a Answer,
    /// What is missing in the span.
    pub losses: &'a Losses,
}
