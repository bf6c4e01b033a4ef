//! Reports: one question each, one file each.
//!
//! A report is a `pub static REPORT: Report` in a file of this folder; the build finds it, and its
//! name is a verb. It says what it needs and what its columns mean, and its `run` folds events into
//! a table through a [`Context`], which has already applied `--from`, `--to` and `--where`, knows the
//! intervals and the columns of `--by`, and marks what is a lower bound. Sorting, cutting, printing
//! and comparing are the same for all.
//!
//! ```text
//! fn run(context: &Context) -> Result<Answer> {
//!     let mut scan = context.scan("sock_send")?;
//!     let ret = scan.column("ret")?;
//!     let grouping = context.grouping(&scan)?;
//!     let groups = grouping.sum(&scan, [ret], |sum: &mut Sum, [ret]| sum.0 += ret.unwrap_or(0));
//!     let mut table = context.keys(&grouping, &groups);
//!     table.ints(context.output("bytes"), groups.iter().map(|group| Some(group.state.0)));
//!     Ok(Answer::of(table.build()?))
//! }
//! ```

use super::answer::Answer;
pub(crate) use super::context::Context;
pub(crate) use super::fit::{Fit, defined, fit, recorded};
pub(crate) use super::flag::Flag;
use super::table::Output;
use anyhow::Result;
use std::fmt::Write as _;
use std::io;

include!(concat!(env!("OUT_DIR"), "/reports.rs"));

/// What reports are called.
pub fn names() -> impl Iterator<Item = &'static str> {
    REPORTS.iter().map(|report| report.name)
}

/// Those that print as another tool does, with `--compat`.
pub fn layouts() -> impl Iterator<Item = &'static str> {
    REPORTS.iter().filter(|report| report.compat.is_some()).map(|report| report.name)
}

/// One question and how to answer it.
pub struct Report {
    pub(crate) name: &'static str,
    pub(crate) question: &'static str,
    /// What exactly is counted, for the help text and below each result.
    pub(crate) exactness: &'static str,
    /// What must be recorded; the first table is the one that `--where` and `--by` are about.
    pub(crate) needs: &'static [Need],
    /// The columns of the result besides interval, `--by` and `lower_bound`.
    pub(crate) outputs: &'static [Output],
    /// What `--by`, `--sort`, `--top` and `--interval` are where they are not given.
    pub(crate) defaults: Defaults,
    /// Options of its own.
    pub(crate) flags: &'static [Flag],
    /// How well a trace that has the tables answers, where these alone do not say.
    pub(crate) fit: Option<Fit>,
    pub(crate) run: fn(&Context) -> Result<Answer>,
    /// Writes an answer as the bcc tool would.
    pub(crate) compat: Option<Compat>,
}

/// The printer behind `--compat`.
pub(crate) type Compat = fn(&Context, &Answer, &mut dyn io::Write) -> io::Result<()>;

/// A table that a report reads.
pub(crate) struct Need {
    /// The table; [`ANY`]: any of the group.
    pub table: &'static str,
    /// The probe group that fills it.
    pub group: &'static str,
    /// Its columns that the report has no use for: that a probe does not fill them is no matter.
    unused: &'static [&'static str],
}

impl Need {
    /// A table of a group, with all its columns.
    pub const fn of(table: &'static str, group: &'static str) -> Self {
        Self { table, group, unused: &[] }
    }

    /// Without those.
    pub const fn but(self, unused: &'static [&'static str]) -> Self {
        Self { unused, ..self }
    }

    /// Which of the columns that a probe does not fill, as `table.column,…`, the report would have had a use for.
    pub fn missed(&self, absent: &str) -> Vec<String> {
        let columns = absent.split(',').map(str::trim).filter(|column| !column.is_empty());
        let used =
            |column: &&str| column.rsplit_once('.').is_none_or(|(_, name)| !self.unused.contains(&name));
        columns.filter(used).map(str::to_owned).collect()
    }
}

/// A report on whatever tables a group has.
pub(crate) const ANY: &str = "*";

/// What holds where the command line says nothing.
pub(crate) struct Defaults {
    pub by: &'static str,
    pub sort: &'static str,
    pub top: Option<usize>,
    /// `None`: the whole span is one interval.
    pub interval: Option<&'static str>,
}

/// The columns of a report's result, for people.
pub(crate) fn outputs(report: &Report) -> String {
    let mut text = String::from("Columns of the result:\n");
    for output in report.outputs {
        writeln!(text, "  {:<16} {:<6} {}", output.name, output.unit, output.doc).expect("a String grows");
    }
    text
}
