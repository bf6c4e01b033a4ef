//! Which connections were opened from here, and by whom?
//!
//! ```text
//! $ analyze trace.bin tcpconnect
//! time               pid  comm  ip  laddr      lport  raddr      rport
//! 12:01:07.280780  28815  curl   4  10.0.0.2   35516  10.0.0.9     443
//! ```
//!
//! One row for each active open, at the moment when the socket leaves for SYN-SENT, whether it is
//! answered or not (`tcpconnlat` tells). The local port is the one that the connection got, also where
//! the kernel chose it only afterwards. The process is the socket's owner.
//!
//! ```text
//! $ analyze trace.bin tcpconnect --by comm,remote --top 10
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::{Lines, opened};
use crate::analyze::connections::SYN_SENT;
use crate::analyze::listing::{IP, Listing, connection_columns};
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;

/// Active opens.
pub static REPORT: Report = Report {
    name: "tcpconnect",
    question: "which TCP connections were opened from here, and by whom?",
    exactness: "one row for each socket that went to SYN-SENT, answered or not",
    needs: &[Need::of("tcp_state", "net")],
    outputs: connection_columns![
        Output::count("connections", "", "with --by: how many");
        "process that connected";
        IP;
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("tcp_state")?;
    let new = scan.column("new")?;
    let scan = scan.only([new], |[new]| new == Some(SYN_SENT));
    Listing::new(context, scan, "connections").process().ip().ends().answer()
}

/// As bcc's tcpconnect prints it.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{} {:<6}", opened(None), "DPORT")?;
    for line in Lines::of(answer).iter() {
        writeln!(out, "{} {:<6}", opened(Some(&line)), line.int("rport"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.states().task(0, 70, 70, "curl").task(0, 8, 8, "ksoftirqd");
        tape.owned(0, 1, (2, 0, 443), 70).owned(2_000, 1, (2, 35516, 443), 70);
        tape.state(1_000, 70, 1, (7, 2), [0, 0, 0]).state(3_000, 0, 1, (2, 1), [1, 0, 0]);
        tape
    }

    #[test]
    fn each_active_open_is_a_row_with_its_final_port() {
        let (exit, out, messages) = tape().run(&["tcpconnect"]);
        let expected = concat!(
            "time             pid  comm  ip  laddr     lport  raddr     rport\n",
            "12:01:07.250001   70  curl   4  10.0.0.1  35516  10.0.0.2    443\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn conditions_are_about_the_owner_of_the_socket() {
        let rows = |condition| {
            let out = tape().run(&["tcpconnect", "--format", "ndjson", "--where", condition]).1;
            out.lines().count()
        };
        assert_eq!(rows("comm = 'curl' AND pid = 70 AND owner_comm = 'curl'"), 1);
        assert_eq!(rows("comm = 'ksoftirqd'"), 0);
        let out = tape().run(&["tcpconnect", "--by", "comm,rport", "--format", "csv"]).1;
        assert_eq!(out, "comm,rport,lower_bound,connections\r\ncurl,443,false,1\r\n");
    }
}
