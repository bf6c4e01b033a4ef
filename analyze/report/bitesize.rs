//! How large are requests to disks?
//!
//! ```text
//! $ analyze trace.bin bitesize
//! comm  requests  total_bytes  min_bytes  p50_bytes  p90_bytes  max_bytes
//! dd         500     14336000       4096       4096      65536      65536
//! ```
//!
//! Sizes as the driver got them, with a histogram in KiB, by the program that asked. Requests without
//! data, as flushes are, are left out.
//!
//! ```text
//! $ analyze trace.bin bitesize --by disk,op
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::{Answer, Body};
use crate::analyze::escape::visible;
use crate::analyze::group::Group;
use crate::analyze::requests::{self, Request};
use crate::analyze::spread::{self, Pictures, Spread};
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Sizes of requests.
pub static REPORT: Report = Report {
    name: "bitesize",
    question: "how large are requests to disks, by program?",
    exactness: "requests that began in the span and were complete when the recording ended, by their size when the driver got them",
    needs: &[Need::of("block_rq", "block")],
    outputs: &[
        Output::count("requests", "", "how many"),
        Output::count("total_bytes", "bytes", "their sizes together"),
        Output::new("min_bytes", "bytes", "the smallest"),
        Output::new("p50_bytes", "bytes", "half are at most so large"),
        Output::new("p90_bytes", "bytes", "nine in ten are"),
        Output::new("max_bytes", "bytes", "the largest"),
    ],
    defaults: Defaults { by: "comm", sort: "requests", top: None, interval: None },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let scan = context.scan("block_rq")?;
    let mut grouping = context.grouping(&scan)?;
    let keep = context.keep(&[&scan]);
    let (mut groups, left) = requests::fold(context, &grouping, |sizes: &mut Spread, request: &Request| {
        if request.size > 0 {
            sizes.add(request.size, request.size / 1024, &keep);
        }
    })?;
    groups.retain(|group| group.state.values.len() > 0 || grouping.by.is_empty());
    requests::name_flags(&mut grouping, &mut groups);
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("requests"), groups.iter().map(|group| Some(group.state.values.len() as u64)))
        .ints(context.output("total_bytes"), groups.iter().map(|group| Some(group.state.sum)))
        .ints(context.output("min_bytes"), groups.iter().map(|group| group.state.values.min()));
    for (name, quantile) in [("p50_bytes", 0.5), ("p90_bytes", 0.9)] {
        let value = |group: &mut Group<Spread>| group.state.values.quantile(quantile);
        table.ints(context.output(name), groups.iter_mut().map(value));
    }
    table.ints(context.output("max_bytes"), groups.iter().map(|group| group.state.values.max()));
    let mut answer = Answer::of(table.build()?);
    spread::picture(&mut answer, &grouping, &groups, |spread| spread, (Pictures::Few, "Kbytes"));
    Ok(left.notes().fold(answer, Answer::note))
}

/// As bcc's bitesize prints it: the histograms alone.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    for section in &answer.sections {
        let title = visible(&section.title);
        let name = title.strip_prefix("comm = ");
        writeln!(out, "\n{}", name.map_or(title.clone(), |name| format!("Process Name = {name}")))?;
        if let Body::Histogram(histogram, unit) = &section.body {
            write!(out, "{}", histogram.render(unit))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const US: u64 = 1_000;

    #[test]
    fn sizes_are_those_that_the_driver_got() {
        let mut tape = Tape::new();
        tape.block().task(0, 7, 70, "dd");
        // Grew by a merge between its begin and its issue; a flush has no size.
        tape.part(US, 7, 1, ("start", "write"), (0, 4096, 0)).part(
            2 * US,
            7,
            1,
            ("issue", "write"),
            (0, 12288, 0),
        );
        tape.part(3 * US, 0, 1, ("complete", "write"), (0, 12288, 0));
        tape.part(4 * US, 7, 1, ("issue", "flush"), (0, 0, 0)).part(
            5 * US,
            0,
            1,
            ("complete", "flush"),
            (0, 0, 0),
        );
        let out = tape.run(&["bitesize", "--format", "csv"]).1;
        assert_eq!(out.lines().nth(1), Some("dd,false,1,12288,12288,12288,12288,12288"), "{out}");
        let out = tape.run(&["bitesize", "--compat"]).1;
        let expected = concat!(
            "\nProcess Name = dd\n",
            "                 Kbytes : count     distribution\n",
            "         8 -> 15        : 1        |****************************************|\n",
        );
        assert_eq!(out, expected);
    }
}
