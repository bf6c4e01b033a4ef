//! `analyze trace.bin slice --from 10s --to 20s --where "rport = 443" -o part.bin`: a part of a trace.
//!
//! - `--from`, `--to`, `--at`: the events of a span. Time zero of the new file is the begin of the span.
//! - `--where`: the events for which the condition is true. A table that lacks a column of the condition has no
//!   such event and is left out; the verb says so.
//! - `--tables`: the event tables to keep.
//!
//! Of the identity tables those rows stay that the chosen events refer to, and what these refer to in turn, so
//! that a slice names nobody else. Losses of the span stay in its ledger, so lower bounds stay lower bounds;
//! events that were not chosen are not losses.

use super::names::Names;
use super::{Edit, Job, NO_PART, Part, Plan, Target, Verb, ended, select};
use crate::analyze::error::{Failure, nearest};
use crate::analyze::load::Scan;
use crate::analyze::mask::Mask;
use crate::analyze::trace::Trace;
use crate::analyze::window::Window;
use crate::schema::reader::{Frame, Scratch};
use crate::schema::{Batch, Role, TableDef};
use anyhow::Result;
use clap::{Args, FromArgMatches as _};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

pub(super) static VERB: Verb = Verb {
    name: "slice",
    about: "write a part of a trace: a span, some tables, some events",
    options: Own::augment_args,
    plan,
    level: 1,
};

#[derive(Args, Debug)]
struct Own {
    /// The event tables to keep [default: all]
    #[arg(long, value_name = "TABLES", value_delimiter = ',', help_heading = "This verb")]
    tables: Vec<String>,
    #[command(flatten)]
    target: Target,
}

fn plan<'a>(job: &'a Job<'a>) -> Result<Plan<'a>> {
    let own = Own::from_arg_matches(job.matches)?;
    let options = &job.call.options;
    let mut plan = Plan::copy(job, VERB.name)?;
    let trace = plan.parts[0].trace;
    let at = options.at.as_deref().map(|at| Ok((at, options.interval(Some("1s"))?.unwrap_or(u64::MAX))));
    let at = at.transpose().map_err(|failure: Failure| failure)?;
    let span = trace.span.narrow(&trace.clock, options.from.as_deref(), options.to.as_deref(), at)?;
    let condition = options.condition.as_deref();
    let (scans, notes) = scans(trace, span, &own.tables, condition)?;
    if span == trace.span && own.tables.is_empty() && condition.is_none() {
        return Ok(plan);
    }
    plan.notes = notes;
    plan.host.filters.push(asked(job, &own));
    plan.host.part = NO_PART;
    plan.host.start_mono = span.from;
    plan.host.start_real = trace.clock.wall(span.from).cast_unsigned();
    plan.span = span;
    plan.absent =
        trace.reader.absent.iter().filter_map(|absent| absent.within((span.from, span.to))).collect();
    plan.reason = ended(trace, &plan.absent);
    let kept = |def: &TableDef| def.role != Role::Event || scans.contains_key(&def.number);
    plan.tables.retain(kept);
    let mut next = 0u16..;
    let numbers = trace.tables.iter().map(|def| if kept(def) { next.next() } else { None }).collect();
    plan.tables.iter_mut().zip(0u16..).for_each(|(def, number)| def.number = number);
    plan.parts = vec![Part { trace, numbers, epoch: 0, edit: edit(trace, scans), sliced: Some(span) }];
    Ok(plan)
}

/// For `info`: what limits this trace, besides what limited the recording.
fn asked(job: &Job, own: &Own) -> String {
    let options = &job.call.options;
    let tables = (!own.tables.is_empty()).then(|| own.tables.join(","));
    let given = [
        ("from", &options.from),
        ("to", &options.to),
        ("at", &options.at),
        ("where", &options.condition),
        ("tables", &tables),
    ];
    let words = given.into_iter().filter_map(|(name, value)| Some(format!(" --{name} {}", value.as_ref()?)));
    format!("slice{}", words.collect::<String>())
}

/// The chosen rows of each event table that stays, by its number, and what is left out.
fn scans<'a>(
    trace: &'a Trace,
    span: Window,
    tables: &[String],
    condition: Option<&str>,
) -> Result<(BTreeMap<u16, Scan<'a>>, Vec<String>)> {
    let names = || trace.events().map(|def| def.name.as_str());
    if let Some(unknown) = tables.iter().find(|&table| names().all(|name| name != table)) {
        let near =
            nearest(unknown, names()).map_or(String::new(), |near| format!(": did you mean '{near}'?"));
        return Err(Failure::usage(format!("this trace has no event table {unknown}{near}"))
            .hint(format!("it has {}", names().collect::<Vec<_>>().join(", ")))
            .into());
    }
    let (mut scans, mut refused) = (BTreeMap::new(), Vec::new());
    let chosen = |def: &&Arc<TableDef>| tables.is_empty() || tables.contains(&def.name);
    for def in trace.events().filter(chosen) {
        let mask = condition.map(|condition| Mask::new(trace, def, span, condition)).transpose();
        match mask {
            Ok(mask) => {
                let mut scan = Scan::new(trace, def, span).masked(mask.map(Arc::new));
                (0..def.columns.len()).for_each(|column| scan.add(column));
                scans.insert(def.number, scan);
            }
            Err(error) => refused.push((def, error)),
        }
    }
    if scans.is_empty() && !refused.is_empty() {
        return Err(refused.swap_remove(0).1);
    }
    let note = |(def, error): (&Arc<TableDef>, anyhow::Error)| format!("left out: {}: {error}", def.name);
    Ok((scans, refused.into_iter().filter(|(def, _)| trace.rows_of(def.number) > 0).map(note).collect()))
}

fn edit<'a>(trace: &'a Trace, scans: BTreeMap<u16, Scan<'a>>) -> Box<Edit<'a>> {
    let names = Names::of(trace, &scans);
    let left: HashSet<&str> =
        trace.events().filter(|def| !scans.contains_key(&def.number)).map(|def| def.name.as_str()).collect();
    Box::new(move |frame: &Frame, scratch: &mut Scratch| {
        let def = trace.tables.get(usize::from(frame.header.table))?;
        if def.role == Role::Event {
            return events(scans.get(&def.number)?, frame, scratch);
        }
        let rows = trace.read(frame, None, scratch)?;
        match (def.role, def.name.as_str()) {
            (Role::Identity, _) => select(&rows, |row| names.tell(frame, &rows, row)),
            (_, "probe" | "in_flight") => {
                let name = def.column("name").or_else(|| def.column("probe"))?;
                select(&rows, |row| {
                    !std::str::from_utf8(rows.bytes(name, row)).is_ok_and(|name| left.contains(name))
                })
            }
            _ => Some(rows.into_batch()),
        }
    })
}

fn events(scan: &Scan, frame: &Frame, scratch: &mut Scratch) -> Option<Batch> {
    let mut batch = None;
    scan.visit(frame, scratch, |chunk| {
        let rows: Vec<u32> = chunk.each().map(|row| row as u32).collect();
        batch = (!rows.is_empty()).then(|| chunk.rows().pick(&rows));
    });
    batch
}
