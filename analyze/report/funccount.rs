//! How often was each function or event hit?
//!
//! ```text
//! $ analyze trace.bin funccount
//! function   hits  hits_per_s
//! malloc     4011     1337.00
//! free       3998     1332.67
//! ```
//!
//! It counts the probes that the user named (`capture -e`), all of them or those of `--probe`; a pattern
//! counts by function. A call that is recorded at its return counts there. What a condition in the probe itself left out was
//! not recorded. Hits that the kernel added up (`{count}`, `{hist}`) count as those that were recorded one by one; an interval
//! then has those of the recorded intervals (1 s) that end in it.
//!
//! ```text
//! $ analyze trace.bin funccount --by comm,function --interval 1s
//! $ analyze trace.bin funccount --probe malloc --where "arg1 > 4096"
//! ```

use super::{Context, Defaults, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Line, Lines};
use crate::analyze::group::{Group, join};
use crate::analyze::named::{self, Probes};
use crate::analyze::named_sums::{self, Hits};
use crate::analyze::table::{Output, TIME};
use anyhow::Result;
use std::io;

/// Hits of the user's own probes.
pub static REPORT: Report = Report {
    name: "funccount",
    question: "how often was each function or event hit?",
    exactness: "hits of the probes that the user named; calls are counted at their return",
    needs: named::NEEDS,
    outputs: &[
        Output::count("hits", "", "how often"),
        Output::measure("hits_per_s", "1/s", 2, "hits per second of the interval"),
    ],
    defaults: Defaults { by: "function", sort: "hits", top: None, interval: None },
    flags: &[named::PROBE],
    fit: Some(|trace| named::all(Probes::of(trace)).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let mut parts: Vec<Vec<Group<Hits>>> = Vec::new();
    let mut last = None;
    for table in named::all(Probes::asked(context))? {
        let mut scan = context.scan_of(table)?;
        let grouping = context.grouping(&scan)?;
        parts.push(named_sums::count(&grouping, &mut scan)?);
        last = Some(grouping);
    }
    let groups = join(parts);
    let grouping = last.expect("there is a table, or it had said so");
    let rate = groups.iter().map(|group| Context::per_second(&grouping, group, group.state.0));
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("hits"), groups.iter().map(|group| Some(group.state.0)))
        .floats(context.output("hits_per_s"), rate);
    Ok(Answer::of(table.build()?))
}

/// As bcc's funccount prints it: the most frequent last, with the time if there is more than one interval.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let lines = Lines::of(answer);
    let all: Vec<Line> = lines.iter().collect();
    for screen in all.chunk_by(|a, b| a.int(TIME) == b.int(TIME)) {
        writeln!(out)?;
        if lines.has(TIME) {
            writeln!(out, "{}", screen[0].time(&context.trace.clock))?;
        }
        writeln!(out, "{:<36} {:>8}", "FUNC", "COUNT")?;
        let mut rising: Vec<&Line> = screen.iter().rev().collect();
        rising.sort_by_key(|line| line.int("hits"));
        for line in rising {
            writeln!(out, "{:<36} {:>8}", line.text("function"), line.int("hits"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn hits_of_all_probes_are_counted_by_function() {
        let mut tape = Tape::new();
        tape.named("alloc", &["malloc", "calloc"], &["arg1:u64"], false);
        tape.named("free", &["free"], &[], false).task(0, 7, 70, "web").task(0, 8, 80, "db");
        tape.event("alloc", 1_000, [7, 0, 16]).event("alloc", 2_000, [7, 1, 32]).event(
            "alloc",
            3_000,
            [8, 0, 5000],
        );
        tape.event("free", 4_000, [7, 0]);
        let lines = |tape: &Tape, line: &[&str]| {
            let (exit, out, messages) = tape.run(&[&["funccount", "--format", "csv"], line].concat());
            assert_eq!(exit, 0, "{messages}");
            out.lines()
                .skip(1)
                .map(|line| line.split(',').take(3).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&tape, &[]), ["malloc false 2", "calloc false 1", "free false 1"]);
        assert_eq!(lines(&tape, &["--by", "comm"]), ["web false 3", "db false 1"]);
        assert_eq!(lines(&tape, &["--probe", "alloc", "--where", "arg1 > 4096"]), ["malloc false 1"]);
        let (exit, _, messages) = tape.run(&["funccount", "--probe", "fre"]);
        assert!(exit == 2 && messages.contains("it has alloc, free"), "{messages}");
        let (exit, _, messages) = Tape::new().run(&["funccount"]);
        assert!(exit == 6 && messages.contains("capture -e"), "{messages}");
        tape.added_up("sums", &["realloc"], &["size:u64", "hits:u64"]);
        tape.event("sums", 9_000, [0, 7, 0, 16, 400]).event("sums", 9_000, [0, 8, 0, 5000, 50]);
        assert_eq!(lines(&tape, &[])[0], "realloc false 450");
        assert_eq!(lines(&tape, &["--by", "comm", "--probe", "sums"]), ["web false 400", "db false 50"]);
        assert_eq!(lines(&tape, &["--probe", "sums", "--where", "size > 4096"]), ["realloc false 50"]);
        let (exit, _, messages) = tape.run(&["trace", "--probe", "sums"]);
        assert!(exit == 6 && messages.contains("added up in the kernel"), "{messages}");
        let (_, out, _) = tape.run(&["funccount", "--compat", "--probe", "free,sums"]);
        let expected =
            "free                                        1\nrealloc                                   450\n";
        assert!(out.starts_with("\nFUNC ") && out.ends_with(expected), "{out}");
        let (_, out, _) = tape.run(&["funccount", "--compat", "--probe", "free", "--interval", "1s"]);
        assert!(out.starts_with("\n12:01:07\nFUNC "), "{out}");
    }
}
