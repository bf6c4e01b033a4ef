//! The columns that `--where` and `--by` can name: those of the report's table, and those of the
//! identity tables that it refers to, so that `comm`, `pid`, `rport` or `raddr` work on any event
//! that has a thread or a socket.
//!
//! Where two tables have a column of one name, the first has the plain name; each has its name with
//! the table in front as well (`task_netns`, `sock_netns`). A socket's owner is named too
//! (`owner_comm`, `owner_pid`): where an event does not know its thread in every row, as changes of
//! state in interrupt context do not, the plain names `comm` and `pid` are the owner's. A column in
//! nanoseconds can be asked for in other units: `latency_us`, `latency_ms`; `--by` groups by whole ones.
//!
//! `host` and `file` are the recording's own, the same for all its events: what tells recordings apart that are
//! answered side by side ([`super::beside`]). Only a text of the event's hides them (the `host` that a lookup of names
//! asks for, the `file` that was executed); an id of that name has the table in front (`file_io_file`).
//!
//! An identity table's column is read when it is first named: most questions name none or one.

use super::error::{Failure, nearest};
use super::identity::Identity;
use super::load::Scan;
use super::members::Members;
use super::rows::{Rows, Value};
use super::trace::Trace;
use crate::schema::{ColumnDef, ColumnType, TableDef};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

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
    /// A longer spelling of a name that stands before it.
    spelling: bool,
}

/// Where a column comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The event itself: position.
    Own(usize),
    /// The recording: what it is called.
    Recording(Arc<str>),
    /// An identity row that the event refers to.
    Via {
        /// How to find the row.
        link: Link,
        /// Position there.
        column: usize,
    },
}

/// An identity table of which nothing may have been named yet.
#[derive(Debug)]
pub(crate) struct Lazy {
    table: String,
    identity: OnceLock<Arc<Identity>>,
}

impl Lazy {
    /// If the trace has such a table.
    fn of(trace: &Trace, table: &str) -> Option<Arc<Self>> {
        let keyed = trace.table(table)?.key().is_some();
        keyed.then(|| Arc::new(Self { table: table.to_owned(), identity: OnceLock::new() }))
    }

    fn load(&self, trace: &Trace, column: usize) {
        if let Some(identity) = trace.rows_behind(&self.table) {
            identity.need(trace, &[column]);
            self.identity.get_or_init(|| identity);
        }
    }
}

impl Deref for Lazy {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        self.identity.get().expect("Inputs loads what it hands out")
    }
}

/// From an event to an identity row.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Position of the event's column with the id.
    pub key: usize,
    /// The identity table.
    pub identity: Arc<Lazy>,
    /// A socket's owner is found through the socket.
    through: Option<Through>,
}

/// A table between an event and what it refers to.
#[derive(Clone, Debug)]
struct Through {
    between: Arc<Lazy>,
    /// Position of its column with the id.
    column: usize,
    /// Per row of `between`, the row of the table behind it.
    rows: Arc<OnceLock<Vec<Option<u32>>>>,
}

impl Link {
    /// The row behind an event; `None` where it is not known.
    pub fn find(&self, rows: &Rows, row: usize) -> Option<u32> {
        self.find_id(rows.get(self.key, row)?.cast_unsigned(), rows.moment(row))
    }

    /// The row behind an id at a moment.
    pub fn find_id(&self, id: u64, moment: u64) -> Option<u32> {
        match &self.through {
            None => self.identity.find(id, moment),
            Some(through) => {
                let rows = through.rows.get_or_init(|| through.resolve(&self.identity));
                rows[through.between.find(id, moment)? as usize]
            }
        }
    }

    /// Whether the id alone says which row it is, at any moment.
    pub fn is_fixed(&self) -> bool {
        !self.first().by_moment()
    }

    /// The table that has the id.
    fn first(&self) -> &Identity {
        self.through.as_ref().map_or(&self.identity, |through| &through.between)
    }

    /// The ids whose rows have a number in a column, where that depends on no moment.
    fn ids_with(&self, column: usize, number: i64) -> Members {
        let has = |row: u32| self.identity.get(column, row) == Some(number);
        if self.through.is_none() {
            return self.identity.latest().filter(|&(_, row)| has(row)).map(|(key, _)| key).collect();
        }
        let found = |&id: &u64| self.find_id(id, 0).is_some_and(has);
        self.first().keys().filter(found).collect()
    }

    /// Whether both always find the same row.
    pub fn same(&self, other: &Self) -> bool {
        let column = |link: &Self| link.through.as_ref().map(|through| through.column);
        self.key == other.key && column(self) == column(other)
    }

    /// Whether both find the same row by the same number, which their events may have in different columns.
    fn finds_same(&self, other: &Self) -> bool {
        let between = |link: &Self| {
            link.through.as_ref().map(|through| (through.between.table.clone(), through.column))
        };
        self.identity.table == other.identity.table && between(self) == between(other)
    }

    fn load(&self, trace: &Trace, column: usize) {
        self.identity.load(trace, column);
        if let Some(through) = &self.through {
            through.between.load(trace, through.column);
        }
    }
}

impl Through {
    /// As of the row in between, so that a socket keeps one owner's name when its owner takes another.
    fn resolve(&self, identity: &Identity) -> Vec<Option<u32>> {
        let between = &self.between;
        let mut behind = vec![None; between.len()];
        for rows in between.all().chunk_by(|&a, &b| between.key(a) == between.key(b)) {
            // Rows that say the same again do not make it anew.
            for rows in rows.chunk_by(|&a, &b| between.get(self.column, a) == between.get(self.column, b)) {
                let id = between.get(self.column, rows[0]).map(i64::cast_unsigned);
                let found = id.and_then(|id| identity.find(id, between.moment(rows[0])));
                for &row in rows {
                    behind[row as usize] = found;
                }
            }
        }
        behind
    }
}

/// What names a recording.
pub(crate) const RECORDING: [&str; 2] = ["host", "file"];

/// Everything that can be named for a table.
pub(crate) struct Inputs<'a> {
    trace: &'a Trace,
    table: String,
    list: Arc<[Input]>,
}

/// The same in the making.
struct Lister<'a> {
    trace: &'a Trace,
    list: Vec<Input>,
}

/// One word for several columns.
const ALIASES: [(&str, &[&str]); 5] = [
    (
        "connection",
        &["sock", "family", "laddr", "lport", "raddr", "rport", "sock_netns", "owner", "owner_comm"],
    ),
    ("task", &["pid", "comm"]),
    ("flow", &["laddr", "lport", "raddr", "rport"]),
    ("local", &["laddr", "lport"]),
    ("remote", &["raddr", "rport"]),
];

impl Lister<'_> {
    /// All of a table and what it refers to.
    fn list(mut self, def: &TableDef) -> Vec<Input> {
        let own = (0..def.columns.len()).filter(|&column| Some(column) != def.time());
        for column in own {
            let taken = !Rows::is_text(def, column) && RECORDING.contains(&def.columns[column].name.as_str());
            let prefix = if taken { format!("{}_", def.name) } else { String::new() };
            self.add(def, column, &prefix, &Source::Own(column));
        }
        self.name_recording();
        let refers = |null: bool| {
            let to = move |&key: &usize| def.columns[key].null.is_some() == null;
            (0..def.columns.len()).filter(to)
        };
        for key in refers(false) {
            self.refer(def, key);
        }
        for key in refers(false) {
            self.refer_on(&def.columns[key].references, key);
        }
        for key in refers(true) {
            self.refer(def, key);
        }
        self.list
    }

    /// What is the same for all events.
    fn name_recording(&mut self) {
        let names = [self.trace.reader.host.hostname.as_str(), self.trace.name.as_str()];
        let docs = ["machine of the recording", "name of the trace"];
        for ((column, name), doc) in RECORDING.into_iter().zip(names).zip(docs) {
            if self.list.iter().any(|input| input.name == column) {
                continue;
            }
            self.list.push(Input {
                name: column.to_owned(),
                unit: String::new(),
                def: ColumnDef { doc: doc.to_owned(), ..ColumnDef::new(column, ColumnType::Text) },
                source: Source::Recording(name.into()),
                text: true,
                divisor: None,
                spelling: false,
            });
        }
    }

    /// What column `key` refers to. A second column with ids of the same table gives its own name to what it refers
    /// to: `waker_comm` beside `comm`.
    fn refer(&mut self, of: &TableDef, key: usize) {
        let table = &of.columns[key].references;
        let (Some(identity), Some(def)) = (Lazy::of(self.trace, table), self.trace.table(table)) else {
            return;
        };
        let again = of.columns[..key].iter().any(|column| column.references == *table);
        let prefix = if again { &of.columns[key].name } else { &def.name };
        self.add_row(def, prefix, &Link { key, identity, through: None });
    }

    /// What the row that column `key` refers to refers to in its turn.
    fn refer_on(&mut self, table: &str, key: usize) {
        let (Some(between), Some(of)) = (Lazy::of(self.trace, table), self.trace.table(table)) else {
            return;
        };
        // A text with references is a list of ids: which of them would that be?
        let one = |def: &ColumnDef| def.references != table && def.kind != ColumnType::Text;
        for (column, def) in of.columns.iter().enumerate().filter(|(_, def)| one(def)) {
            let to = &def.references;
            let (Some(identity), Some(behind)) = (Lazy::of(self.trace, to), self.trace.table(to)) else {
                continue;
            };
            let through = Some(Through { between: Arc::clone(&between), column, rows: Arc::default() });
            self.add_row(behind, &def.name, &Link { key, identity, through });
        }
    }

    fn add_row(&mut self, def: &TableDef, prefix: &str, link: &Link) {
        let told =
            |column: &ColumnDef| !column.key && !matches!(column.name.as_str(), "ts" | "cpu" | "ended");
        for column in (0..def.columns.len()).filter(|&at| told(&def.columns[at])) {
            let source = Source::Via { link: link.clone(), column };
            self.add(def, column, "", &source);
            self.add(def, column, &format!("{prefix}_"), &source);
        }
    }

    fn add(&mut self, def: &TableDef, column: usize, prefix: &str, source: &Source) {
        let text = Rows::is_text(def, column);
        let def = &def.columns[column];
        let mut push = |name: String, unit: &str, divisor| {
            if self.list.iter().all(|input| input.name != name) {
                let plain = name.strip_prefix(prefix).filter(|_| !prefix.is_empty());
                let spelling = plain.is_some_and(|plain| self.names_same(plain, source));
                let (unit, def, source) = (unit.to_owned(), def.clone(), source.clone());
                self.list.push(Input { name, unit, def, source, text, divisor, spelling });
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

    /// Whether a name means a column of that row already.
    fn names_same(&self, name: &str, source: &Source) -> bool {
        let same = |input: &Input| match (&input.source, source) {
            (Source::Via { link: a, .. }, Source::Via { link: b, .. }) => a.same(b),
            _ => false,
        };
        self.list.iter().find(|input| input.name == name).is_some_and(same)
    }
}

impl<'a> Inputs<'a> {
    /// Of a table and what it refers to; listed once for each table of a trace.
    pub fn of(trace: &'a Trace, def: &TableDef) -> Self {
        let list = trace.inputs(def.number, || Lister { trace, list: Vec::new() }.list(def));
        Self { trace, table: def.name.clone(), list }
    }

    /// What can be named, but for longer spellings; values only come from what was found by name.
    pub fn iter(&self) -> impl Iterator<Item = &Input> {
        self.list.iter().filter(|input| !input.spelling)
    }

    /// By name, whether this trace has values for it or not.
    pub fn get(&self, name: &str) -> Option<&Input> {
        let input = self.list.iter().find(|input| input.name == name)?;
        if let Source::Via { link, column } = &input.source {
            link.load(self.trace, *column);
        }
        Some(input)
    }

    /// By name.
    pub fn find(&self, name: &str) -> Result<&Input, Failure> {
        let Some(input) = self.get(name) else {
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
        let names: Vec<&str> = words.flat_map(expand).collect();
        self.load_together(&names);
        let mut list: Vec<Input> = Vec::new();
        for name in names {
            if list.iter().all(|input| input.name != name) {
                list.push(self.find(name)?.clone());
            }
        }
        Ok(list)
    }

    /// What is behind several names, in one pass over each table.
    fn load_together(&self, names: &[&str]) {
        let mut columns: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for input in names.iter().filter_map(|name| self.list.iter().find(|input| input.name == *name)) {
            if let Source::Via { link, column } = &input.source {
                columns.entry(&link.identity.table).or_default().push(*column);
            }
        }
        for (table, columns) in columns {
            if let Some(identity) = self.trace.rows_behind(table) {
                identity.need(self.trace, &columns);
            }
        }
    }
}

impl Input {
    /// How many of its own units make one of those that it is asked for in.
    pub fn whole(&self) -> i64 {
        self.divisor.map_or(1, |divisor| divisor as i64)
    }

    /// Whether a number that stands for a value of this one stands for the same value of another table's. Numbers
    /// of texts in events are each fold's own.
    pub fn means_same(&self, other: &Self) -> bool {
        match (&self.source, &other.source) {
            (Source::Own(_), Source::Own(_)) => {
                let of = |input: &Self| (input.def.kind, input.def.null, input.whole());
                !self.is_bytes() && of(self) == of(other) && self.def.enumeration == other.def.enumeration
            }
            (Source::Recording(name), Source::Recording(other)) => name == other,
            (Source::Via { link, column }, Source::Via { link: other_link, column: other }) => {
                column == other && link.finds_same(other_link)
            }
            _ => false,
        }
    }

    /// The columns of the event that it needs, and the moment, for which most have another use.
    pub fn needs(&self, def: &TableDef) -> Vec<usize> {
        match &self.source {
            Source::Via { link, .. } => std::iter::once(link.key).chain(def.time()).collect(),
            Source::Own(_) | Source::Recording(_) => self.least(def),
        }
    }

    /// The columns of the event that it cannot do without: a moment costs as much to decode as all else together.
    pub fn least(&self, def: &TableDef) -> Vec<usize> {
        match &self.source {
            Source::Own(column) => vec![*column],
            Source::Recording(_) => Vec::new(),
            Source::Via { link, .. } if link.is_fixed() => vec![link.key],
            Source::Via { link, .. } => std::iter::once(link.key).chain(def.time()).collect(),
        }
    }

    /// Whether the event itself holds bytes, and not a number.
    pub fn is_bytes(&self) -> bool {
        matches!(self.source, Source::Own(_)) && !matches!(self.def.kind, ColumnType::Number { .. })
    }

    /// Only the rows of a scan that have a number here; where an id alone says it, each is looked up once.
    pub fn only(self, scan: Scan<'_>, number: i64) -> Scan<'_> {
        match &self.source {
            Source::Own(column) => scan.only([*column], move |[found]| found == Some(number)),
            Source::Via { link, column } if link.is_fixed() => {
                let ids = link.ids_with(*column, number);
                scan.only([link.key], move |[id]| id.is_some_and(|id| ids.has(id.cast_unsigned())))
            }
            _ => {
                let needs = self.needs(&scan.def);
                scan.with(needs).keeping(move |rows, row| self.number(rows, row) == Some(number))
            }
        }
    }

    /// The number in an event; `None` where it is not known.
    pub fn number(&self, rows: &Rows, row: usize) -> Option<i64> {
        match &self.source {
            Source::Own(column) => rows.get(*column, row),
            Source::Recording(_) => None,
            Source::Via { link, column } => link.identity.get(*column, link.find(rows, row)?),
        }
    }

    /// The value in an event.
    pub fn value(&self, trace: &Trace, rows: &Rows, row: usize) -> Value {
        match &self.source {
            Source::Own(column) => rows.value(trace.labels(), *column, row),
            Source::Recording(name) => Value::Text(Arc::clone(name)),
            Source::Via { link, column } => {
                let found = link.find(rows, row);
                found.map_or(Value::Null, |found| link.identity.value(trace, *column, found))
            }
        }
    }
}
