//! Which processes and connections move bytes?
//!
//! ```text
//! $ analyze trace.bin tcptop
//! time       pid  comm       laddr     lport  raddr      rport   rx_bytes  tx_bytes
//! 12:01:07  4711  redis-ser  10.0.0.2   6379  10.0.0.9   35516     120430   3801220
//! 12:01:07   812  sshd       10.0.0.2     22  10.0.0.7   51804        352      9211
//! ```
//!
//! Bytes that calls of `tcp_sendmsg` accepted and `tcp_recvmsg` handed over: what they returned, not what
//! they were asked for. Bytes that were only looked at (`MSG_PEEK`) are not received. Readers that bypass
//! `tcp_recvmsg` (splice, in-kernel ones) are not seen. Per interval the 20 largest by both ways together.
//!
//! ```text
//! $ analyze trace.bin tcptop --interval all --by comm
//! $ analyze trace.bin tcptop --by remote --where "lport = 443"
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Line, Lines};
use crate::analyze::flow::{moved, peeks};
use crate::analyze::group::{Grouping, Merge};
use crate::analyze::load_average::LoadAverage;
use crate::analyze::table::{Output, Show};
use anyhow::Result;
use std::io;

/// Bytes by process and connection.
pub static REPORT: Report = Report {
    name: "tcptop",
    question: "which processes and TCP connections move how many bytes?",
    exactness: "bytes as calls of tcp_sendmsg and tcp_recvmsg returned them; MSG_PEEK is not counted",
    needs: &[Need::of("sock_send", "net").but(&["latency"]), Need::of("sock_recv", "net").but(&["latency"])],
    outputs: &[
        Output::count("rx_bytes", "bytes", "bytes that were received"),
        Output::count("tx_bytes", "bytes", "bytes that were sent"),
        Output { show: Show::Hidden, ..Output::count("bytes", "bytes", "both together, for --sort") },
    ],
    defaults: Defaults { by: "task,flow", sort: "bytes", top: Some(20), interval: Some("1s") },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

#[derive(Default)]
struct Bytes {
    sent: u64,
    received: u64,
}

impl Merge for Bytes {
    fn merge(&mut self, later: Self) {
        self.sent = self.sent.saturating_add(later.sent);
        self.received = self.received.saturating_add(later.received);
    }

    fn weight(&self) -> Option<u64> {
        Some(self.total())
    }
}

fn run(context: &Context) -> Result<Answer> {
    let mut sends = context.scan("sock_send")?;
    let sent = sends.column("ret")?;
    let grouping = context.grouping(&sends)?;
    let sends = context.grouping(&sends)?.part(&sends, [sent], |bytes: &mut Bytes, [sent]| {
        bytes.sent = bytes.sent.saturating_add(moved(sent));
    });
    let mut receives = context.scan("sock_recv")?;
    let [received, flags] = receives.columns(["ret", "flags"])?;
    let receives = receives.only([flags], |[flags]| !peeks(flags));
    let add = |bytes: &mut Bytes, [received]: [_; 1]| {
        bytes.received = bytes.received.saturating_add(moved(received));
    };
    let receives = context.grouping(&receives)?.part(&receives, [received], add);
    let mut groups = Grouping::sum_all(vec![sends, receives]);
    // Calls that moved nothing do not make a line; the rows of intervals do.
    groups.retain(|group| grouping.by.is_empty() || group.state.total() > 0);
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("rx_bytes"), groups.iter().map(|group| Some(group.state.received)))
        .ints(context.output("tx_bytes"), groups.iter().map(|group| Some(group.state.sent)))
        .ints(context.output("bytes"), groups.iter().map(|group| Some(group.state.total())));
    Ok(Answer::of(table.build()?))
}

impl Bytes {
    fn total(&self) -> u64 {
        self.sent + self.received
    }
}

/// As bcc's tcptop prints it: a screen for each interval, IPv4 before IPv6.
fn compat(context: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let lines: Vec<Line> = Lines::of(answer).iter().collect();
    let average = LoadAverage::of(context);
    for screen in lines.chunk_by(|a, b| a.int("time") == b.int("time")) {
        writeln!(out, "{}", average.head(&screen[0]))?;
        for v6 in [false, true] {
            let lines = || screen.iter().filter(|line| line.is_v6() == v6);
            let (width, suffix) = if v6 { (32, "6") } else { (21, "") };
            if lines().next().is_none() {
                continue;
            }
            let (laddr, raddr) = (format!("LADDR{suffix}"), format!("RADDR{suffix}"));
            writeln!(
                out,
                "{:<7} {:<12} {laddr:<width$} {raddr:<width$} {:>6} {:>6}",
                "PID", "COMM", "RX_KB", "TX_KB"
            )?;
            for line in lines() {
                let (local, remote) = (line.endpoint("laddr", "lport"), line.endpoint("raddr", "rport"));
                let (pid, comm) = (line.int("pid"), line.text("comm"));
                let (rx, tx) = (line.int("rx_bytes") / 1024, line.int("tx_bytes") / 1024);
                writeln!(out, "{pid:<7} {comm:<12.12} {local:<width$} {remote:<width$} {rx:>6} {tx:>6}")?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.receives().task(0, 7, 70, "redis").task(0, 8, 80, "sshd");
        tape.sock(0, 1, 2, 6379, 4711).sock(0, 2, 10, 22, 5000).sock(0, 3, 2, 6379, 4712);
        tape.send(MS, 7, 1, 9000, 5000).send(2 * MS, 7, 1, 100, -11).send(3 * MS, 8, 2, 100, 100);
        tape.receive(4 * MS, 7, 1, 3000, 2).receive(5 * MS, 7, 1, 3000, 0).receive(6 * MS, 7, 3, 0, 0);
        tape.receive(900 * MS, 8, 2, 2048, 0);
        tape
    }

    #[test]
    fn both_ways_of_a_connection_are_one_row() {
        let (exit, out, messages) = tape().run(&["tcptop"]);
        let expected = concat!(
            "time      pid  comm   laddr     lport  raddr     rport  rx_bytes  tx_bytes\n",
            "12:01:07   70  redis  10.0.0.1   6379  10.0.0.2   4711      3000      5000\n",
            "12:01:07   80  sshd   ::1          22  ::1        5000         0       100\n",
            "12:01:08   80  sshd   ::1          22  ::1        5000      2048         0\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn it_can_be_broken_down_otherwise() {
        let csv = |args: &[&str]| {
            let all: Vec<&str> = ["tcptop", "--format", "csv"].iter().chain(args).copied().collect();
            tape().run(&all).1
        };
        assert_eq!(
            csv(&["--interval", "all", "--by", "family"]),
            "family,lower_bound,rx_bytes,tx_bytes,bytes\r\nIPv4,false,3000,5000,8000\r\nIPv6,false,2048,100,2148\r\n"
        );
        assert!(csv(&["--interval", "all", "--by", "none"]).ends_with("\r\nfalse,5048,5100,10148\r\n"));
        assert_eq!(csv(&["--top", "1"]).lines().count(), 3, "of each interval");
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["tcptop", "--compat"]).1;
        assert!(
            out.starts_with(
                "12:01:07\nPID     COMM         LADDR                 RADDR                  RX_KB  TX_KB\n"
            ),
            "{out}"
        );
        assert!(
            out.contains("70      redis        10.0.0.1:6379         10.0.0.2:4711              2      4\n"),
            "{out}"
        );
        assert!(out.contains("80      sshd         ::1:22                           ::1:5000                              2      0\n"), "{out}");
    }
}
