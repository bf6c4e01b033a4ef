//! Who wakes sleeping tasks, and how long had they slept?
//!
//! ```text
//! $ analyze trace.bin wakeuptime --by waker_comm,comm --top 2
//! waker_comm  comm   self_us  total_us  self_pct  total_pct  binary    function
//! wrk         nginx        0    812400       0.0       61.2  [kernel]  sock_def_readable
//! ```
//!
//! Microseconds from going to sleep until being woken, by the functions of the waker. From `sched_waking`, which runs in
//! the waker's own context, also where the woken task's processor is another; bcc's tool uses `sched_wakeup`, which then
//! names whoever runs there. Stacks are those of `capture -g sched --min-wait TIME`. In an interrupt, the waker is the
//! task that was interrupted.

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::flame::{self, Flame, Subject, Weights};
use crate::analyze::group::{Group, Grouping};
use crate::analyze::spread;
use anyhow::Result;
use std::io;

/// Sleep by waker.
pub static REPORT: Report = Report {
    name: "wakeuptime",
    question: "who wakes sleeping tasks, from which functions, after how long?",
    exactness: "sleeps that ended in the span, until being woken; those open at either end are left out",
    needs: &[Need { table: "sched_wake", group: "sched" }],
    outputs: &flame::TIMES,
    defaults: Defaults { by: "none", sort: "total_us,self_us", top: Some(30), interval: None },
    flags: flame::FLAGS,
    run,
    compat: Some(compat),
};

const SUBJECT: Subject = Subject { title: "Time until woken", unit: "us", own: "self_us", total: "total_us" };

fn run(context: &Context) -> Result<Answer> {
    let default = if flame::wants_lines(context) { "comm,waker_comm" } else { "none" };
    let (grouping, groups) = gather(context, default)?;
    let answer = Flame::new(context, &groups)?.without_probes().answer(&grouping, &SUBJECT)?;
    Ok(spread::threshold(context.trace).into_iter().fold(answer, Answer::note))
}

fn gather<'a>(context: &Context<'a>, default: &str) -> Result<(Grouping<'a>, Vec<Group<Weights>>)> {
    let mut scan = context.scan("sched_wake")?;
    let (blocked, kernel, user) = (scan.column("blocked")?, scan.column("kstack")?, scan.column("ustack")?);
    let grouping = context.grouping_by(&scan, default)?;
    let groups = grouping.fold(&scan, |weights: &mut Weights, rows, row| {
        let pair = (rows.raw(kernel, row) as u32, rows.raw(user, row) as u32);
        weights.add(pair, rows.raw(blocked, row) / 1000);
    });
    Ok((grouping, groups))
}

/// The layout of bcc's stack tools: the stack of the waker, then whom it woke, and who it is.
fn compat(context: &Context, _: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let (_, groups) = gather(context, "comm,waker_comm").map_err(io::Error::other)?;
    Flame::new(context, &groups).map_err(io::Error::other)?.without_probes().print(out)
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn the_waker_has_a_name_of_its_own() {
        let mut tape = Tape::new();
        tape.stacks().sched().task(0, 7, 7, "web").task(0, 8, 8, "wrk");
        tape.frame(1, true, 0, "wake_up").frame(2, true, 0, "bpf_trace_run1").frame(3, true, 0, "bpf_prog_1f_sched_waking__tp");
        tape.stack(1, &[3, 2, 1]);
        tape.event("sched_wake", 5, [7, 3_000_000, 8, 1, 1, 0]);
        let (exit, out, _) = tape.run(&["wakeuptime", "--format", "csv", "--by", "waker_comm,comm"]);
        assert_eq!(
            (exit, out.lines().nth(1)),
            (0, Some("wrk,web,false,3000,3000,100.0,100.0,[kernel],wake_up"))
        );
        assert_eq!(tape.run(&["wakeuptime", "--folded"]).1, "web;wrk;wake_up_[k] 3000\n");
    }
}
