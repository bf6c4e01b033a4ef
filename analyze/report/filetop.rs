//! Which files are read and written most?
//!
//! ```text
//! $ analyze trace.bin filetop
//! time        tid  comm  type  path            reads  writes  read_bytes  write_bytes
//! 12:01:07  31447  cc1   file  /src/big.h        120       0      491520            0
//! 12:01:07  31450  ld    file  /build/out.elf      2     812        8192      3301220
//! ```
//!
//! Calls of the read and write families on regular files, by thread and file, with the bytes that they
//! returned. The live tool counts the bytes that were asked for: `--requested` does as well (calls with a
//! vector then count what they returned). `--all` takes sockets, pipes and devices in. Per interval the
//! 20 largest by calls and bytes together, as the live tool sorts.
//!
//! ```text
//! $ analyze trace.bin filetop --interval all --by comm,fstype
//! $ analyze trace.bin filetop --sort write_bytes --where "path LIKE '/var/%'"
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Line, Lines};
use crate::analyze::error::Failure;
use crate::analyze::flow::moved;
use crate::analyze::group::Merge;
use crate::analyze::input::Inputs;
use crate::analyze::load::Scan;
use crate::analyze::load_average::LoadAverage;
use crate::analyze::table::{Output, Show};
use anyhow::Result;
use std::io;

/// Reads and writes by thread and file.
pub static REPORT: Report = Report {
    name: "filetop",
    question: "which files are read and written most, and by whom?",
    exactness: "calls of the read and write families at their return, with the bytes that they returned; memory-mapped files, sendfile, splice, io_uring and the kernel's own I/O are not seen; a descriptor that was closed during the call has no file",
    needs: &[Need::of("file_io", "file")],
    outputs: &[
        Output::count("reads", "", "calls that read"),
        Output::count("writes", "", "calls that wrote"),
        Output::count("read_bytes", "bytes", "bytes that were read"),
        Output::count("write_bytes", "bytes", "bytes that were written"),
        Output {
            show: Show::Hidden,
            ..Output::count("all", "", "the four together: how the live tool sorts")
        },
    ],
    defaults: Defaults { by: "tid,comm,type,path", sort: "all", top: Some(20), interval: Some("1s") },
    flags: &[
        Flag::switch("all", "sockets, pipes and devices too").letter('a'),
        Flag::switch("requested", "bytes that were asked for, as the live tool counts"),
    ],
    fit: None,
    run,
    compat: Some(compat),
};

#[derive(Default)]
struct Sum {
    calls: [u64; 2],
    bytes: [u64; 2],
}

impl Merge for Sum {
    fn merge(&mut self, later: Self) {
        for at in 0..2 {
            self.calls[at] = self.calls[at].saturating_add(later.calls[at]);
            self.bytes[at] = self.bytes[at].saturating_add(later.bytes[at]);
        }
    }

    fn weight(&self) -> Option<u64> {
        Some(self.all())
    }
}

impl Sum {
    fn all(&self) -> u64 {
        self.calls.iter().chain(&self.bytes).sum()
    }
}

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("file_io")?;
    let (op, ret) = (scan.column("op")?, scan.column("ret")?);
    let asked = context.flag("requested").map(|_| scan.column("requested")).transpose()?;
    let writes = context.trace.number("io_op", "write");
    let scan = if context.flag("all").is_some() { scan } else { regular(context, scan)? };
    let grouping = context.grouping(&scan)?;
    let add = |sum: &mut Sum, op: Option<i64>, bytes: Option<i64>| {
        let at = usize::from(op == writes);
        sum.calls[at] += 1;
        sum.bytes[at] = sum.bytes[at].saturating_add(moved(bytes));
    };
    let groups = match asked {
        Some(asked) => {
            grouping.sum(&scan, [op, asked, ret], |sum, [op, asked, ret]| add(sum, op, asked.or(ret)))
        }
        None => grouping.sum(&scan, [op, ret], |sum, [op, ret]| add(sum, op, ret)),
    };
    let mut table = context.keys(&grouping, &groups);
    let sums = || groups.iter().map(|group| &group.state);
    table
        .ints(context.output("reads"), sums().map(|sum| Some(sum.calls[0])))
        .ints(context.output("writes"), sums().map(|sum| Some(sum.calls[1])))
        .ints(context.output("read_bytes"), sums().map(|sum| Some(sum.bytes[0])))
        .ints(context.output("write_bytes"), sums().map(|sum| Some(sum.bytes[1])))
        .ints(context.output("all"), sums().map(|sum| Some(sum.all())));
    Ok(Answer::of(table.build()?))
}

/// Only calls on regular files.
pub(crate) fn regular<'a>(context: &Context<'a>, scan: Scan<'a>) -> Result<Scan<'a>> {
    let trace = context.trace;
    let missing = || Failure::cannot("this trace does not know what kind of file was read").hint("use --all");
    let kind = Inputs::of(trace, &scan.def).get("type").cloned().ok_or_else(missing)?;
    let file = trace.number("file_type", "file").ok_or_else(missing)?;
    Ok(kind.only(scan, file))
}

/// As bcc's filetop prints it: a screen for each interval.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let lines: Vec<Line> = Lines::of(answer).iter().collect();
    let average = LoadAverage::of(context);
    for screen in lines.chunk_by(|a, b| a.int("time") == b.int("time")) {
        writeln!(out, "{}\n", average.head(&screen[0]))?;
        let names = ["TID", "COMM", "READS", "WRITES", "R_Kb", "W_Kb", "T", "FILE"];
        writeln!(
            out,
            "{:<7} {:<16} {:<6} {:<6} {:<7} {:<7} {:1} {}",
            names[0], names[1], names[2], names[3], names[4], names[5], names[6], names[7]
        )?;
        for line in screen {
            let (path, comm) = (line.text("path"), line.text("comm"));
            let kind = match line.text("type").as_str() {
                "file" => 'R',
                "socket" => 'S',
                _ => 'O',
            };
            let (reads, writes) = (line.int("reads"), line.int("writes"));
            let (read, written) = (line.int("read_bytes") / 1024, line.int("write_bytes") / 1024);
            let (tid, name) = (line.int("tid"), path.rsplit('/').next().unwrap_or(&path));
            writeln!(out, "{tid:<7} {comm:<16} {reads:<6} {writes:<6} {read:<7} {written:<7} {kind} {name}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;
    const READ: i64 = 1;
    const WRITE: i64 = 2;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "ld").task(0, 8, 80, "cat");
        tape.file(1, 8, "/out/a.o").file(2, 8, "/out/b").file(3, 12, "");
        tape.io(MS, 7, 1, READ, (4096, 3000)).io(2 * MS, 7, 1, READ, (4096, 0));
        tape.io(3 * MS, 7, 2, WRITE, (100, -28)).io(4 * MS, 8, 3, WRITE, (9000, 9000));
        tape.io(900 * MS, 8, 2, WRITE, (2048, 2048));
        tape
    }

    #[test]
    fn regular_files_by_thread_and_path() {
        let (exit, out, messages) = tape().run(&["filetop"]);
        let expected = concat!(
            "time      tid  comm  type  path      reads  writes  read_bytes  write_bytes\n",
            "12:01:07    7  ld    file  /out/a.o      2       0        3000            0\n",
            "12:01:07    7  ld    file  /out/b        0       1           0            0\n",
            "12:01:08    8  cat   file  /out/b        0       1           0         2048\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn sockets_and_requested_sizes_are_there_on_request() {
        let total = |args: &[&str]| {
            let all = [&["filetop", "--interval", "all", "--by", "none", "--format", "csv"], args].concat();
            tape().run(&all).1
        };
        assert!(total(&[]).ends_with("\r\nfalse,2,2,3000,2048,5052\r\n"), "{}", total(&[]));
        assert!(total(&["--all"]).ends_with("\r\nfalse,2,3,3000,11048,14053\r\n"));
        assert!(total(&["--requested"]).ends_with("\r\nfalse,2,2,8192,2148,10344\r\n"));
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["filetop", "--compat", "--all"]).1;
        let expected = concat!(
            "12:01:07\n\nTID     COMM             READS  WRITES R_Kb    W_Kb    T FILE\n",
            "8       cat              0      1      0       8       S \n",
            "7       ld               2      0      2       0       R a.o\n",
        );
        assert!(out.starts_with(expected), "{out}");
        let mut tape = tape();
        tape.load(0, [91, 33, 5], (3, 362)).load(700 * MS, [100, 40, 5], (1, 360)).load(
            800 * MS,
            [700, 1, 1],
            (2, 3),
        );
        let (_, out, _) = tape.run(&["filetop", "--compat", "--all"]);
        assert!(out.starts_with("12:01:07 loadavg: 1.00 0.40 0.05 1/360\n\nTID "), "{out}");
        assert!(out.contains("\n12:01:08 loadavg: 7.00 0.01 0.01 2/3\n\nTID "), "{out}");
    }
}
