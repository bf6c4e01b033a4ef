//! What is being executed?
//!
//! ```text
//! $ analyze trace.bin execsnoop
//! time               pid   ppid  uid  comm   ret  args
//! 12:01:07.261337  28992  28978    0  true     0  /bin/true 0
//! 12:01:07.262168  28993  28978    0  truth    0  ./truth nop 3 1
//! ```
//!
//! One row for each execve or execveat at its return: in the order of that, with the name that the
//! process has from then on. `--failed` shows those too that returned an error. Arguments are joined by
//! single spaces, the first of them included; where the recorder left arguments out (`--no-args`) the
//! path that was executed stands there. A ` ...` says that there were more than the recorder reads.
//!
//! ```text
//! $ analyze trace.bin execsnoop --by comm --top 5
//! $ analyze trace.bin execsnoop --failed --where "ret < 0"
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::escape::lossless;
use crate::analyze::listing::Listing;
use crate::analyze::rows::Rows;
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Programs that were started.
pub static REPORT: Report = Report {
    name: "execsnoop",
    question: "what is being executed, by whom, with which arguments?",
    exactness: "one row for each execve or execveat at its return; failed ones only with --failed",
    needs: &[Need::of("process_exec", "proc")],
    outputs: &[
        Output::count("execs", "", "with --by: how many"),
        Output::new("pid", "", "process"),
        Output::new("ppid", "", "its parent"),
        Output::new("uid", "", "user"),
        Output::new("comm", "", "name of the process from then on"),
        Output::new("ret", "errno", "0, or a negative error number"),
        Output::new("args", "", "arguments, or the path where those were not recorded"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[Flag::switch("failed", "those too that returned an error").letter('x')],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("process_exec")?;
    let ret = scan.column("ret")?;
    let (file, args, truncated) =
        (scan.column_or_null("file")?, scan.column_or_null("args")?, scan.column_or_null("truncated")?);
    let failed = context.flag("failed").is_some();
    let scan = scan.only([ret], move |[ret]| failed || ret.is_none_or(|ret| ret >= 0));
    let answer = Listing::new(context, scan, "execs")
        .named("pid")
        .named("ppid")
        .named("uid")
        .named("comm")
        .named("ret")
        .text("args", move |rows, row| Some(arguments(rows, row, file, args, truncated)))
        .answer()?;
    let probe = context.trace.probes().of("exec_failed").filter(|probe| probe.status != "attached");
    Ok(match probe.filter(|_| failed) {
        Some(probe) => answer.note(format!("failed calls were not recorded: {}", probe.describe())),
        None => answer,
    })
}

fn arguments(rows: &Rows, row: usize, file: usize, args: usize, truncated: usize) -> String {
    let bytes = rows.bytes(args, row);
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return lossless(rows.bytes(file, row));
    }
    let mut text = bytes.split(|&byte| byte == 0).map(lossless).collect::<Vec<_>>().join(" ");
    if rows.get(truncated, row) == Some(1) {
        text.push_str(" ...");
    }
    text
}

/// As bcc's execsnoop prints it.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<16} {:<7} {:<7} {:>3} ARGS", "PCOMM", "PID", "PPID", "RET")?;
    for line in Lines::of(answer).iter() {
        let (comm, args) = (line.text("comm"), line.text("args"));
        let (pid, ppid, ret) = (line.int("pid"), line.int("ppid"), line.int("ret"));
        writeln!(out, "{comm:<16} {pid:<7} {ppid:<7} {ret:>3} {args}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Cell, START, Tape};

    const MS: u64 = 1_000_000;

    fn exec(tape: &mut Tape, at: u64, tid: u64, ret: i64, args: &str, truncated: u64) {
        let text = |text: &str| Cell::Bytes(text.as_bytes().to_vec());
        let numbers = [START + at, 0, tid, ret.cast_unsigned()].map(Cell::Number);
        let rest = [text("/bin/made"), text(args), Cell::Number(truncated)];
        tape.push("process_exec", numbers.into_iter().chain(rest).collect());
    }

    fn tape() -> Tape {
        let mut tape = Tape::new();
        let columns =
            ["ts:u64", "cpu:u16", "tid:u32>task", "ret:i32", "file:text", "args:text", "truncated:u32"];
        tape.table("process_exec", &columns);
        tape.task(0, 7, 7, "sh").task(2 * MS, 7, 7, "make").task(0, 8, 8, "sh");
        exec(&mut tape, 3 * MS, 7, 0, "make\0-j\0\0x y\0", 0);
        exec(&mut tape, MS, 8, -2, "nowhere\0", 0);
        exec(&mut tape, 4 * MS, 8, 0, "", 0);
        exec(&mut tape, 5 * MS, 8, 0, "cc\0evil\x1b[2J\0", 1);
        tape
    }

    #[test]
    fn each_start_is_a_row_in_the_order_of_time() {
        let (exit, out, messages) = tape().run(&["execsnoop"]);
        let expected = concat!(
            "time             pid  ppid  uid  comm  ret  args\n",
            "12:01:07.253000    7     1    0  make    0  make -j  x y\n",
            "12:01:07.254000    8     1    0  sh      0  /bin/made\n",
            "12:01:07.255000    8     1    0  sh      0  cc evil\\x1b[2J ...\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn failed_ones_are_there_on_request() {
        let out = tape().run(&["execsnoop", "--failed", "--where", "ret < 0", "--format", "csv"]).1;
        assert!(out.ends_with(",8,1,0,sh,-2,nowhere\r\n"), "{out}");
        assert_eq!(tape().run(&["execsnoop", "--where", "ret < 0", "--format", "ndjson"]).1, "");
        assert_eq!(
            tape().run(&["execsnoop", "--failed", "--top", "1", "--format", "ndjson"]).1.lines().count(),
            1
        );
    }

    #[test]
    fn they_can_be_counted_instead() {
        let out = tape().run(&["execsnoop", "--by", "comm", "--format", "csv"]).1;
        assert_eq!(out, "comm,lower_bound,execs\r\nsh,false,2\r\nmake,false,1\r\n");
        let out = tape().run(&["execsnoop", "--interval", "1s", "--format", "csv", "--failed"]).1;
        assert!(out.ends_with(",false,4\r\n"), "{out}");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let (_, out, _) = tape().run(&["execsnoop", "--compat"]);
        assert!(out.starts_with("PCOMM            PID     PPID    RET ARGS\nmake             7       1         0 make -j  x y\n"), "{out}");
        let (exit, _, messages) = tape().run(&["execsnoop", "--compat", "--by", "comm"]);
        assert!(exit == 2 && messages.contains("leave out --by"), "{messages}");
    }

    #[test]
    fn a_trace_without_processes_says_what_to_record() {
        let (exit, _, messages) = Tape::new().run(&["execsnoop"]);
        assert!(exit == 6 && messages.contains("capture -g proc"), "{messages}");
    }
}
