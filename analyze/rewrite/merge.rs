//! `analyze a.bin b.bin merge -o out.bin`: one trace of several that belong together.
//!
//! What belongs together has one clock and one set of thread ids: the parts of one recording, slices of it, or
//! several recordings of one host since one boot. Tables of one name must have the same columns. Where two
//! recordings gave the same id to different things (each numbers its sockets from one), the ids of the later file
//! are moved out of the way; thread ids are the kernel's and stay. What slices of one recording say of the whole of it,
//! each for itself, is said once.
//!
//! Traces of different hosts, or from before and after a boot, have no common clock and no common ids. They are not
//! merged but read side by side: `analyze a.bin b.bin tcptop`.

use super::{Job, NO_PART, Part, Plan, Target, Verb, ended, select};
use crate::analyze::error::Failure;
use crate::analyze::identity::Identity;
use crate::analyze::rows::Rows;
use crate::analyze::trace::Trace;
use crate::analyze::window::Window;
use crate::schema::absent::{Absent, united};
use crate::schema::{Batch, Column, ColumnDef, Host, Role, TableDef};
use anyhow::Result;
use clap::Args as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) static VERB: Verb = Verb {
    name: "merge",
    about: "write one trace of several that were recorded on one host since one boot",
    options: Target::augment_args,
    plan,
    level: 1,
};

/// What is added to the ids of an identity table, by its name.
type Shifts = BTreeMap<String, u64>;

fn plan<'a>(job: &'a Job<'a>) -> Result<Plan<'a>> {
    let [first, rest @ ..] = job.traces else { return Err(Failure::usage("merge takes traces").into()) };
    let mut tables = Vec::new();
    let (mut parts, mut epoch) = (Vec::new(), 0u32);
    let mut shifts: Vec<Shifts> = Vec::new();
    let told = Arc::new(told(job.traces));
    for (at, trace) in job.traces.iter().enumerate() {
        same_boot(&first.reader.host, trace)?;
        let numbers = add_tables(&mut tables, trace)?.into_iter().map(Some).collect();
        let moved = shift(&job.traces[..at], &shifts, trace);
        parts.push(Part {
            numbers,
            epoch,
            edit: edit(trace, at, moved.clone(), &told),
            ..Part::whole(trace)
        });
        shifts.push(moved);
        let last = trace.reader.frames.iter().map(|frame| frame.header.epoch).max().unwrap_or(0);
        epoch = epoch.saturating_add(last).saturating_add(1);
    }
    let earliest = job.traces.iter().min_by_key(|trace| trace.span.from).unwrap_or(first);
    let latest = job.traces.iter().max_by_key(|trace| trace.span.to).unwrap_or(first);
    let mut host = Host { part: NO_PART, ..earliest.reader.host.clone() };
    for trace in job.traces {
        union(&mut host.groups, &trace.reader.host.groups);
        union(&mut host.filters, &trace.reader.host.filters);
    }
    host.recorder =
        format!("{}; analyze {} merge of {}", host.recorder, env!("CARGO_PKG_VERSION"), 1 + rest.len());
    let span = Window { from: earliest.span.from, to: latest.span.to };
    let absent = absent(job.traces);
    let reason = ended(latest, &absent);
    Ok(Plan { host, tables, parts, span, reason, absent, notes: Vec::new() })
}

/// The parts that are not in any of them: one that is a trace by itself is here.
fn absent(traces: &[Trace]) -> Vec<Absent> {
    let parts = || traces.iter().filter(|trace| trace.cut().is_none() && !trace.is_a_set());
    let left = |of: &Trace| {
        let recording = &of.reader.host.recording;
        let others = parts().map(|trace| (&trace.reader.host, (trace.span.from, trace.span.to)));
        let same = |host: &Host| !recording.is_empty() && host.recording == *recording;
        let here = others.filter(|(host, _)| host.part != NO_PART && same(host));
        here.fold(of.reader.absent.clone(), |absent, (host, times)| {
            absent.iter().flat_map(|absent| absent.without(host.part, times)).flatten().collect()
        })
    };
    united(traces.iter().flat_map(left).collect())
}

fn union(to: &mut Vec<String>, from: &[String]) {
    let new: Vec<String> = from.iter().filter(|word| !to.contains(word)).cloned().collect();
    to.extend(new);
}

fn same_boot(first: &Host, trace: &Trace) -> Result<(), Failure> {
    let host = &trace.reader.host;
    let (a, b) = ((&first.hostname, &first.boot_id), (&host.hostname, &host.boot_id));
    if a == b {
        return Ok(());
    }
    let why = if a.0 == b.0 { "another boot of".to_owned() } else { format!("host {}, not", b.0) };
    Err(Failure::usage(format!(
        "{} is of {why} {}: their clocks and ids have nothing in common",
        trace.name, a.0
    ))
    .hint("read them side by side instead: analyze a.bin b.bin REPORT"))
}

/// The numbers of a trace's tables among those of the new file.
fn add_tables(tables: &mut Vec<TableDef>, trace: &Trace) -> Result<Vec<u16>, Failure> {
    let mut numbers = Vec::new();
    for def in &trace.reader.tables {
        let number = match tables.iter_mut().find(|known| known.name == def.name) {
            Some(known) if alike(known, def) => {
                for (known, column) in known.columns.iter_mut().zip(&def.columns) {
                    if column.absent.is_empty() {
                        known.absent.clear();
                    }
                }
                known.number
            }
            Some(_) => {
                return Err(Failure::usage(format!(
                    "{}: its table {} has other columns than in the traces before it",
                    trace.name, def.name
                ))
                .hint("record both with one version of capture, or read them side by side: analyze a.bin b.bin REPORT"));
            }
            None => {
                let number = u16::try_from(tables.len()).map_err(|_| Failure::usage("too many tables"))?;
                tables.push(TableDef { number, ..def.clone() });
                number
            }
        };
        numbers.push(number);
    }
    Ok(numbers)
}

fn alike(a: &TableDef, b: &TableDef) -> bool {
    let shape =
        |column: &ColumnDef| ColumnDef { absent: String::new(), doc: String::new(), ..column.clone() };
    a.role == b.role && a.columns.iter().map(shape).eq(b.columns.iter().map(shape))
}

/// How far each identity table's ids must move so that none means two things.
fn shift(before: &[Trace], shifts: &[Shifts], trace: &Trace) -> Shifts {
    let mut moved = Shifts::new();
    // A thread's rows are told apart by their time.
    let tables = trace.tables.iter().filter(|def| def.role == Role::Identity && def.name != "task");
    for def in tables {
        let Some(identity) = trace.identity(&def.name) else { continue };
        let known: Vec<_> = before
            .iter()
            .zip(shifts)
            .filter_map(|(other, shifts)| Some((other.identity(&def.name)?, shifts.get(&def.name).copied())))
            .collect();
        let clash = known.iter().any(|(other, shift)| {
            let differs = |id: u64| shift.is_none() && !agree(&identity, other, id);
            shift.is_some() || identity.keys().any(differs)
        });
        if clash {
            let last =
                known.iter().filter_map(|(other, shift)| Some(other.keys().max()? + shift.unwrap_or(0)));
            moved.insert(def.name.clone(), last.max().map_or(0, |last| last + 1));
        }
    }
    moved
}

/// Whether an id can mean the same in both: one does not know it, or they have a row in common.
fn agree(a: &Identity, b: &Identity, id: u64) -> bool {
    let (left, right) = (a.versions(id), b.versions(id));
    left.is_empty() || right.is_empty() || left.iter().any(|&x| right.iter().any(|&y| a.says_as(x, b, y)))
}

/// Rows of the recorder's own tables, by name of the table, and the first trace that has each. Spans of the ledger are
/// counted, so none of these is left out.
type Told = BTreeMap<String, HashMap<Vec<u8>, usize>>;

fn told(traces: &[Trace]) -> Told {
    let mut told = Told::new();
    for (at, trace) in traces.iter().enumerate() {
        let own = trace.tables.iter().filter(|def| def.role == Role::Record && def.name != "ledger");
        for rows in own.filter_map(|def| trace.gather(&def.name)) {
            let known = told.entry(rows.def.name.clone()).or_default();
            for row in 0..rows.len() {
                known.entry(content(&rows, row)).or_insert(at);
            }
        }
    }
    told
}

/// What is in a row, as bytes that are equal where rows are.
fn content(rows: &Rows, row: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for column in 0..rows.def.columns.len() {
        let text = rows.bytes(column, row);
        all.extend(rows.raw(column, row).to_le_bytes());
        all.extend(text.len().to_le_bytes());
        all.extend(text);
    }
    all
}

/// Of the trace at this place among those that are merged.
fn edit<'a>(trace: &'a Trace, at: usize, shifts: Shifts, told: &Arc<Told>) -> Box<super::Edit<'a>> {
    let told = Arc::clone(told);
    Box::new(move |frame, scratch| {
        let def = trace.tables.get(usize::from(frame.header.table))?;
        let rows = trace.read(frame, None, scratch)?;
        let mut batch = match told.get(&def.name) {
            Some(known) => {
                select(&rows, |row| known.get(&content(&rows, row)).is_none_or(|&first| first >= at))?
            }
            None => rows.into_batch(),
        };
        for (place, column) in def.columns.iter().enumerate() {
            let table = if column.key && def.role == Role::Identity { &def.name } else { &column.references };
            if let Some(&by) = shifts.get(table) {
                add(&mut batch, place, by, column.null);
            }
        }
        Some(batch)
    })
}

/// Moves ids; what is null stays null.
fn add(batch: &mut Batch, column: usize, by: u64, null: Option<u64>) {
    match &mut batch.columns[column] {
        Column::U32(ids) => {
            ids.iter_mut()
                .filter(|id| Some(u64::from(**id)) != null)
                .for_each(|id| *id = id.wrapping_add(by as u32));
        }
        // A list of ids, four bytes each.
        Column::Text(lists) => {
            for id in lists.bytes.chunks_exact_mut(4) {
                let moved = u32::from_le_bytes(id.try_into().expect("four bytes")).wrapping_add(by as u32);
                id.copy_from_slice(&moved.to_le_bytes());
            }
        }
        Column::U64(ids) => {
            ids.iter_mut().filter(|id| Some(**id) != null).for_each(|id| *id = id.wrapping_add(by));
        }
        _ => {}
    }
}
