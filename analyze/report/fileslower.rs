//! Which reads and writes are slow?
//!
//! ```text
//! $ analyze trace.bin fileslower --min 1
//! time              tid  comm  op     bytes  latency_ms  path
//! 12:01:09.104211  4711  db    write   8192       3.127  /db/table
//! ```
//!
//! Calls of the read and write families on regular files that took at least `--min` ms (10 where it is
//! not given; 0: all), at their return, with the bytes that they returned. The time is that of the whole
//! system call. `--all` takes sockets, pipes and devices in, where a read also waits for data to come.
//!
//! ```text
//! $ analyze trace.bin fileslower --min 0 --where "fstype = 'ext4'" --sort latency_ms --top 10
//! ```

use super::filetop::regular;
use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::error::Failure;
use crate::analyze::listing::Listing;
use crate::analyze::table::{Output, TIME};
use crate::analyze::threshold;
use anyhow::Result;
use std::io;

/// What is slow, ms.
const LEAST: f64 = 10.0;
const NEEDS: &[Need] = &[Need::of("file_io", "file")];

/// Slow reads and writes, one by one.
pub static REPORT: Report = Report {
    name: "fileslower",
    question: "which reads and writes of files are slow?",
    exactness: "the time of the whole system call, which is a little more than that of vfs_read or vfs_write; memory-mapped files, io_uring and the kernel's own I/O are not seen",
    needs: NEEDS,
    outputs: &[
        Output::count("calls", "", "with --by: how many"),
        Output::new("tid", "", "thread"),
        Output::new("comm", "", "its name"),
        Output::new("op", "", "read or write"),
        Output::new("bytes", "bytes", "bytes that were moved; null where the call failed"),
        Output::measure("latency_ms", "ms", 3, "time inside the call"),
        Output::new("path", "", "the file"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[
        Flag::valued("min", "MS", "the least time, ms [default: 10]"),
        Flag::switch("all", "sockets, pipes and devices too").letter('a'),
    ],
    fit: Some(|trace| Ok(threshold::of_calls(trace, NEEDS, ns(LEAST)))),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("file_io")?;
    let (ret, latency) = (scan.column("ret")?, scan.column("latency")?);
    let least = least(context)?;
    context.shows_from(ns(least));
    let scan = if context.flag("all").is_some() { scan } else { regular(context, scan)? };
    let all = scan.clone();
    let slow = scan.only([latency], move |[latency]| latency.is_some_and(|time| time as f64 >= least * 1e6));
    let answer = Listing::new(context, slow, "calls")
        .named("tid")
        .named("comm")
        .named("op")
        .int("bytes", move |rows, row| rows.get(ret, row).filter(|&ret| ret >= 0))
        .named("latency_ms")
        .named("path")
        .answer()?;
    let untold = |remark: &String| !context.shortcomings.contains(remark);
    let answer = context.cut_remarks().into_iter().filter(untold).fold(answer, Answer::note);
    let is_empty = answer.table.as_ref().is_some_and(|table| table.height() == 0);
    let hidden = if is_empty && !context.is_part() { all.count() } else { 0 };
    if hidden == 0 {
        return Ok(answer);
    }
    let shorter = format!("{hidden} calls took less than {least} ms");
    Ok(answer.note(format!("{shorter}: --min says from where on they are shown")))
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

/// The least time, ms.
fn least(context: &Context) -> Result<f64, Failure> {
    let Some(text) = context.flag("min") else { return Ok(LEAST) };
    let ms = text.parse::<f64>().ok().filter(|ms| *ms >= 0.0 && ms.is_finite());
    ms.ok_or_else(|| Failure::usage(format!("--min {text}: expected milliseconds, such as 10 or 0.5")))
}

/// As bcc's fileslower prints it, with the time since the start of the recording.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<8} {:<14} {:<6} {:1} {:<7} {:>7} FILENAME",
        "TIME(s)", "COMM", "TID", "D", "BYTES", "LAT(ms)"
    )?;
    let start = context.trace.clock.wall(context.trace.span.from);
    for line in Lines::of(answer).iter() {
        let at = (line.int(TIME) - start) as f64 / 1e9;
        let (comm, path) = (line.text("comm"), line.text("path"));
        let way = if line.text("op") == "write" { 'W' } else { 'R' };
        let (tid, bytes, ms) = (line.int("tid"), line.int("bytes"), line.float("latency_ms"));
        let name = path.rsplit('/').next().unwrap_or(&path);
        writeln!(out, "{at:<8.3} {comm:<14.14} {tid:<6} {way} {bytes:<7} {ms:>7.2} {name}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "db").file(1, 8, "/db/table").file(2, 12, "");
        let slow = |at, file, op, latency| (at, [7, file, op, 8192, 4096, latency]);
        for (at, cells) in
            [slow(MS, 1, 2, 3_127_000), slow(2 * MS, 1, 1, 12_500_000), slow(3 * MS, 2, 1, 900_000_000)]
        {
            tape.event("file_io", at, cells);
        }
        tape
    }

    #[test]
    fn slow_calls_on_regular_files_are_rows() {
        let (exit, out, messages) = tape().run(&["fileslower"]);
        let expected = concat!(
            "time             tid  comm  op    bytes  latency_ms  path\n",
            "12:01:07.252000    7  db    read   4096      12.500  /db/table\n",
            "\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
        let rows = |args: &[&str]| {
            tape().run(&[&["fileslower", "--format", "csv"], args].concat()).1.lines().count() - 1
        };
        assert_eq!((rows(&["--min", "3"]), rows(&["--min", "0", "--all"])), (2, 3));
    }

    #[test]
    fn what_is_hidden_is_counted_where_all_of_it_is() {
        let mut tape = tape();
        for at in 0..100 {
            tape.event("file_io", (4 + at) * MS, [7, 1, 1, 8192, 4096, 1_000]);
        }
        tape.rows_per_frame(10);
        for words in
            [&["--format", "json"][..], &["--top", "1", "--format", "json"], &["--format", "csv"], &[]]
        {
            for (min, notes) in [("10", 0), ("20", 1)] {
                let line = [&["fileslower", "--min", min], words].concat();
                let (whole, slices) = (tape.run(&line), tape.run(&[&line[..], &["--memory", "2K"]].concat()));
                assert_eq!(slices, whole);
                let told = words.contains(&"json") || words.is_empty();
                assert_eq!(
                    whole.1.matches("calls took less").count(),
                    if told { notes } else { 0 },
                    "{}",
                    whole.1
                );
            }
        }
    }

    #[test]
    fn the_least_time_is_a_number_and_bcc_has_a_layout() {
        let (exit, _, messages) = tape().run(&["fileslower", "--min", "x"]);
        assert!(exit == 2 && messages.contains("expected milliseconds"), "{messages}");
        let out = tape().run(&["fileslower", "--compat"]).1;
        assert!(out.ends_with("\n0.002    db             7      R 4096      12.50 table\n"), "{out}");
    }
}
