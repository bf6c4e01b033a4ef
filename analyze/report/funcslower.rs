//! Which calls were slow, and with which arguments?
//!
//! ```text
//! $ analyze trace.bin funcslower --min 10ms
//! time              pid  comm   function  latency_ms  ret  args
//! 12:01:07.121768  3143  named  nap           30.105    0  ms=30
//! ```
//!
//! Calls of the probes that record whole calls (`capture -e fx:…`, `kr:…`, `ur:…`), at their return, that took at least
//! `--min` (1 ms, as the live tool has it). A threshold of the probe itself (`{thr=10ms}`) leaves shorter
//! ones out of the recording already. `--stacks` adds the stacks of probes that recorded them.

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::backtrace::{self, Backtraces};
use crate::analyze::censored;
use crate::analyze::compat::Lines;
use crate::analyze::error::Failure;
use crate::analyze::hits::{self, Hit, Wanted};
use crate::analyze::named::{self, Probes};
use crate::analyze::rows::Value;
use crate::analyze::table::{Builder, Output, TIME};
use crate::analyze::window::duration;
use anyhow::Result;
use std::io;

/// Slow calls of the user's own probes.
pub static REPORT: Report = Report {
    name: "funcslower",
    question: "which calls were slow, and with which arguments?",
    exactness: "one row for each recorded call that took at least --min, at its return",
    needs: named::NEEDS,
    outputs: &[
        Output::new("pid", "", "process"),
        Output::new("comm", "", "name of the thread"),
        Output::new("function", "", "what was called"),
        Output::measure("latency_ms", "ms", 3, "from entry to return"),
        Output::new("ret", "", "what it returned"),
        Output::new("args", "", "what it was given"),
        Output::new("stack", "", "with --stacks: functions from the outermost on"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[
        named::PROBE,
        Flag::valued("min", "TIME", "only calls that took at least so long [default: 1ms]"),
        backtrace::FLAGS[0],
        backtrace::FLAGS[1],
        backtrace::FLAGS[2],
        backtrace::FLAGS[3],
        backtrace::FLAGS[4],
    ],
    fit: Some(|trace| named::tables(Probes::of(trace), &["latency"]).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let least = context.flag("min").unwrap_or("1ms");
    let least = duration(least)
        .ok_or_else(|| Failure::usage(format!("--min {least}: expected a time as in 10ms")))?;
    let tables = named::tables(Probes::asked(context), &["latency"])?;
    let stacks = Backtraces::asked(context)?;
    let hits = hits::hits(context, &tables, Wanted { pattern: None, least, extra: backtrace::COLUMNS })?;
    let mut table = Builder::default();
    table.time(6, hits.iter().map(|hit| context.trace.clock.wall(hit.ts)));
    let values = |of: fn(&Hit) -> &Value| hits.iter().map(move |hit| of(hit).clone());
    table
        .values(context.output("pid"), false, values(|hit| &hit.pid))
        .values(context.output("comm"), true, values(|hit| &hit.comm))
        .values(context.output("function"), true, values(|hit| &hit.function))
        .floats(context.output("latency_ms"), hits.iter().map(|hit| Some(hit.latency? as f64 / 1e6)))
        .texts(context.output("ret"), hits.iter().map(Hit::returned))
        .texts(context.output("args"), hits.iter().map(|hit| Some(hit.message.clone())));
    if let Some(stacks) = &stacks {
        table.texts(context.output("stack"), hits.iter().map(|hit| stacks.of(hit)));
    }
    let notes = censored::remark(context, &tables).into_iter().collect();
    Ok(Answer { table: Some(table.build()?), events: true, sort: Some(TIME), notes, ..Answer::default() })
}

/// As bcc's funcslower prints it with -a: what was returned in hexadecimal.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<14} {:<6} {:>7} {:>16} FUNC ARGS", "COMM", "PID", "LAT(ms)", "RVAL")?;
    let lines = Lines::of(answer);
    for line in lines.iter() {
        let (comm, pid, latency) = (line.text("comm"), line.int("pid"), line.float("latency_ms"));
        let ret = line.text("ret");
        let ret = ret.parse().map_or(ret, |number: i64| format!("{number:x}"));
        let (function, args) = (line.text("function"), line.text("args"));
        writeln!(out, "{comm:<14.14} {pid:<6} {latency:>7.2} {ret:>16} {function} {args}")?;
        backtrace::below(&lines, &line, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn only_slow_calls_are_listed() {
        let mut tape = Tape::new();
        tape.named("nap", &["nap"], &["ms:u64"], true).task(0, 7, 70, "web");
        tape.event("nap", 6_000_000, [7, 0, 5_000_000, 0, 5]).event(
            "nap",
            40_000_000,
            [7, 0, 30_100_000, 0, 30],
        );
        let lines = |line: &[&str]| {
            let (exit, out, messages) = tape.run(&[&["funcslower", "--format", "csv"], line].concat());
            assert_eq!(exit, 0, "{messages}");
            out.lines()
                .skip(1)
                .map(|line| line.split_once(',').expect("a time").1.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&["--min", "10ms"]), ["70,web,nap,30.1,0,ms=30"]);
        assert_eq!(lines(&[]).len(), 2);
        assert_eq!(tape.run(&["funcslower", "--min", "much"]).0, 2);
        let (_, out, _) = tape.run(&["funcslower", "--compat", "--min", "10ms"]);
        let expected = "COMM           PID    LAT(ms)             RVAL FUNC ARGS\n\
                        web            70       30.10                0 nap ms=30\n";
        assert_eq!(out, expected);
        let (exit, _, messages) = tape.run(&["funcslower", "--stacks"]);
        assert!(exit == 6 && messages.contains("{ustack}"), "{messages}");
    }
}
