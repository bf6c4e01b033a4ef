//! Which host names were looked up, and how long did that take?
//!
//! ```text
//! $ capture -o trace.bin -e dns -- getent ahosts localhost
//! $ analyze trace.bin gethostlatency
//! time               pid  comm    function     latency_ms  ret  host
//! 23:20:48.074234  17396  getent  getaddrinfo       5.990  0    localhost
//! ```
//!
//! Calls of `getaddrinfo` and `gethostbyname*` in the C library, at their return. Programs that look names up by
//! themselves (most of those in Go, or linked statically) are not seen. Any probe of whole calls with an
//! argument named `host` is listed too: `-e 'ur:/opt/app:resolve(host=arg2:str)'`.

use super::{Context, Defaults, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::hits::{self, Hit, Wanted};
use crate::analyze::named::{self, Found, Probes};
use crate::analyze::rows::Value;
use crate::analyze::table::{Builder, Output, TIME};
use anyhow::Result;
use std::io;

/// Look-ups of host names.
pub static REPORT: Report = Report {
    name: "gethostlatency",
    question: "which host names were looked up, and how long did it take?",
    exactness: "one row for each call into the C library that returned; other resolvers are not seen",
    needs: named::NEEDS,
    outputs: &[
        Output::new("pid", "", "process"),
        Output::new("comm", "", "name of the thread"),
        Output::new("function", "", "what was called"),
        Output::measure("latency_ms", "ms", 3, "from entry to return"),
        Output::new("ret", "", "what it returned: of getaddrinfo 0, or an EAI_ number"),
        Output::new("host", "", "the name"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[named::PROBE],
    fit: Some(|trace| look_ups(Probes::of(trace)).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn look_ups<'a>(probes: Probes<'a, '_>) -> Found<'a> {
    named::of_preset(probes, "dns", &["latency", "host"], |_| true)
}

fn run(context: &Context) -> Result<Answer> {
    let tables = look_ups(Probes::asked(context))?;
    let hits = hits::hits(context, &tables, Wanted { pattern: Some("{host}"), ..Wanted::default() })?;
    let mut table = Builder::default();
    table.time(6, hits.iter().map(|hit| context.trace.clock.wall(hit.ts)));
    let values = |of: fn(&Hit) -> &Value| hits.iter().map(move |hit| of(hit).clone());
    table
        .values(context.output("pid"), false, values(|hit| &hit.pid))
        .values(context.output("comm"), true, values(|hit| &hit.comm))
        .values(context.output("function"), true, values(|hit| &hit.function))
        .floats(context.output("latency_ms"), hits.iter().map(|hit| Some(hit.latency? as f64 / 1e6)))
        .texts(context.output("ret"), hits.iter().map(Hit::returned))
        .texts(context.output("host"), hits.iter().map(|hit| Some(hit.message.clone())));
    Ok(Answer { table: Some(table.build()?), events: true, sort: Some(TIME), ..Answer::default() })
}

/// As bcc's gethostlatency prints it.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<9} {:<7} {:<16} {:>10} HOST", "TIME", "PID", "COMM", "LATms")?;
    for line in Lines::of(answer).iter() {
        let (time, pid, comm) = (line.time(&context.trace.clock), line.int("pid"), line.text("comm"));
        let (latency, host) = (line.float("latency_ms"), line.text("host"));
        writeln!(out, "{time:<9} {pid:<7} {comm:<16} {latency:>10.2} {host}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn look_ups_are_listed_and_other_probes_are_not() {
        let mut tape = Tape::new();
        tape.named("getaddrinfo", &["getaddrinfo"], &["host:text"], true).task(0, 7, 70, "curl");
        tape.named("nap", &["nap"], &["ms:u64"], true);
        tape.event("nap", 6_000_000, [7, 0, 5_000_000, 0, 5]);
        tape.push(
            "getaddrinfo",
            vec![
                9_000_000.into(),
                0.into(),
                7.into(),
                0.into(),
                1_500_000.into(),
                0.into(),
                "localhost".into(),
            ],
        );
        let (exit, out, messages) = tape.run(&["gethostlatency", "--format", "csv"]);
        assert_eq!(exit, 0, "{messages}");
        let lines: Vec<&str> =
            out.lines().skip(1).map(|line| line.split_once(',').expect("a time").1).collect();
        assert_eq!(lines, ["70,curl,getaddrinfo,1.5,0,localhost"]);
        let (_, out, _) = tape.run(&["gethostlatency", "--compat"]);
        assert!(out.contains("curl                   1.50 localhost"), "{out}");
        let mut other = Tape::new();
        other.named("nap", &["nap"], &["ms:u64"], true);
        let (exit, _, messages) = other.run(&["gethostlatency"]);
        assert!(exit == 6 && messages.contains("capture -e dns"), "{messages}");
    }
}
