//! What do the processors spend their time on?
//!
//! ```text
//! $ analyze trace.bin mpstat -P ALL
//! cpu  usr_pct  nice_pct  sys_pct  iowait_pct  irq_pct  soft_pct  steal_pct  guest_pct  gnice_pct  idle_pct
//!   0    61.04      0.00    12.12        0.50     0.00      0.10       0.00       0.00       0.00     26.24
//! ```
//!
//! All processors together, or with `-P ALL` a row for each, `-P 0,3` for these; over the whole span, or per
//! `--interval` as the live tool prints it. Shares of the time that the kernel accounted for, of all tasks, whatever
//! the recording's filters select. Time of virtual machines is in its own columns, as there.
//!
//! The kernel's counters have steps of 10 ms, and those are shared out by the tick on many kernels: shares over short
//! intervals are coarse. A difference between two snapshots (`capture --stat-interval`) belongs to the
//! interval of its middle.

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::counters::{self, Growth};
use crate::analyze::error::Failure;
use crate::analyze::table::Output;
use anyhow::Result;

/// Shares of processors' time.
pub static REPORT: Report = Report {
    name: "mpstat",
    question: "what do the processors spend their time on?",
    exactness: "differences of the kernel's counters of the whole host, which have steps of 10 ms, between snapshots; a difference belongs to the interval of its middle",
    needs: &[Need::of("cpu_time", "stat")],
    outputs: &[
        Output::measure("usr_pct", "%", 2, "user code"),
        Output::measure("nice_pct", "%", 2, "user code at a lower priority"),
        Output::measure("sys_pct", "%", 2, "the kernel for tasks"),
        Output::measure("iowait_pct", "%", 2, "nothing, while a task that ran there waited for a disk"),
        Output::measure("irq_pct", "%", 2, "interrupts"),
        Output::measure("soft_pct", "%", 2, "what interrupts left to do"),
        Output::measure("steal_pct", "%", 2, "the hypervisor gave it to others"),
        Output::measure("guest_pct", "%", 2, "virtual machines"),
        Output::measure("gnice_pct", "%", 2, "virtual machines at a lower priority"),
        Output::measure("idle_pct", "%", 2, "nothing"),
    ],
    defaults: Defaults { by: "none", sort: "", top: None, interval: None },
    flags: &[Flag::valued("P", "CPUS", "a row for each: ALL, or numbers separated by commas")],
    fit: None,
    run,
    compat: None,
};

/// The counters, and which column of the result each is.
const COUNTERS: [&str; 10] =
    ["user", "nice", "system", "iowait", "irq", "softirq", "steal", "guest", "guest_nice", "idle"];

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("cpu_time")?;
    let processors = context.flag("P");
    if let Some(words) = processors.filter(|words| *words != "ALL") {
        let wanted: Vec<u64> =
            words.split(',').map(|word| word.trim().parse()).collect::<Result<_, _>>().map_err(|_| {
                Failure::usage(format!("-P {words}: expected ALL, or numbers separated by commas"))
            })?;
        let cpu = scan.column("cpu")?;
        scan = scan.keeping(move |rows, row| wanted.contains(&rows.raw(cpu, row)));
    }
    let by = if processors.is_some() { "cpu" } else { context.report.defaults.by };
    let (grouping, groups) = counters::growth(context, &scan, ("cpu", COUNTERS), by)?;
    let mut table = context.keys(&grouping, &groups);
    for (at, output) in context.report.outputs.iter().enumerate() {
        table.floats(output, groups.iter().map(|group| share(&group.state, at)));
    }
    Ok(Answer::of(table.build()?))
}

/// Percent of a group's time; none where there is no time.
fn share(growth: &Growth<{ COUNTERS.len() }>, at: usize) -> Option<f64> {
    let mut spent = growth.by;
    // User time includes that of virtual machines.
    spent[0] = spent[0].saturating_sub(spent[7]);
    spent[1] = spent[1].saturating_sub(spent[8]);
    let all: f64 = spent.iter().map(|&time| time as f64).sum();
    (all > 0.0).then(|| 100.0 * spent[at] as f64 / all)
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{START, Tape};

    const SECOND: u64 = 1_000_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        let columns =
            ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
        let columns: Vec<String> = ["ts:u64".into(), "cpu:u16".into()]
            .into_iter()
            .chain(columns.map(|name| format!("{name}:u64?ns")))
            .collect();
        tape.table("cpu_time", &columns.iter().map(String::as_str).collect::<Vec<_>>());
        let mut row = |at: u64, cpu: u64, ms: [u64; 10]| {
            let times = ms.map(|ms| (ms * 1_000_000).into());
            tape.push("cpu_time", [(START + at).into(), cpu.into()].into_iter().chain(times).collect());
        };
        row(0, 0, [500, 0, 0, 0, 0, 0, 0, 0, 100, 0]);
        row(0, 1, [0; 10]);
        row(SECOND, 0, [1_000, 100, 200, 200, 0, 0, 0, 0, 300, 0]);
        row(SECOND, 1, [0, 0, 0, 800, 200, 0, 0, 0, 0, 0]);
        row(2 * SECOND, 1, [0, 0, 0, 1_000, 1_000, 0, 0, 0, 0, 0]);
        tape
    }

    #[test]
    fn shares_are_of_the_time_that_was_accounted_for() {
        let lines = |args: &[&str]| -> Vec<String> {
            let (exit, out, messages) = tape().run(&[&["mpstat", "--format", "csv"], args].concat());
            assert_eq!(exit, 0, "{messages}");
            out.lines().skip(1).map(str::to_owned).collect()
        };
        assert_eq!(
            lines(&["-P", "ALL"]),
            [
                "0,false,30.0,10.0,20.0,0.0,0.0,0.0,0.0,20.0,0.0,20.0",
                "1,false,0.0,0.0,0.0,50.0,0.0,0.0,0.0,0.0,0.0,50.0"
            ]
        );
        assert_eq!(lines(&["-P", "1"]), lines(&["--by", "cpu", "--where", "cpu = 1"]));
        assert!(lines(&[])[0].starts_with("false,10.0,"), "of three seconds together");
        assert_eq!(lines(&["-P", "1", "--interval", "1s"]).len(), 2);
        assert_eq!(tape().run(&["mpstat", "-P", "x"]).0, 2);
    }
}
