//! `analyze broken.bin recover -o whole.bin`: what is whole of a file that is cut or damaged.
//!
//! Every frame that can be decoded is written again, with new sequence numbers, an index and a footer, so
//! that the stock tools read the file to its end too (`zstd -t`). What was in the others is entered into the
//! ledger as `discarded`, in the span that it was of: reports on the new file mark the same rows as lower bounds.
//! Without definitions of its tables nothing of a file can be recovered; they are repeated at each checkpoint.

use super::{Job, Plan, Target, Verb};
use crate::analyze::error::{Exit, Failure};
use anyhow::Result;
use clap::Args as _;

pub(super) static VERB: Verb = Verb {
    name: "recover",
    about: "write what is whole of a cut or damaged trace to a new one",
    options: Target::augment_args,
    plan,
    level: 1,
};

fn plan<'a>(job: &'a Job<'a>) -> Result<Plan<'a>> {
    let mut plan = Plan::copy(job, VERB.name)?;
    let reader = &plan.parts[0].trace.reader;
    if reader.tables.is_empty() {
        let what = "no definition of its tables is left in this file, so no row of it can be read";
        return Err(Failure::new(Exit::Unusable, what).into());
    }
    let damage = &reader.damage;
    if let Some(first) = damage.first() {
        let bytes: u64 = damage.iter().map(|damage| damage.length).sum();
        let what = format!("{} places, {bytes} bytes, the first at byte {}", damage.len(), first.offset);
        plan.reason = format!("{}; recovered from a file that was damaged in {what}", plan.reason);
    }
    Ok(plan)
}
