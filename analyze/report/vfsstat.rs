//! How many file operations are there per second?
//!
//! ```text
//! $ analyze trace.bin vfsstat
//! time      reads_per_s  writes_per_s  fsyncs_per_s  opens_per_s  creates_per_s  unlinks_per_s …
//! 12:01:07      1893.00        204.00          1.00       402.00          12.00           9.00 …
//! ```
//!
//! System calls about files, whatever they returned: reads and writes on sockets and pipes too, as the live
//! tool counts them; opens that failed too. Creates are opens that made their file. `unlinkat(…, AT_REMOVEDIR)`
//! removes a directory and is no unlink, though strace shows one name for both. Rates are by the true length of an
//! interval.
//!
//! The live tool counts calls of `vfs_read`, `vfs_write`, `vfs_fsync`, `vfs_open` and `vfs_create` (with options
//! `vfs_unlink`, `vfs_mkdir`, `vfs_rmdir`). There the kernel's own I/O counts; a vectored read does not; nor does an
//! open, unlink or mkdir whose path leads nowhere; and most files are made without `vfs_create`.
//!
//! ```text
//! $ analyze trace.bin vfsstat --interval 10s
//! $ analyze trace.bin vfsstat --interval all --by comm --sort opens_per_s
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::group::{Group, Merge, join};
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// File operations per second.
pub static REPORT: Report = Report {
    name: "vfsstat",
    question: "how many reads, writes, syncs, opens and other file operations are there per second?",
    exactness: "system calls at their return, failed ones too; not calls of vfs_ functions: io_uring and the kernel's own I/O are not seen; vectored calls are counted",
    needs: &[
        Need::of("file_io", "file"),
        Need::of("file_open", "file"),
        Need::of("file_sync", "file"),
        Need::of("path_op", "file"),
    ],
    outputs: &[RATES[0], RATES[1], RATES[2], RATES[3], RATES[4], RATES[5], RATES[6], RATES[7]],
    defaults: Defaults { by: "none", sort: "opens_per_s", top: None, interval: Some("1s") },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

/// What is counted, in the order of the columns.
const RATES: [Output; 8] = [
    Output::decimal("reads_per_s", "1/s", 2, "calls that read"),
    Output::decimal("writes_per_s", "1/s", 2, "calls that write"),
    Output::decimal("fsyncs_per_s", "1/s", 2, "fsync and fdatasync"),
    Output::decimal("opens_per_s", "1/s", 2, "opens, failed ones too"),
    Output::decimal("creates_per_s", "1/s", 2, "opens that made their file"),
    Output::decimal("unlinks_per_s", "1/s", 2, "unlinks"),
    Output::decimal("mkdirs_per_s", "1/s", 2, "new directories"),
    Output::decimal("rmdirs_per_s", "1/s", 2, "removed directories"),
];

#[derive(Default)]
struct Counts([u64; RATES.len()]);

impl Merge for Counts {
    fn merge(&mut self, later: Self) {
        self.0.iter_mut().zip(later.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
}

fn run(context: &Context) -> Result<Answer> {
    let grouping = context.grouping(&context.scan("file_io")?)?;
    let groups = join([
        by_name(context, "file_io", "io_op", &[("read", 0), ("write", 1)])?,
        opens(context)?,
        by_name(context, "file_sync", "sync_op", &[("fsync", 2), ("fdatasync", 2)])?,
        by_name(context, "path_op", "path_op", &[("unlink", 5), ("mkdir", 6), ("rmdir", 7)])?,
    ]);
    let mut table = context.keys(&grouping, &groups);
    for (at, output) in RATES.iter().enumerate() {
        let rate = |group: &Group<Counts>| Context::per_second(&grouping, group, group.state.0[at]);
        table.floats(output, groups.iter().map(rate));
    }
    Ok(Answer::of(table.build()?))
}

/// Counts the operations of a table that have such names, each into a column.
fn by_name(
    context: &Context,
    table: &str,
    names: &str,
    columns: &[(&str, usize)],
) -> Result<Vec<Group<Counts>>> {
    let mut scan = context.scan(table)?;
    let op = scan.column("op")?;
    let columns: Vec<(i64, usize)> = columns
        .iter()
        .filter_map(|&(name, column)| Some((context.trace.number(names, name)?, column)))
        .collect();
    let add = |counts: &mut Counts, [op]: [Option<i64>; 1]| {
        if let Some((_, column)) = columns.iter().find(|column| Some(column.0) == op) {
            counts.0[*column] += 1;
        }
    };
    Ok(context.grouping(&scan)?.sum(&scan, [op], add))
}

fn opens(context: &Context) -> Result<Vec<Group<Counts>>> {
    let mut scan = context.scan("file_open")?;
    let created = scan.column("created")?;
    let add = |counts: &mut Counts, [created]: [Option<i64>; 1]| {
        counts.0[3] += 1;
        counts.0[4] += u64::from(created == Some(1));
    };
    Ok(context.grouping(&scan)?.sum(&scan, [created], add))
}

/// As bcc's vfsstat prints it.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let names = ["READ/s", "WRITE/s", "FSYNC/s", "OPEN/s", "CREATE/s"];
    writeln!(out, "{:<8}: {}", "TIME", names.map(|name| format!("{name:>8}")).join(" "))?;
    for line in Lines::of(answer).iter() {
        let rates: Vec<String> =
            RATES[..5].iter().map(|rate| format!("{:>8.0}", line.float(rate.name))).collect();
        writeln!(out, "{:<8}: {}", line.time(&context.trace.clock), rates.join(" "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "db").file(1, 8, "/a");
        for at in [100, 200, 300] {
            tape.io(at * MS, 7, 1, 1, (10, 10)).open_call(at * MS, 7, 1, 0, -2, "/a");
        }
        tape.io(1_000 * MS, 7, 1, 2, (10, -28)).path_call(1_100 * MS, 7, 9, (0, 0), 0, "/a");
        tape.event("file_sync", 1_749 * MS, [7, 3, 1, 0, 500]);
        tape
    }

    #[test]
    fn operations_of_four_tables_meet_in_an_interval() {
        let (exit, out, messages) = tape().run(&["vfsstat", "--format", "csv"]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(lines[1].ends_with("false,4.0,0.0,0.0,4.0,0.0,0.0,0.0,0.0"), "{out}");
        assert!(lines[2].contains("false,0.0,1.00"), "{out}");
        assert_eq!(lines.len(), 3, "{out}");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["vfsstat", "--compat"]).1;
        let expected = concat!(
            "TIME    :   READ/s  WRITE/s  FSYNC/s   OPEN/s CREATE/s\n",
            "12:01:07:        4        0        0        4        0\n",
        );
        assert!(out.starts_with(expected), "{out}");
    }
}
