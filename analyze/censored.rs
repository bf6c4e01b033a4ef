//! Calls that lasted beyond the end of the recording: their latency is not known, so no report on calls has them, but the
//! longest may be among them.
//!
//! Of calls that had begun before the recording nothing is known: the kernel plants a probe of a return when the function
//! is entered.

use super::report::Context;
use crate::schema::TableDef;
use std::sync::Arc;

/// The recorder's table of such calls.
const IN_FLIGHT: &str = "in_flight";

/// A sentence on those of the probes of some tables, if there are any and the window reaches that far.
pub(crate) fn remark(context: &Context, tables: &[&Arc<TableDef>]) -> Option<String> {
    let end = context.trace.span.to;
    let rows = context.trace.gather(IN_FLIGHT).filter(|_| context.asked.to >= end)?;
    let (ts, probe) = (rows.def.column("ts")?, rows.def.column("probe")?);
    let asked = |row: &usize| tables.iter().any(|table| table.name.as_bytes() == rows.bytes(probe, *row));
    let began: Vec<u64> = (0..rows.len()).filter(asked).map(|row| rows.raw(ts, row)).collect();
    let age = end.saturating_sub(*began.iter().min()?) as f64 / 1e9;
    let (calls, s) = (began.len(), if began.len() == 1 { "" } else { "s" });
    Some(format!(
        "{calls} call{s} had not returned when the recording ended, the oldest after {age:.3} s: not counted"
    ))
}
