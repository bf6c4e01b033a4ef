//! What goes through TLS: which calls, by whom, how many bytes?
//!
//! ```text
//! $ capture -o trace.bin -e ssl -- python3 client.py
//! $ analyze trace.bin sslsniff
//! time              pid  comm     function      requested  bytes  latency_us
//! 01:22:02.035873  4805  python3  SSL_write_ex       1000   1000      11.527
//! 01:22:02.035887  4805  python3  SSL_read_ex       20000   1000      10.726
//! ```
//!
//! Calls that read and write through OpenSSL, `GnuTLS` and NSS, at their return: `requested` is what the program offered
//! or had room for, `bytes` what went through, empty where the call failed. Lengths only: what was sent is not recorded. With NSS
//! programs read and write plain files and sockets by the same functions (`PR_Read`, …) as secured ones. Programs
//! that bring a TLS library of their own (those in Go, browsers) are not seen, unless its functions are named:
//! `-e 'ur:/opt/app:SSL_read(size=arg3:i32) {ret=i32}'`.

use super::{Context, Defaults, Report};
use crate::analyze::answer::Answer;
use crate::analyze::compat::Lines;
use crate::analyze::hits::{self, Hit, Wanted};
use crate::analyze::named::{self, Found, Probes};
use crate::analyze::rows::Value;
use crate::analyze::table::{Builder, Output, TIME};
use crate::schema::TableDef;
use anyhow::Result;
use std::io;

/// Reads and writes through TLS.
pub static REPORT: Report = Report {
    name: "sslsniff",
    question: "what goes through TLS: which calls, by whom, how many bytes?",
    exactness: "one row for each call into the library that returned; lengths only",
    needs: named::NEEDS,
    outputs: &[
        Output::new("pid", "", "process"),
        Output::new("comm", "", "name of the thread"),
        Output::new("function", "", "what was called"),
        Output::new("requested", "bytes", "offered, or room for so many"),
        Output::new("bytes", "bytes", "went through; empty: the call failed"),
        Output::measure("latency_us", "us", 3, "from entry to return, what it waited for included"),
    ],
    defaults: Defaults { by: "none", sort: "time", top: None, interval: None },
    flags: &[named::PROBE],
    fit: Some(|trace| calls(Probes::of(trace)).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn of_tls(table: &TableDef) -> bool {
    ["SSL_", "gnutls_", "PR_"].iter().any(|prefix| table.name.starts_with(prefix))
}

fn calls<'a>(probes: Probes<'a, '_>) -> Found<'a> {
    named::of_preset(probes, "ssl", &["latency", "ret", "size"], of_tls)
}

fn run(context: &Context) -> Result<Answer> {
    let wanted = Wanted { pattern: Some(""), extra: &["size", "done"], ..Wanted::default() };
    let hits = hits::hits(context, &calls(Probes::asked(context))?, wanted)?;
    let mut table = Builder::default();
    table.time(6, hits.iter().map(|hit| context.trace.clock.wall(hit.ts)));
    let values = |of: fn(&Hit) -> &Value| hits.iter().map(move |hit| of(hit).clone());
    table
        .values(context.output("pid"), false, values(|hit| &hit.pid))
        .values(context.output("comm"), true, values(|hit| &hit.comm))
        .values(context.output("function"), true, values(|hit| &hit.function))
        .values(context.output("requested"), false, values(|hit| &hit.extra[0]))
        .values(context.output("bytes"), false, hits.iter().map(bytes))
        .floats(context.output("latency_us"), hits.iter().map(|hit| Some(hit.latency? as f64 / 1e3)));
    Ok(Answer { table: Some(table.build()?), events: true, sort: Some(TIME), ..Answer::default() })
}

/// Most return the number; those that return whether they succeeded leave it where an argument points to.
fn bytes(hit: &Hit) -> Value {
    match (&hit.ret, &hit.extra[1]) {
        (Value::Int(ret), done) if *ret > 0 && *done != Value::Null => done.clone(),
        (Value::Int(ret), _) if *ret > 0 => hit.ret.clone(),
        _ => Value::Null,
    }
}

/// As bcc's sslsniff prints it, without the data; failed calls it leaves out.
fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{:<12} {:<18} {:<16} {:<7} {:<6}", "FUNC", "TIME(s)", "COMM", "PID", "LEN")?;
    let lines = Lines::of(answer);
    let mut first = None;
    for line in lines.iter().filter(|line| line.int("bytes") > 0) {
        let since = line.int(TIME) - *first.get_or_insert(line.int(TIME));
        let write = line.text("function").contains("rite") || line.text("function").contains("send");
        let function = if write { "WRITE/SEND" } else { "READ/RECV" };
        let (comm, pid, bytes) = (line.text("comm"), line.int("pid"), line.int("bytes"));
        writeln!(out, "{function:<12} {:<18.9} {comm:<16} {pid:<7} {bytes:<6}", since as f64 / 1e9)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn calls_are_listed_with_what_went_through() {
        let mut tape = Tape::new();
        tape.named("SSL_read", &["SSL_read"], &["size:u64"], true).task(0, 7, 70, "curl");
        tape.named("SSL_write_ex", &["SSL_write_ex"], &["size:u64", "done:u64"], true);
        tape.named("malloc", &["malloc"], &["size:u64"], true);
        tape.event("SSL_write_ex", 1_000, [7, 0, 2_000, 1, 90, 80]);
        tape.event("SSL_read", 3_000, [7, 0, 5_000, 512, 4096]).event("malloc", 4_000, [7, 0, 1, 1, 1]);
        tape.event("SSL_write_ex", 5_000, [7, 0, 1_000, 0, 90, 0]);
        let (exit, out, messages) = tape.run(&["sslsniff", "--format", "csv"]);
        assert_eq!(exit, 0, "{messages}");
        let lines: Vec<&str> =
            out.lines().skip(1).map(|line| line.split_once(',').expect("a time").1).collect();
        let expected = [
            "70,curl,SSL_write_ex,90,80,2.0",
            "70,curl,SSL_read,4096,512,5.0",
            "70,curl,SSL_write_ex,90,,1.0",
        ];
        assert_eq!(lines, expected);
        let compat = tape.run(&["sslsniff", "--compat"]).1;
        assert!(
            compat.contains("WRITE/SEND   0.000000000        curl             70      80    \n"),
            "{compat}"
        );
        assert_eq!(compat.lines().count(), 3);
        let (exit, _, messages) = tape.run(&["sslsniff", "--probe", "malloc"]);
        assert!(exit == 6 && messages.contains("capture -e ssl"), "{messages}");
    }
}
