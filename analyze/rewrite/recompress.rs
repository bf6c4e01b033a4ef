//! `analyze trace.bin recompress -l 19 -o small.bin`: the same trace in fewer bytes.
//!
//! `capture` compresses at level 1, because it must keep up. Afterwards there is time. Nothing else changes.

use super::{Job, Plan, Target, Verb};
use anyhow::Result;
use clap::Args as _;

pub(super) static VERB: Verb = Verb {
    name: "recompress",
    about: "write the same trace in fewer bytes: -l 19 (the default) is small and slow",
    options: Target::augment_args,
    plan,
    level: 19,
};

fn plan<'a>(job: &'a Job<'a>) -> Result<Plan<'a>> {
    Plan::copy(job, VERB.name)
}
