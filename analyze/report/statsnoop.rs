//! Which files are looked at, and which of them are not there?
//!
//! ```text
//! $ analyze trace.bin statsnoop
//! time               pid  comm  call   err  latency_us  path
//! 21:18:12.384678  29896  sh    stat     2         2.0  /usr/local/bin/cat
//! 21:18:12.384696  29896  sh    stat     0         2.2  /usr/bin/cat
//! ```
//!
//! One row for each call of the stat and statfs families at its return. A stat of a descriptor (`fstat`)
//! has the path of its file. `--failed` leaves those that returned an error.
//!
//! ```text
//! $ analyze trace.bin statsnoop --failed --by comm,ret
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::escape::lossless;
use crate::analyze::listing::Listing;
use crate::analyze::paths::Paths;
use crate::analyze::rows::Rows;
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Stats, one by one.
pub static REPORT: Report = Report {
    name: "statsnoop",
    question: "which files are looked at (stat), by whom, and which are missing?",
    exactness: "one row for each stat, lstat, fstat, newfstatat, statx, statfs or fstatfs at its return; those by io_uring and by 32-bit programs are not seen",
    needs: &[Need::of("path_op", "file")],
    outputs: &[
        Output::count("calls", "", "with --by: how many"),
        Output::new("pid", "", "process"),
        Output::new("comm", "", "name of the thread"),
        Output::new("call", "", "what was asked for; newfstatat is stat, or fstat where it has no path"),
        Output::new("err", "errno", "error number; 0: it was found"),
        Output::measure("latency_us", "us", 1, "time inside the call"),
        Output::new("path", "", "as it was given; of a descriptor that of its file"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[Flag::switch("failed", "only those that returned an error").letter('x')],
    fit: None,
    run,
    compat: Some(compat),
};

/// What counts as looking at a file.
const CALLS: [&str; 6] = ["stat", "lstat", "fstat", "statx", "statfs", "fstatfs"];

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("path_op")?;
    let (op, ret, path) = (scan.column("op")?, scan.column("ret")?, scan.column("path")?);
    let (file, paths) = (scan.column_or_null("file")?, Paths::of(context.trace));
    let ops: Vec<i64> = CALLS.iter().filter_map(|call| context.trace.number("path_op", call)).collect();
    let failed = context.flag("failed").is_some();
    let scan = scan.keeping(move |rows, row| {
        let wrong = || rows.get(ret, row).is_some_and(|ret| ret < 0);
        rows.get(op, row).is_some_and(|op| ops.contains(&op)) && (!failed || wrong())
    });
    let name = move |rows: &Rows, row| {
        let of_file = rows.get(file, row).and_then(|file| paths.of_file(file.cast_unsigned()));
        Some(of_file.unwrap_or_else(|| lossless(rows.bytes(path, row))))
    };
    Listing::new(context, scan, "calls")
        .process()
        .renamed("call", "op")
        .err(ret)
        .named("latency_us")
        .text("path", name)
        .answer()
}

/// As bcc's statsnoop prints it.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<7} {:<20} {:<4} {:<4} PATH", "PID", "COMM", "RET", "ERR")?;
    for line in Lines::of(answer).iter() {
        let (pid, err) = (line.int("pid"), line.int("err"));
        let ret = if err == 0 { 0 } else { -1 };
        writeln!(out, "{pid:<7} {:<20} {ret:<4} {err:<4} {}", line.text("comm"), line.text("path"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "sh").file(1, 8, "/bin/cat");
        tape.path_call(MS, 7, 1, (0, 0), -2, "/none").path_call(2 * MS, 7, 3, (1, 0), 0, "");
        tape.path_call(3 * MS, 7, 9, (0, 0), 0, "/tmp/x");
        tape
    }

    #[test]
    fn each_look_is_a_row_and_other_calls_are_none() {
        let (exit, out, messages) = tape().run(&["statsnoop"]);
        let expected = concat!(
            "time             pid  comm  call   err  latency_us  path\n",
            "12:01:07.251000   70  sh    stat     2         1.5  /none\n",
            "12:01:07.252000   70  sh    fstat    0         1.5  /bin/cat\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected) && !out.contains("/tmp/x"), "{out}");
    }

    #[test]
    fn failures_alone_and_the_layout_of_bcc() {
        let out = tape().run(&["statsnoop", "--failed", "--compat"]).1;
        let expected =
            "PID     COMM                 RET  ERR  PATH\n70      sh                   -1   2    /none\n";
        assert_eq!(out, expected);
    }
}
