//! Reports that list events: one row for each, in the order of time; with `--by` or `--interval` they
//! are counted instead, and their sums added up.
//!
//! ```text
//! let scan = context.scan("sock_accept")?;
//! Listing::new(context, scan, "connections").process().ip().ends().answer()
//! ```
//!
//! What is kept per event is its time, numbers, and the rows of identity tables that it refers to;
//! their names are looked up when the table is built.

use super::answer::Answer;
use super::gathered::Gathered;
use super::group::{Group, Merge};
use super::input::{Input, Inputs, Link, Source};
use super::load::{Chunk, Scan};
use super::looked_up::{self, NONE};
use super::report::Context;
use super::room::Row;
use super::rows::Rows;
use super::strip::STRIP;
use super::table::{Builder, Heading, Output, Show, TIME, Table};
use super::trace::Trace;
use anyhow::Result;
use std::sync::Arc;

/// Rows for which a thread makes room at once: more than a slice has. Columns of more grow as they fill, since how many
/// rows there are is only what headers claim.
const ROOM: usize = 1 << 19;

/// Digits of a second's fraction in the time of an event.
const DIGITS: usize = 6;

type Value1<'a, T> = Arc<dyn Fn(&Rows, usize) -> Option<T> + Send + Sync + 'a>;

/// Where the values of a column come from.
#[derive(Clone)]
enum From<'a> {
    /// Column of an identity row; the link is one of the listing's.
    Row {
        link: usize,
        column: usize,
        text: bool,
    },
    /// What `--where` can name too.
    Own(Box<Input>),
    Int(Value1<'a, i64>),
    Float(Value1<'a, f64>),
    Text(Value1<'a, String>),
}

/// The columns of a report that lists connections: how many (with `--by`), whose, which, and what else.
macro_rules! connection_columns {
    ($count:expr; $pid:literal; $($ip:expr)?; $($more:expr),* $(,)?) => {
        &[
            $count,
            Output::new("pid", "", $pid),
            Output::new("comm", "", "its name"),
            $($ip,)?
            Output::new("laddr", "", "local address"),
            Output::new("lport", "", "local port"),
            Output::new("raddr", "", "remote address"),
            Output::new("rport", "", "remote port"),
            $($more),*
        ]
    };
}
pub(crate) use connection_columns;

/// What [`Listing::ip`] adds.
pub(crate) const IP: Output = Output::new("ip", "", "4 or 6, the socket's family");

/// A list of events in the making.
pub(crate) struct Listing<'c, 'a> {
    context: &'c Context<'a>,
    scan: Scan<'c>,
    inputs: Inputs<'c>,
    count: &'static Output,
    links: Vec<Link>,
    columns: Vec<(Heading, From<'c>)>,
    sums: Vec<(&'static Output, Value1<'c, i64>)>,
    /// Whether each row is of one event, whatever the others are.
    alone: bool,
    /// Whether its first column is the moment.
    timed: bool,
}

/// What a thread keeps of the rows of its frames.
struct Part {
    /// Wall ns.
    times: Vec<i64>,
    /// Per link, identity rows.
    rows: Vec<Vec<u32>>,
    /// Per column; `None`: it comes from an identity row.
    cells: Vec<Option<Gathered>>,
}

impl<'c, 'a: 'c> Listing<'c, 'a> {
    /// The rows of a scan; `count` is the column that tells how many, where they are counted.
    pub fn new(context: &'c Context<'a>, scan: Scan<'c>, count: &'static str) -> Self {
        let inputs = Inputs::of(context.trace, &scan.def);
        let count = context.output(count);
        let (links, columns, sums) = (Vec::new(), Vec::new(), Vec::new());
        Self { context, scan, inputs, count, links, columns, sums, alone: true, timed: true }
    }

    /// A column that `--where` can name; null where this trace does not have it.
    pub fn named(self, name: &'static str) -> Self {
        self.renamed(name, name)
    }

    /// The same under another name.
    pub fn renamed(mut self, name: &'static str, input: &str) -> Self {
        let heading = self.context.output(name).into();
        let from = match self.inputs.get(input) {
            None => From::Int(Arc::new(|_, _| None)),
            Some(input) => self.source(input.clone()),
        };
        self.columns.push((heading, from));
        self
    }

    /// All columns of the table itself, under their own names, apart from the moment; each tells rows apart.
    pub fn all_but(mut self, hidden: impl Fn(&str) -> bool) -> Self {
        let def = Arc::clone(&self.scan.def);
        self.timed = def.time().is_some();
        let shown = |at: &usize| Some(*at) != def.time() && def.columns[*at].absent.is_empty();
        for name in (0..def.columns.len()).filter(shown).map(|at| &def.columns[at].name) {
            let Some(input) = self.inputs.get(name).filter(|_| !hidden(name)).cloned() else { continue };
            let (name, unit) = (input.name.clone(), input.unit.clone());
            let from = self.source(input);
            self.columns.push((Heading { name, unit, show: Show::Plain, key: true }, from));
        }
        self
    }

    fn source(&mut self, input: Input) -> From<'c> {
        input.needs(&self.scan.def).into_iter().for_each(|column| self.scan.add(column));
        match &input.source {
            _ if input.divisor.is_some() => {
                let divisor = input.divisor.unwrap_or(1.0);
                From::Float(Arc::new(move |rows, row| Some(input.number(rows, row)? as f64 / divisor)))
            }
            Source::Own(_) | Source::Recording(_) => From::Own(Box::new(input)),
            Source::Via { link, column } => {
                let known = self.links.iter().position(|known| known.same(link));
                let at = known.unwrap_or(self.links.len());
                if known.is_none() {
                    self.links.push(link.clone());
                }
                From::Row { link: at, column: *column, text: input.text }
            }
        }
    }

    /// Whole numbers that the report works out; it has asked the scan for what it needs.
    pub fn int(
        mut self,
        name: &'static str,
        of: impl Fn(&Rows, usize) -> Option<i64> + Send + Sync + 'c,
    ) -> Self {
        self.columns.push((self.context.output(name).into(), From::Int(Arc::new(of))));
        self
    }

    /// Whole numbers that are added up where the events are counted.
    pub fn sum(
        mut self,
        name: &'static str,
        of: impl Fn(&Rows, usize) -> Option<i64> + Send + Sync + 'c,
    ) -> Self {
        let (output, of): (_, Value1<i64>) = (self.context.output(name), Arc::new(of));
        self.sums.push((output, Arc::clone(&of)));
        self.columns.push((output.into(), From::Int(of)));
        self
    }

    /// Numbers with a fraction.
    pub fn float(
        mut self,
        name: &'static str,
        of: impl Fn(&Rows, usize) -> Option<f64> + Send + Sync + 'c,
    ) -> Self {
        self.columns.push((self.context.output(name).into(), From::Float(Arc::new(of))));
        self
    }

    /// Text.
    pub fn text(
        mut self,
        name: &'static str,
        of: impl Fn(&Rows, usize) -> Option<String> + Send + Sync + 'c,
    ) -> Self {
        self.columns.push((self.context.output(name).into(), From::Text(Arc::new(of))));
        self
    }

    /// Process and its name.
    pub fn process(self) -> Self {
        self.named("pid").named("comm")
    }

    /// The error number behind what a call returned; 0: none.
    pub fn err(self, ret: usize) -> Self {
        self.int("err", move |rows, row| Some(-rows.get(ret, row)?.min(0)))
    }

    /// Both ends of a connection, ours first.
    pub fn ends(self) -> Self {
        self.named("laddr").named("lport").named("raddr").named("rport")
    }

    /// IP version, 4 or 6, by the socket's family: an IPv6 socket that talks IPv4 is a 6, as its addresses are.
    pub fn ip(mut self) -> Self {
        let Some(family) = self.inputs.get("family").cloned() else { return self.named("ip") };
        family.needs(&self.scan.def).into_iter().for_each(|column| self.scan.add(column));
        let version = |family| match family {
            2 => Some(4),
            10 => Some(6),
            _ => None,
        };
        self.int("ip", move |rows, row| version(family.number(rows, row)?))
    }

    /// What a row says depends on others of the span: it cannot be cut into slices.
    pub fn together(self) -> Self {
        Self { alone: false, ..self }
    }

    /// How many columns have text.
    fn texts(&self) -> usize {
        let text = |from: &From| match from {
            From::Row { text, .. } => *text,
            From::Own(input) => input.text,
            From::Text(_) => true,
            From::Int(_) | From::Float(_) => false,
        };
        self.columns.iter().filter(|(_, from)| text(from)).count()
    }

    /// The list, or the count where `--by` or `--interval` asks for that.
    pub fn answer(self) -> Result<Answer> {
        if self.context.counts() {
            return totals(self.context, &self.scan, self.count, &self.sums);
        }
        let row = Row { numbers: self.columns.len() - self.texts(), texts: self.texts() };
        self.context.room(&[&self.scan], row, self.alone)?;
        let sort = self.timed.then_some(TIME);
        Ok(Answer { table: Some(self.table()?), events: true, sort, ..Answer::default() })
    }

    /// The list itself.
    fn table(mut self) -> Result<Table> {
        self.scan.def.time().into_iter().for_each(|ts| self.scan.add(ts));
        let (trace, links, columns) = (self.context.trace, &self.links, &self.columns);
        let rows = self.scan.most_rows() as usize / trace.install(rayon::current_num_threads);
        let none = || Part::new(links.len(), columns, (rows + rows / 8).min(ROOM));
        let all = self.scan.fold(none, |part, chunk| part.add(trace, links, columns, chunk), Part::append);
        let mut table = Builder::default();
        if self.timed {
            table.time(DIGITS, all.times.into_iter());
        }
        for ((heading, from), cells) in columns.iter().zip(all.cells) {
            let series = match (from, cells) {
                (From::Row { link, column, text }, _) => {
                    let rows = all.rows[*link].iter().copied();
                    looked_up::series(trace, &links[*link].identity, *column, *text, rows)
                }
                (_, cells) => cells.unwrap_or_else(Gathered::ints).series(),
            };
            table.series(heading.clone(), series);
        }
        table.build()
    }
}

impl Part {
    /// With room for what a thread will add.
    fn new(links: usize, columns: &[(Heading, From)], room: usize) -> Self {
        let cells = |(_, from): &(Heading, From)| match from {
            From::Row { .. } => None,
            From::Own(input) if input.text => Some(Gathered::texts()),
            From::Text(_) => Some(Gathered::texts()),
            From::Own(_) | From::Int(_) => Some(Gathered::ints()),
            From::Float(_) => Some(Gathered::floats()),
        };
        let rows = std::iter::repeat_with(|| Vec::with_capacity(room)).take(links).collect();
        let mut cells: Vec<Option<Gathered>> = columns.iter().map(cells).collect();
        cells.iter_mut().flatten().for_each(|cells| cells.reserve(room));
        Self { times: Vec::with_capacity(room), rows, cells }
    }

    fn add(&mut self, trace: &Trace, links: &[Link], columns: &[(Heading, From)], chunk: &Chunk) {
        let rows = chunk.rows();
        let kept: Vec<usize> = chunk.each().collect();
        self.times.extend(kept.iter().map(|&row| trace.clock.wall(rows.moment(row))));
        for (found, link) in self.rows.iter_mut().zip(links) {
            found.extend(kept.iter().map(|&row| link.find(rows, row).unwrap_or(NONE)));
        }
        for (cells, (_, from)) in self.cells.iter_mut().zip(columns) {
            let Some(cells) = cells else { continue };
            let kept = kept.iter().copied();
            match from {
                From::Row { .. } => {}
                From::Own(input) if input.text => {
                    kept.for_each(|row| cells.text(input.value(trace, rows, row).as_text()));
                }
                From::Own(input) => match input.source {
                    Source::Own(column) => numbers(cells, chunk, column),
                    _ => kept.for_each(|row| cells.int(input.number(rows, row))),
                },
                From::Int(of) => kept.for_each(|row| cells.int(of(rows, row))),
                From::Float(of) => kept.for_each(|row| cells.float(of(rows, row))),
                From::Text(of) => kept.for_each(|row| cells.text(of(rows, row).as_deref())),
            }
        }
    }

    fn append(&mut self, later: Self) {
        self.times.extend(later.times);
        self.rows.iter_mut().zip(later.rows).for_each(|(rows, more)| rows.extend(more));
        for (cells, later) in self.cells.iter_mut().zip(later.cells) {
            cells.iter_mut().zip(later).for_each(|(cells, later)| cells.append(later));
        }
    }
}

/// A column of the table itself.
fn numbers(cells: &mut Gathered, chunk: &Chunk, column: usize) {
    let mut values = [0; STRIP];
    for strip in chunk.strips() {
        let none = chunk.rows().numbers(column, &strip, &mut values);
        cells.numbers(&values[..strip.len()], none);
    }
}

/// How many events there are per group, largest first.
fn totals(
    context: &Context,
    scan: &Scan,
    count: &'static Output,
    sums: &[(&'static Output, Value1<i64>)],
) -> Result<Answer> {
    let grouping = context.grouping(scan)?;
    // Conditions and sums may look at the moment.
    let scan = &scan.clone().with(scan.def.time());
    let groups = grouping.fold(scan, |totals: &mut Totals, rows, row| {
        totals.count += 1;
        totals.sums.resize(sums.len(), 0);
        for (sum, (_, of)) in totals.sums.iter_mut().zip(sums) {
            *sum = sum.saturating_add(of(rows, row).unwrap_or(0));
        }
    });
    let mut table = context.keys(&grouping, &groups);
    table.ints(count, groups.iter().map(|group| Some(group.state.count)));
    for (at, (output, _)) in sums.iter().enumerate() {
        // An interval without events has no sums yet.
        let sum = |group: &Group<Totals>| group.state.sums.get(at).map_or(0, |sum| sum.cast_unsigned());
        table.ints(output, groups.iter().map(|group| Some(sum(group))));
    }
    Ok(Answer { table: Some(table.build()?), sort: Some(count.name), ..Answer::default() })
}

/// Events and what they add up to.
#[derive(Clone, Default)]
struct Totals {
    count: u64,
    sums: Vec<i64>,
}

impl Merge for Totals {
    fn merge(&mut self, later: Self) {
        self.count += later.count;
        self.sums.resize(self.sums.len().max(later.sums.len()), 0);
        self.sums.iter_mut().zip(later.sums).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
}
