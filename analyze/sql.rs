//! `analyze TRACE sql "SELECT …"`: any question, in SQL.
//!
//! ```text
//! $ analyze trace.bin sql "SELECT comm, rport, count(*) AS calls, sum(ret) AS bytes
//!                          FROM sock_send WHERE ret > 0 GROUP BY comm, rport ORDER BY bytes DESC LIMIT 3"
//! comm   rport  calls   bytes
//! redis  35516  12003  960240
//! ```
//!
//! Each table of the trace is a view in which identity is joined already: an event has the name and
//! process of its thread (`comm`, `pid`), the addresses of its socket, the path of its file, under the
//! names that `--where` has. All views have `time` (wall clock, ns) and `at_ns` (since the start of the
//! trace). `sql --tables` lists them with units. `--from` and `--to` cut the trace before.
//!
//! Only the tables and columns that a query names are decoded, into memory: 9 bytes a number, and texts at
//! their length. Rows that the query leaves in no order, or that are equal in it, are ordered by all their
//! columns, so that a query has one answer.

use super::answer::{Answer, Body};
use super::columns::{Cells, cells, series};
use super::error::{Failure, nearest};
use super::fit::no_table;
use super::input::{Input, Inputs};
use super::load::Scan;
use super::report::defined;
use super::room::{self, Row};
use super::table::{Heading, Show, TIME, Table};
use super::trace::Trace;
use super::window::Window;
use crate::schema::{Role, TableDef};
use anyhow::Result;
use polars::prelude::{
    DataFrame, DataType, IntoColumn, IntoLazy, NamedFrom, PolarsError, Series, UniqueKeepStrategy,
};
use polars::sql::{SQLContext, extract_table_identifiers};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// Name of the column with the time since the start.
const AT: &str = "at_ns";

/// The answer, and the tables that it read.
pub(crate) fn answer(trace: &Trace, window: Window, query: &str, memory: u64) -> Result<(Answer, Vec<u16>)> {
    asks(query)?;
    defined(trace, "sql", "")?;
    let defs = tables_of(trace, query)?;
    let words = Words::of(query);
    let views: Vec<View> = defs.iter().map(|def| View::new(trace, def, window, &words)).collect();
    room(&views, memory)?;
    let mut context = SQLContext::new();
    for view in &views {
        context.register(&view.scan.def.name, view.read(trace)?.lazy());
    }
    let frame = execute(&mut context, query).map_err(|error| with_nearest(trace, &defs, error))?;
    let table = Table { headings: headings(trace, &defs, &frame), frame };
    let numbers = defs.iter().map(|def| def.number).collect();
    Ok((Answer { events: true, ..Answer::of(table) }, numbers))
}

/// Statements that change the views would change nothing, and say that they had.
fn asks(query: &str) -> Result<(), Failure> {
    let words = Words::of(query);
    let first = words.list.first().map_or("", |word| word.2.as_str());
    if ["select", "with", "from", "values", "explain", "show"].contains(&first) {
        return Ok(());
    }
    Err(Failure::usage(format!("sql: expected a question that begins with SELECT or WITH, found '{first}'"))
        .hint("a trace is never changed; analyze TRACE sql --tables lists tables and columns"))
}

fn wrong(error: &PolarsError) -> Failure {
    let text = error.to_string();
    let text = text.strip_prefix("invalid query: ").unwrap_or(&text);
    Failure::usage(format!("sql: {text}")).hint("analyze TRACE sql --tables lists tables and columns")
}

/// A column that is not there: the nearest of those that are. Views have only columns that the query names, so that the
/// engine's own list is no help.
fn with_nearest(trace: &Trace, defs: &[&Arc<TableDef>], error: anyhow::Error) -> anyhow::Error {
    let text = error.to_string();
    let wrong = ["unable to find column \"", "not found: \"", "no column named '"]
        .iter()
        .find_map(|before| text.split_once(before)?.1.split(['"', '\'']).next());
    let Some(wrong) = wrong else { return error };
    let inputs: Vec<Inputs> = defs.iter().map(|def| Inputs::of(trace, def)).collect();
    if inputs.is_empty() || inputs.iter().any(|inputs| inputs.get(wrong).is_some()) {
        return error;
    }
    let names = inputs.iter().flat_map(Inputs::iter).map(|input| input.name.as_str());
    let near = nearest(wrong, names.chain([TIME, AT]))
        .map_or(String::new(), |near| format!(": did you mean '{near}'?"));
    let tables: Vec<&str> = defs.iter().map(|def| def.name.as_str()).collect();
    Failure::usage(format!("sql: {} has no column '{wrong}'{near}", tables.join(", ")))
        .hint("analyze TRACE sql --tables lists tables and columns")
        .into()
}

/// The tables that a query names.
fn tables_of<'a>(trace: &'a Trace, query: &str) -> Result<Vec<&'a Arc<TableDef>>, Failure> {
    let named = extract_table_identifiers(query, false, true).map_err(|error| wrong(&error))?;
    // A name that WITH defines is no table of the trace.
    let known: Vec<_> = named.iter().filter_map(|name| trace.table(name)).collect();
    let defines = |name: &&String| !Words::of(query).follows(name, "as");
    match named.iter().filter(|name| trace.table(name).is_none()).find(defines) {
        None => Ok(known),
        Some(name) => Err(no_table(trace, name)),
    }
}

/// A table with identity joined: of its columns those that the query names.
struct View<'a> {
    inputs: Vec<Input>,
    scan: Scan<'a>,
}

impl<'a> View<'a> {
    fn new(trace: &'a Trace, def: &Arc<TableDef>, window: Window, words: &Words) -> Self {
        let named = Inputs::of(trace, def);
        let names: BTreeSet<&str> = if words.all() {
            let all = named.iter().filter(|input| input.divisor.is_none());
            all.map(|input| input.name.as_str()).collect()
        } else {
            let key = def.columns.iter().filter(|column| column.key).map(|column| column.name.as_str());
            words.list.iter().map(|word| word.2.as_str()).chain(key).collect()
        };
        let inputs: Vec<Input> = names.into_iter().filter_map(|name| named.get(name).cloned()).collect();
        let window = if def.role == Role::Event { window } else { Window { from: 0, to: u64::MAX } };
        let mut scan = Scan::new(trace, def, window);
        inputs
            .iter()
            .flat_map(|input| input.needs(def))
            .chain(def.time())
            .for_each(|column| scan.add(column));
        Self { inputs, scan }
    }

    /// How many rows there can be, and what they take together.
    fn size(&self) -> (u64, u64) {
        let texts = self.inputs.iter().filter(|input| input.text).count();
        // Two more are the time.
        let row = Row { numbers: self.inputs.len() - texts + 2, texts };
        let rows = self.scan.most_rows();
        (rows, rows.saturating_mul(row.queried()))
    }

    fn read(&self, trace: &Trace) -> Result<DataFrame> {
        let read = self.scan.map(&self.scan.frames(), |chunk| {
            let (rows, each) = (chunk.rows(), chunk.each().collect::<Vec<usize>>());
            let times: Vec<u64> = each.iter().map(|&row| rows.moment(row)).collect();
            let of = |input: &Input| cells(trace, input, rows, each.iter().copied());
            (times, self.inputs.iter().map(of).collect::<Vec<Cells>>())
        });
        let (times, parts): (Vec<Vec<u64>>, Vec<Vec<Cells>>) = read.into_iter().flatten().unzip();
        let times = times.concat();
        let column = |name: &str, of: &dyn Fn(u64) -> i64| {
            let values: Vec<Option<i64>> = times.iter().map(|&time| (time > 0).then(|| of(time))).collect();
            Series::new(name.into(), values).into_column()
        };
        let start = trace.span.from;
        let mut columns = vec![
            column(TIME, &|time| trace.clock.wall(time)),
            column(AT, &|time| time.cast_signed() - start.cast_signed()),
        ];
        columns.extend(
            self.inputs.iter().enumerate().map(|(at, input)| series(input, &parts, at).into_column()),
        );
        let frame = DataFrame::new(times.len(), columns)?;
        Ok(match self.scan.def.role {
            // Frames of different processors overlap.
            Role::Event => frame.sort([AT], stable())?,
            // Each epoch repeats what it uses.
            Role::Identity => frame.unique_stable(None, UniqueKeepStrategy::First, None)?,
            Role::Record => frame,
        })
    }
}

/// Whether `--memory` has room for what a query reads; what it makes of that is not known before.
fn room(views: &[View], memory: u64) -> Result<(), Failure> {
    let sizes = || views.iter().map(View::size);
    let (rows, bytes) =
        sizes().fold((0u64, 0u64), |sum, size| (sum.0 + size.0, sum.1.saturating_add(size.1)));
    let names: Vec<&str> = views.iter().map(|view| view.scan.def.name.as_str()).collect();
    let what = format!("sql: {}", names.join(", "));
    let hint = "name fewer columns, narrow with --from and --to, or allow more with --memory; reports (analyze --help) add up \
                without holding rows";
    room::check(&what, rows, bytes, memory, hint)
}

fn stable() -> polars::prelude::SortMultipleOptions {
    polars::prelude::SortMultipleOptions::default().with_maintain_order(true)
}

/// Runs a query so that its rows have one order.
fn execute(context: &mut SQLContext, query: &str) -> Result<DataFrame> {
    let run = |context: &mut SQLContext, query: &str| {
        context.execute(query).and_then(polars::prelude::LazyFrame::collect)
    };
    let mut plan = context.execute(query).map_err(|error| wrong(&error))?;
    let width = plan.collect_schema().map_err(|error| wrong(&error))?.len();
    let ordered = total_order(query, width).and_then(|query| run(context, &query).ok());
    Ok(match ordered {
        Some(frame) => frame,
        None => run(context, query).map_err(|error| wrong(&error))?,
    })
}

/// The query with all its columns at the end of its outermost ORDER BY; `None` for one whose rows are in the order
/// of time.
fn total_order(query: &str, width: usize) -> Option<String> {
    let words = Words::of(query.trim_end().trim_end_matches(';'));
    let ordered = words.outermost("order");
    if ordered.is_none() && !["group", "distinct", "union", "join"].iter().any(|word| words.has(word)) {
        return None;
    }
    let end = ["limit", "offset", "fetch"].iter().filter_map(|word| words.outermost(word)).min();
    let end = end.filter(|&end| ordered.is_none_or(|order| order < end)).unwrap_or(words.text.len());
    let all: Vec<String> = (1..=width).map(|column| column.to_string()).collect();
    let (head, tail) = words.text.split_at(end);
    let link = if ordered.is_some() { "," } else { " ORDER BY" };
    Some(format!("{head}{link} {} {tail}", all.join(", ")))
}

/// The words of a query, outside of its texts, with their place and how deep in brackets they stand.
struct Words<'a> {
    text: &'a str,
    list: Vec<(usize, usize, String)>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let (mut list, mut depth, mut quoted): (Vec<(usize, usize, String)>, usize, bool) =
            (Vec::new(), 0, false);
        let mut open = false;
        for (at, c) in text.char_indices() {
            let word = !quoted && (c.is_alphanumeric() || c == '_');
            match (word, open) {
                (true, false) => list.push((at, depth, c.to_lowercase().collect())),
                (true, true) => list.last_mut().into_iter().for_each(|last| last.2.extend(c.to_lowercase())),
                _ => {}
            }
            open = word;
            match c {
                '\'' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Self { text, list }
    }

    fn has(&self, word: &str) -> bool {
        self.list.iter().any(|found| found.2 == word)
    }

    /// Where a word stands last outside of all brackets.
    fn outermost(&self, word: &str) -> Option<usize> {
        self.list.iter().rev().find(|(_, depth, found)| *depth == 0 && found == word).map(|found| found.0)
    }

    /// Whether `next` follows `word` somewhere.
    fn follows(&self, word: &str, next: &str) -> bool {
        let word = word.to_lowercase();
        self.list.windows(2).any(|pair| pair[0].2 == word && pair[1].2 == next)
    }

    /// Whether columns are meant that are not named: `SELECT *`, but not `count(*)`.
    fn all(&self) -> bool {
        let plain: String =
            self.text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        let stars = plain.replace("count(*)", "");
        let star = |at: usize| {
            let before = stars[..at].ends_with("select") || stars[..at].ends_with([',', '.']);
            before || stars[..at].ends_with("distinct")
        };
        stars.match_indices('*').any(|(at, _)| star(at)) || self.has("columns") || self.has("natural")
    }
}

/// Names and units of the result: those of the columns that it took over as they are.
fn headings(trace: &Trace, defs: &[&Arc<TableDef>], frame: &DataFrame) -> Vec<Heading> {
    let inputs: Vec<Inputs> = defs.iter().map(|def| Inputs::of(trace, def)).collect();
    let unit = |name: &str| {
        let found = inputs.iter().find_map(|inputs| inputs.get(name));
        found.map_or(String::new(), |input| input.unit.clone())
    };
    let heading = |column: &polars::prelude::Column| {
        let name = column.name().to_string();
        let moment = name == TIME && *column.dtype() == DataType::Int64;
        let (unit, show) = match name.as_str() {
            _ if moment => ("ns".to_owned(), Show::Time(6)),
            AT => ("ns".to_owned(), Show::Plain),
            name => (unit(name), Show::Plain),
        };
        Heading { name, unit, show, key: false }
    };
    frame.columns().iter().map(heading).collect()
}

/// `sql --tables`: the views, with the types and units of their columns.
pub(crate) fn tables(trace: &Trace) -> Answer {
    let mut lines = Vec::new();
    for def in &trace.tables {
        lines.push(format!("{}: {} rows: {}", def.name, trace.rows_of(def.number), def.doc));
        if def.time().is_some() {
            lines.push(line(TIME, "int", "ns", "wall clock"));
            lines.push(line(AT, "int", "ns", "since the start of the trace"));
        }
        for input in Inputs::of(trace, def).iter() {
            let kind = match input.divisor {
                _ if input.text => "text",
                Some(_) => "float",
                None => "int",
            };
            let absent = &input.def.absent;
            let mut doc = input.def.doc.clone();
            if !absent.is_empty() {
                write!(doc, " (not in this trace: {absent})").expect("a String grows");
            }
            lines.push(line(&input.name, kind, &input.unit, &doc));
        }
    }
    let mut answer = Answer::default();
    answer.section("tables", "", Body::Lines(lines));
    answer
}

fn line(name: &str, kind: &str, unit: &str, doc: &str) -> String {
    format!("  {name:<20} {kind:<5} {unit:<8} {doc}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::total_order;
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn run(words: &[&str]) -> (i32, String, String) {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "web").task(0, 8, 80, "db").sock(0, 1, 2, 4711, 80);
        tape.send(2 * MS, 7, 1, 100, 60).send(MS, 8, 1, 100, 100).send(3 * MS, 7, 1, 100, -11);
        tape.rows_per_frame(1);
        let (exit, out, messages) = tape.run(&[&["sql"], words].concat());
        (exit, out, messages)
    }

    #[test]
    fn identity_is_joined_and_rows_stand_by_time() {
        let (exit, out, messages) =
            run(&["SELECT time, at_ns, comm, pid, rport, raddr, ret FROM sock_send", "--format", "csv"]);
        assert_eq!((exit, messages.as_str()), (0, ""));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "time,at_ns,comm,pid,rport,raddr,ret");
        assert!(lines[1].ends_with(",1000000,db,80,80,10.0.0.2,100"), "{out}");
        assert!(lines[2].ends_with(",2000000,web,70,80,10.0.0.2,60"), "{out}");
    }

    #[test]
    fn groups_have_one_order() {
        let query = "SELECT comm, count(*) AS n, sum(ret) AS bytes FROM sock_send GROUP BY comm";
        assert_eq!(run(&[query, "--format", "csv"]).1, "comm,n,bytes\r\ndb,1,100\r\nweb,2,49\r\n");
        let limited = format!("{query} ORDER BY n DESC LIMIT 1;");
        assert_eq!(run(&[&limited, "--format", "csv"]).1, "comm,n,bytes\r\nweb,2,49\r\n");
        assert_eq!(
            total_order("SELECT a FROM (SELECT a FROM t ORDER BY b) GROUP BY a LIMIT 3", 1).as_deref(),
            Some("SELECT a FROM (SELECT a FROM t ORDER BY b) GROUP BY a  ORDER BY 1 LIMIT 3")
        );
        assert_eq!(total_order("SELECT 'order' FROM t", 1), None);
    }

    #[test]
    fn a_spreadsheet_does_not_compute_headings_either() {
        let query = "SELECT ret AS \"=1+1\" FROM sock_send LIMIT 1";
        let (exit, out, messages) = run(&[query, "--format", "csv", "--csv-safe"]);
        assert_eq!((exit, out.as_str()), (0, "'=1+1\r\n100\r\n"), "{messages}");
        assert_eq!(run(&[query, "--format", "csv"]).1, "=1+1\r\n100\r\n");
    }

    #[test]
    fn everything_and_common_table_expressions() {
        let all = run(&["SELECT * FROM sock_send WHERE ret < 0"]).1;
        assert!(all.contains("comm") && all.contains("owner") && all.contains("-11"), "{all}");
        let query = "WITH big AS (SELECT comm, ret FROM sock_send WHERE ret > 60) SELECT comm FROM big";
        assert_eq!(run(&[query, "--format", "csv"]).1, "comm\r\ndb\r\n");
    }

    #[test]
    fn mistakes_are_explained() {
        let (exit, _, messages) = run(&["SELECT comm FROM sock_sned"]);
        assert!(exit == 6 && messages.contains("did you mean 'sock_send'?"), "{exit} {messages}");
        let (exit, _, messages) = run(&["SELECT nonsense FROM sock_send"]);
        assert!(exit == 2 && messages.contains("nonsense"), "{exit} {messages}");
        for query in [
            "SELECT lateny FROM sock_send",
            "SELECT comm FROM sock_send WHERE lateny > 3",
            "SELECT s.lateny FROM sock_send s",
            "SELECT comm, sum(ret) FROM sock_send GROUP BY comm ORDER BY lateny",
        ] {
            let (exit, _, messages) = run(&[query]);
            assert!(
                exit == 2 && messages.contains("'lateny': did you mean 'latency'?"),
                "{query}: {messages}"
            );
        }
        for query in
            ["SELEC", "DELETE FROM sock_send", "TRUNCATE TABLE sock_send", "DROP TABLE sock_send", ""]
        {
            let (exit, _, messages) = run(&[query]);
            assert!(exit == 2 && messages.contains("begins with SELECT or WITH"), "{exit} {messages}");
        }
        let (exit, ..) = run(&["CREATE TABLE t AS SELECT comm FROM sock_send"]);
        assert_eq!(exit, 2);
        let (exit, _, messages) = run(&["SELECT comm FROM"]);
        assert!(exit == 2 && messages.contains("sql --tables"), "{exit} {messages}");
        let (exit, out, _) = run(&["(SELECT comm FROM sock_send) LIMIT 1", "--format", "csv"]);
        assert_eq!((exit, out.as_str()), (0, "comm\r\ndb\r\n"));
    }

    #[test]
    fn the_tables_are_listed_with_units() {
        let out = run(&["--tables"]).1;
        for part in ["sock_send: 3 rows", "latency_us", "comm", "since the start of the trace"] {
            assert!(out.contains(part), "{part} in {out}");
        }
    }
}
