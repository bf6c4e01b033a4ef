//! How long do tasks wait for a processor?
//!
//! ```text
//! $ analyze trace.bin runqlat
//!    n  avg_us  p50_us  p90_us  p99_us  p99_9_us   max_us
//! 4021   6.120   3.907   8.415  41.227   311.908  998.120
//!
//!      usecs               : count     distribution
//!          2 -> 3         : 2411     |****************************************|
//! ```
//!
//! From the moment when a task could run (it was woken, was new, or had to leave its processor) until it came to
//! one. Being made to leave counts too, as in bcc's runqlat. A wait that had begun before the recording, or had not ended
//! when it did, is not in it.
//!
//! ```text
//! $ analyze trace.bin runqlat --interval 1s                  a histogram a second, as runqlat 1
//! $ analyze trace.bin runqlat --by cpu
//! $ analyze trace.bin runqlat --by pid,comm --sort p99_us
//! $ analyze trace.bin runqlat --where "state != 0"           after sleeps only
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::spread;
use crate::analyze::threshold;
use anyhow::Result;

/// Run queue latency.
pub static REPORT: Report = Report {
    name: "runqlat",
    question: "how long do tasks wait for a processor?",
    exactness: "waits that ended in the span, from being able to run until running; those open at either end are left out",
    needs: &[Need::of("sched_wait", "sched")],
    outputs: &spread::OUTPUTS,
    defaults: Defaults { by: "none", sort: "n", top: None, interval: None },
    flags: &[spread::MILLISECONDS, spread::PROCESSES, spread::THREADS],
    fit: Some(|trace| Ok(threshold::above(trace, 0))),
    run,
    compat: Some(spread::compat),
};

fn run(context: &Context) -> Result<Answer> {
    spread::answer(context, context.scan("sched_wait")?, "queued")
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.sched().task(0, 7, 7, "web").task(0, 8, 8, "db");
        for (at, (tid, queued)) in (1..).zip([(7, 3_000), (7, 5_000), (8, 100_000), (8, 0)]) {
            tape.wait(at, tid, (0, queued), 1, (0, 0));
        }
        tape
    }

    #[test]
    fn waits_are_distributed_and_unknown_ones_left_out() {
        let (exit, out, messages) = tape().run(&["runqlat", "--format", "csv"]);
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert_eq!(out.lines().nth(1), Some("false,3,36.0,5.0,,,,100.0"));
        let by = tape().run(&["runqlat", "--format", "csv", "--by", "comm"]).1;
        assert_eq!(
            by.lines().skip(1).collect::<Vec<_>>(),
            ["web,false,2,4.0,3.0,,,,5.0", "db,false,1,100.0,100.0,,,,100.0"]
        );
    }

    #[test]
    fn the_histogram_is_that_of_bcc() {
        let out = tape().run(&["runqlat", "--compat"]).1;
        assert!(out.contains("         2 -> 3         : 1"), "{out}");
        assert!(out.contains("        64 -> 127       : 1"), "{out}");
    }

    #[test]
    fn each_process_or_thread_has_a_picture_on_request() {
        let mut tape = tape();
        (10..30).for_each(|tid| {
            tape.task(0, tid, 100, "many").wait(5, tid.cast_signed(), (0, 1_000), 1, (0, 0));
        });
        let pictures = |letter: &str| tape.run(&["runqlat", "--compat", letter]).1.matches("usecs").count();
        assert_eq!((pictures("-m"), pictures("-P"), pictures("-L")), (0, 3, 22));
        assert!(tape.run(&["runqlat", "--compat", "-P"]).1.contains("\npid = 100, comm = many\n"));
    }

    #[test]
    fn each_interval_has_a_picture_with_its_time() {
        let mut tape = tape();
        tape.wait(900_000_000, 7, (0, 9_000), 1, (0, 0)).wait(2_900_000_000, 8, (0, 9_000), 1, (0, 0));
        let (_, out, _) = tape.run(&["runqlat", "--compat", "--interval", "1s"]);
        let parts: Vec<&str> = out.split("\n12:01:").collect();
        assert_eq!(
            parts.iter().map(|part| part.get(..2)).collect::<Vec<_>>(),
            [None, Some("07"), Some("08"), Some("10")]
        );
        let counted = |part: &str| {
            part.lines()
                .filter_map(|line| line.split([':', '|']).nth(1)?.trim().parse::<u64>().ok())
                .sum::<u64>()
        };
        assert_eq!(parts[1..].iter().map(|part| counted(part)).collect::<Vec<_>>(), [3, 1, 1], "{out}");
        let (_, out, _) = tape.run(&["runqlat", "--interval", "1s", "--by", "comm"]);
        assert!(out.contains("\n12:01:07, comm = db\n") && out.contains("\n12:01:08, comm = web\n"), "{out}");
        let (_, out, _) = tape.run(&["runqlat", "--interval", "1s", "--format", "json"]);
        let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(said["histogram"].as_array().map(Vec::len), Some(3), "{out}");
        assert_eq!(said["histogram"][1]["title"], "12:01:08");
    }
}
