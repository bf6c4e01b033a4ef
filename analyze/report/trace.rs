//! What was each probe hit with? One line for each hit, with its arguments.
//!
//! ```text
//! $ analyze trace.bin trace --probe openat --print 'opens {filename}'
//! time              pid    tid  comm  function  latency_us  ret  message
//! 12:01:07.229776  2124   2124  bash  openat                      opens /etc/ld.so.cache
//! ```
//!
//! The message is made here and not when the trace was recorded, so that it can be changed: `{NAME}` in `--print` is
//! the column of that name, of the probe or of what it refers to (`{comm}`, `{uid}`); without it all
//! arguments are listed. Calls are at their return, with their latency and what they returned.
//!
//! ```text
//! $ analyze trace.bin trace --where "arg1 > 4096" --top 20
//! $ analyze trace.bin trace --at 12:01:07
//! ```

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::named;
use crate::analyze::table::{Builder, Output, TIME};
use anyhow::Result;
use std::io;

/// Single hits of the user's own probes.
pub static REPORT: Report = Report {
    name: "trace",
    question: "what was each probe hit with?",
    exactness: "one row for each hit that was recorded, in the order of time; calls at their return",
    needs: named::NEEDS,
    outputs: &[
        Output::new("pid", "", "process"),
        Output::new("tid", "", "thread"),
        Output::new("comm", "", "name of the thread"),
        Output::new("function", "", "what was hit"),
        Output::measure("latency_us", "us", 3, "of a call, from entry to return"),
        Output::new("ret", "", "what a call returned"),
        Output::new("message", "", "the arguments, or what --print makes of them"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[
        Flag { name: "probe", value: Some("NAMES"), doc: "only these probes" },
        Flag { name: "print", value: Some("TEXT"), doc: "the message; {NAME} is the column of that name" },
    ],
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let tables = named::tables(context, &[])?;
    let hits = named::hits(context, &tables, context.flag("print"), 0)?;
    let mut table = Builder::default();
    let text = |name| (context.output(name), true);
    let number = |name| (context.output(name), false);
    table.time(6, hits.iter().map(|hit| context.trace.clock.wall(hit.ts)));
    let mut add = |(output, text): (&Output, bool), of: fn(&named::Hit) -> &crate::analyze::rows::Value| {
        table.values(output, text, hits.iter().map(|hit| of(hit).clone()));
    };
    add(number("pid"), |hit| &hit.pid);
    add(number("tid"), |hit| &hit.tid);
    add(text("comm"), |hit| &hit.comm);
    add(text("function"), |hit| &hit.function);
    table.floats(context.output("latency_us"), hits.iter().map(|hit| Some(hit.latency? as f64 / 1e3)));
    table.texts(context.output("ret"), hits.iter().map(|hit| named::plain(&hit.ret)));
    table.texts(context.output("message"), hits.iter().map(|hit| Some(hit.message.clone())));
    Ok(Answer { table: Some(table.build()?), events: true, sort: Some(TIME), ..Answer::default() })
}

/// As bcc's trace prints it.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<8} {:<7} {:<7} {:<15} {:<16} -", "TIME", "PID", "TID", "COMM", "FUNC")?;
    for line in Lines::of(answer).iter() {
        let (time, message) = (line.time(&context.trace.clock), line.text("message"));
        let (pid, tid) = (line.int("pid"), line.int("tid"));
        let (comm, function) = (line.text("comm"), line.text("function"));
        writeln!(out, "{time:<8} {pid:<7} {tid:<7} {comm:<15.15} {function:<16} {message}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.named("read", &["vfs_read"], &["size:u64"], true).named("tick", &["tick"], &["n:i32"], false);
        tape.task(0, 7, 70, "evil\x1b[2J");
        tape.event("tick", 3_000, [7, 0, -5]).event("read", 2_000, [7, 0, 1_500, 42, 4096]);
        tape
    }

    #[test]
    fn hits_of_all_probes_come_in_the_order_of_time() {
        let (exit, out, messages) = tape().run(&["trace", "--format", "csv"]);
        assert_eq!(exit, 0, "{messages}");
        let lines: Vec<&str> = out.lines().skip(1).map(|line| line.split_once(',').expect("a time").1).collect();
        assert_eq!(lines, ["70,7,evil\x1b[2J,vfs_read,1.5,42,size=4096", "70,7,evil\x1b[2J,tick,,,n=-5"]);
    }

    /// Then nothing else asks for the moment.
    #[test]
    fn an_event_that_brings_its_own_process_and_name_has_its_time_too() {
        let mut tape = Tape::new();
        tape.named("exit", &["exit"], &["pid:i32", "comm:i32"], false);
        tape.event("exit", 3_000, [7, 0, 70, 1]).event("exit", 9_000, [7, 0, 70, 1]);
        let (_, out, _) = tape.run(&["trace", "--format", "csv"]);
        let times: Vec<&str> = out.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
        assert!(times.len() == 2 && times[0] < times[1], "{times:?}");
    }

    #[test]
    fn the_message_is_what_print_makes_of_it() {
        let (_, out, _) =
            tape().run(&["trace", "--probe", "read", "--print", "{size} asked, {ret} got by {pid}", "--format", "csv"]);
        assert!(out.contains("\"4096 asked, 42 got by 70\"") || out.contains(",\"4096 asked"), "{out}");
        let (exit, _, messages) = tape().run(&["trace", "--print", "{siz}"]);
        assert!(exit == 2 && messages.contains("siz"), "{messages}");
        let (exit, _, messages) = tape().run(&["trace", "--print", "{size"]);
        assert!(exit == 2 && messages.contains("without its"), "{messages}");
        let (_, out, _) = tape().run(&["trace", "--compat", "--probe", "tick"]);
        assert!(out.contains("70      7") && out.contains("n=-5") && !out.contains('\x1b'), "{out}");
    }
}
