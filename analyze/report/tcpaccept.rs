//! Which connections were accepted, and by whom?
//!
//! ```text
//! $ analyze trace.bin tcpaccept
//! time                pid  comm   ip  raddr      rport  laddr     lport  fd
//! 12:01:07.301337   1207  nginx   4  10.0.0.9   51804  10.0.0.2    443   9
//! 12:01:07.301522   1207  nginx   6  2001:db8::9 40112 2001:db8::2 443  10
//! ```
//!
//! One row for each connection that an accept call returned, at that moment, under the thread that
//! called. A connection that waits in the listener's queue, or that ends there, is not accepted yet.
//! The descriptor is known where a system-call tracepoint saw the call, which `capture` uses only if asked to
//! (`--attach sock_accept=tracepoint`) or where it has no better way; accepts by `io_uring` are then not seen:
//! `flows` and `tcplife` have those connections too.
//!
//! ```text
//! $ analyze trace.bin tcpaccept --by lport,raddr --top 10
//! $ analyze trace.bin tcpaccept --interval 1s --where "lport = 443"
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::listing::Listing;
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Accepted connections.
pub static REPORT: Report = Report {
    name: "tcpaccept",
    question: "which TCP connections were accepted, and by whom?",
    exactness: "one row for each connection that accept or accept4 returned, at that moment",
    needs: &[Need::of("sock_accept", "net")],
    outputs: &[
        Output::count("connections", "", "with --by: how many"),
        Output::new("pid", "", "process that accepted"),
        Output::new("comm", "", "name of the thread that accepted"),
        Output::new("ip", "", "4 or 6, the socket's family"),
        Output::new("raddr", "", "remote address"),
        Output::new("rport", "", "remote port"),
        Output::new("laddr", "", "local address"),
        Output::new("lport", "", "local port"),
        Output::new("fd", "", "new descriptor"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    Listing::new(context, context.scan("sock_accept")?, "connections")
        .process()
        .ip()
        .named("raddr")
        .named("rport")
        .named("laddr")
        .named("lport")
        .named("fd")
        .answer()
}

/// As bcc's tcpaccept prints it.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let head = ["PID", "COMM", "IP", "RADDR", "RPORT", "LADDR", "LPORT"];
    let [pid, comm, ip, raddr, rport, laddr, lport] = head;
    writeln!(out, "{pid:<7} {comm:<12} {ip:<2} {raddr:<16} {rport:<5} {laddr:<16} {lport:<5}")?;
    for line in Lines::of(answer).iter() {
        let (pid, comm, ip) = (line.int("pid"), line.text("comm"), line.int("ip"));
        let (raddr, rport) = (line.text("raddr"), line.int("rport"));
        let (laddr, lport) = (line.text("laddr"), line.int("lport"));
        writeln!(out, "{pid:<7} {comm:<12.12} {ip:<2} {raddr:<16} {rport:<5} {laddr:<16} {lport:<5}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.table("sock_accept", &["ts:u64", "cpu:u16", "tid:u32>task", "sock:u32>sock", "fd:i32"]);
        tape.task(0, 7, 70, "nginx").sock(0, 1, 2, 443, 51804).sock(0, 2, 10, 443, 40112);
        tape.event("sock_accept", 2_000, [7, 2, 10]).event("sock_accept", 1_000, [7, 1, 9]);
        tape
    }

    #[test]
    fn each_accept_is_a_row() {
        let (exit, out, messages) = tape().run(&["tcpaccept"]);
        let expected = concat!(
            "time             pid  comm   ip  raddr     rport  laddr     lport  fd\n",
            "12:01:07.250001   70  nginx   4  10.0.0.2  51804  10.0.0.1    443   9\n",
            "12:01:07.250002   70  nginx   6  ::1       40112  ::1         443  10\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
        let out = tape().run(&["tcpaccept", "--by", "lport", "--format", "csv"]).1;
        assert_eq!(out, "lport,lower_bound,connections\r\n443,false,2\r\n");
        let out = tape().run(&["tcpaccept", "--compat"]).1;
        assert!(
            out.ends_with("70      nginx        6  ::1              40112 ::1              443  \n"),
            "{out}"
        );
    }
}
