//! Who keeps which disk busy?
//!
//! ```text
//! $ analyze trace.bin biotop
//! time      pid    comm           op     disk  ios    bytes  avg_us  max_us  errors
//! 12:01:07  31447  cc1            read   vda   120   491520   88.21  402.77       0
//! 12:01:07     42  kworker/u4:1   write  vda    12  3301220  140.90  611.02       0
//! ```
//!
//! Requests by process, operation and disk, per interval the 20 with the most bytes. The time is that of the driver and
//! the disk. Processes are those that asked, and not those that happened to run when it was done; buffered writes
//! are asked for by kernel threads.
//!
//! ```text
//! $ analyze trace.bin biotop --interval all --by disk,op
//! $ analyze trace.bin biotop --sort ios --where "disk = 'vda'"
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Line, Lines};
use crate::analyze::group::Merge;
use crate::analyze::load_average::LoadAverage;
use crate::analyze::quantile::us;
use crate::analyze::requests::{self, Request};
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Requests by process and disk.
pub static REPORT: Report = Report {
    name: "biotop",
    question: "which processes keep which disks busy?",
    exactness: "requests that were complete when the recording ended, in the interval in which they began, with the bytes that were done",
    needs: &[Need::of("block_rq", "block")],
    outputs: &[
        Output::count("ios", "", "requests"),
        Output::count("bytes", "bytes", "what was done of them"),
        Output::measure("avg_us", "us", 3, "mean time of the driver and the disk"),
        Output::measure("max_us", "us", 3, "the longest"),
        Output::count("errors", "", "those that failed"),
    ],
    defaults: Defaults { by: "pid,comm,op,disk", sort: "bytes", top: Some(20), interval: Some("1s") },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

#[derive(Default)]
struct Sum {
    ios: u64,
    bytes: u64,
    errors: u64,
    timed: u64,
    total: u64,
    longest: u64,
}

impl Merge for Sum {
    fn merge(&mut self, later: Self) {
        self.ios += later.ios;
        self.bytes = self.bytes.saturating_add(later.bytes);
        self.errors += later.errors;
        self.timed += later.timed;
        self.total = self.total.saturating_add(later.total);
        self.longest = self.longest.max(later.longest);
    }

    fn weight(&self) -> Option<u64> {
        Some(self.bytes)
    }
}

impl Sum {
    fn add(&mut self, request: &Request) {
        self.ios += 1;
        self.bytes = self.bytes.saturating_add(request.done);
        self.errors += u64::from(request.error != 0);
        if let Some(latency) = request.latency() {
            self.timed += 1;
            self.total = self.total.saturating_add(latency);
            self.longest = self.longest.max(latency);
        }
    }

    fn average(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.total as f64 / self.timed as f64 / 1e3)
    }
}

fn run(context: &Context) -> Result<Answer> {
    let scan = context.scan("block_rq")?;
    let mut grouping = context.grouping(&scan)?;
    let (mut groups, left) = requests::fold(context, &grouping, Sum::add)?;
    requests::name_flags(&mut grouping, &mut groups);
    let mut table = context.keys(&grouping, &groups);
    let sums = || groups.iter().map(|group| &group.state);
    table
        .ints(context.output("ios"), sums().map(|sum| Some(sum.ios)))
        .ints(context.output("bytes"), sums().map(|sum| Some(sum.bytes)))
        .floats(context.output("avg_us"), sums().map(Sum::average))
        .floats(context.output("max_us"), sums().map(|sum| (sum.timed > 0).then(|| us(sum.longest))))
        .ints(context.output("errors"), sums().map(|sum| Some(sum.errors)));
    Ok(left.notes().fold(Answer::of(table.build()?), Answer::note))
}

/// As bcc's biotop prints it: a screen for each interval.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let lines: Vec<Line> = Lines::of(answer).iter().collect();
    let average = LoadAverage::of(context);
    for screen in lines.chunk_by(|a, b| a.int("time") == b.int("time")) {
        writeln!(out, "{}\n", average.head(&screen[0]))?;
        writeln!(out, "PID     COMM             D MAJ MIN DISK       I/O  Kbytes  AVGms")?;
        for line in screen {
            let disk = line.text("disk");
            let (major, minor) = requests::numbers_of(context.trace, &disk);
            let kind = if line.text("op") == "write" { 'W' } else { 'R' };
            writeln!(
                out,
                "{:<7} {:<16} {kind} {major:<3} {minor:<3} {disk:<8} {:>5} {:>7} {:>6.2}",
                line.int("pid"),
                line.text("comm"),
                line.int("ios"),
                line.int("bytes") / 1024,
                line.float("avg_us") / 1e3
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.block().task(0, 7, 70, "dd").task(0, 8, 80, "cat");
        for at in [1, 11] {
            tape.part(at * MS, 7, 1, ("start", "write"), (800, 65536, 0));
            tape.part(at * MS + MS, 7, 1, ("issue", "write"), (800, 65536, 0));
            tape.part((at + 2 * at) * MS + MS, 0, 1, ("complete", "write"), (800, 65536, 0));
        }
        tape.part(50 * MS, 8, 2, ("start", "read"), (8, 4096, 0)).part(
            51 * MS,
            8,
            2,
            ("issue", "read"),
            (8, 4096, 0),
        );
        tape.failed(53 * MS, 2, (8, 4096), -5);
        tape
    }

    #[test]
    fn who_asked_is_charged() {
        let (exit, out, messages) = tape().run(&["biotop"]);
        let expected = concat!(
            "time      pid  comm  op     disk  ios   bytes     avg_us     max_us  errors\n",
            "12:01:07   70  dd    write  vda     2  131072  12000.000  22000.000       0\n",
            "12:01:07   80  cat   read   vda     1    4096   2000.000   2000.000       1\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["biotop", "--compat"]).1;
        let expected = concat!(
            "12:01:07\n\nPID     COMM             D MAJ MIN DISK       I/O  Kbytes  AVGms\n",
            "70      dd               W 254 16  vda          2     128  12.00\n",
        );
        assert!(out.starts_with(expected), "{out}");
    }
}
