//! Which tasks are moved from processor to processor, and how often?
//!
//! ```text
//! $ analyze trace.bin migrations
//! pid   comm   migrations  migrations_per_s  processors
//! 4711  nginx         412            137.33           2
//! 4702  make           31             10.33           2
//! ```
//!
//! A move is what `perf stat -e migrations` counts and /proc/PID/sched has as `nr_migrations`: the scheduler chose another
//! processor, when the task was woken or started, to share the load out, or because it must not stay. `processors` is to
//! how many of them it was moved. A recording with `--min-wait` has no moves.
//!
//! ```text
//! $ analyze trace.bin migrations --by from,to               which way
//! $ analyze trace.bin migrations --by pid,tid,comm --interval 1s
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::group::{Group, Merge};
use crate::analyze::table::Output;
use crate::analyze::threshold;
use anyhow::Result;
use std::collections::BTreeSet;

/// Moves between processors.
pub static REPORT: Report = Report {
    name: "migrations",
    question: "which tasks are moved from processor to processor, and how often?",
    exactness: "each move as the kernel makes it",
    needs: &[Need::of("sched_migrate", "sched")],
    outputs: &[
        Output::count("migrations", "", "how often"),
        Output::decimal("migrations_per_s", "1/s", 2, "moves per second of the interval"),
        Output::measure("processors", "", 0, "to how many processors"),
    ],
    defaults: Defaults { by: "pid,comm", sort: "migrations", top: None, interval: None },
    flags: &[],
    fit: Some(threshold::without),
    run,
    compat: None,
};

#[derive(Default)]
struct Moves {
    count: u64,
    to: BTreeSet<i64>,
}

impl Merge for Moves {
    fn merge(&mut self, later: Self) {
        self.count = self.count.saturating_add(later.count);
        self.to.extend(later.to);
    }
}

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("sched_migrate")?;
    let grouping = context.grouping(&scan)?;
    let to = scan.column("to")?;
    let groups = grouping.sum(&scan, [to], |moves: &mut Moves, [to]| {
        moves.count += 1;
        moves.to.extend(to);
    });
    let rate = |group: &Group<Moves>| Context::per_second(&grouping, group, group.state.count);
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("migrations"), groups.iter().map(|group| Some(group.state.count)))
        .floats(context.output("migrations_per_s"), groups.iter().map(rate))
        .ints(context.output("processors"), groups.iter().map(|group| Some(group.state.to.len() as u64)));
    Ok(Answer::of(table.build()?))
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn moves_are_counted_and_the_processors_they_lead_to() {
        let mut tape = Tape::new();
        tape.table("sched_migrate", &["ts:u64", "cpu:u16", "tid:u32>task", "from:u32", "to:u32"]);
        tape.task(0, 7, 70, "web").task(0, 8, 80, "db");
        for (at, (tid, from, to)) in (1..).zip([(7, 0, 1), (7, 1, 0), (7, 0, 3), (8, 2, 1)]) {
            tape.event("sched_migrate", at * 1_000, [tid, from, to]);
        }
        let lines = |words: &[&str]| {
            let (exit, out, messages) = tape.run(&[&["migrations", "--format", "csv"], words].concat());
            assert_eq!((exit, messages.as_str()), (0, ""));
            let line = |line: &str| {
                let mut cells: Vec<&str> = line.split(',').collect();
                cells.remove(cells.len() - 2); // the rate, by the length of the recording
                cells.join(" ")
            };
            out.lines().skip(1).map(line).collect::<Vec<_>>()
        };
        assert_eq!(lines(&[]), ["70 web false 3 3", "80 db false 1 1"]);
        assert_eq!(lines(&["--by", "to"]), ["1 false 2 1", "0 false 1 1", "3 false 1 1"]);
        let (exit, _, messages) = Tape::new().run(&["migrations"]);
        assert!(exit == 6 && messages.contains("capture -g sched"), "{messages}");
    }
}
