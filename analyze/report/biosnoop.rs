//! Which requests went to disks, one by one?
//!
//! ```text
//! $ analyze trace.bin biosnoop
//! time             comm  pid   disk  op     flags  sector   bytes  queued_us  latency_us  error
//! 12:01:07.262782  dd    4711  vda   write  Sync        0   65536      4.113      62.009      0
//! ```
//!
//! A row for each request, by the time at which it began; `latency_us` is the driver's and the disk's, `queued_us`
//! what came before. Pid and name are those of the task that asked: of buffered writes mostly a kernel thread.
//! Before Linux 6.5 it is the task that put the request into a queue, which for some is a kernel thread too.
//!
//! ```text
//! $ analyze trace.bin biosnoop --sort latency_us --top 10
//! $ analyze trace.bin biosnoop --where "disk = 'vda' AND op = 'read'"
//! $ analyze trace.bin biosnoop --by disk,op                       how many, and how much
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Line, Lines};
use crate::analyze::group::{Group, Grouping, Merge};
use crate::analyze::quantile::us;
use crate::analyze::requests::{self, Request};
use crate::analyze::room::Row;
use crate::analyze::table::{Builder, Output};
use anyhow::Result;
use std::io;

/// Requests, one by one.
pub static REPORT: Report = Report {
    name: "biosnoop",
    question: "which requests went to disks, whose, and how long did each take?",
    exactness: "requests that began in the span and were complete when the recording ended; of several issues the last, of several pieces all",
    needs: &[Need::of("block_rq", "block")],
    outputs: &[
        Output::count("requests", "", "with --by: how many"),
        Output::count("total_bytes", "bytes", "with --by: what was done"),
        Output::new("comm", "", "name of the task that asked"),
        Output::new("pid", "", "its process"),
        Output::new("disk", "", "the whole disk"),
        Output::new("op", "", "read, write, flush, discard, ..."),
        Output::new("flags", "", "as bcc names them"),
        Output::new("sector", "", "first sector of 512 bytes"),
        Output::new("bytes", "bytes", "what was done"),
        Output::measure("queued_us", "us", 3, "from the begin until the driver had it"),
        Output::measure("latency_us", "us", 3, "from there to the end"),
        Output::new("error", "", "0, or a negative error number"),
        Output::new("requeues", "", "how often the driver gave it back"),
    ],
    defaults: Defaults { by: EACH, sort: "time", top: None, interval: None },
    flags: &[Flag::switch("queue", "with --compat: a column for the time in queues").letter('Q')],
    fit: None,
    run,
    compat: Some(compat),
};

/// What a row of the list says of its begin.
const EACH: &str = "comm,pid,disk,op,flags";

/// The requests of a group.
#[derive(Default)]
struct All(Vec<Request>);

impl Merge for All {
    fn merge(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }
}

fn run(context: &Context) -> Result<Answer> {
    let scan = context.scan("block_rq")?;
    if !context.counts() {
        context.room(&[&scan], Row { numbers: 8, texts: 3 }, false)?;
    }
    let mut grouping = context.grouping(&scan)?;
    let (mut groups, left) =
        requests::fold(context, &grouping, |all: &mut All, request: &Request| all.0.push(*request))?;
    requests::name_flags(&mut grouping, &mut groups);
    let answer = if context.counts() {
        let mut table = context.keys(&grouping, &groups);
        let bytes = |group: &Group<All>| {
            Some(group.state.0.iter().fold(0u64, |sum, request| sum.saturating_add(request.done)))
        };
        table
            .ints(context.output("requests"), groups.iter().map(|group| Some(group.state.0.len() as u64)))
            .ints(context.output("total_bytes"), groups.iter().map(bytes));
        Answer { table: Some(table.build()?), sort: Some("requests"), ..Answer::default() }
    } else {
        Answer { events: true, ..Answer::of(list(context, &grouping, &groups).build()?) }
    };
    Ok(left.notes().fold(answer, Answer::note))
}

fn list(context: &Context, grouping: &Grouping, groups: &[Group<All>]) -> Builder {
    let mut rows: Vec<(&Request, &Group<All>)> =
        groups.iter().flat_map(|group| group.state.0.iter().map(move |request| (request, group))).collect();
    rows.sort_by_key(|(request, _)| request.begin);
    let mut table = Builder::default();
    table.time(6, rows.iter().map(|row| context.trace.clock.wall(row.0.begin)));
    for (at, input) in grouping.by.iter().enumerate() {
        let output = context.output(&input.name);
        table.values(output, input.text, rows.iter().map(|row| row.1.keys[at].clone()));
    }
    let requests = || rows.iter().map(|row| row.0);
    table
        .ints(context.output("sector"), requests().map(|request| request.sector))
        .ints(context.output("bytes"), requests().map(|request| Some(request.done)))
        .floats(context.output("queued_us"), requests().map(|request| request.queued().map(us)))
        .floats(context.output("latency_us"), requests().map(|request| request.latency().map(us)))
        .moments(context.output("error"), requests().map(|request| Some(request.error.into())))
        .ints(context.output("requeues"), requests().map(|request| Some(request.requeues.into())));
    table
}

/// As bcc's biosnoop prints it, in the order and with the time of completion.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let queue = context.flag("queue").is_some();
    let head = if queue { "QUE(ms) " } else { "" };
    let names = ["TIME(s)", "COMM", "PID", "DISK", "T", "SECTOR", "BYTES"];
    writeln!(
        out,
        "{:<11} {:<14} {:<7} {:<9} {:<1} {:<10} {:<7} {head}LAT(ms)",
        names[0], names[1], names[2], names[3], names[4], names[5], names[6]
    )?;
    let end = |line: &Line| {
        let took = (line.float("queued_us") + line.float("latency_us")) * 1e3;
        line.int("time").saturating_add(took as i64)
    };
    let mut lines: Vec<(i64, Line)> = Lines::of(answer).iter().map(|line| (end(&line), line)).collect();
    lines.sort_by_key(|line| line.0);
    let first = lines.first().map_or(0, |line| line.0);
    for (end, line) in &lines {
        let kind = if line.text("op") == "write" { "W" } else { "R" };
        write!(
            out,
            "{:<11.6} {:<14.14} {:<7} {:<9} {kind:<1} {:<10} {:<7} ",
            end.saturating_sub(first) as f64 / 1e9,
            line.text("comm"),
            line.int("pid"),
            line.text("disk"),
            line.int("sector"),
            line.int("bytes")
        )?;
        if queue {
            write!(out, "{:>7.2} ", line.float("queued_us") / 1e3)?;
        }
        writeln!(out, "{:>7.2}", line.float("latency_us") / 1e3)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const US: u64 = 1_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.block().task(0, 7, 70, "dd").task(0, 8, 8, "kworker/0:1H");
        tape.part(US, 7, 1, ("start", "read"), (800, 4096, 0)).part(
            5 * US,
            8,
            1,
            ("issue", "read"),
            (800, 4096, 0),
        );
        tape.part(10 * US, 8, 2, ("insert", "write"), (8, 512, 0)).part(
            12 * US,
            8,
            2,
            ("issue", "write"),
            (8, 512, 0),
        );
        tape.failed(20 * US, 2, (8, 512), -5).part(2_005 * US, 0, 1, ("complete", "read"), (800, 4096, 0));
        tape
    }

    #[test]
    fn each_request_has_its_own_task_and_both_times() {
        let (exit, out, messages) = tape().run(&["biosnoop", "--format", "csv"]);
        assert_eq!(exit, 0, "{messages}");
        let rows: Vec<&str> = out.lines().map(|line| line.split_once(',').expect("a time").1).collect();
        assert_eq!(rows[0], "comm,pid,disk,op,flags,sector,bytes,queued_us,latency_us,error,requeues");
        assert_eq!(
            rows[1..],
            [
                "dd,70,vda,read,Sync,800,4096,4.0,2000.0,0,0",
                "kworker/0:1H,8,vda,write,Sync,8,512,2.0,8.0,-5,0"
            ]
        );
    }

    #[test]
    fn they_can_be_counted() {
        let out = tape().run(&["biosnoop", "--by", "disk", "--format", "csv"]).1;
        assert_eq!(out, "disk,lower_bound,requests,total_bytes\r\nvda,false,2,4608\r\n");
    }

    #[test]
    fn the_layout_of_bcc_is_in_the_order_of_completion() {
        let out = tape().run(&["biosnoop", "--compat", "--queue"]).1;
        let expected = concat!(
            "TIME(s)     COMM           PID     DISK      T SECTOR     BYTES   QUE(ms) LAT(ms)\n",
            "0.000000    kworker/0:1H   8       vda       W 8          512        0.00    0.01\n",
            "0.001985    dd             70      vda       R 800        4096       0.00    2.00\n",
        );
        assert_eq!(out, expected);
    }
}
