//! Which waits for a processor were long?
//!
//! ```text
//! $ analyze trace.bin runqslower
//! time             cpu  comm   pid    tid       lat_us  prev_comm  prev_tid
//! 12:01:07.262782    1  redis  4711  4711    10512.250  cc1           28993
//! ```
//!
//! From 10 ms on, as bcc's runqslower shows them, or from `--min`. The other task is the one that left the processor.
//!
//! ```text
//! $ analyze trace.bin runqslower --min 500us
//! $ analyze trace.bin runqslower --by comm                   how many of each program
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::error::Failure;
use crate::analyze::listing::Listing;
use crate::analyze::table::Output;
use crate::analyze::threshold;
use crate::analyze::window::duration;
use anyhow::Result;
use std::io;

/// What is long, ns.
const LEAST: u64 = 10_000_000;

/// Long waits.
pub static REPORT: Report = Report {
    name: "runqslower",
    question: "which tasks waited long for a processor, and behind whom?",
    exactness: "waits that ended in the span, from being able to run until running",
    needs: &[Need::of("sched_wait", "sched")],
    outputs: &[
        Output::new("cpu", "", "processor"),
        Output::new("comm", "", "name of the task that waited"),
        Output::new("pid", "", "its process"),
        Output::new("tid", "", "the task itself"),
        Output::measure("lat_us", "us", 3, "how long it waited"),
        Output::new("prev_comm", "", "name of the task that it replaced; empty: the processor was idle"),
        Output::new("prev_tid", "", "the task that it replaced"),
        Output::count("waits", "", "how many, with --by"),
    ],
    defaults: Defaults { by: "comm", sort: "waits", top: None, interval: None },
    flags: &[Flag::valued("min", "TIME", "Shortest wait that is shown [default: 10ms]")],
    fit: Some(|trace| Ok(threshold::above(trace, LEAST))),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let least = context.flag("min").map_or(Ok(LEAST), |text| {
        duration(text).ok_or_else(|| {
            Failure::usage(format!("--min {text}: expected a length of time such as 10ms or 500us"))
        })
    })?;
    let mut scan = context.scan("sched_wait")?;
    let queued = scan.column("queued")?;
    let scan = scan.only([queued], move |[queued]| queued.is_some_and(|ns| ns.cast_unsigned() >= least));
    let listing = Listing::new(context, scan, "waits").named("cpu").named("comm").named("pid").named("tid");
    let listing = listing.renamed("lat_us", "queued_us").named("prev_comm").renamed("prev_tid", "prev");
    let missing = threshold::above(context.trace, least).into_iter();
    Ok(missing.filter(|_| context.shortcomings.is_empty()).fold(listing.answer()?, Answer::note))
}

/// As bcc's runqslower prints it with -P.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<8} {:<16} {:<6} {:>14} {:<16} {:<6}",
        "TIME", "COMM", "TID", "LAT(us)", "PREV COMM", "PREV TID"
    )?;
    for line in Lines::of(answer).iter() {
        let (time, lat) = (line.time(&context.trace.clock), line.float("lat_us"));
        let (comm, prev) = (line.text("comm"), line.text("prev_comm"));
        writeln!(
            out,
            "{time:<8} {comm:<16} {:<6} {lat:>14.0} {prev:<16} {:<6}",
            line.int("tid"),
            line.int("prev_tid")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn only_long_waits_are_shown_with_who_ran_before() {
        let mut tape = Tape::new();
        tape.sched().task(0, 7, 70, "web").task(0, 8, 8, "cc1");
        tape.wait(1_000, 7, (0, 12_500_000), 1, (8, 0)).wait(2_000, 7, (0, 900_000), 0, (0, 0));
        let lines = |words: &[&str]| {
            let out = tape.run(&[&["runqslower", "--format", "csv"], words].concat()).1;
            out.lines()
                .skip(1)
                .map(|line| line.split_once(',').expect("a time").1.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&[]), ["0,web,70,7,12500.0,cc1,8"]);
        assert_eq!(lines(&["--min", "500us"]).len(), 2);
        assert_eq!(tape.run(&["runqslower", "--min", "soon"]).0, 2);
        let compat = tape.run(&["runqslower", "--compat"]).1;
        assert!(compat.contains("web              7               12500 cc1              8"), "{compat}");
    }
}
