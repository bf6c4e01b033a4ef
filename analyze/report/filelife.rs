//! Which files live only for a short time?
//!
//! ```text
//! $ analyze trace.bin filelife
//! time               pid  comm  age_s  path
//! 21:18:12.391579  29914  rm    0.007  /tmp/fw/z
//! ```
//!
//! One row for each file that was both made and removed while it was recorded: when, by whom it was removed,
//! and how long it lived from the return of the open that made it to the return of the unlink. Files are
//! followed by their path, through renames; the live tool follows the inode. So a file that is made by one
//! spelling of its path and removed by another (a symbolic link in between), or that another file was renamed
//! over, is not found. How many removed files were not seen being made stands below.
//!
//! ```text
//! $ analyze trace.bin filelife --by comm
//! $ analyze trace.bin filelife --where "comm = 'cc1'" --sort age_s --top 10
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::listing::Listing;
use crate::analyze::load::{Chunk, Scan};
use crate::analyze::paths::Paths;
use crate::analyze::rows::Rows;
use crate::analyze::table::Output;
use anyhow::Result;
use std::collections::HashMap;
use std::io;

/// Short-lived files, one by one.
pub static REPORT: Report = Report {
    name: "filelife",
    question: "which files were made and soon removed again, and how long did they live?",
    exactness: "files that were made and removed within the recording, followed by their path through renames; made: an open that created it; removed: an unlink",
    needs: &[Need::of("path_op", "file"), Need::of("file_open", "file")],
    outputs: &[
        Output::count("files", "", "with --by: how many"),
        Output::new("pid", "", "process that removed it"),
        Output::new("comm", "", "name of the thread that did"),
        Output::measure("age_s", "s", 3, "time from its making to its removal"),
        Output::new("path", "", "its last name"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

/// What happens to a path, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Made(String),
    Renamed(String, String),
    Removed(String, Unlink),
}

/// When, and by which thread: tells an unlink from every other.
type Unlink = (u64, i64);
/// The last name of a file and when it was made.
type Life = (String, u64);

fn run(context: &Context) -> Result<Answer> {
    let (lives, unseen) = lives(context)?;
    let mut scan = context.scan("path_op")?;
    let tid = scan.column("tid")?;
    scan.def.time().into_iter().for_each(|ts| scan.add(ts));
    let known = move |lives: &HashMap<Unlink, Life>, rows: &Rows, row| {
        lives.get(&(rows.moment(row), rows.get(tid, row)?)).cloned()
    };
    let lives = &lives;
    let scan = scan.keeping(move |rows, row| known(lives, rows, row).is_some());
    let age = move |rows: &Rows, row| Some((rows.moment(row) - known(lives, rows, row)?.1) as f64 / 1e9);
    let answer = Listing::new(context, scan, "files")
        .process()
        .float("age_s", age)
        .text("path", move |rows, row| Some(known(lives, rows, row)?.0))
        .together()
        .answer()?;
    Ok(if unseen == 0 {
        answer
    } else {
        answer.note(format!("{unseen} more files were removed that were not seen being made"))
    })
}

/// The files that were made and removed, by their unlink; and how many were only seen being removed.
fn lives(context: &Context) -> Result<(HashMap<Unlink, Life>, usize)> {
    let mut steps = made(context)?;
    steps.extend(changed(context)?);
    steps.sort();
    let mut alive: HashMap<String, u64> = HashMap::new();
    let (mut lives, mut unseen) = (HashMap::new(), 0);
    for (ts, step) in steps {
        match step {
            Step::Made(path) => {
                alive.insert(path, ts);
            }
            Step::Renamed(from, to) => {
                // What stood there before is replaced, and lives no more.
                let moved = alive.remove(&from);
                alive.remove(&to);
                if let Some(born) = moved {
                    alive.insert(to, born);
                }
            }
            Step::Removed(path, unlink) => match alive.remove(&path) {
                Some(born) => _ = lives.insert(unlink, (path, born)),
                None => unseen += usize::from(context.window.contains(ts)),
            },
        }
    }
    Ok((lives, unseen))
}

/// A table from the start of the trace on: a file may be older than the span that is asked for.
fn whole<'a>(context: &Context<'a>, table: &str) -> Result<Scan<'a>> {
    let mut scan = Scan::new(context.trace, context.table(table)?, context.trace.span);
    scan.def.time().into_iter().for_each(|ts| scan.add(ts));
    Ok(scan)
}

fn made(context: &Context) -> Result<Vec<(u64, Step)>> {
    let mut scan = whole(context, "file_open")?;
    let (created, dir, path) = (scan.column("created")?, scan.column("dir")?, scan.column("path")?);
    let paths = Paths::of(context.trace);
    let fold = |steps: &mut Vec<(u64, Step)>, chunk: &Chunk| {
        let rows = chunk.rows();
        let made = chunk.each().filter(|&row| rows.get(created, row) == Some(1));
        steps.extend(made.map(|row| (rows.moment(row), Step::Made(paths.whole(rows, row, dir, path)))));
    };
    Ok(scan.fold(Vec::new, fold, Extend::extend))
}

fn changed(context: &Context) -> Result<Vec<(u64, Step)>> {
    let mut scan = whole(context, "path_op")?;
    let [op, ret, tid] = [scan.column("op")?, scan.column("ret")?, scan.column("tid")?];
    let from = (scan.column("dir")?, scan.column("path")?);
    let to = (scan.column("dir2")?, scan.column("path2")?);
    let number = |name| context.trace.number("path_op", name);
    let (unlink, rename, paths) = (number("unlink"), number("rename"), Paths::of(context.trace));
    let step = |rows: &Rows, row| {
        let op = rows.get(op, row).filter(|_| rows.get(ret, row) == Some(0));
        let path = |(dir, path)| paths.whole(rows, row, dir, path);
        match op {
            None => None,
            op if op == unlink => Some(Step::Removed(path(from), (rows.moment(row), rows.get(tid, row)?))),
            op if op == rename => Some(Step::Renamed(path(from), path(to))),
            _ => None,
        }
    };
    let fold = |steps: &mut Vec<(u64, Step)>, chunk: &Chunk| {
        let rows = chunk.rows();
        steps.extend(chunk.each().filter_map(|row| Some((rows.moment(row), step(rows, row)?))));
    };
    Ok(scan.fold(Vec::new, fold, Extend::extend))
}

/// As bcc's filelife prints it.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<8} {:<7} {:<16} {:<7} FILE", "TIME", "PID", "COMM", "AGE(s)")?;
    for line in Lines::of(answer).iter() {
        let (time, path) = (line.time(&context.trace.clock), line.text("path"));
        let (pid, comm, age) = (line.int("pid"), line.text("comm"), line.float("age_s"));
        let name = path.rsplit('/').next().unwrap_or(&path);
        writeln!(out, "{time:<8} {pid:<7} {comm:<16} {age:<7.2} {name}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Cell, START, Tape};

    const MS: u64 = 1_000_000;
    const UNLINK: u64 = 9;

    fn rename(tape: &mut Tape, at: u64, from: &str, to: &str) {
        let numbers = [START + at, 0, 7, 13, 0, 0, 0, 0, 0, 500].map(Cell::from);
        tape.push("path_op", numbers.into_iter().chain([from.into(), to.into()]).collect());
    }

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "cc1").task(0, 8, 80, "rm").file(2, 4, "/tmp");
        tape.made(MS, 7, "/tmp/a.s").path_call(501 * MS, 8, UNLINK, (0, 2), 0, "./a.s");
        tape.made(2 * MS, 7, "/tmp/b");
        rename(&mut tape, 3 * MS, "/tmp/b", "/tmp/c");
        tape.path_call(12 * MS, 8, UNLINK, (0, 0), -2, "/tmp/c");
        tape.path_call(102 * MS, 8, UNLINK, (0, 0), 0, "/tmp/c").path_call(
            103 * MS,
            8,
            UNLINK,
            (0, 0),
            0,
            "/tmp/old",
        );
        tape
    }

    #[test]
    fn a_life_is_from_open_to_unlink_through_renames() {
        let (exit, out, messages) = tape().run(&["filelife"]);
        let expected = concat!(
            "time             pid  comm  age_s  path\n",
            "12:01:07.352000   80  rm    0.100  /tmp/c\n",
            "12:01:07.751000   80  rm    0.500  /tmp/a.s\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected) && out.contains("# 1 more files were removed"), "{out}");
        let late = tape().run(&["filelife", "--from", "200ms", "--format", "csv"]).1;
        assert!(late.ends_with("80,rm,0.5,/tmp/a.s\r\n") && late.lines().count() == 2, "{late}");
    }

    #[test]
    fn they_can_be_counted_and_bcc_has_a_layout() {
        assert_eq!(
            tape().run(&["filelife", "--by", "comm", "--format", "csv"]).1,
            "comm,lower_bound,files\r\nrm,false,2\r\n"
        );
        let out = tape().run(&["filelife", "--compat"]).1;
        assert!(out.starts_with("TIME     PID     COMM             AGE(s)  FILE\n12:01:07 80      rm               0.10    c\n"), "{out}");
    }
}
