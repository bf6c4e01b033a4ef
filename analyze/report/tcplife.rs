//! How long did TCP connections last, and what did they carry?
//!
//! ```text
//! $ analyze trace.bin tcplife
//! time               pid  comm   laddr     lport  raddr     rport  tx_bytes  rx_bytes  retrans     ms
//! 12:01:07.281113  28815  curl   10.0.0.2  35516  10.0.0.9    443      1000       100        0  0.273
//! ```
//!
//! One row for each connection that was closed, at that moment; `ms` is the time from established to
//! closed. The process is the owner: the one that connected, accepted or first used the socket, and not
//! whoever ran when it was closed. Bytes are payload: what the peer acknowledged and what arrived, without
//! the sequence numbers of SYN and FIN, which the kernel's counters include; `--by` adds them up. Connections that were open
//! before the start or are open at the end are counted and not guessed; attempts that were never
//! established are in `tcpconnlat`.
//!
//! ```text
//! $ analyze trace.bin tcplife --by owner_comm,rport
//! $ analyze trace.bin tcplife --where "rport = 443" --sort ms --top 10
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::connections::{CLOSE, Connection, Connections};
use crate::analyze::listing::{Listing, connection_columns};
use crate::analyze::rows::Rows;
use crate::analyze::table::Output;
use anyhow::Result;
use std::io;
use std::sync::Arc;

/// Closed connections.
pub static REPORT: Report = Report {
    name: "tcplife",
    question: "how long did TCP connections last, and how many bytes did they carry?",
    exactness: "one row for each connection that was established and closed in the recording; bytes are payload, without SYN and FIN",
    needs: &[Need::of("tcp_state", "net")],
    outputs: connection_columns![
        Output::count("connections", "", "with --by: how many");
        "process that owns the socket";;
        Output::count("tx_bytes", "bytes", "payload that the peer acknowledged"),
        Output::count("rx_bytes", "bytes", "payload that arrived"),
        Output::count("retrans", "", "segments that were sent again"),
        Output::measure("ms", "ms", 3, "from established to closed"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[],
    fit: None,
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let connections = Arc::new(Connections::gather(context)?);
    let mut scan = context.scan("tcp_state")?;
    let (ts, sock, new) = (scan.column("ts")?, scan.column("sock")?, scan.column("new")?);
    let censored = Censored::count(context, &connections);
    let find = |of: fn(&Connection) -> Option<u64>| {
        let connections = Arc::clone(&connections);
        move |rows: &Rows, row| {
            let found = connections.closed(rows.raw(sock, row) as u32, rows.raw(ts, row))?;
            of(found).map(u64::cast_signed)
        }
    };
    let whole = find(lasted);
    let scan =
        scan.only([new], |[new]| new == Some(CLOSE)).keeping(move |rows, row| whole(rows, row).is_some());
    let ms = find(lasted);
    let answer = Listing::new(context, scan, "connections")
        .process()
        .ends()
        .sum("tx_bytes", find(|connection| Some(connection.sent)))
        .sum("rx_bytes", find(|connection| Some(connection.received)))
        .sum("retrans", find(|connection| Some(connection.retrans.into())))
        .float("ms", move |rows, row| Some(ms(rows, row)? as f64 / 1e6))
        .together()
        .answer()?;
    Ok(match censored.note() {
        Some(note) => answer.note(note),
        None => answer,
    })
}

/// Nanoseconds from established to closed, of a connection that lies in the recording as a whole.
fn lasted(connection: &Connection) -> Option<u64> {
    let begun = connection.established.filter(|_| connection.begun)?;
    Some(connection.closed?.saturating_sub(begun))
}

/// Connections that are no rows.
#[derive(Default)]
struct Censored {
    before: u64,
    open: u64,
    failed: u64,
}

impl Censored {
    /// Those of the span, whatever the conditions.
    fn count(context: &Context, connections: &Connections) -> Self {
        let mut counts = Self::default();
        for connection in connections.iter() {
            match connection.closed {
                None => counts.open += u64::from(connection.established.is_some() || !connection.begun),
                Some(closed) if !context.window.contains(closed) => {}
                Some(_) if !connection.begun => counts.before += 1,
                Some(_) => counts.failed += u64::from(connection.established.is_none()),
            }
        }
        counts
    }

    fn note(&self) -> Option<String> {
        let parts = [
            (self.before, "were open before the start"),
            (self.open, "were still open at the end"),
            (self.failed, "were never established"),
        ];
        let said: Vec<String> =
            parts.iter().filter(|part| part.0 > 0).map(|part| format!("{} {}", part.0, part.1)).collect();
        (!said.is_empty()).then(|| format!("connections that are not rows: {}", said.join(", ")))
    }
}

/// As bcc's tcplife prints it, with the owner and the bytes mended.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let wide = Lines::of(answer).iter().any(|line| line.is_v6());
    let width = if wide { 26 } else { 15 };
    let [pid, comm, laddr, lport] = ["PID", "COMM", "LADDR", "LPORT"];
    let [raddr, rport, tx, rx] = ["RADDR", "RPORT", "TX_KB", "RX_KB"];
    writeln!(
        out,
        "{pid:<7} {comm:<10} {laddr:<width$} {lport:<5} {raddr:<width$} {rport:<5} {tx:>5} {rx:>5} MS"
    )?;
    for line in Lines::of(answer).iter() {
        let (pid, comm) = (line.int("pid"), line.text("comm"));
        let (laddr, lport) = (line.text("laddr"), line.int("lport"));
        let (raddr, rport) = (line.text("raddr"), line.int("rport"));
        let (tx, rx, ms) = (line.int("tx_bytes") / 1024, line.int("rx_bytes") / 1024, line.float("ms"));
        write!(out, "{pid:<7} {comm:<10.10} {laddr:<width$} {lport:<5} {raddr:<width$} {rport:<5} ")?;
        writeln!(out, "{tx:>5} {rx:>5} {ms:.2}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    /// A connection of curl that the server closes, one from before the start, one that stays, one refused.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.states().task(0, 70, 70, "curl").task(0, 8, 8, "other");
        for sock in 1..5 {
            tape.owned(0, sock, (2, 4710 + sock, 443), 70);
        }
        tape.state(MS, 70, 1, (7, 2), [0; 3]).state(3 * MS, 0, 1, (2, 1), [1, 0, 0]);
        tape.state(50 * MS, 0, 1, (1, 8), [100_001, 2049, 2]).state(
            60 * MS,
            8,
            1,
            (8, 9),
            [100_001, 2049, 2],
        );
        tape.state(63 * MS, 0, 1, (9, 7), [100_002, 2049, 2]);
        tape.state(5 * MS, 0, 2, (1, 8), [9, 9, 0]).state(6 * MS, 8, 2, (8, 9), [9, 9, 0]);
        tape.state(7 * MS, 0, 2, (9, 7), [9, 9, 0]);
        tape.state(8 * MS, 70, 3, (7, 2), [0; 3]).state(9 * MS, 0, 3, (2, 1), [1, 0, 0]);
        tape.state(8 * MS, 70, 4, (7, 2), [0; 3]).state(9 * MS, 0, 4, (2, 7), [0; 3]);
        tape
    }

    #[test]
    fn a_closed_connection_is_a_row_of_its_owner_with_payload_alone() {
        let (exit, out, messages) = tape().run(&["tcplife"]);
        let expected = concat!(
            "time             pid  comm  laddr     lport  raddr     rport  tx_bytes  rx_bytes  retrans      ms\n",
            "12:01:07.313000   70  curl  10.0.0.1   4711  10.0.0.2    443    100000      2048        2  60.000\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
        let note = "# connections that are not rows: 1 were open before the start, 1 were still open at the end, 1 were never established";
        assert!(out.contains(note), "{out}");
    }

    #[test]
    fn the_span_asks_when_it_was_closed_and_conditions_whose_it_is() {
        let rows = |args: &[&str]| {
            let all: Vec<&str> = ["tcplife", "--format", "ndjson"].iter().chain(args).copied().collect();
            tape().run(&all).1.lines().count()
        };
        assert_eq!(rows(&["--from", "40ms"]), 1, "its begin is looked up before the span");
        assert_eq!(rows(&["--to", "55ms"]), 0);
        assert_eq!(rows(&["--where", "comm = 'curl' AND lport = 4711"]), 1);
        assert_eq!(rows(&["--where", "comm = 'other'"]), 0);
        let out = tape().run(&["tcplife", "--by", "comm", "--format", "csv"]).1;
        assert_eq!(
            out,
            "comm,lower_bound,connections,tx_bytes,rx_bytes,retrans\r\ncurl,false,1,100000,2048,2\r\n"
        );
    }

    #[test]
    fn the_layout_of_bcc_is_there_too() {
        let out = tape().run(&["tcplife", "--compat"]).1;
        let expected = concat!(
            "PID     COMM       LADDR           LPORT RADDR           RPORT TX_KB RX_KB MS\n",
            "70      curl       10.0.0.1        4711  10.0.0.2        443      97     2 60.00\n",
        );
        assert_eq!(out, expected);
    }
}
