//! Probes that the user named: tables of group `named`, whose columns nobody knows beforehand.
//!
//! All have `ts`, `cpu`, `tid` and `function`; those of whole calls have `latency` and `ret` too. The
//! reports on them ask for these, and take whatever else is there as arguments.

use super::error::Failure;
use super::input::{Input, Inputs};
use super::load::Chunk;
use super::report::{ANY, Context, Need};
use super::rows::Value;
use crate::schema::{ColumnDef, Role, TableDef};
use anyhow::Result;
use std::sync::Arc;

/// The group of such tables.
const GROUP: &str = "named";
/// What the reports on them need.
pub(crate) const NEEDS: &[Need] = &[Need { table: ANY, group: GROUP }];
/// Of hits that were added up: how many.
pub(crate) const HITS: &str = "hits";
/// Columns that are no arguments: those that all have, of calls, and of stacks.
const COMMON: [&str; 8] = ["ts", "cpu", "tid", "function", "latency", "ret", STACKS[0], STACKS[1]];
/// Stacks, where the probe asks for them.
pub(crate) const STACKS: [&str; 2] = ["kstack", "ustack"];

/// The tables that a report is about: those that `--probe` names, or all that have the columns.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn tables<'a>(context: &Context<'a>, columns: &[&str]) -> Result<Vec<&'a Arc<TableDef>>, Failure> {
    let (what, example) = if columns.contains(&"latency") {
        ("whole calls", "'fx:vfs_read' or -e 'ur:c:malloc(arg1)'")
    } else {
        ("anything", "'t:sched:sched_switch'")
    };
    if let Some(found) = find(context, columns, |table| !adds_up(table))? {
        return Ok(found);
    }
    if let Some(added) = find(context, &[], adds_up)? {
        let reason =
            format!("the hits of {} were added up in the kernel, and not recorded one by one", added[0].name);
        return Err(Failure::cannot(reason).hint("leave {count} and {hist} out of the probe"));
    }
    Err(Failure::cannot(format!("this trace has no probe of the user's own that records {what}"))
        .hint(format!("record one: capture -e {example} …")))
}

/// Tables of hits, and of what hits add up to, for a report that counts them.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn all<'a>(context: &Context<'a>) -> Result<Vec<&'a Arc<TableDef>>, Failure> {
    find(context, &[], |_| true)?.map_or_else(|| tables(context, &[]), Ok)
}

/// The same of probes that have a value, or what it adds up to.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn of_value<'a>(context: &Context<'a>, value: &str) -> Result<Vec<&'a Arc<TableDef>>, Failure> {
    let sum = format!("{value}_sum");
    let mut found = find(context, &[value], |table| !adds_up(table))?.unwrap_or_default();
    found.extend(find(context, &[&sum], adds_up)?.unwrap_or_default());
    if found.is_empty() { tables(context, &[value]) } else { Ok(found) }
}

/// Whether its rows are what hits add up to, and not hits.
pub(crate) fn adds_up(table: &TableDef) -> bool {
    table.column("since").is_some() && table.column(HITS).is_some() && table.column("tid").is_none()
}

/// The same for a report on stacks: tables that have a stack of one kind at least.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn with_stacks<'a>(context: &Context<'a>) -> Result<Vec<&'a Arc<TableDef>>, Failure> {
    let has = |table: &TableDef| STACKS.iter().any(|name| table.column(name).is_some());
    find(context, &[], has)?.ok_or_else(|| {
        Failure::cannot("this trace has no probe of the user's own that records stacks")
            .hint("record them: capture -e 'u:c:malloc {ustack}' -e 't:sched:sched_switch {kstack}' …")
    })
}

/// The same for a report on what a preset records: tables with these columns that are of its kind.
///
/// # Errors
/// When there is none, with the preset to record.
pub(crate) fn of_preset<'a>(
    context: &Context<'a>,
    preset: &str,
    columns: &[&str],
    is: fn(&TableDef) -> bool,
) -> Result<Vec<&'a Arc<TableDef>>, Failure> {
    find(context, columns, |table| is(table) && !adds_up(table))?.ok_or_else(|| {
        Failure::cannot(format!("this trace has no probes of preset '{preset}'"))
            .hint(format!("record them: capture -e {preset} …"))
    })
}

/// `None`: there are none.
fn find<'a>(
    context: &Context<'a>,
    columns: &[&str],
    is: impl Fn(&TableDef) -> bool,
) -> Result<Option<Vec<&'a Arc<TableDef>>>, Failure> {
    let all: Vec<_> = context.trace.tables.iter().filter(|table| is_named(table)).collect();
    let has = |table: &TableDef| is(table) && columns.iter().all(|name| table.column(name).is_some());
    let wanted: Option<Vec<&str>> = context.flag("probe").map(|names| names.split(',').collect());
    if let Some(unknown) = wanted.iter().flatten().find(|name| !all.iter().any(|table| table.name == **name))
    {
        let names: Vec<&str> = all.iter().map(|table| table.name.as_str()).collect();
        return Err(Failure::usage(format!("this trace has no probe '{unknown}' of the user's own"))
            .hint(format!("it has {}", if names.is_empty() { "none".into() } else { names.join(", ") })));
    }
    let asked = |table: &TableDef| wanted.as_ref().is_none_or(|names| names.contains(&table.name.as_str()));
    let found: Vec<_> = all.into_iter().filter(|table| asked(table) && has(table)).collect();
    Ok(Some(found).filter(|found| !found.is_empty()))
}

/// Whether a table is one of these.
pub(crate) fn is_named(table: &TableDef) -> bool {
    table.role == Role::Event && table.group == GROUP
}

/// The columns of a table that are arguments.
fn arguments(table: &TableDef) -> impl Iterator<Item = &ColumnDef> {
    table.columns.iter().filter(|column| !COMMON.contains(&column.name.as_str()))
}

/// One hit, with what the report on single hits prints.
pub(crate) struct Hit {
    /// When.
    pub ts: u64,
    /// Process, thread and its name.
    pub pid: Value,
    /// Thread.
    pub tid: Value,
    /// Name of the thread.
    pub comm: Value,
    /// What was hit.
    pub function: Value,
    /// From entry to return, ns.
    pub latency: Option<u64>,
    /// What it returned.
    pub ret: Value,
    /// The arguments, or what a pattern makes of them.
    pub message: String,
    /// Other columns that were asked for; null in tables that lack them.
    pub extra: Vec<Value>,
}

/// The hits of some tables, in the order of time; `least` leaves out shorter calls, ns.
///
/// # Errors
/// When a column that the pattern names does not exist, or the condition cannot be understood.
pub(crate) fn hits(
    context: &Context,
    tables: &[&Arc<TableDef>],
    pattern: Option<&str>,
    least: u64,
) -> Result<Vec<Hit>> {
    all_hits(context, tables, (pattern, least, &[]))
}

/// The same, with some columns instead of a message.
///
/// # Errors
/// When the condition cannot be understood.
pub(crate) fn hits_with(context: &Context, tables: &[&Arc<TableDef>], columns: &[&str]) -> Result<Vec<Hit>> {
    all_hits(context, tables, (Some(""), 0, columns))
}

/// Pattern, least latency, and further columns.
type What<'a> = (Option<&'a str>, u64, &'a [&'a str]);

fn all_hits(context: &Context, tables: &[&Arc<TableDef>], what: What) -> Result<Vec<Hit>> {
    let mut all = Vec::new();
    for table in tables {
        all.extend(hits_of(context, table, what)?);
    }
    all.sort_by_key(|hit: &Hit| hit.ts);
    Ok(all)
}

fn hits_of(context: &Context, table: &TableDef, (pattern, least, extra): What) -> Result<Vec<Hit>> {
    let mut scan = context.scan(&table.name)?;
    table.column("ts").into_iter().for_each(|time| scan.add(time));
    let inputs = Inputs::of(context.trace, table);
    let pattern = Pattern::new(table, &inputs, pattern)?;
    let mut input = |name: &str| {
        let found = inputs.get(name).cloned();
        found.iter().flat_map(|input| input.needs(table)).for_each(|column| scan.add(column));
        found
    };
    let [pid, tid, comm] = ["pid", "tid", "comm"].map(&mut input);
    let [function, latency, ret] = ["function", "latency", "ret"].map(&mut input);
    let extra: Vec<Option<Input>> = extra.iter().map(|name| input(name)).collect();
    pattern.inputs().flat_map(|input| input.needs(table)).for_each(|column| scan.add(column));
    let fold = |hits: &mut Vec<Hit>, chunk: &Chunk| {
        let rows = chunk.rows();
        for row in chunk.each() {
            let latency = latency.as_ref().and_then(|input| input.number(rows, row)).map(i64::cast_unsigned);
            if latency.unwrap_or(0) < least {
                continue;
            }
            let value = |input: &Option<Input>| {
                input.as_ref().map_or(Value::Null, |input| input.value(context.trace, rows, row))
            };
            hits.push(Hit {
                ts: rows.moment(row),
                pid: value(&pid),
                tid: value(&tid),
                comm: value(&comm),
                function: value(&function),
                latency,
                ret: value(&ret),
                message: pattern.fill(|input| input.value(context.trace, rows, row)),
                extra: extra.iter().map(value).collect(),
            });
        }
    };
    Ok(scan.fold(Vec::new, fold, Extend::extend))
}

/// How a hit's message is put together: text, and columns between.
struct Pattern(Vec<(String, Option<Input>)>);

impl Pattern {
    /// `{NAME}` in a pattern is the column of that name; without one all arguments are listed, as `name=value`.
    fn new(table: &TableDef, inputs: &Inputs, pattern: Option<&str>) -> Result<Self, Failure> {
        let Some(pattern) = pattern else {
            let argument = |(at, column): (usize, &ColumnDef)| {
                let space = if at > 0 { " " } else { "" };
                Ok((format!("{space}{}=", column.name), Some(inputs.find(&column.name)?.clone())))
            };
            return arguments(table).enumerate().map(argument).collect::<Result<_, _>>().map(Self);
        };
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| Failure::usage(format!("--print {pattern}: a '{{' without its '}}'")))?;
            parts.push((before.to_owned(), Some(inputs.find(name)?.clone())));
            rest = after;
        }
        parts.push((rest.to_owned(), None));
        Ok(Self(parts))
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.0.iter().filter_map(|(_, input)| input.as_ref())
    }

    fn fill(&self, value: impl Fn(&Input) -> Value) -> String {
        let mut text = String::new();
        for (before, input) in &self.0 {
            text.push_str(before);
            match input.as_ref().map(&value) {
                Some(Value::Int(number)) => text.push_str(&number.to_string()),
                Some(Value::Text(words)) => text.push_str(&words),
                Some(Value::Null) => text.push('-'),
                None => {}
            }
        }
        text
    }
}

/// A value that may be a number or text, as text.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Int(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.to_string()),
        Value::Null => None,
    }
}
