//! Which files are opened?
//!
//! ```text
//! $ analyze trace.bin opensnoop
//! time               pid  comm   fd  err  path
//! 21:18:12.385415  29911  cat     -    2  /usr/share/locale/C.UTF-8/LC_IDENTIFICATION
//! 21:18:12.385419  29911  cat     3    0  /usr/share/locale/C.utf8/LC_IDENTIFICATION
//! 21:18:12.385856  29896  sh      3    0  y
//! ```
//!
//! One row for each open, creat, openat or openat2 at its return, with the path as it was given.
//! `--full-path` puts the directory before a relative one, `--failed` leaves those that returned an
//! error, `--extended` adds the flags, the mode, and whether the call made the file. The time is that
//! of the return, not that of printing.
//!
//! ```text
//! $ analyze trace.bin opensnoop --failed --by comm,err
//! $ analyze trace.bin opensnoop --where "latency_ms > 1" --full-path
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

/// Opens, one by one.
pub static REPORT: Report = Report {
    name: "opensnoop",
    question: "which files are opened, by whom, and which opens fail?",
    exactness: "one row for each open, creat, openat or openat2 at its return; opens by io_uring, by the kernel itself and by 32-bit programs are not seen",
    needs: &[Need::of("file_open", "file")],
    outputs: &[
        Output::count("opens", "", "with --by: how many"),
        Output::new("pid", "", "process"),
        Output::new("comm", "", "name of the thread"),
        Output::new("fd", "", "the new descriptor; null where it failed"),
        Output::new("err", "errno", "error number; 0: it was opened"),
        Output::new("flags", "", "with --extended: O_ flags"),
        Output::new("mode", "", "with --extended: permissions for a new file"),
        Output::new("created", "", "with --extended: 1: the call made the file"),
        Output::measure("latency_us", "us", 1, "with --extended: time inside the call"),
        Output::new("path", "", "as it was given; with --full-path the whole"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[
        Flag::switch("failed", "only those that returned an error").letter('x'),
        Flag::switch("full-path", "put the directory before a relative path").letter('F'),
        Flag::switch("extended", "flags, mode, latency too").letter('e'),
    ],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("file_open")?;
    let (ret, path) = (scan.column("ret")?, scan.column("path")?);
    let (dir, paths) = (scan.column_or_null("dir")?, Paths::of(context.trace));
    let (failed, whole) = (context.flag("failed").is_some(), context.flag("full-path").is_some());
    let scan = scan.only([ret], move |[ret]| !failed || ret.is_some_and(|ret| ret < 0));
    let mut listing = Listing::new(context, scan, "opens")
        .process()
        .int("fd", move |rows, row| rows.get(ret, row).filter(|&ret| ret >= 0))
        .err(ret);
    if context.flag("extended").is_some() {
        listing = listing.named("flags").named("mode").named("created").named("latency_us");
    }
    let given = move |rows: &Rows, row| {
        Some(if whole { paths.whole(rows, row, dir, path) } else { lossless(rows.bytes(path, row)) })
    };
    listing.text("path", given).answer()
}

/// As bcc's opensnoop prints it.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<6} {:<16} {:>4} {:>3} PATH", "PID", "COMM", "FD", "ERR")?;
    for line in Lines::of(answer).iter() {
        let (pid, err) = (line.int("pid"), line.int("err"));
        let fd = if err == 0 { line.int("fd") } else { -1 };
        writeln!(out, "{pid:<6} {:<16} {fd:>4} {err:>3} {}", line.text("comm"), line.text("path"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "cc1").file(1, 8, "/src/a.c").file(2, 4, "/src");
        tape.open_call(2 * MS, 7, 1, 2, 3, "./a.c").open_call(MS, 7, 0, 0, -2, "/etc/none");
        tape.open_call(3 * MS, 7, 0, 2, -13, "../b");
        tape
    }

    #[test]
    fn each_open_is_a_row_with_its_descriptor_or_its_error() {
        let (exit, out, messages) = tape().run(&["opensnoop"]);
        let expected = concat!(
            "time             pid  comm  fd  err  path\n",
            "12:01:07.251000   70  cc1    -    2  /etc/none\n",
            "12:01:07.252000   70  cc1    3    0  ./a.c\n",
            "12:01:07.253000   70  cc1    -   13  ../b\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn failed_ones_alone_and_whole_paths() {
        let out = tape().run(&["opensnoop", "--failed", "--full-path", "--format", "csv"]).1;
        let paths: Vec<&str> = out.lines().skip(1).filter_map(|line| line.rsplit(',').next()).collect();
        assert_eq!(paths, ["/etc/none", "/b"]);
        let out = tape().run(&["opensnoop", "--by", "ret", "--format", "csv"]).1;
        assert_eq!(out.lines().count(), 4, "{out}");
    }

    #[test]
    fn flags_and_time_are_there_on_request() {
        let out = tape().run(&["opensnoop", "--extended", "--format", "csv", "--top", "1"]).1;
        assert!(out.contains(",577,420,0,2.5,/etc/none"), "{out}");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["opensnoop", "--compat"]).1;
        let expected = concat!(
            "PID    COMM               FD ERR PATH\n",
            "70     cc1                -1   2 /etc/none\n",
            "70     cc1                 3   0 ./a.c\n",
        );
        assert!(out.starts_with(expected), "{out}");
    }
}
