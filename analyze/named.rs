//! Probes that the user named: tables of group `named`, whose columns nobody knows beforehand.
//!
//! All have `ts`, `cpu`, `tid` and `function`; those of whole calls have `latency` and `ret` too. The
//! reports on them ask for these, and take whatever else is there as arguments.

use super::error::Failure;
use super::report::{ANY, Context, Flag, Need};
use super::trace::Trace;
use crate::schema::{ColumnDef, Role, TableDef};
use std::sync::Arc;

/// The group of such tables.
const GROUP: &str = "named";
/// What the reports on them need.
pub(crate) const NEEDS: &[Need] = &[Need::of(ANY, GROUP)];
/// Their option for some of them.
pub(crate) const PROBE: Flag = Flag::valued("probe", "NAMES", "only these probes");
/// Of hits that were added up: how many.
pub(crate) const HITS: &str = "hits";
/// Columns that are no arguments: those that all have, of calls, and of stacks.
const COMMON: [&str; 8] = ["ts", "cpu", "tid", "function", "latency", "ret", STACKS[0], STACKS[1]];
/// Stacks, where the probe asks for them.
pub(crate) const STACKS: [&str; 2] = ["kstack", "ustack"];

/// Tables that a report reads.
pub(crate) type Found<'a> = Result<Vec<&'a Arc<TableDef>>, Failure>;

/// The probes among which a report looks for its tables.
#[derive(Clone, Copy)]
pub(crate) struct Probes<'a, 'n> {
    trace: &'a Trace,
    /// Those that `--probe` names.
    wanted: Option<&'n str>,
}

impl<'a, 'n> Probes<'a, 'n> {
    /// All that a trace has.
    pub fn of(trace: &'a Trace) -> Self {
        Self { trace, wanted: None }
    }

    /// Those that are asked for.
    pub fn asked(context: &'n Context<'a>) -> Self {
        Self { trace: context.trace, wanted: context.flag(PROBE.name) }
    }
}

/// The tables that a report is about: those that `--probe` names, or all that have the columns.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn tables<'a>(probes: Probes<'a, '_>, columns: &[&str]) -> Found<'a> {
    let (what, example) = if columns.contains(&"latency") {
        (" that records whole calls", "'fx:vfs_read' or -e 'ur:c:malloc(arg1)'")
    } else {
        ("", "'t:sched:sched_switch'")
    };
    if let Some(found) = find(probes, columns, |table| !adds_up(table))? {
        return Ok(found);
    }
    if let Some(added) = find(probes, &[], adds_up)? {
        let reason =
            format!("the hits of {} were added up in the kernel, and not recorded one by one", added[0].name);
        return Err(Failure::cannot(reason).hint("leave {count} and {hist} out of the probe"));
    }
    Err(Failure::cannot(format!("this trace has no probe of the user's own{what}"))
        .hint(format!("record one: capture -e {example} …")))
}

/// Tables of hits, and of what hits add up to, for a report that counts them.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn all<'a>(probes: Probes<'a, '_>) -> Found<'a> {
    find(probes, &[], |_| true)?.map_or_else(|| tables(probes, &[]), Ok)
}

/// The same of probes that have a value, or what it adds up to.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn of_value<'a>(probes: Probes<'a, '_>, value: &str) -> Found<'a> {
    let sum = format!("{value}_sum");
    let mut found = find(probes, &[value], |table| !adds_up(table))?.unwrap_or_default();
    found.extend(find(probes, &[&sum], adds_up)?.unwrap_or_default());
    if found.is_empty() { tables(probes, &[value]) } else { Ok(found) }
}

/// Whether its rows are what hits add up to, and not hits.
pub(crate) fn adds_up(table: &TableDef) -> bool {
    table.column("since").is_some() && table.column(HITS).is_some() && table.column("tid").is_none()
}

/// The same for a report on stacks: tables that have a stack of one kind at least.
///
/// # Errors
/// When there is none, with what to record.
pub(crate) fn with_stacks<'a>(probes: Probes<'a, '_>) -> Found<'a> {
    let has = |table: &TableDef| STACKS.iter().any(|name| table.column(name).is_some());
    find(probes, &[], has)?.ok_or_else(|| {
        Failure::cannot("this trace has no probe of the user's own that records stacks")
            .hint("record them: capture -e 'u:c:malloc {ustack}' -e 't:sched:sched_switch {kstack}' …")
    })
}

/// The same for a report on what a preset records: tables with these columns that are of its kind.
///
/// # Errors
/// When there is none, with the preset to record.
pub(crate) fn of_preset<'a>(
    probes: Probes<'a, '_>,
    preset: &str,
    columns: &[&str],
    is: fn(&TableDef) -> bool,
) -> Found<'a> {
    find(probes, columns, |table| is(table) && !adds_up(table))?.ok_or_else(|| {
        Failure::cannot(format!("this trace has no probes of preset '{preset}'"))
            .hint(format!("record them: capture -e {preset} …"))
    })
}

/// `None`: there are none.
fn find<'a>(
    probes: Probes<'a, '_>,
    columns: &[&str],
    is: impl Fn(&TableDef) -> bool,
) -> Result<Option<Vec<&'a Arc<TableDef>>>, Failure> {
    let all: Vec<_> = probes.trace.tables.iter().filter(|table| is_named(table)).collect();
    let has = |table: &TableDef| is(table) && columns.iter().all(|name| table.column(name).is_some());
    let wanted: Option<Vec<&str>> = probes.wanted.map(|names| names.split(',').collect());
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
pub(crate) fn arguments(table: &TableDef) -> impl Iterator<Item = &ColumnDef> {
    table.columns.iter().filter(|column| !COMMON.contains(&column.name.as_str()))
}
