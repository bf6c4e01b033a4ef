//! How long do tasks run at a stretch, or stay away?
//!
//! ```text
//! $ analyze trace.bin cpudist
//! $ analyze trace.bin cpudist --off --by comm
//! ```
//!
//! From a task's coming to a processor until it leaves it, whether it was made to or not; bcc's libbpf
//! version counts only stretches that end by preemption. With `--off`, from leaving one until coming to one, sleep and
//! wait together. What had begun before the recording is not in it.

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::spread;
use crate::analyze::threshold;
use anyhow::Result;

/// Stretches on and off processors.
pub static REPORT: Report = Report {
    name: "cpudist",
    question: "for how long do tasks run at a stretch, or stay off their processors?",
    exactness: "stretches that ended in the span, however they ended; those open at either end are left out",
    needs: &[Need::of("sched_run", "sched"), Need::of("sched_wait", "sched")],
    outputs: &spread::OUTPUTS,
    defaults: Defaults { by: "none", sort: "n", top: None, interval: None },
    flags: &[
        Flag::switch("off", "Time off processors, asleep or waiting").letter('O'),
        spread::MILLISECONDS,
        spread::PROCESSES,
        spread::THREADS,
    ],
    fit: Some(|trace| Ok(threshold::above(trace, 0))),
    run,
    compat: Some(spread::compat),
};

fn run(context: &Context) -> Result<Answer> {
    match context.flag("off") {
        Some(_) => spread::answer(context, context.scan("sched_wait")?, "off"),
        None => spread::answer(context, context.scan("sched_run")?, "ran"),
    }
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn stretches_on_and_off_are_two_questions() {
        let mut tape = Tape::new();
        tape.sched().task(0, 7, 7, "web");
        tape.ran(1, 7, 2_000, 1).ran(2, 7, 4_000, 0).wait(3, 7, (9_000, 1_000), 1, (0, 0));
        let line = |words: &[&str]| {
            let out = tape.run(&[&["cpudist", "--format", "csv"], words].concat()).1;
            out.lines().nth(1).expect("a row").to_owned()
        };
        assert_eq!(line(&[]), "false,2,3.0,2.0,,,,4.0");
        assert_eq!(line(&["--off"]), "false,1,9.0,9.0,,,,9.0");
        assert_eq!(line(&["--where", "state = 0"]), "false,1,4.0,4.0,,,,4.0");
    }
}
