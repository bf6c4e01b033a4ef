//! What do tasks wait for when they do not run?
//!
//! ```text
//! $ analyze trace.bin offcputime --by comm --top 3
//! comm   self_us  total_us  self_pct  total_pct  binary    function
//! redis        0   1993812       0.0       99.1  [kernel]  ep_poll
//! ```
//!
//! Microseconds from leaving a processor to go to sleep until running again, by the functions that it slept in: `total` is
//! what to read, since all sleep in the scheduler itself. It has the waits of `capture -g sched --min-wait TIME` that
//! were at least so long: only these have stacks. User stacks are followed by frame pointers, for 64 frames. Tasks
//! that were made to leave did not sleep, and are not in it (`--where "state = 0"` with runqlat shows these).
//!
//! ```text
//! $ analyze trace.bin offcputime --svg waits.svg
//! $ analyze trace.bin offcputime --folded --where "off_ms > 10"
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::flame::{self, Flame, Subject, Weights, pair};
use crate::analyze::group::{Group, Grouping};
use crate::analyze::threshold;
use anyhow::Result;
use std::io;

/// Sleep by function.
pub static REPORT: Report = Report {
    name: "offcputime",
    question: "in which functions do tasks sleep, and for how long?",
    exactness: "sleeps that ended in the span, until running again; those open at either end are left out",
    needs: &[Need::of("sched_wait", "sched")],
    outputs: &flame::TIMES,
    defaults: Defaults { by: "none", sort: "total_us,self_us", top: Some(30), interval: None },
    flags: flame::FLAGS,
    fit: Some(threshold::with_stacks),
    run,
    compat: Some(compat),
};

const SUBJECT: Subject = Subject { title: "Off-CPU time", unit: "us", own: "self_us", total: "total_us" };

fn run(context: &Context) -> Result<Answer> {
    let default = if flame::wants_lines(context) { "comm" } else { "none" };
    let (grouping, groups) = gather(context, default)?;
    let answer = Flame::new(context, &groups)?.answer(&grouping, &SUBJECT)?;
    let bare = groups.iter().flat_map(|group| group.state.each()).any(|(pair, _)| pair == (0, 0));
    Ok(if bare {
        answer.note("some waits have no stack: it could not be read, or was given up to keep within a bound")
    } else {
        answer
    })
}

fn gather<'a>(context: &Context<'a>, default: &str) -> Result<(Grouping<'a>, Vec<Group<Weights>>)> {
    let mut scan = context.scan("sched_wait")?;
    let (off, state) = (scan.column("off")?, scan.column("state")?);
    let (kernel, user) = (scan.column("kstack")?, scan.column("ustack")?);
    let grouping = context.grouping_by(&scan, default)?;
    let columns = [kernel, user, off, state];
    let groups = grouping.sum(&scan, columns, |weights: &mut Weights, [kernel, user, off, state]| {
        // A group whose tasks were only made to leave has no weights, and no row.
        if let Some(off) = off.filter(|_| state != Some(0)) {
            weights.add(pair(kernel, user), off.cast_unsigned() / 1000);
        }
    });
    Ok((grouping, groups))
}

/// As bcc's offcputime prints it: each stack with its task, the longest last.
fn compat(context: &Context, _: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let (_, groups) = gather(context, "comm,tid").map_err(io::Error::other)?;
    Flame::new(context, &groups).map_err(io::Error::other)?.print(out)
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.stacks().sched().threshold("1ms").task(0, 7, 7, "web");
        tape.mapping(1, "/usr/bin/web");
        tape.frame(1, true, 0, "schedule").frame(2, true, 0, "do_poll").frame(3, false, 1, "main");
        tape.stack(1, &[1, 2]).stack(2, &[3]);
        tape.wait(1, 7, (5_000_000, 0), 1, (0, 1)).wait(2, 7, (2_000_000, 0), 1, (0, 1));
        tape.wait(3, 7, (9_000_000, 9_000_000), 0, (0, 1));
        tape
    }

    #[test]
    fn time_asleep_is_added_up_by_function_and_preemption_is_no_sleep() {
        let (exit, out, messages) = tape().run(&["offcputime", "--format", "csv"]);
        assert_eq!((exit, messages.as_str()), (0, ""));
        let rows: Vec<&str> = out.lines().skip(1).collect();
        assert_eq!(
            rows,
            ["false,7000,7000,100.0,100.0,[kernel],schedule", "false,0,7000,0.0,100.0,[kernel],do_poll"]
        );
        assert_eq!(tape().run(&["offcputime", "--folded"]).1, "web;do_poll_[k];schedule_[k] 7000\n");
        let compat = tape().run(&["offcputime", "--compat"]).1;
        assert_eq!(compat, "    schedule\n    do_poll\n    -                web (7)\n        7000\n\n");
    }

    #[test]
    fn without_stacks_it_says_how_to_record_them() {
        let mut tape = Tape::new();
        tape.stacks().sched().task(0, 7, 7, "web").wait(1, 7, (5_000_000, 0), 1, (0, 0));
        for report in ["offcputime", "wakeuptime"] {
            let (exit, out, messages) = tape.run(&[report]);
            assert_eq!((exit, out.as_str()), (6, ""));
            assert!(messages.contains("without stacks") && messages.contains("--min-wait 1ms"), "{messages}");
        }
    }
}
