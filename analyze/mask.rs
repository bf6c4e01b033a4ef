//! `--where`: a condition in SQL on single events, before anything is added up.
//!
//! The columns that it names are decoded, and what stays is one bit per row. Comparisons are decided by the thread
//! that decoded the rows ([`super::condition`]); what else SQL can say is evaluated by polars, a few frames at a
//! time, outside of rayon's tasks.

use super::columns::{Cells, cells, series};
use super::condition::Condition;
use super::error::Failure;
use super::input::{Input, Inputs};
use super::load::Scan;
use super::progress::Pass;
use super::rows::Rows;
use super::trace::Trace;
use super::window::Window;
use crate::schema::TableDef;
use crate::schema::hash::FastMap;
use anyhow::Result;
use polars::prelude::{DataFrame, DataType, Expr, IntoColumn, IntoLazy, NamedFrom, Series};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Frames that are evaluated together: some million rows.
const WAVE: usize = 64;

/// Which rows of a table a condition leaves.
pub(crate) struct Mask {
    /// Per file offset of a frame, one bit per row.
    bits: FastMap<u64, Vec<u64>>,
}

impl Mask {
    /// Evaluates a condition for a table.
    pub fn new(trace: &Trace, def: &Arc<TableDef>, window: Window, condition: &str) -> Result<Self> {
        let expr = parse("--where", condition)?;
        let inputs = Inputs::of(trace, def);
        let named: Vec<Input> =
            names(&expr).iter().map(|name| inputs.find(name).cloned()).collect::<Result<_, _>>()?;
        let mut scan = Scan::new(trace, def, window);
        named.iter().flat_map(|input| input.least(def)).for_each(|column| scan.add(column));
        let frames = scan.frames();
        let all = |rows: &Rows| {
            named.iter().map(|input| cells(trace, input, rows, 0..rows.len())).collect::<Vec<Cells>>()
        };
        trace.labels(); // read before the threads need them
        if let Some(known) = Condition::of(&expr, &named) {
            let bits = scan.map(&frames, |chunk| {
                let cells = all(chunk.rows());
                let kept = |row| known.holds(&cells, row) == Some(true);
                pack(&(0..chunk.rows().len()).map(kept).collect::<Vec<bool>>())
            });
            let bits = frames.iter().zip(bits).map(|(frame, bits)| (frame.offset, bits.unwrap_or_default()));
            return Ok(Self { bits: bits.collect() });
        }
        let mut mask = Self { bits: FastMap::default() };
        let pass = Pass::over(&def.name, frames.len());
        for wave in frames.chunks(WAVE) {
            let read = scan.map(wave, |chunk| (chunk.rows().len(), all(chunk.rows())));
            let rows: Vec<usize> =
                read.iter().map(|frame| frame.as_ref().map_or(0, |frame| frame.0)).collect();
            let total = rows.iter().sum();
            let parts: Vec<Vec<Cells>> = read.into_iter().flatten().map(|frame| frame.1).collect();
            let columns =
                named.iter().enumerate().map(|(at, input)| series(input, &parts, at).into_column()).collect();
            let kept = evaluate(DataFrame::new(total, columns)?, &expr, condition)?;
            let mut at = 0;
            for (frame, rows) in wave.iter().zip(rows) {
                mask.bits.insert(frame.offset, pack(&kept[at..at + rows]));
                at += rows;
            }
            pass.steps(wave.len());
        }
        Ok(mask)
    }

    /// The bits of a frame; `None` for one that was not evaluated.
    pub fn bits(&self, frame: u64) -> Option<&[u64]> {
        self.bits.get(&frame).map(Vec::as_slice)
    }
}

/// Reads a condition.
pub(crate) fn parse(option: &str, condition: &str) -> Result<Expr, Failure> {
    polars::sql::sql_expr(condition).map_err(|error| {
        Failure::usage(format!("{option} '{condition}': {error}"))
            .hint("write a condition in SQL, for example: rport = 443 AND comm LIKE 'nginx%'")
    })
}

/// The columns that a condition mentions.
pub(crate) fn names(expr: &Expr) -> Vec<String> {
    let column = |part: &Expr| if let Expr::Column(name) = part { Some(name.to_string()) } else { None };
    let names: BTreeSet<String> = expr.into_iter().filter_map(column).collect();
    names.into_iter().collect()
}

/// True or false per row; null is false, as in SQL.
fn evaluate(frame: DataFrame, expr: &Expr, condition: &str) -> Result<Vec<bool>> {
    let height = frame.height();
    if height == 0 {
        return Ok(Vec::new());
    }
    let wrong = |what: String| {
        Failure::usage(format!("--where '{condition}': {what}"))
            .hint("the report with --columns lists columns and units")
    };
    let constant = frame.width() == 0;
    let frame = if constant {
        DataFrame::new(height, vec![Series::new("".into(), vec![0u8; height]).into_column()])?
    } else {
        frame
    };
    let result = frame
        .lazy()
        .select([expr.clone().alias("kept")])
        .collect()
        .map_err(|error| wrong(error.to_string()))?;
    let kept = result.column("kept")?;
    if *kept.dtype() != DataType::Boolean || (kept.len() != height && !constant) {
        return Err(wrong("expected something that is true or false for each event".into()).into());
    }
    let kept: Vec<bool> = kept.bool()?.iter().map(|kept| kept == Some(true)).collect();
    Ok(if kept.len() == height { kept } else { vec![kept.first() == Some(&true); height] })
}

fn pack(kept: &[bool]) -> Vec<u64> {
    let word =
        |bits: &[bool]| bits.iter().enumerate().fold(0, |word, (at, &bit)| word | u64::from(bit) << at);
    kept.chunks(64).map(word).collect()
}
