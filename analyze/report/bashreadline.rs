//! Which lines were typed into shells?
//!
//! ```text
//! $ capture -o trace.bin -e bash -d 60s
//! $ analyze trace.bin bashreadline
//! time               pid  comm  command
//! 23:20:48.079372  17399  bash  ls -l
//! 23:20:48.085870  17399  bash  exit 0
//! ```
//!
//! What `readline` of bash returned: lines of interactive shells, before they are expanded, whether or not they
//! were run; not those of scripts. A line longer than 256 bytes is cut. Other programs that edit lines:
//! `-e 'ur:readline:readline {ret=str[256]}'`.

use super::{Context, Defaults, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::hits::{self, Hit, Wanted};
use crate::analyze::named::{self, Found, Probes};
use crate::analyze::rows::Value;
use crate::analyze::table::{Builder, Output, TIME};
use crate::schema::{ColumnType, TableDef};
use anyhow::Result;
use std::io;

/// Lines typed into shells.
pub static REPORT: Report = Report {
    name: "bashreadline",
    question: "which lines were typed into shells?",
    exactness: "one row for each line that readline returned, at most 256 bytes of it",
    needs: named::NEEDS,
    outputs: &[
        Output::new("pid", "", "process"),
        Output::new("comm", "", "name of the thread"),
        Output::new("command", "", "the line, as typed; empty at the end of input"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[named::PROBE],
    fit: Some(|trace| lines(Probes::of(trace)).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

/// Probes of `readline`, under whatever name their tables have by a second program.
fn is_readline(table: &TableDef) -> bool {
    let text = table.column("ret").is_some_and(|ret| table.columns[ret].kind == ColumnType::Text);
    text && table.name.starts_with("readline")
}

fn lines<'a>(probes: Probes<'a, '_>) -> Found<'a> {
    named::of_preset(probes, "bash", &["latency", "ret"], is_readline)
}

fn run(context: &Context) -> Result<Answer> {
    let tables = lines(Probes::asked(context))?;
    let hits = hits::hits(context, &tables, Wanted { pattern: Some(""), ..Wanted::default() })?;
    let mut table = Builder::default();
    table.time(6, hits.iter().map(|hit| context.trace.clock.wall(hit.ts)));
    let values = |of: fn(&Hit) -> &Value| hits.iter().map(move |hit| of(hit).clone());
    table
        .values(context.output("pid"), false, values(|hit| &hit.pid))
        .values(context.output("comm"), true, values(|hit| &hit.comm))
        .values(context.output("command"), true, values(|hit| &hit.ret));
    Ok(Answer { table: Some(table.build()?), events: true, sort: Some(TIME), ..Answer::default() })
}

/// As bcc's bashreadline prints it.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<9} {:<7} COMMAND", "TIME", "PID")?;
    for line in Lines::of(answer).iter() {
        let (time, pid, command) = (line.time(&context.trace.clock), line.int("pid"), line.text("command"));
        writeln!(out, "{time:<9} {pid:<7} {command}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn a_trace_without_the_probe_is_told_what_to_record() {
        let mut tape = Tape::new();
        tape.named("readline", &["readline"], &[], true); // returns a number: not lines
        let (exit, _, messages) = tape.run(&["bashreadline"]);
        assert!(exit == 6 && messages.contains("capture -e bash"), "{messages}");
    }
}
