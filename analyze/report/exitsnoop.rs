//! Which processes ended, after how long, and why?
//!
//! ```text
//! $ analyze trace.bin exitsnoop
//! time               pid   ppid    tid  comm   age_s  exit_code  signal  core  utime_ms  stime_ms
//! 12:01:07.262782  28993  28978  28993  truth  0.001          3       0     0     4.000     0.000
//! 12:01:07.269474  29001  28978  29001  truth  0.001          0      15     0     0.000     0.000
//! ```
//!
//! One row for each process, at the end of its last thread: its age is that of the process, its CPU
//! times are the sums over its threads that ended in the recording (those that ended before the start are
//! not in it). `--per-thread` shows each thread with its own. The kernel may account CPU time by the tick.
//! The signal is the number alone; whether a core was dumped stands in its own column.
//!
//! ```text
//! $ analyze trace.bin exitsnoop --where "exit_code != 0 OR signal != 0"
//! $ analyze trace.bin exitsnoop --by comm,signal
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::input::{Input, Inputs};
use crate::analyze::listing::Listing;
use crate::analyze::load::{Chunk, Scan};
use crate::analyze::rows::Rows;
use crate::analyze::table::Output;
use crate::analyze::trace::Trace;
use crate::analyze::window::Window;
use crate::schema::hash::FastMap;
use anyhow::Result;
use std::io;
use std::sync::Arc;

/// Ends of processes and threads.
pub static REPORT: Report = Report {
    name: "exitsnoop",
    question: "which processes ended, after how long, and why?",
    exactness: "one row for each process at the end of its last thread; with --per-thread for each thread",
    needs: &[Need::of("process_exit", "proc")],
    outputs: &[
        Output::count("exits", "", "with --by: how many"),
        Output::new("pid", "", "process"),
        Output::new("ppid", "", "its parent"),
        Output::new("tid", "", "thread that ended, of a process the last"),
        Output::new("comm", "", "name of that thread"),
        Output::measure("age_s", "s", 3, "time since the process was created, with --per-thread the thread"),
        Output::new("exit_code", "", "exit status, 0-255"),
        Output::new("signal", "", "signal that killed it, or 0"),
        Output::new("core", "", "1: a core was dumped"),
        Output::measure("utime_ms", "ms", 3, "user CPU time"),
        Output::measure("stime_ms", "ms", 3, "system CPU time"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[Flag::switch("per-thread", "a row for each thread")],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("process_exit")?;
    let columns = Columns::of(context.trace, &mut scan)?;
    let list = |scan| {
        let list = Listing::new(context, scan, "exits").named("pid").named("ppid").named("tid");
        list.named("comm")
    };
    if context.flag("per-thread").is_some() {
        let age = columns.age;
        let list = list(scan).float("age_s", move |rows, row| Some(rows.get(age, row)? as f64 / 1e9));
        return codes(list).named("utime_ms").named("stime_ms").answer();
    }
    let processes = Arc::new(Processes::gather(context, columns)?);
    let of = |which: fn(&Process) -> Option<f64>| {
        let processes = Arc::clone(&processes);
        move |rows: &Rows, row| which(processes.of(rows, row)?)
    };
    let last = Arc::clone(&processes);
    let scan = scan.keeping(move |rows, row| last.is_last(rows, row));
    let list = list(scan).float("age_s", of(|process| Some(process.age as f64 / 1e9)));
    codes(list)
        .float("utime_ms", of(|process| Some(process.user as f64 / 1e6)))
        .float("stime_ms", of(|process| Some(process.system as f64 / 1e6)))
        .together()
        .answer()
}

fn codes<'c, 'a>(list: Listing<'c, 'a>) -> Listing<'c, 'a> {
    list.renamed("exit_code", "code").named("signal").named("core")
}

/// What an end says, and of which process it was.
#[derive(Clone)]
struct Columns {
    ts: usize,
    tid: usize,
    last: usize,
    age: usize,
    user: usize,
    system: usize,
    pid: Option<Input>,
}

impl Columns {
    fn of(trace: &Trace, scan: &mut Scan) -> Result<Self> {
        let pid = Inputs::of(trace, &scan.def).get("pid").cloned();
        Ok(Self {
            ts: scan.column("ts")?,
            tid: scan.column("tid")?,
            last: scan.column("last")?,
            age: scan.column("age")?,
            user: scan.column_or_null("utime")?,
            system: scan.column_or_null("stime")?,
            pid,
        })
    }
}

/// The threads of a process that ended.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    user: u64,
    system: u64,
    /// Of the process, or of its last thread where its first one is not known.
    age: u64,
    /// Time and thread of its last end; two threads that end at once may both look like the last.
    end: (u64, u64),
}

/// Process id and its creation, since ids are used again.
type Key = (u64, u64);

struct Processes {
    columns: Columns,
    started: FastMap<u64, Vec<u64>>,
    list: FastMap<Key, Process>,
}

impl Processes {
    /// Adds up all ends before the end of the span, whatever the conditions, since a process is more
    /// than its last thread.
    fn gather(context: &Context, columns: Columns) -> Result<Self> {
        let window = Window { from: context.trace.span.from, to: context.window.to };
        let mut scan = Scan::new(context.trace, context.table("process_exit")?, window);
        Columns::of(context.trace, &mut scan)?;
        let mut processes = Self { columns, started: starts(context.trace), list: FastMap::default() };
        let add = |list: &mut FastMap<Key, Process>, chunk: &Chunk| {
            chunk.each().for_each(|row| processes.add(list, chunk.rows(), row));
        };
        let list = scan.fold(FastMap::default, add, |all, later| {
            for (key, process) in later {
                all.entry(key).or_default().merge(process);
            }
        });
        processes.list = list;
        Ok(processes)
    }

    fn key(&self, rows: &Rows, row: usize) -> Key {
        let pid = self.columns.pid.as_ref().and_then(|pid| pid.number(rows, row));
        let pid = pid.map_or(rows.raw(self.columns.tid, row), i64::cast_unsigned);
        let ts = rows.raw(self.columns.ts, row);
        let started = self.started.get(&pid).map_or(&[][..], Vec::as_slice);
        let at = started.partition_point(|&start| start <= ts);
        (pid, at.checked_sub(1).map_or(0, |at| started[at]))
    }

    fn add(&self, list: &mut FastMap<Key, Process>, rows: &Rows, row: usize) {
        let columns = &self.columns;
        let number = |column| rows.get(column, row).map_or(0, i64::cast_unsigned);
        let ts = rows.raw(columns.ts, row);
        let key = self.key(rows, row);
        let last = number(columns.last) == 1;
        let age = if key.1 == 0 { number(columns.age) } else { ts.saturating_sub(key.1) };
        list.entry(key).or_default().merge(Process {
            user: number(columns.user),
            system: number(columns.system),
            age: if last { age } else { 0 },
            end: if last { (ts, rows.raw(columns.tid, row)) } else { (0, 0) },
        });
    }

    fn of(&self, rows: &Rows, row: usize) -> Option<&Process> {
        self.list.get(&self.key(rows, row))
    }

    fn is_last(&self, rows: &Rows, row: usize) -> bool {
        let end = (rows.raw(self.columns.ts, row), rows.raw(self.columns.tid, row));
        self.of(rows, row).is_some_and(|process| process.end == end)
    }
}

impl Process {
    fn merge(&mut self, other: Self) {
        self.user = self.user.saturating_add(other.user);
        self.system = self.system.saturating_add(other.system);
        if other.end > self.end {
            (self.end, self.age) = (other.end, other.age);
        }
    }
}

/// When the processes of each id were created.
fn starts(trace: &Trace) -> FastMap<u64, Vec<u64>> {
    let mut started: FastMap<u64, Vec<u64>> = FastMap::default();
    let Some(tasks) = trace.identity("task") else { return started };
    let (Some(tgid), Some(start)) = (tasks.column("tgid"), tasks.column("start")) else { return started };
    for &row in tasks.all() {
        let (Some(tgid), Some(start)) = (tasks.get(tgid, row), tasks.get(start, row)) else { continue };
        if tasks.key(row) == tgid.cast_unsigned() {
            started.entry(tasks.key(row)).or_default().push(start.cast_unsigned());
        }
    }
    for starts in started.values_mut() {
        starts.sort_unstable();
        starts.dedup();
    }
    started
}

/// As bcc's exitsnoop prints it, but that a core dump does not change the signal's number.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<16} {:<7} {:<7} {:<7} {:<7} {:<10}",
        "PCOMM", "PID", "PPID", "TID", "AGE(s)", "EXIT_CODE"
    )?;
    for line in Lines::of(answer).iter() {
        let (pid, ppid, tid, age) = (line.int("pid"), line.int("ppid"), line.int("tid"), line.float("age_s"));
        write!(out, "{:<16} {pid:<7} {ppid:<7} {tid:<7} {age:<7.2} ", line.text("comm"))?;
        match (line.int("signal"), line.int("exit_code")) {
            (0, 0) => write!(out, "0")?,
            (0, code) => write!(out, "code {code}")?,
            (signal, _) => write!(out, "signal {signal}")?,
        }
        writeln!(out, "{}", if line.int("core") == 1 { ", core dumped" } else { "" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;
    const MS_I: i64 = 1_000_000;

    /// Process 70 with threads 70 and 71 that both look like the last, and process 8, killed with a core.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        let columns = [
            "ts:u64",
            "cpu:u16",
            "tid:u32>task",
            "code:u32",
            "signal:u32",
            "core:u32",
            "last:u32",
            "age:u64?ns",
            "utime:u64?ns",
            "stime:u64?ns",
        ];
        tape.table("process_exit", &columns);
        tape.task(0, 70, 70, "web").task(0, 71, 70, "worker").task(0, 8, 8, "crash");
        tape.event("process_exit", 5 * MS, [72, 0, 0, 0, 0, MS_I, MS_I, 0]);
        tape.event("process_exit", 6 * MS, [71, 3, 0, 0, 1, 4 * MS_I, 2 * MS_I, MS_I]);
        tape.event("process_exit", 7 * MS, [70, 3, 0, 0, 1, 7 * MS_I, 5 * MS_I, 0]);
        tape.event("process_exit", 9 * MS, [8, 0, 11, 1, 1, 9 * MS_I, 0, 0]);
        tape.task(0, 72, 70, "worker");
        tape
    }

    #[test]
    fn a_process_ends_once_with_the_times_of_all_its_threads() {
        let (exit, out, messages) = tape().run(&["exitsnoop", "--format", "csv"]);
        assert_eq!((exit, messages.as_str()), (0, ""));
        let lines: Vec<&str> =
            out.lines().skip(1).map(|line| line.split_once(',').expect("time").1).collect();
        assert_eq!(lines, ["70,1,70,web,0.007,3,0,0,8.0,1.0", "8,1,8,crash,0.009,0,11,1,0.0,0.0"]);
    }

    #[test]
    fn a_process_is_not_taken_apart_for_want_of_room() {
        let mut tape = tape();
        tape.rows_per_frame(1);
        let (exit, out, messages) = tape.run(&["exitsnoop", "--format", "csv", "--memory", "100"]);
        assert!(exit == 2 && out.is_empty() && messages.contains("2 rows take about"), "{messages}");
        let threads = ["exitsnoop", "--per-thread", "--format", "csv"];
        assert_eq!(tape.run(&[&threads[..], &["--memory", "100"]].concat()), tape.run(&threads));
    }

    #[test]
    fn threads_are_shown_on_request_and_all_can_be_counted() {
        let lines = |args: &[&str]| {
            let all: Vec<&str> = ["exitsnoop", "--format", "csv"].iter().chain(args).copied().collect();
            tape().run(&all).1.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&["--per-thread"]).len(), 4);
        assert_eq!(lines(&["--by", "pid"]), ["8,false,1", "70,false,1"]);
        assert_eq!(lines(&["--by", "pid", "--per-thread"]), ["70,false,3", "8,false,1"]);
        assert_eq!(lines(&["--where", "signal > 0"]).len(), 1);
        assert_eq!(lines(&["--to", "6500us"]).len(), 1, "the last end of a process within the span");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["exitsnoop", "--compat"]).1;
        assert!(out.contains("web              70      1       70      0.01    code 3\n"), "{out}");
        assert!(out.contains("0.01    signal 11, core dumped\n"), "{out}");
    }
}
