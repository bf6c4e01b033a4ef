//! How long do requests to disks take?
//!
//! ```text
//! $ analyze trace.bin biolatency --by disk
//! disk   n     avg_us  p50_us  p90_us   p99_us  p99_9_us    max_us  errors
//! vda    4711  88.214  71.002  140.119  402.77  1410.204  5120.331       0
//! ```
//!
//! From when the driver got a request, the last time if it gave it back, until its last completion; with
//! `--queued` from when it was asked for, so that waiting in the block layer is in it. bcc's tool counts the queue
//! from the scheduler's insert, and so misses requests that bypass the scheduler. Failed requests have a
//! latency too; `errors` says how many those are.
//!
//! ```text
//! $ analyze trace.bin biolatency --disks                          biolatency -D
//! $ analyze trace.bin biolatency --flags --milliseconds           biolatency -F -m
//! $ analyze trace.bin biolatency --queued --by comm,op --interval 1s
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::{Answer, Body};
use crate::analyze::escape::visible;
use crate::analyze::group::{Group, Merge};
use crate::analyze::requests::{self, Request};
use crate::analyze::spread::{self, OUTPUTS, Scale, Spread};
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Latencies of requests.
pub static REPORT: Report = Report {
    name: "biolatency",
    question: "how long do requests to disks take?",
    exactness: "requests that began in the span and were complete when the recording ended; an interval has those that began in it",
    needs: &[Need::of("block_rq", "block")],
    outputs: &[
        OUTPUTS[0],
        OUTPUTS[1],
        OUTPUTS[2],
        OUTPUTS[3],
        OUTPUTS[4],
        OUTPUTS[5],
        OUTPUTS[6],
        Output::count("errors", "", "those that failed"),
    ],
    defaults: Defaults { by: "none", sort: "n", top: None, interval: None },
    flags: &[
        Flag::switch("queued", "Include the time in the block layer's queues").letter('Q'),
        Flag::switch("disks", "By disk").letter('D'),
        Flag::switch("flags", "By operation and flags").letter('F'),
        spread::MILLISECONDS,
    ],
    fit: None,
    run,
    compat: Some(compat),
};

#[derive(Default)]
struct Latency {
    spread: Spread,
    errors: u64,
}

impl Merge for Latency {
    fn merge(&mut self, later: Self) {
        self.spread.merge(later.spread);
        self.errors += later.errors;
    }
}

fn run(context: &Context) -> Result<Answer> {
    let scan = context.scan("block_rq")?;
    let by = match (context.flag("disks").is_some(), context.flag("flags").is_some()) {
        (false, false) => "none",
        (true, false) => "disk",
        (false, true) => "op,flags",
        (true, true) => "disk,op,flags",
    };
    let mut grouping = context.grouping_by(&scan, by)?;
    let scale = Scale::of(context, &scan);
    let queued = context.flag("queued").is_some();
    let (mut groups, left) = requests::fold(context, &grouping, |all: &mut Latency, request: &Request| {
        let ns = if queued { Some(request.whole()) } else { request.latency() };
        if let Some(ns) = ns {
            scale.add(&mut all.spread, ns);
        }
        all.errors += u64::from(request.error != 0);
    })?;
    requests::name_flags(&mut grouping, &mut groups);
    let errors: Vec<Option<u64>> = groups.iter().map(|group| Some(group.state.errors)).collect();
    let spreads =
        groups.into_iter().map(|Group { bin, keys, state }| Group { bin, keys, state: state.spread });
    let answer = spread::show(context, &grouping, spreads.collect(), &scale, |table| {
        table.ints(context.output("errors"), errors.into_iter());
    })?;
    Ok(left.notes().fold(answer, Answer::note))
}

/// As bcc's biolatency prints it: the histograms alone.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    for section in &answer.sections {
        let title = visible(&section.title);
        match title.split_once("op = ").and_then(|(disk, rest)| Some((disk, rest.split_once(", flags = ")?)))
        {
            _ if title.is_empty() => writeln!(out)?,
            Some((disk, (op, flags))) => writeln!(out, "\n{disk}flags = {}", worded(op, flags))?,
            None => writeln!(out, "\n{title}")?,
        }
        if let Body::Histogram(histogram, unit) = &section.body {
            write!(out, "{}", histogram.render(unit))?;
        }
    }
    Ok(())
}

/// `Sync-Write`.
fn worded(op: &str, flags: &str) -> String {
    let flags = if flags == "none" { String::new() } else { format!("{flags}-") };
    let (first, rest) = op.split_at_checked(1).unwrap_or((op, ""));
    format!("{flags}{}{rest}", first.to_uppercase())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const US: u64 = 1_000;

    /// A read of 20 us after 10 us in the queue, a write of 40 us in two pieces after 5, and one that failed.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.block().task(0, 7, 70, "dd");
        tape.part(US, 7, 1, ("start", "read"), (0, 4096, 0)).part(
            11 * US,
            7,
            1,
            ("issue", "read"),
            (0, 4096, 0),
        );
        tape.part(31 * US, 0, 1, ("complete", "read"), (0, 4096, 0));
        tape.part(50 * US, 7, 1, ("start", "write"), (8, 8192, 0)).part(
            55 * US,
            7,
            1,
            ("issue", "write"),
            (8, 8192, 0),
        );
        tape.part(70 * US, 0, 1, ("complete", "write"), (8, 4096, 4096));
        tape.part(95 * US, 0, 1, ("complete", "write"), (16, 4096, 0));
        tape.part(100 * US, 7, 2, ("issue", "write"), (8, 512, 0)).failed(102 * US, 2, (8, 512), -5);
        tape.part(200 * US, 7, 3, ("start", "write"), (8, 512, 0)).part(
            1,
            0,
            9,
            ("complete", "read"),
            (8, 512, 0),
        );
        tape
    }

    fn lines(words: &[&str]) -> Vec<String> {
        let out = tape().run(&[&["biolatency", "--format", "csv"], words].concat()).1;
        out.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn the_driver_s_time_or_all_of_it() {
        assert_eq!(
            lines(&["--by", "op"]),
            ["write,false,2,21.0,2.0,,,,40.0,1", "read,false,1,20.0,20.0,,,,20.0,0"]
        );
        assert_eq!(
            lines(&["--by", "op", "--queued"]),
            ["write,false,2,23.5,2.0,,,,45.0,1", "read,false,1,30.0,30.0,,,,30.0,0"]
        );
        assert_eq!(lines(&["--where", "comm = 'dd' AND op = 'read'"]), ["false,1,20.0,20.0,,,,20.0,0"]);
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let (exit, out, _) = tape().run(&["biolatency"]);
        assert_eq!(exit, 0);
        assert!(out.contains("# 1 requests were not complete at the end"), "{out}");
        assert!(out.contains("# 1 completions have no begin in the recording"), "{out}");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["biolatency", "--compat", "--disks", "--flags"]).1;
        let expected = concat!(
            "\ndisk = vda, flags = Sync-Read\n",
            "                  usecs : count     distribution\n",
            "        16 -> 31        : 1        |****************************************|\n",
        );
        assert!(out.contains(expected), "{out}");
        let out = tape().run(&["biolatency", "--compat", "-F", "--interval", "1s"]).1;
        assert!(out.starts_with("\n12:01:07, flags = Sync-Read\n"), "{out}");
        let out = tape().run(&["biolatency", "--compat"]).1;
        assert!(out.starts_with("\n                  usecs : count"), "{out}");
    }
}
