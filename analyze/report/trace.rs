//! What was each probe hit with? One line for each hit, with its arguments.
//!
//! ```text
//! $ analyze trace.bin trace --probe openat --print 'opens {filename}'
//! time              pid    tid  comm  function  latency_us  ret  message
//! 12:01:07.229776  2124   2124  bash  openat                      opens /etc/ld.so.cache
//! ```
//!
//! The message is made here and not when the trace was recorded, so that it can be changed: `{NAME}` in `--print` is
//! the column of that name, of the probe or of what it refers to (`{comm}`, `{uid}`), `{NAME:x}` the same in hexadecimal,
//! as pointers are in any case; without it all arguments are listed. Calls are at their return, with their latency and what
//! they returned. `--stacks` adds what the probe recorded with `{kstack}` and `{ustack}`, `-U` and `-K` one of both.
//!
//! ```text
//! $ analyze trace.bin trace --print '{sk:x} {size}' -K
//! $ analyze trace.bin trace --where "arg1 > 4096" --top 20
//! $ analyze trace.bin trace --at 12:01:07
//! ```

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::backtrace::{self, Backtraces};
use crate::analyze::compat::Lines;
use crate::analyze::hits::{self, Hit, Wanted};
use crate::analyze::named::{self, Probes};
use crate::analyze::rows::Value;
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
        Output::new("stack", "", "with --stacks: functions from the outermost on"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[
        named::PROBE,
        Flag::valued(
            "print",
            "TEXT",
            "the message; {NAME} is the column of that name, {NAME:x} in hexadecimal",
        ),
        backtrace::FLAGS[0],
        backtrace::FLAGS[1],
        backtrace::FLAGS[2],
        backtrace::FLAGS[3],
        backtrace::FLAGS[4],
    ],
    fit: Some(|trace| named::tables(Probes::of(trace), &[]).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let tables = named::tables(Probes::asked(context), &[])?;
    let stacks = Backtraces::asked(context)?;
    let wanted = Wanted { pattern: context.flag("print"), extra: backtrace::COLUMNS, ..Wanted::default() };
    let hits = hits::hits(context, &tables, wanted)?;
    let mut table = Builder::default();
    let text = |name| (context.output(name), true);
    let number = |name| (context.output(name), false);
    table.time(6, hits.iter().map(|hit| context.trace.clock.wall(hit.ts)));
    let mut add = |(output, text): (&Output, bool), of: fn(&Hit) -> &Value| {
        table.values(output, text, hits.iter().map(|hit| of(hit).clone()));
    };
    add(number("pid"), |hit| &hit.pid);
    add(number("tid"), |hit| &hit.tid);
    add(text("comm"), |hit| &hit.comm);
    add(text("function"), |hit| &hit.function);
    table.floats(context.output("latency_us"), hits.iter().map(|hit| Some(hit.latency? as f64 / 1e3)));
    table.texts(context.output("ret"), hits.iter().map(Hit::returned));
    table.texts(context.output("message"), hits.iter().map(|hit| Some(hit.message.clone())));
    if let Some(stacks) = &stacks {
        table.texts(context.output("stack"), hits.iter().map(|hit| stacks.of(hit)));
    }
    Ok(Answer { table: Some(table.build()?), events: true, sort: Some(TIME), ..Answer::default() })
}

/// As bcc's trace prints it.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<8} {:<7} {:<7} {:<15} {:<16} -", "TIME", "PID", "TID", "COMM", "FUNC")?;
    let lines = Lines::of(answer);
    for line in lines.iter() {
        let (time, message) = (line.time(&context.trace.clock), line.text("message"));
        let (pid, tid) = (line.int("pid"), line.int("tid"));
        let (comm, function) = (line.text("comm"), line.text("function"));
        writeln!(out, "{time:<8} {pid:<7} {tid:<7} {comm:<15.15} {function:<16} {message}")?;
        backtrace::below(&lines, &line, out)?;
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
        let lines: Vec<&str> =
            out.lines().skip(1).map(|line| line.split_once(',').expect("a time").1).collect();
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
    fn recorded_stacks_are_there_on_request() {
        let mut tape = Tape::new();
        tape.stacks().task(0, 7, 70, "web").mapping(1, "/usr/bin/web");
        tape.frame(1, false, 1, "parse").frame(2, false, 1, "main").frame(3, true, 0, "do_read");
        tape.stack(1, &[1, 2]).stack(2, &[3]);
        tape.named("read", &["vfs_read"], &["kstack:u32~stack", "ustack:u32~stack"], false);
        tape.named("tick", &["tick"], &["n:i32"], false);
        tape.event("read", 1_000, [7, 0, 2, 1]).event("tick", 2_000, [7, 0, 5]);
        let stacks = |words: &[&str]| {
            let (exit, out, messages) = tape.run(&[&["trace", "--format", "csv"], words].concat());
            assert_eq!(exit, 0, "{messages}");
            let last = |line: &str| line.rsplit(',').next().expect("a cell").to_owned();
            out.lines().skip(1).map(last).collect::<Vec<_>>()
        };
        assert_eq!(stacks(&["--stacks"]), ["main;parse;do_read", ""]);
        assert_eq!((stacks(&["-U"])[0].as_str(), stacks(&["-K"])[0].as_str()), ("main;parse", "do_read"));
        assert_eq!(stacks(&["-UK"])[0], "main;parse;do_read");
        assert_eq!(stacks(&[])[1], "n=5");
        let (_, out, _) = tape.run(&["trace", "--compat", "--stacks", "--probe", "read"]);
        assert!(out.ends_with("\n        do_read\n        parse\n        main\n\n"), "{out}");
        assert_eq!(tape.run(&["trace", "--stacks", "--probe", "tick"]).0, 6);
    }

    #[test]
    fn numbers_are_in_hexadecimal_on_request_and_addresses_always() {
        let mut tape = Tape::new();
        tape.named("send", &["send"], &["sk:u64?address", "size:u32", "n:i32"], false);
        tape.task(0, 7, 70, "web").event("send", 1_000, [7, 0, 0x7f00_1234, 255, -5]);
        let message = |words: &[&str]| {
            let out = tape.run(&[&["trace", "--format", "csv"], words].concat()).1;
            out.lines().nth(1).and_then(|line| line.rsplit(',').next()).expect("a cell").to_owned()
        };
        assert_eq!(message(&[]), "sk=0x7f001234 size=255 n=-5");
        assert_eq!(
            message(&["--print", "{size:x} of {sk} by {comm:x} {n:x}"]),
            "0xff of 0x7f001234 by web 0xfffffffb"
        );
        let (exit, _, messages) = tape.run(&["trace", "--print", "{size:d}"]);
        assert!(exit == 2 && messages.contains("{NAME:x}"), "{messages}");
    }

    #[test]
    fn the_message_is_what_print_makes_of_it() {
        let (_, out, _) = tape().run(&[
            "trace",
            "--probe",
            "read",
            "--print",
            "{size} asked, {ret} got by {pid}",
            "--format",
            "csv",
        ]);
        assert!(out.contains("\"4096 asked, 42 got by 70\"") || out.contains(",\"4096 asked"), "{out}");
        let (exit, _, messages) = tape().run(&["trace", "--print", "{siz}"]);
        assert!(exit == 2 && messages.contains("siz"), "{messages}");
        let (exit, _, messages) = tape().run(&["trace", "--print", "{size"]);
        assert!(exit == 2 && messages.contains("without its"), "{messages}");
        let (_, out, _) = tape().run(&["trace", "--compat", "--probe", "tick"]);
        assert!(out.contains("70      7") && out.contains("n=-5") && !out.contains('\x1b'), "{out}");
    }
}
