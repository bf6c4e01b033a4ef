//! How often is `tcp_sendmsg` called?
//!
//! ```text
//! $ analyze trace.bin tcpsend
//! time      calls   calls_per_s       bytes  errors
//! 12:01:07   1893       2524.00     1938432       0
//! 12:01:08      0          0.00           0       0
//! 12:01:09  ≥2201      ≥2201.00    ≥2253824       3
//! ```
//!
//! A call is one return of `tcp_sendmsg`, whatever it returned; it is not a packet: 200 sends of
//! 1000 bytes can leave in 20 segments, and one send of a megabyte in 90. Refused calls are calls
//! with an error and without bytes. Intervals in which nothing was sent have a row; with `--by`, a
//! group has rows only where it called. Where events were lost, counts are lower bounds (`≥`).
//!
//! ```text
//! $ analyze trace.bin tcpsend --interval all --by task --top 3
//! $ analyze trace.bin tcpsend --by rport --where "family = 'IPv6' AND ret > 1000"
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::group::Merge;
use crate::analyze::table::Output;
use anyhow::Result;

/// Calls of `tcp_sendmsg` per interval.
pub static REPORT: Report = Report {
    name: "tcpsend",
    question: "how often is tcp_sendmsg called, and with how many bytes?",
    exactness: "calls of tcp_sendmsg, not packets; bytes are those that calls returned as accepted; failed calls count as calls",
    needs: &[Need::of("sock_send", "net")],
    outputs: &[
        Output::count("calls", "", "calls of tcp_sendmsg"),
        Output::decimal(
            "calls_per_s",
            "1/s",
            2,
            "calls divided by the true length of the interval inside the span",
        ),
        Output::count("bytes", "bytes", "bytes that were accepted"),
        Output::count("errors", "", "calls that returned an error"),
    ],
    defaults: Defaults { by: "none", sort: "calls", top: None, interval: Some("1s") },
    flags: &[],
    fit: None,
    run,
    compat: None,
};

#[derive(Default)]
struct Sends {
    calls: u64,
    bytes: u64,
    errors: u64,
}

impl Merge for Sends {
    fn merge(&mut self, later: Self) {
        self.calls = self.calls.saturating_add(later.calls);
        self.bytes = self.bytes.saturating_add(later.bytes);
        self.errors = self.errors.saturating_add(later.errors);
    }

    fn weight(&self) -> Option<u64> {
        Some(self.calls)
    }
}

impl Sends {
    fn add(&mut self, ret: i64) {
        self.calls += 1;
        match u64::try_from(ret) {
            Ok(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            Err(_) => self.errors += 1,
        }
    }
}

fn run(context: &Context) -> Result<Answer> {
    let mut scan = context.scan("sock_send")?;
    let ret = scan.column("ret")?;
    let grouping = context.grouping(&scan)?;
    let groups = grouping.sum(&scan, [ret], |sends: &mut Sends, [ret]| sends.add(ret.unwrap_or(0)));
    let sends = || groups.iter().map(|group| &group.state);
    let rate = groups.iter().map(|group| Context::per_second(&grouping, group, group.state.calls));
    let mut table = context.keys(&grouping, &groups);
    table
        .ints(context.output("calls"), sends().map(|sends| Some(sends.calls)))
        .floats(context.output("calls_per_s"), rate)
        .ints(context.output("bytes"), sends().map(|sends| Some(sends.bytes)))
        .ints(context.output("errors"), sends().map(|sends| Some(sends.errors)));
    Ok(Answer::of(table.build()?))
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Tape, run_bytes};

    const MS: u64 = 1_000_000;

    /// From 12:01:07.25: 3 sends, a silent second, then 2 sends and a failure in a second with losses.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "redis-server").task(0, 8, 80, "evil\x1b[2J");
        tape.sock(0, 1, 2, 4711, 6379).sock(0, 2, 10, 4712, 443);
        tape.send(100 * MS, 7, 1, 1000, 1000).send(200 * MS, 7, 1, 500, 500).send(700 * MS, 8, 2, 10, 10);
        tape.send(1_800 * MS, 7, 1, 100, 60).send(1_900 * MS, 8, 2, 100, -11).send(
            2_700 * MS,
            8,
            2,
            100,
            100,
        );
        tape.ledger(0, 3, 0).ledger(1_800 * MS, 3, 0);
        tape
    }

    #[test]
    fn calls_are_counted_by_the_second_and_silence_is_a_zero() {
        let (exit, out, messages) = tape().run(&["tcpsend"]);
        let expected = concat!(
            "time      calls  calls_per_s  bytes  errors\n",
            "12:01:07      3         4.00   1510       0\n",
            "12:01:08      0         0.00      0       0\n",
            "12:01:09      3         3.16    160       1\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
        assert!(
            out.contains("# calls of tcp_sendmsg, not packets")
                && out.contains("# recorded: sock_send by fentry"),
            "{out}"
        );
    }

    #[test]
    fn a_lossy_second_is_a_lower_bound_and_ends_with_3() {
        let mut tape = tape();
        tape.ledger(1_800 * MS, 0, 5);
        let (exit, out, messages) = tape.run(&["tcpsend"]);
        assert_eq!(exit, 3);
        assert!(messages.contains("5 events of this span are missing (ring_full 5)"), "{messages}");
        let marked: Vec<bool> = out.lines().skip(1).take(3).map(|line| line.contains('≥')).collect();
        assert_eq!(marked, [false, false, true], "{out}");
        let (exit, out, _) = tape.run(&["tcpsend", "--to", "1s", "--format", "json"]);
        assert_eq!(exit, 0, "nothing is lost in this span");
        assert!(out.contains("\"lower_bound\": false") && !out.contains("\"lower_bound\": true"), "{out}");
    }

    #[test]
    fn hits_that_the_kernel_missed_make_every_count_a_lower_bound() {
        let mut tape = tape();
        tape.probe("attached", "kprobe", 2);
        let (exit, out, messages) = tape.run(&["tcpsend"]);
        assert_eq!(exit, 3);
        assert!(
            messages.contains("kernel_missed 2") && out.contains("sock_send by kprobe instead of fentry"),
            "{out}{messages}"
        );
        assert_eq!(out.lines().filter(|line| line.contains('≥')).count(), 3);
    }

    #[test]
    fn conditions_use_names_of_threads_and_sockets() {
        let calls = |condition| {
            let (exit, out, messages) =
                tape().run(&["tcpsend", "--interval", "all", "--format", "csv", "--where", condition]);
            assert_eq!(exit, 0, "{messages}");
            out.lines()
                .nth(1)
                .and_then(|line| line.split(',').nth(1))
                .expect("a count")
                .parse::<u64>()
                .expect("a number")
        };
        assert_eq!(calls("comm = 'redis-server'"), 3);
        assert_eq!(calls("pid = 80 AND ret > 0"), 2);
        assert_eq!(calls("family = 'IPv6'"), 3);
        assert_eq!(calls("raddr = '10.0.0.2' OR rport = 443"), 6);
        assert_eq!(calls("ret < requested"), 2);
        assert_eq!(calls("latency_us >= 1.5 AND 1 = 1"), 6);
        assert_eq!(calls("1 = 2"), 0);
    }

    #[test]
    fn wrong_conditions_are_explained() {
        let (exit, _, messages) = tape().run(&["tcpsend", "--where", "rprot = 1"]);
        assert_eq!(exit, 2);
        assert!(messages.contains("no column 'rprot': did you mean 'rport'?"), "{messages}");
        for condition in ["ret", "SUM(ret) > 3", "ret >"] {
            assert_eq!(tape().run(&["tcpsend", "--where", condition]).0, 2, "{condition}");
        }
        let (exit, _, messages) = tape().without("latency", "a tracepoint does not tell").run(&[
            "tcpsend",
            "--where",
            "latency > 3",
        ]);
        assert_eq!(exit, 6);
        assert!(
            messages.contains("this trace has no sock_send.latency: a tracepoint does not tell"),
            "{messages}"
        );
    }

    #[test]
    fn a_trace_without_the_probe_cannot_answer() {
        let mut tape = Tape::new();
        tape.probe("failed", "", 0);
        let (exit, out, messages) = tape.run(&["tcpsend"]);
        assert_eq!((exit, out.as_str()), (6, ""));
        assert!(messages.contains("could not be attached: everything was refused"), "{messages}");
        let (exit, _, messages) = Tape::new().probe("off", "", 0).run(&["tcpsend"]);
        assert_eq!(exit, 6);
        assert!(messages.contains("capture -g net"), "{messages}");
    }

    #[test]
    fn results_can_be_broken_down_sorted_filtered_and_cut() {
        let line = |args: &[&str]| {
            let all: Vec<&str> =
                ["tcpsend", "--interval", "all", "--format", "csv"].iter().chain(args).copied().collect();
            tape().run(&all).1.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line(&["--by", "rport", "--sort", "bytes"])[0].split(',').next(), Some("6379"));
        assert_eq!(line(&["--by", "rport", "--sort", "bytes:asc"])[0].split(',').next(), Some("443"));
        assert_eq!(line(&["--by", "rport", "--having", "errors > 0"]).len(), 1);
        assert_eq!(line(&["--by", "rport,comm", "--top", "1"]).len(), 1);
        let each = tape().run(&["tcpsend", "--by", "rport", "--top", "1", "--format", "ndjson"]).1;
        assert_eq!(each.lines().count(), 2, "the first of each interval: {each}");
        assert!(line(&["--by", "flow"])[1].starts_with("::1,4712,::1,443,false,3,1.11"));
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        for format in ["table", "json", "ndjson"] {
            let out = tape().run(&["tcpsend", "--by", "comm", "--format", format]).1;
            assert!(out.contains("evil") && !out.contains('\x1b'), "{out}");
        }
    }

    #[test]
    fn the_output_does_not_depend_on_the_number_of_threads() {
        let mut tape = tape();
        for at in 0..5_000 {
            tape.send(at * MS, 7 + at % 2, 1 + at % 2, 100, (at % 90) as i32);
        }
        let bytes = tape.rows_per_frame(61).bytes();
        let out = |threads| {
            run_bytes(
                &bytes,
                &[
                    "tcpsend",
                    "--by",
                    "flow",
                    "--interval",
                    "100ms",
                    "--where",
                    "ret > 7",
                    "--threads",
                    threads,
                ],
            )
        };
        assert_eq!(out("1"), out("2"));
        assert_eq!(out("1"), out("7"));
    }

    #[test]
    fn a_stored_result_is_compared() {
        let path = std::env::temp_dir().join(format!("tapedeck-{}-expected.json", std::process::id()));
        let file = path.to_str().expect("a plain path");
        assert_eq!(tape().run(&["tcpsend", "--check", file]).0, 1, "nothing is stored yet");
        assert_eq!(tape().run(&["tcpsend", "--check", file, "--update"]).0, 0);
        assert_eq!(tape().run(&["tcpsend", "--check", file]).0, 0);
        let (exit, out, _) = tape().send(150 * MS, 7, 1, 10, 10).run(&["tcpsend", "--check", file]);
        std::fs::remove_file(&path).expect("it was stored");
        assert_eq!(exit, 4);
        assert!(out.contains("~ time=2026-11-22T12:01:07+01:00: bytes 1510 → 1520, calls 3 → 4"), "{out}");
    }

    #[test]
    fn parquet_is_written_and_times_are_timestamps() {
        let path = std::env::temp_dir().join(format!("tapedeck-{}.parquet", std::process::id()));
        let file = path.to_str().expect("a plain path");
        let (exit, _, messages) = tape().run(&["tcpsend", "-o", file]);
        let bytes = std::fs::read(&path).expect("it was written");
        std::fs::remove_file(&path).expect("it was written");
        assert_eq!(
            (exit, &bytes[..4], &bytes[bytes.len() - 4..]),
            (0, &b"PAR1"[..], &b"PAR1"[..]),
            "{messages}"
        );
    }

    #[test]
    fn the_columns_are_listed_with_units() {
        let (exit, out, _) = tape().run(&["tcpsend", "--columns"]);
        assert_eq!(exit, 0);
        for name in ["comm", "rport", "laddr", "latency_us", "calls_per_s"] {
            assert!(out.lines().any(|line| line.trim_start().starts_with(name)), "{name} in {out}");
        }
    }

    #[test]
    fn the_overview_points_to_the_report() {
        let (exit, out, messages) = tape().run(&[]);
        assert_eq!(exit, 0, "{messages}");
        for part in ["box", "sock_send", "redis-server", "10.0.0.2", "tcpsend"] {
            assert!(out.contains(part), "{part} in {out}");
        }
        let (exit, _, messages) = tape().run(&["--top", "3"]);
        assert!(exit == 2 && messages.contains("--top is for reports"), "{messages}");
        let (exit, out, _) = tape().run(&["--from", "1s", "--format", "json"]);
        assert!(exit == 0 && out.contains("\"rows\": 3"), "{out}");
        let (exit, out, _) = tape().run(&["info"]);
        assert!(exit == 0 && out.contains("latency") && out.contains("sock_send: 6 rows"), "{out}");
    }
}
