//! Who makes data go to the disk, and how long does it take?
//!
//! ```text
//! $ analyze trace.bin syncsnoop
//! time               pid  comm  call   err  latency_us  path
//! 21:18:12.399553  29915  sync  fsync    0      4905.6  /tmp/fw/x
//! ```
//!
//! One row for each sync, syncfs, fsync, fdatasync, msync and `sync_file_range` at its return, with the time
//! that it took and the file, both of which the live tool lacks. Writes with `O_SYNC` are not calls of these.
//!
//! ```text
//! $ analyze trace.bin syncsnoop --sort latency_us --top 10
//! $ analyze trace.bin syncsnoop --by comm,op
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::listing::Listing;
use crate::analyze::table::{Output, TIME};
use anyhow::Result;
use std::io;

/// Syncs, one by one.
pub static REPORT: Report = Report {
    name: "syncsnoop",
    question: "who syncs which files, and how long does it take?",
    exactness: "one row for each sync, syncfs, fsync, fdatasync, msync or sync_file_range at its return; those by io_uring and by 32-bit programs are not seen",
    needs: &[Need::of("file_sync", "file")],
    outputs: &[
        Output::count("calls", "", "with --by: how many"),
        Output::new("pid", "", "process"),
        Output::new("comm", "", "name of the thread"),
        Output::new("call", "", "which call"),
        Output::new("err", "errno", "error number; 0: it went well"),
        Output::measure("latency_us", "us", 1, "time inside the call"),
        Output::new("path", "", "file of the descriptor, where the call has one"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("file_sync")?;
    let ret = scan.column("ret")?;
    Listing::new(context, scan, "calls")
        .process()
        .renamed("call", "op")
        .err(ret)
        .named("latency_us")
        .named("path")
        .answer()
}

/// As bcc's syncsnoop prints it, with the time since the start of the recording.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<18} {:<16} CALL", "TIME(s)", "COMM")?;
    let start = context.trace.clock.wall(context.trace.span.from);
    for line in Lines::of(answer).iter() {
        let at = (line.int(TIME) - start) as f64 / 1e9;
        writeln!(out, "{at:<18.9} {:<16} {}", line.text("comm"), line.text("call"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "db").file(1, 8, "/db/log");
        tape.event("file_sync", 5 * MS, [7, 3, 1, 0, 2_000_000]).event(
            "file_sync",
            9 * MS,
            [7, 1, 0, 0, 500],
        );
        tape
    }

    #[test]
    fn each_sync_is_a_row_with_its_time() {
        let (exit, out, messages) = tape().run(&["syncsnoop"]);
        let expected = concat!(
            "time             pid  comm  call   err  latency_us  path\n",
            "12:01:07.255000   70  db    fsync    0      2000.0  /db/log\n",
            "12:01:07.259000   70  db    sync     0         0.5  -\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["syncsnoop", "--compat"]).1;
        assert!(
            out.starts_with(
                "TIME(s)            COMM             CALL\n0.005000000        db               fsync\n"
            ),
            "{out}"
        );
    }
}
