//! The columns that `--where` and `--by` can name: those of the report's table, and those of the
//! identity tables that it refers to, so that `comm`, `pid`, `rport` or `raddr` work on any event
//! that has a thread or a socket.
//!
//! Where two tables have a column of one name, the first has the plain name; each has its name with
//! the table in front as well (`task_netns`, `sock_netns`). A column in nanoseconds can be asked for
//! in other units: `latency_us`, `latency_ms`.

use super::error::{Failure, nearest};
use super::identity::Identity;
use super::rows::{Rows, Value};
use super::trace::Trace;
use crate::schema::{ColumnDef, ColumnType, TableDef};
use std::sync::Arc;

/// A column that can be named.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// What it is called.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What the table says of it.
    pub def: ColumnDef,
    /// Where it comes from.
    pub source: Source,
    /// Its values are text.
    pub text: bool,
    /// What a value is divided by.
    pub divisor: Option<f64>,
}

/// Where a column comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The event itself: position.
    Own(usize),
    /// The identity row that a column of the event refers to.
    Via {
        /// Position of the column with the id.
        key: usize,
        /// The identity table.
        identity: Arc<Identity>,
        /// Position there.
        column: usize,
    },
}

/// Everything that can be named for a table.
pub(crate) struct Inputs {
    table: String,
    list: Vec<Input>,
}

/// One word for several columns.
const ALIASES: [(&str, &[&str]); 4] = [
    ("task", &["pid", "comm"]),
    ("flow", &["laddr", "lport", "raddr", "rport"]),
    ("local", &["laddr", "lport"]),
    ("remote", &["raddr", "rport"]),
];

impl Inputs {
    /// Of a table and what it refers to.
    pub fn of(trace: &Trace, def: &TableDef) -> Self {
        let mut inputs = Self { table: def.name.clone(), list: Vec::new() };
        let own = (0..def.columns.len()).filter(|&column| Some(column) != def.time());
        own.for_each(|column| inputs.add(def, column, "", &Source::Own(column)));
        for (key, column) in def.columns.iter().enumerate() {
            let Some(identity) = trace.identity(&column.references) else { continue };
            let Some(of) = trace.table(&column.references) else { continue };
            let told = |name: &str| !matches!(name, "ts" | "cpu" | "ended");
            for column in
                (0..of.columns.len()).filter(|&at| told(&of.columns[at].name) && !of.columns[at].key)
            {
                let via = || Source::Via { key, identity: Arc::clone(&identity), column };
                inputs.add(of, column, "", &via());
                inputs.add(of, column, &format!("{}_", of.name), &via());
            }
        }
        inputs
    }

    fn add(&mut self, def: &TableDef, column: usize, prefix: &str, source: &Source) {
        let text = Rows::is_text(def, column);
        let def = &def.columns[column];
        let mut push = |name: String, unit: &str, divisor| {
            if self.list.iter().all(|input| input.name != name) {
                let (unit, def, source) = (unit.to_owned(), def.clone(), source.clone());
                self.list.push(Input { name, unit, def, source, text, divisor });
            }
        };
        let name = format!("{prefix}{}", def.name);
        push(name.clone(), &def.unit, None);
        if def.unit == "ns" {
            push(format!("{name}_us"), "us", Some(1e3));
            push(format!("{name}_ms"), "ms", Some(1e6));
        }
        if def.name == "tgid" {
            push(format!("{prefix}pid"), &def.unit, None);
        }
    }

    /// All of them, but for the spellings with a table in front.
    pub fn iter(&self) -> impl Iterator<Item = &Input> {
        let plain = |input: &&Input| match &input.source {
            Source::Own(_) => true,
            Source::Via { .. } => !input.name.starts_with("task_") && !input.name.starts_with("sock_"),
        };
        self.list.iter().filter(plain)
    }

    /// By name.
    pub fn find(&self, name: &str) -> Result<&Input, Failure> {
        let Some(input) = self.list.iter().find(|input| input.name == name) else {
            let names =
                self.list.iter().map(|input| input.name.as_str()).chain(ALIASES.iter().map(|alias| alias.0));
            let near = nearest(name, names).map_or(String::new(), |near| format!(": did you mean '{near}'?"));
            return Err(Failure::usage(format!("table {} has no column '{name}'{near}", self.table))
                .hint("the report with --columns lists what can be named"));
        };
        if input.def.absent.is_empty() {
            return Ok(input);
        }
        Err(Failure::cannot(format!("this trace has no {}.{name}: {}", self.table, input.def.absent)))
    }

    /// The columns of a list such as `task,rport`.
    pub fn list(&self, names: &str) -> Result<Vec<Input>, Failure> {
        let words = names.split(',').map(str::trim).filter(|word| !word.is_empty());
        let expand = |word| {
            ALIASES.iter().find(|alias| alias.0 == word).map_or_else(|| vec![word], |alias| alias.1.to_vec())
        };
        let mut list: Vec<Input> = Vec::new();
        for name in words.flat_map(expand) {
            if list.iter().all(|input| input.name != name) {
                list.push(self.find(name)?.clone());
            }
        }
        Ok(list)
    }
}

impl Input {
    /// The columns of the event that it needs.
    pub fn needs(&self, def: &TableDef) -> Vec<usize> {
        match &self.source {
            Source::Own(column) => vec![*column],
            Source::Via { key, .. } => std::iter::once(*key).chain(def.time()).collect(),
        }
    }

    /// Whether the event itself holds bytes, and not a number.
    pub fn is_bytes(&self) -> bool {
        matches!(self.source, Source::Own(_)) && !matches!(self.def.kind, ColumnType::Number { .. })
    }

    /// The identity row behind an event; `None` where it is not known.
    pub fn row(&self, rows: &Rows, row: usize) -> Option<u32> {
        let Source::Via { key, identity, .. } = &self.source else { return None };
        let moment = rows.def.time().map_or(0, |ts| rows.raw(ts, row));
        identity.find(rows.get(*key, row)?.cast_unsigned(), moment)
    }

    /// The value in an event.
    pub fn value(&self, trace: &Trace, rows: &Rows, row: usize) -> Value {
        match &self.source {
            Source::Own(column) => rows.value(trace.labels(), *column, row),
            Source::Via { identity, column, .. } => {
                self.row(rows, row).map_or(Value::Null, |found| identity.value(trace, *column, found))
            }
        }
    }
}
