//! How busy is each disk?
//!
//! ```text
//! $ analyze trace.bin iostat --interval 1s
//! time      disk     r_s    rkb_s  rrqm_s  r_await_ms  rareq_kb   w_s    wkb_s  wrqm_s  w_await_ms  wareq_kb  …
//! 12:01:07  vda   120.00  4800.00    0.00       0.213     40.00  8.00   512.00    3.00       1.125     64.00  …
//! ```
//!
//! Over the whole span, or per `--interval`, with the columns of `iostat -x`. Whole disks, with `-p` their partitions too; disks
//! that did nothing in an interval have no row in it. All requests of the host, whatever the recording's
//! filters select: `biotop` says whose they are.
//!
//! Rates are differences between two snapshots (`capture --stat-interval`) divided by the time between them; a
//! difference belongs to the interval of its middle. Requests count when they are done, and times are the kernel's,
//! in steps of a millisecond, from when a request was accepted until it was done.

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::counters::{self, Growth};
use crate::analyze::table::Output;
use anyhow::Result;

/// Rates and times of disks.
pub static REPORT: Report = Report {
    name: "iostat",
    question: "how busy is each disk, and how long do its requests take?",
    exactness: "differences of the kernel's counters of the whole host between snapshots, times in steps of 1 ms; a difference belongs to the interval of its middle",
    needs: &[Need::of("disk_stat", "stat")],
    outputs: &[
        Output::measure("r_s", "1/s", 2, "reads"),
        Output::measure("rkb_s", "KiB/s", 2, "read"),
        Output::measure("rrqm_s", "1/s", 2, "reads that became part of another one"),
        Output::measure("r_await_ms", "ms", 3, "mean time of a read"),
        Output::measure("rareq_kb", "KiB", 2, "mean size of a read"),
        Output::measure("w_s", "1/s", 2, "writes"),
        Output::measure("wkb_s", "KiB/s", 2, "written"),
        Output::measure("wrqm_s", "1/s", 2, "writes that became part of another one"),
        Output::measure("w_await_ms", "ms", 3, "mean time of a write"),
        Output::measure("wareq_kb", "KiB", 2, "mean size of a write"),
        Output::measure("d_s", "1/s", 2, "discards"),
        Output::measure("dkb_s", "KiB/s", 2, "discarded"),
        Output::measure("f_s", "1/s", 2, "flushes"),
        Output::measure("f_await_ms", "ms", 3, "mean time of a flush"),
        Output::measure("aqu_sz", "", 2, "requests in flight, on average"),
        Output::measure("util_pct", "%", 2, "time with a request in flight"),
    ],
    defaults: Defaults { by: "disk", sort: "", top: None, interval: None },
    flags: &[Flag::switch("p", "partitions too")],
    fit: None,
    run,
    compat: None,
};

const COUNTERS: [&str; 15] = [
    "reads",
    "read",
    "reads_merged",
    "read_time",
    "writes",
    "written",
    "writes_merged",
    "write_time",
    "discards",
    "discarded",
    "discard_time",
    "flushes",
    "flush_time",
    "weighted",
    "busy",
];

type Disk = Growth<{ COUNTERS.len() }>;

/// How a column of the result is worked out.
enum From {
    /// Growth in a second, in units of so much.
    Rate(&'static str, f64),
    /// Growth of the first for each of the second, likewise.
    Mean(&'static str, &'static str, f64),
    /// Share of the time of all disks.
    Share(&'static str),
}

/// One for each column.
const COLUMNS: [From; 16] = [
    From::Rate("reads", 1.0),
    From::Rate("read", 1024.0),
    From::Rate("reads_merged", 1.0),
    From::Mean("read_time", "reads", 1e6),
    From::Mean("read", "reads", 1024.0),
    From::Rate("writes", 1.0),
    From::Rate("written", 1024.0),
    From::Rate("writes_merged", 1.0),
    From::Mean("write_time", "writes", 1e6),
    From::Mean("written", "writes", 1024.0),
    From::Rate("discards", 1.0),
    From::Rate("discarded", 1024.0),
    From::Rate("flushes", 1.0),
    From::Mean("flush_time", "flushes", 1e6),
    From::Rate("weighted", 1e9),
    From::Share("busy"),
];

impl From {
    fn value(&self, disk: &Disk) -> Option<f64> {
        let grown = |name: &str| {
            let at = COUNTERS.iter().position(|counter| *counter == name);
            disk.by[at.expect("a counter of this report")] as f64
        };
        match self {
            Self::Rate(name, unit) => Some(grown(name) / unit / disk.seconds()?),
            Self::Mean(name, of, unit) => {
                Some(grown(of)).filter(|&of| of > 0.0).map(|of| grown(name) / unit / of)
            }
            Self::Share(name) => {
                disk.seconds().map(|_| (100.0 * grown(name) / disk.time() as f64).min(100.0))
            }
        }
    }
}

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("disk_stat")?;
    if context.flag("p").is_none() {
        let partition = scan.column("partition")?;
        scan = scan.keeping(move |rows, row| rows.raw(partition, row) == 0);
    }
    let by = context.report.defaults.by;
    let (grouping, mut groups) = counters::growth(context, &scan, ("disk", COUNTERS), by)?;
    groups.retain(|group| grouping.by.is_empty() || group.state.by != [0; COUNTERS.len()]);
    let mut table = context.keys(&grouping, &groups);
    for (output, from) in context.report.outputs.iter().zip(&COLUMNS) {
        table.floats(output, groups.iter().map(|group| from.value(&group.state)));
    }
    Ok(Answer::of(table.build()?))
}

#[cfg(test)]
mod tests {
    use super::COUNTERS;
    use crate::analyze::testkit::{START, Tape};

    fn tape() -> Tape {
        let mut tape = Tape::new();
        let columns: Vec<String> = ["ts:u64", "disk:text", "partition:u16"]
            .map(str::to_owned)
            .into_iter()
            .chain(COUNTERS.map(|name| format!("{name}:u64")))
            .collect();
        tape.table("disk_stat", &columns.iter().map(String::as_str).collect::<Vec<_>>());
        let mut row = |at: u64, disk: &str, partition: u64, counters: [u64; 15]| {
            let cells = [(START + at).into(), disk.into(), partition.into()].into_iter();
            tape.push("disk_stat", cells.chain(counters.map(Into::into)).collect());
        };
        let ms = 1_000_000;
        let after = [20, 81_920, 4, 50 * ms, 2, 8192, 0, 4 * ms, 0, 0, 0, 1, 3 * ms, 500 * ms, 250 * ms];
        for (disk, partition) in [("sda", 0), ("sda1", 1), ("sdb", 0)] {
            row(0, disk, partition, [7; 15]);
        }
        row(500 * ms, "sda", 0, after.map(|grown| grown + 7));
        row(500 * ms, "sda1", 1, after.map(|grown| grown + 7));
        row(500 * ms, "sdb", 0, [7; 15]);
        tape
    }

    #[test]
    fn rates_are_divided_by_the_time_between_snapshots() {
        let run = |args: &[&str]| {
            let (exit, out, messages) = tape().run(&[&["iostat", "--format", "csv"], args].concat());
            assert_eq!(exit, 0, "{messages}");
            out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let sda = "sda,false,40.0,160.0,8.0,2.5,4.0,4.0,16.0,0.0,2.0,4.0,0.0,0.0,2.0,3.0,1.0,50.0";
        assert_eq!(run(&[]), [sda], "an idle disk has no row");
        assert_eq!(run(&["-p"]).len(), 2);
        let all = run(&["--by", "none"]).remove(0);
        assert!(
            all.starts_with("false,40.0,160.0") && all.ends_with(",25.0"),
            "half of two disks' time: {all}"
        );
    }
}
