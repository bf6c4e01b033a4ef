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
//! ones out of the recording already.

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::censored;
use crate::analyze::error::Failure;
use crate::analyze::named;
use crate::analyze::rows::Value;
use crate::analyze::table::{Builder, Output, TIME};
use crate::analyze::window::duration;
use anyhow::Result;

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
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[
        Flag { name: "probe", value: Some("NAMES"), doc: "only these probes" },
        Flag { name: "min", value: Some("TIME"), doc: "only calls that took at least so long [default: 1ms]" },
    ],
    run,
    compat: None,
};

fn run(context: &Context) -> Result<Answer> {
    let least = context.flag("min").unwrap_or("1ms");
    let least = duration(least).ok_or_else(|| Failure::usage(format!("--min {least}: expected a time as in 10ms")))?;
    let tables = named::tables(context, &["latency"])?;
    let hits = named::hits(context, &tables, None, least)?;
    let mut table = Builder::default();
    table.time(6, hits.iter().map(|hit| context.trace.clock.wall(hit.ts)));
    let values = |of: fn(&named::Hit) -> &Value| hits.iter().map(move |hit| of(hit).clone());
    table
        .values(context.output("pid"), false, values(|hit| &hit.pid))
        .values(context.output("comm"), true, values(|hit| &hit.comm))
        .values(context.output("function"), true, values(|hit| &hit.function))
        .floats(context.output("latency_ms"), hits.iter().map(|hit| Some(hit.latency? as f64 / 1e6)))
        .texts(context.output("ret"), hits.iter().map(|hit| named::plain(&hit.ret)))
        .texts(context.output("args"), hits.iter().map(|hit| Some(hit.message.clone())));
    let notes = censored::remark(context, &tables).into_iter().collect();
    Ok(Answer { table: Some(table.build()?), events: true, sort: Some(TIME), notes, ..Answer::default() })
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn only_slow_calls_are_listed() {
        let mut tape = Tape::new();
        tape.named("nap", &["nap"], &["ms:u64"], true).task(0, 7, 70, "web");
        tape.event("nap", 6_000_000, [7, 0, 5_000_000, 0, 5]).event("nap", 40_000_000, [7, 0, 30_100_000, 0, 30]);
        let lines = |line: &[&str]| {
            let (exit, out, messages) = tape.run(&[&["funcslower", "--format", "csv"], line].concat());
            assert_eq!(exit, 0, "{messages}");
            out.lines().skip(1).map(|line| line.split_once(',').expect("a time").1.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lines(&["--min", "10ms"]), ["70,web,nap,30.1,0,ms=30"]);
        assert_eq!(lines(&[]).len(), 2);
        assert_eq!(tape.run(&["funcslower", "--min", "much"]).0, 2);
    }
}
