//! Single hits of the user's own probes: who, when, how long, and a message that is put together when it is asked for.
//!
//! `{NAME}` in a pattern is the column of that name, `{NAME:x}` the same in hexadecimal.

use super::error::Failure;
use super::input::{Input, Inputs};
use super::load::{Chunk, Scan};
use super::named::arguments;
use super::report::Context;
use super::room::Row;
use super::rows::Value;
use crate::schema::{ColumnDef, ColumnType, TableDef};
use anyhow::Result;
use std::sync::Arc;

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
    /// That is a place in memory, of so many bits.
    address: Option<u64>,
    /// The arguments, or what a pattern makes of them.
    pub message: String,
    /// Other columns that were asked for; null in tables that lack them.
    pub extra: Vec<Value>,
}

impl Hit {
    /// What it returned, as text.
    pub fn returned(&self) -> Option<String> {
        plain(&self.ret, self.address)
    }
}

/// What is wanted of hits.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// Of the message; `None`: it lists all arguments.
    pub pattern: Option<&'a str>,
    /// Shorter calls are left out, ns.
    pub least: u64,
    /// Further columns.
    pub extra: &'a [&'a str],
}

/// The hits of some tables, in the order of time.
///
/// # Errors
/// When a column that the pattern names does not exist, or the condition cannot be understood.
pub(crate) fn hits(context: &Context, tables: &[&Arc<TableDef>], wanted: Wanted) -> Result<Vec<Hit>> {
    let scans = tables.iter().map(|table| context.scan_of(table)).collect::<Result<Vec<Scan>>>()?;
    // Few of those that are slow enough may be left; where all have room, that is no matter. A hit takes as much room as
    // its line.
    let row = Row { numbers: 8, texts: 6 + 2 * wanted.extra.len() };
    context.room(&scans.iter().collect::<Vec<_>>(), row, true)?;
    let mut all = Vec::new();
    for table in tables {
        all.extend(hits_of(context, table, wanted)?);
    }
    all.sort_by_key(|hit: &Hit| hit.ts);
    Ok(all)
}

fn hits_of(context: &Context, table: &Arc<TableDef>, wanted: Wanted) -> Result<Vec<Hit>> {
    let mut scan = context.scan_of(table)?;
    table.column("ts").into_iter().for_each(|time| scan.add(time));
    let inputs = Inputs::of(context.trace, table);
    let pattern = Pattern::new(table, &inputs, wanted.pattern)?;
    let mut input = |name: &str| {
        let found = inputs.get(name).cloned();
        found.iter().flat_map(|input| input.needs(table)).for_each(|column| scan.add(column));
        found
    };
    let [pid, tid, comm] = ["pid", "tid", "comm"].map(&mut input);
    let [function, latency, ret] = ["function", "latency", "ret"].map(&mut input);
    let extra: Vec<Option<Input>> = wanted.extra.iter().map(|name| input(name)).collect();
    pattern.inputs().flat_map(|input| input.needs(table)).for_each(|column| scan.add(column));
    let fold = |hits: &mut Vec<Hit>, chunk: &Chunk| {
        let rows = chunk.rows();
        for row in chunk.each() {
            let latency = latency.as_ref().and_then(|input| input.number(rows, row)).map(i64::cast_unsigned);
            if latency.unwrap_or(0) < wanted.least {
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
                address: ret.as_ref().and_then(address),
                message: pattern.fill(|input| input.value(context.trace, rows, row)),
                extra: extra.iter().map(value).collect(),
            });
        }
    };
    Ok(scan.fold(Vec::new, fold, Extend::extend))
}

/// How a hit's message is put together: text, and columns between.
struct Pattern(Vec<(String, Option<Shown>)>);

/// A column of a message.
struct Shown {
    input: Input,
    /// In hexadecimal: the bits that it has.
    hex: Option<u64>,
}

impl Shown {
    /// By name; `NAME:x` is in hexadecimal, as addresses are in any case.
    fn new(inputs: &Inputs, word: &str) -> Result<Self, Failure> {
        let (name, format) = word.split_once(':').unwrap_or((word, ""));
        let input = inputs.find(name)?.clone();
        if !["", "x"].contains(&format) {
            let reason = format!("--print {{{word}}}: '{format}' is no format");
            return Err(Failure::usage(reason).hint("{NAME} prints a column, {NAME:x} in hexadecimal"));
        }
        Ok(Self { hex: (format == "x").then(|| bits(&input)).or_else(|| address(&input)), input })
    }

    fn write(&self, value: &Value, text: &mut String) {
        match value {
            Value::Null => text.push('-'),
            value => text.extend(plain(value, self.hex)),
        }
    }
}

impl Pattern {
    /// `{NAME}` in a pattern is the column of that name; without one all arguments are listed, as `name=value`.
    fn new(table: &TableDef, inputs: &Inputs, pattern: Option<&str>) -> Result<Self, Failure> {
        let Some(pattern) = pattern else {
            let argument = |(at, column): (usize, &ColumnDef)| {
                let space = if at > 0 { " " } else { "" };
                Ok((format!("{space}{}=", column.name), Some(Shown::new(inputs, &column.name)?)))
            };
            return arguments(table).enumerate().map(argument).collect::<Result<_, _>>().map(Self);
        };
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after
                .split_once('}')
                .ok_or_else(|| Failure::usage(format!("--print {pattern}: a '{{' without its '}}'")))?;
            parts.push((before.to_owned(), Some(Shown::new(inputs, word)?)));
            rest = after;
        }
        parts.push((rest.to_owned(), None));
        Ok(Self(parts))
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.0.iter().filter_map(|(_, shown)| shown.as_ref().map(|shown| &shown.input))
    }

    fn fill(&self, value: impl Fn(&Input) -> Value) -> String {
        let mut text = String::new();
        for (before, shown) in &self.0 {
            text.push_str(before);
            if let Some(shown) = shown {
                shown.write(&value(&shown.input), &mut text);
            }
        }
        text
    }
}

/// The bits of a column whose numbers are places in memory.
fn address(input: &Input) -> Option<u64> {
    (input.unit == "address").then(|| bits(input))
}

/// The bits that a column's numbers have.
fn bits(input: &Input) -> u64 {
    match input.def.kind {
        ColumnType::Number { width, .. } => u64::MAX >> (64 - 8 * u32::from(width.clamp(1, 8))),
        ColumnType::Text | ColumnType::Ip | ColumnType::Unknown(_) => u64::MAX,
    }
}

/// A value that may be a number or text, as text.
fn plain(value: &Value, hex: Option<u64>) -> Option<String> {
    match value {
        Value::Int(number) => Some(
            hex.map_or_else(|| number.to_string(), |bits| format!("{:#x}", number.cast_unsigned() & bits)),
        ),
        Value::Text(text) => Some(text.to_string()),
        Value::Null => None,
    }
}
