//! How large a file is in which nothing happened: what it begins with, its index and its end.

use super::args::Args;
use super::attach::probe_row;
use super::batch::Builder;
use super::filter::Filter;
use super::names;
use super::plan::Plan;
use super::preface::{Preface, plain};
use super::probes::Outcome;
use super::record::Own;
use super::session::host_of;
use crate::schema::{Kind, frame::RECORDER};
use anyhow::Result;
use std::sync::Arc;

/// Writes one to nowhere, as a recording would, and says how many bytes that were.
///
/// # Errors
/// When zstd cannot be set up.
pub fn size(args: &Args, plan: &Plan, filter: &Filter, outcomes: &[Outcome]) -> Result<u64> {
    let layouts = Arc::new(plan.layouts.clone());
    let tables = layouts.iter().map(|layout| layout.def.clone()).collect();
    let mut preface = Preface::new(host_of(args, filter), args.level, tables);
    let probes = outcomes.iter().map(probe_row).collect();
    for (own, rows) in [(Own::Probe, probes), (Own::Enum, names::rows(&layouts))] {
        let rows: Vec<Vec<u8>> = rows;
        let Some(table) = layouts.iter().position(|layout| layout.def.name == own.name()) else { continue };
        let mut builder = Builder::new(Arc::clone(&layouts), table, RECORDER);
        for row in &rows {
            builder.push(row);
        }
        preface.keep(Kind::Stats, &builder.seal());
    }
    let (_, bytes) = preface.open(std::io::sink(), 0, None)?.finish("the duration is over").map_err(plain)?;
    Ok(bytes)
}
