//! `capture --min-wait`: what a recording answers that has of the scheduler's events only those that lasted long.

use super::error::Failure;
use super::trace::Trace;
use super::window::duration;

/// What was asked for.
fn word(trace: &Trace) -> Option<&str> {
    let words = &trace.reader.host.filters;
    words.iter().find_map(|word| word.strip_prefix("min-wait ")).filter(|least| *least != "0ns")
}

/// What is missing where all that lasted at least `least` ns is asked for.
pub(crate) fn above(trace: &Trace, least: u64) -> Vec<String> {
    let found = word(trace).filter(|found| duration(found).is_none_or(|found| found > least));
    let remark =
        |found| format!("only what lasted at least {found} was recorded: shorter ones are in no figure");
    found.map(remark).into_iter().collect()
}

/// How well a trace answers what is about stacks of waits: only long ones have any.
pub(crate) fn with_stacks(trace: &Trace) -> Result<Vec<String>, Failure> {
    match word(trace) {
        Some(_) => Ok(above(trace, 0)),
        None => {
            Err(Failure::cannot("waits were recorded without stacks: only those above a threshold have any")
                .hint("record them: capture -g sched --min-wait 1ms …"))
        }
    }
}

/// The same of what has no length: it is not recorded beside what has.
pub(crate) fn without(trace: &Trace) -> Result<Vec<String>, Failure> {
    match word(trace) {
        None => Ok(Vec::new()),
        Some(_) => Err(Failure::cannot("a recording with --min-wait has only what takes time: no moves")
            .hint("record them: capture -g sched … without --min-wait")),
    }
}
