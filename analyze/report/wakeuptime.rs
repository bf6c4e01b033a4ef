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
//! names whoever runs there. Stacks are those of `capture -g sched --min-wait TIME`.
//!
//! `waker_comm` is `[irq]` where an interrupt woke the task: whom it interrupted has no part in it. `[softirq] NAME` is what
//! an interrupt left to do, while NAME ran: either that was interrupted too, or its own call began the work, as a send over
//! loopback does. `--by context` tells the three apart. Where the recording kernel did not tell, as a note says, the
//! waker of an interrupt is the task that was interrupted.

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::flame::{self, Flame, Subject, Weights, pair};
use crate::analyze::group::{Group, Grouping, Merge as _};
use crate::analyze::rows::Value;
use crate::analyze::threshold;
use anyhow::Result;
use std::collections::BTreeMap;
use std::io;

/// Sleep by waker.
pub static REPORT: Report = Report {
    name: "wakeuptime",
    question: "who wakes sleeping tasks, from which functions, after how long?",
    exactness: "sleeps that ended in the span, until being woken; those open at either end are left out",
    needs: &[Need::of("sched_wake", "sched")],
    outputs: &flame::TIMES,
    defaults: Defaults { by: "none", sort: "total_us,self_us", top: Some(30), interval: None },
    flags: flame::FLAGS,
    fit: Some(threshold::with_stacks),
    run,
    compat: Some(compat),
};

const SUBJECT: Subject = Subject { title: "Time until woken", unit: "us", own: "self_us", total: "total_us" };

fn run(context: &Context) -> Result<Answer> {
    let default = if flame::wants_lines(context) { "comm,waker_comm" } else { "none" };
    let (grouping, groups, named) = gather(context, default)?;
    let answer = Flame::new(context, &groups)?.without_probes().answer(&grouping, &SUBJECT)?;
    let def = context.table("sched_wake")?;
    let untold = !named || def.column(CONTEXT).is_none_or(|at| !def.columns[at].absent.is_empty());
    Ok(if untold {
        answer.note("in interrupts, wakers are the tasks that were interrupted: the recording does not tell which those are")
    } else {
        answer
    })
}

/// The weights by what is asked for, and whether each waker is known to be one.
fn gather<'a>(context: &Context<'a>, default: &str) -> Result<(Grouping<'a>, Vec<Group<Weights>>, bool)> {
    let mut scan = context.scan("sched_wake")?;
    let (blocked, kernel, user) = (scan.column("blocked")?, scan.column("kstack")?, scan.column("ustack")?);
    let known = |at: usize| scan.def.columns[at].absent.is_empty();
    let mut by = context.options.by.as_deref().unwrap_or(default).to_owned();
    let named = by.split(',').any(|word| word.trim() == WAKER) && scan.def.column(CONTEXT).is_some_and(known);
    if named {
        by.push(',');
        by.push_str(CONTEXT);
    }
    let mut grouping = context.grouping_on(&scan, &by)?;
    let columns = [kernel, user, blocked];
    let groups = grouping.sum(&scan, columns, |weights: &mut Weights, [kernel, user, blocked]| {
        weights.add(pair(kernel, user), blocked.unwrap_or(0).cast_unsigned() / 1000);
    });
    if !named {
        return Ok((grouping, groups, true));
    }
    let told = groups.iter().all(|group| group.keys.last() != Some(&Value::Null));
    let groups = name_interrupts(&mut grouping, groups);
    Ok((grouping, groups, told))
}

const WAKER: &str = "waker_comm";
const CONTEXT: &str = "context";

/// Takes the context, the last key, into the waker's name, and puts together what then is one.
fn name_interrupts(grouping: &mut Grouping, groups: Vec<Group<Weights>>) -> Vec<Group<Weights>> {
    grouping.by.pop();
    let waker = grouping.by.iter().position(|input| input.name == WAKER);
    let mut merged: BTreeMap<(u32, Vec<Value>), Weights> = BTreeMap::new();
    for Group { bin, mut keys, state } in groups {
        let context = keys.pop();
        if let (Some(at), Some(context)) = (waker, context.as_ref().and_then(Value::as_text)) {
            let name = keys[at].as_text().unwrap_or_default();
            match context {
                "irq" => keys[at] = Value::Text("[irq]".into()),
                "softirq" => keys[at] = Value::Text(format!("[softirq] {name}").trim_end().into()),
                _ => {}
            }
        }
        merged.entry((bin, keys)).or_default().merge(state);
    }
    merged.into_iter().map(|((bin, keys), state)| Group { bin, keys, state }).collect()
}

/// The layout of bcc's stack tools: the stack of the waker, then whom it woke, and who it is.
fn compat(context: &Context, _: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let (_, groups, _) = gather(context, "comm,waker_comm").map_err(io::Error::other)?;
    Flame::new(context, &groups).map_err(io::Error::other)?.without_probes().print(out)
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn the_waker_has_a_name_of_its_own() {
        let mut tape = Tape::new();
        tape.stacks().sched().threshold("1ms").task(0, 7, 7, "web").task(0, 8, 8, "wrk");
        tape.frame(1, true, 0, "wake_up").frame(2, true, 0, "bpf_trace_run1").frame(
            3,
            true,
            0,
            "bpf_prog_1f_sched_waking__tp",
        );
        tape.stack(1, &[3, 2, 1]);
        tape.event("sched_wake", 5, [7, 3_000_000, 8, 1, 1, 0, 1]);
        let (exit, out, _) = tape.run(&["wakeuptime", "--format", "csv", "--by", "waker_comm,comm"]);
        assert_eq!(
            (exit, out.lines().nth(1)),
            (0, Some("wrk,web,false,3000,3000,100.0,100.0,[kernel],wake_up"))
        );
        assert_eq!(tape.run(&["wakeuptime", "--folded"]).1, "web;wrk;wake_up_[k] 3000\n");
    }

    #[test]
    fn who_was_interrupted_is_no_waker() {
        let mut tape = Tape::new();
        tape.stacks()
            .sched()
            .threshold("1ms")
            .task(0, 7, 7, "web")
            .task(0, 8, 8, "wrk")
            .task(0, 9, 9, "bash");
        for (value, label) in [(1, "task"), (2, "softirq"), (3, "irq")] {
            tape.push("enum", vec!["wake_context".into(), value.into(), label.into()]);
        }
        tape.frame(1, true, 0, "wake_up").stack(1, &[1]);
        for (at, (waker, context)) in (1..).zip([(8, 1), (8, 1), (0, 3), (9, 3), (8, 2), (0, 2)]) {
            tape.event("sched_wake", at, [7, 1_000_000, waker, 1, 1, 0, context]);
        }
        let (_, out, _) =
            tape.run(&["wakeuptime", "--by", "waker_comm", "--format", "csv", "--sort", "waker_comm"]);
        let names: Vec<_> =
            out.lines().skip(1).map(|line| line.split(',').take(3).collect::<Vec<_>>()).collect();
        let row = |name, us| vec![name, "false", us];
        assert_eq!(
            names,
            [
                row("[irq]", "2000"),
                row("[softirq]", "1000"),
                row("[softirq] wrk", "1000"),
                row("wrk", "2000")
            ]
        );
    }
}
