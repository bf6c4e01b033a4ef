//! `analyze trace.bin redact --names hash -o out.bin`: a trace to give away.
//!
//! Arguments of commands, names and network addresses are each kept, dropped or hashed; without an option all
//! three are hashed but arguments, which are dropped. What is dropped is absent from every row, and a report that
//! needs it says so instead of answering. What is hashed can still be told apart, counted and grouped
//! ([`crate::schema::pseudonym`]): by a key that is gone afterwards, or by `--hash-key-file`, with which the same
//! name has the same pseudonym in every trace. The verb lists the columns that changed and the reports that show them.
//!
//! Numbers stay: ports, sizes, times, user and process ids.

use super::{Job, Part, Plan, Target, Verb};
use crate::analyze::report::{REPORTS, Report, recorded};
use crate::analyze::rows::Rows;
use crate::analyze::trace::Trace;
use crate::schema::TableDef;
use crate::schema::pseudonym::Pseudonyms;
use crate::schema::redact::{Redaction, Treatment};
use anyhow::Result;
use clap::{Args, FromArgMatches as _, ValueEnum};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) static VERB: Verb = Verb {
    name: "redact",
    about: "write the trace without arguments, names and addresses, or with pseudonyms for them",
    options: Own::augment_args,
    plan,
    level: 1,
};

/// What becomes of a kind of secret.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// It stays.
    Keep,
    /// It becomes a pseudonym.
    Hash,
    /// It goes.
    Drop,
}

#[derive(Args, Debug)]
struct Own {
    /// What commands were called with
    #[arg(long, value_enum, default_value = "drop", help_heading = "This verb")]
    args: What,
    /// Names of commands, files, hosts and whatever else has one
    #[arg(long, value_enum, default_value = "hash", help_heading = "This verb")]
    names: What,
    /// Network addresses; pseudonyms keep common prefixes
    #[arg(long, value_enum, default_value = "hash", help_heading = "This verb")]
    addresses: What,
    /// Secret key of the pseudonyms, 16 bytes or more [default: one that is gone afterwards]
    #[arg(long, value_name = "FILE", help_heading = "This verb")]
    hash_key_file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl From<What> for Treatment {
    fn from(what: What) -> Self {
        match what {
            What::Keep => Self::Keep,
            What::Hash => Self::Hash,
            What::Drop => Self::Drop,
        }
    }
}

fn plan<'a>(job: &'a Job<'a>) -> Result<Plan<'a>> {
    let own = Own::from_arg_matches(job.matches)?;
    let mut plan = Plan::copy(job, VERB.name)?;
    let trace = plan.parts[0].trace;
    let redaction = Redaction {
        arguments: own.args.into(),
        names: own.names.into(),
        addresses: own.addresses.into(),
        pseudonyms: own.hash_key_file.as_deref().map_or_else(Pseudonyms::random, Pseudonyms::from_file)?,
    };
    redaction.host(&mut plan.host);
    redaction.tables(&mut plan.tables);
    let kinds = [("arguments", own.args), ("names", own.names), ("addresses", own.addresses)];
    let hidden = kinds.into_iter().filter(|kind| !matches!(kind.1, What::Keep));
    plan.host.hidden.extend(hidden.map(|(kind, what)| format!("{kind}: {what:?} by redact").to_lowercase()));
    plan.notes = changes(trace, &redaction);
    let edit = Box::new(move |frame: &_, scratch: &mut _| {
        let mut batch = trace.read(frame, None, scratch).map(Rows::into_batch)?;
        redaction.rows(trace.tables.get(usize::from(batch.table))?, &mut batch);
        Some(batch)
    });
    plan.parts = vec![Part { edit, ..Part::whole(trace) }];
    Ok(plan)
}

/// The columns that are no longer what they were, and the reports that read them.
fn changes(trace: &Trace, redaction: &Redaction) -> Vec<String> {
    let mut notes = Vec::new();
    for def in &trace.tables {
        let of = |treatment| columns(def, redaction, treatment).join(", ");
        for (what, columns) in [("hashed", of(Treatment::Hash)), ("dropped", of(Treatment::Drop))] {
            if !columns.is_empty() && trace.rows_of(def.number) > 0 {
                notes.push(format!("{what}: {}: {columns}", def.name));
            }
        }
    }
    let answered = |report: &&&Report| report.needs.iter().all(|need| recorded(trace, report, need).is_ok());
    for report in REPORTS.iter().filter(answered) {
        let tables = reachable(trace, report);
        let of = |treatment| -> BTreeSet<String> {
            tables.iter().flat_map(|def| columns(def, redaction, treatment)).collect()
        };
        let list = |columns: BTreeSet<String>| columns.into_iter().collect::<Vec<_>>().join(", ");
        let (hashed, dropped) = (list(of(Treatment::Hash)), list(of(Treatment::Drop)));
        let parts: Vec<String> = [("pseudonyms for", hashed), ("nothing for", dropped)]
            .into_iter()
            .filter(|part| !part.1.is_empty())
            .map(|(what, columns)| format!("{what} {columns}"))
            .collect();
        if !parts.is_empty() {
            notes.push(format!("changes: {} has {}", report.name, parts.join("; ")));
        }
    }
    notes
}

fn columns(def: &TableDef, redaction: &Redaction, treatment: Treatment) -> Vec<String> {
    let treated = def.columns.iter().filter(|column| redaction.treatment(def, column) == treatment);
    let secret = treated.filter(|_| treatment != Treatment::Keep);
    secret.filter(|column| column.absent.is_empty()).map(|column| column.name.clone()).collect()
}

/// The tables that a report reads, and the identity tables behind them.
fn reachable<'a>(trace: &'a Trace, report: &Report) -> Vec<&'a Arc<TableDef>> {
    if report.needs.is_empty() {
        return trace.tables.iter().collect();
    }
    let mut tables: Vec<&Arc<TableDef>> =
        report.needs.iter().filter_map(|need| trace.table(need.table)).collect();
    let mut at = 0;
    while let Some(def) = tables.get(at) {
        let references = def.columns.iter().filter_map(|column| trace.table(&column.references));
        let new: Vec<_> =
            references.filter(|def| tables.iter().all(|known| known.number != def.number)).collect();
        for def in new {
            if tables.iter().all(|known| known.number != def.number) {
                tables.push(def);
            }
        }
        at += 1;
    }
    tables
}
