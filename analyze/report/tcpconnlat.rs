//! How long do TCP handshakes take?
//!
//! ```text
//! $ analyze trace.bin tcpconnlat
//! time               pid  comm  ip  laddr     lport  raddr     rport  result       latency_us
//! 12:01:07.280780  28815  curl   4  10.0.0.2  35516  10.0.0.9    443  established      31.450
//! 12:01:07.301112  28815  curl   4  10.0.0.2  35518  10.0.0.9     81  refused          22.071
//! ```
//!
//! For each active open the time from SYN-SENT to established, or to closed: `refused` when a segment came
//! back, which can only be a reset, and `failed` when none did (timed out, unreachable, given up). The time
//! of the row is that of SYN-SENT. Attempts that were open at the end are counted in a note.
//!
//! With `--by` the distribution of the established ones: exact percentiles, those left empty that n cannot
//! support, beside how many were refused or failed.
//!
//! ```text
//! $ analyze trace.bin tcpconnlat --by remote --sort p99_us
//! $ analyze trace.bin tcpconnlat --min 10ms
//! ```

use super::{Context, Defaults, Flag, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Lines, opened};
use crate::analyze::connections::{Connection, Connections, SYN_SENT};
use crate::analyze::error::Failure;
use crate::analyze::group::{Group, Merge};
use crate::analyze::listing::{IP, Listing, connection_columns};
use crate::analyze::load::Scan;
use crate::analyze::quantile::{Keep, Samples, us};
use crate::analyze::rows::Rows;
use crate::analyze::table::Output;
use crate::analyze::window::duration;
use anyhow::Result;
use std::io;
use std::sync::Arc;

/// Handshakes.
pub static REPORT: Report = Report {
    name: "tcpconnlat",
    question: "how long do TCP connections take to open, and which fail?",
    exactness: "from SYN-SENT to established or closed; percentiles are values that occurred (inverse CDF) among the established",
    needs: &[Need::of("tcp_state", "net")],
    outputs: connection_columns![
        Output::count("n", "", "with --by: established");
        "process that connected";
        IP;
        Output::new("result", "", "established, refused (by a reset), or failed (no answer)"),
        Output::measure("latency_us", "us", 3, "from SYN-SENT to that result"),
        Output::count("refused", "", "with --by"),
        Output::count("failed", "", "with --by"),
        Output::measure("p50_us", "us", 3, "with --by: half of the established took at most this"),
        Output::measure("p90_us", "us", 3, "with --by: 90 %"),
        Output::measure("p99_us", "us", 3, "with --by: 99 %"),
        Output::measure("max_us", "us", 3, "with --by: the longest"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[Flag::valued("min", "TIME", "only those that took at least so long: 10ms")],
    fit: None,
    run,
    compat: Some(compat),
};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Established,
    Refused,
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The end of an attempt and the time to it, ns; `None`: it was open at the end.
fn outcome(connection: &Connection) -> Option<(Outcome, u64)> {
    let begin = connection.syn_sent?;
    if let Some(established) = connection.established {
        return Some((Outcome::Established, established.saturating_sub(begin)));
    }
    let outcome = if connection.segs_in > 0 { Outcome::Refused } else { Outcome::Failed };
    Some((outcome, connection.closed?.saturating_sub(begin)))
}

/// Where attempts are found.
#[derive(Clone)]
struct Attempts {
    connections: Arc<Connections>,
    ts: usize,
    sock: usize,
    min: u64,
}

impl Attempts {
    fn of(&self, rows: &Rows, row: usize) -> Option<(Outcome, u64)> {
        let found = self.connections.opened(rows.raw(self.sock, row) as u32, rows.raw(self.ts, row))?;
        outcome(found).filter(|outcome| outcome.1 >= self.min)
    }
}

fn run(context: &Context) -> Result<Answer> {
    let connections = Arc::new(Connections::gather(context)?);
    let mut scan = context.scan("tcp_state")?;
    let (ts, sock, new) = (scan.column("ts")?, scan.column("sock")?, scan.column("new")?);
    let attempts = Attempts { connections, ts, sock, min: min(context)? };
    let open = attempts
        .connections
        .iter()
        .filter(|connection| connection.syn_sent.is_some() && outcome(connection).is_none());
    let open = open.count();
    let known = attempts.clone();
    let scan = scan
        .only([new], |[new]| new == Some(SYN_SENT))
        .keeping(move |rows, row| known.of(rows, row).is_some());
    let answer = if context.counts() {
        distribution(context, &scan, &attempts)?
    } else {
        list(context, scan, &attempts)?
    };
    Ok(if open > 0 { answer.note(format!("{open} attempts were still open at the end")) } else { answer })
}

fn min(context: &Context) -> Result<u64, Failure> {
    let Some(text) = context.flag("min") else { return Ok(0) };
    duration(text)
        .ok_or_else(|| Failure::usage(format!("--min {text}: expected a length of time such as 10ms or 1s")))
}

fn list<'c>(context: &'c Context, scan: Scan<'c>, attempts: &Attempts) -> Result<Answer> {
    let (results, latencies) = (attempts.clone(), attempts.clone());
    Listing::new(context, scan, "n")
        .process()
        .ip()
        .ends()
        .text("result", move |rows, row| Some(results.of(rows, row)?.0.name().to_owned()))
        .float("latency_us", move |rows, row| Some(latencies.of(rows, row)?.1 as f64 / 1e3))
        .together()
        .answer()
}

#[derive(Default)]
struct Handshakes {
    latencies: Samples,
    refused: u64,
    failed: u64,
}

impl Merge for Handshakes {
    fn merge(&mut self, later: Self) {
        self.latencies.merge(later.latencies);
        self.refused += later.refused;
        self.failed += later.failed;
    }
}

impl Handshakes {
    fn add(&mut self, (outcome, latency): (Outcome, u64), keep: &Keep) {
        match outcome {
            Outcome::Established => self.latencies.add(latency, keep),
            Outcome::Refused => self.refused += 1,
            Outcome::Failed => self.failed += 1,
        }
    }
}

/// Something of latencies, ns, in us.
type Statistic = fn(&mut Samples) -> Option<f64>;

fn distribution(context: &Context, scan: &Scan, attempts: &Attempts) -> Result<Answer> {
    let grouping = context.grouping(scan)?;
    let keep = context.keep(&[scan]);
    let mut groups: Vec<Group<Handshakes>> = grouping.fold(scan, |all: &mut Handshakes, rows, row| {
        attempts.of(rows, row).into_iter().for_each(|outcome| all.add(outcome, &keep));
    });
    let mut table = context.keys(&grouping, &groups);
    let values = |groups: &mut [Group<Handshakes>], of: Statistic| {
        groups.iter_mut().map(|group| of(&mut group.state.latencies)).collect::<Vec<_>>()
    };
    let quantiles: [(&str, Statistic); 4] = [
        ("p50_us", |latencies| latencies.us(0.5)),
        ("p90_us", |latencies| latencies.us(0.9)),
        ("p99_us", |latencies| latencies.us(0.99)),
        ("max_us", |latencies| latencies.max().map(us)),
    ];
    table
        .ints(context.output("n"), groups.iter().map(|group| Some(group.state.latencies.len() as u64)))
        .ints(context.output("refused"), groups.iter().map(|group| Some(group.state.refused)))
        .ints(context.output("failed"), groups.iter().map(|group| Some(group.state.failed)));
    for (name, of) in quantiles {
        table.floats(context.output(name), values(&mut groups, of).into_iter());
    }
    Ok(Answer { table: Some(table.build()?), sort: Some("n"), ..Answer::default() })
}

/// As bcc's tcpconnlat prints it, without those that were not established.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{} {:<5} LAT(ms)", opened(None), "DPORT")?;
    for line in Lines::of(answer).iter().filter(|line| line.text("result") == "established") {
        let ms = line.float("latency_us") / 1e3;
        writeln!(out, "{} {:<5} {ms:.2}", opened(Some(&line)), line.int("rport"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    /// Established after 2 ms, refused after 1 ms, failed after 30 ms, open at the end.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.states().task(0, 70, 70, "curl");
        for sock in 1..5 {
            tape.owned(0, sock, (2, 4710 + sock, 442 + sock % 2), 70);
            tape.state(MS * sock, 70, sock.cast_signed(), (7, 2), [0; 3]);
        }
        tape.state(3 * MS, 0, 1, (2, 1), [1, 0, 0]).state(3 * MS, 0, 2, (2, 7), [0; 3]);
        let silent = [0, 3, 2, 7, 0, 0, 0, 5, 0];
        tape.event("tcp_state", 33 * MS, silent);
        tape
    }

    #[test]
    fn each_attempt_has_its_result_and_its_time() {
        let (exit, out, messages) = tape().run(&["tcpconnlat"]);
        let expected = concat!(
            "time             pid  comm  ip  laddr     lport  raddr     rport  result       latency_us\n",
            "12:01:07.251000   70  curl   4  10.0.0.1   4711  10.0.0.2    443  established    2000.000\n",
            "12:01:07.252000   70  curl   4  10.0.0.1   4712  10.0.0.2    442  refused        1000.000\n",
            "12:01:07.253000   70  curl   4  10.0.0.1   4713  10.0.0.2    443  failed        30000.000\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(
            out.starts_with(expected) && out.contains("# 1 attempts were still open at the end"),
            "{out}"
        );
    }

    #[test]
    fn groups_have_the_distribution_of_the_established() {
        let out = tape().run(&["tcpconnlat", "--by", "rport", "--format", "csv"]).1;
        let expected = concat!(
            "rport,lower_bound,n,refused,failed,p50_us,p90_us,p99_us,max_us\r\n",
            "443,false,1,0,1,2000.0,,,2000.0\r\n",
            "442,false,0,1,0,,,,\r\n",
        );
        assert_eq!(out, expected);
    }

    #[test]
    fn short_ones_can_be_left_out() {
        let rows = |min| tape().run(&["tcpconnlat", "--min", min, "--format", "ndjson"]).1.lines().count();
        assert_eq!((rows("1ms"), rows("1500us"), rows("10ms")), (3, 2, 1));
        assert_eq!(tape().run(&["tcpconnlat", "--min", "long"]).0, 2);
        let out = tape().run(&["tcpconnlat", "--compat"]).1;
        assert!(
            out.ends_with("70      curl         4  10.0.0.1         10.0.0.2         443   2.00\n"),
            "{out}"
        );
    }
}
