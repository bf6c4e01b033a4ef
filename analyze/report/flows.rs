//! Which TCP connections were there, and how did they do?
//!
//! ```text
//! $ analyze trace.bin flows --top 1
//! sock  family  laddr      lport  raddr     rport  sock_netns  owner  owner_comm  tx_bytes  tx_calls
//!    5  IPv4    127.0.0.1  35516  10.0.0.9    443  4026531833  28815  curl            1000         1  …
//! … rx_bytes  rx_calls  first            last             duration_ms  retrans  srtt_us  send_p50_us …
//! …      100         2  12:01:07.280780  12:01:07.281104        0.324        0       38            -
//! ```
//!
//! The flow table: a row for each socket, so that both ends of a connection within one host are two rows.
//! Bytes and calls are those of `tcp_sendmsg` and `tcp_recvmsg` (`MSG_PEEK` apart); first and last are the
//! first and the last event of the connection in the span; `retrans` counts segments that were sent again
//! from the connection's begin to its last recorded change of state, and is empty where none was recorded;
//! `srtt_us` is the kernel's last smoothed round-trip time, of several sockets the median. `send_…` is the
//! time inside `tcp_sendmsg`, exact; a percentile that the number of calls cannot support is empty.
//!
//! ```text
//! $ analyze trace.bin flows --by owner_comm,rport
//! $ analyze trace.bin flows --where "lport = 443" --sort retrans --top 10
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::connections::{CLOSE, LISTEN};
use crate::analyze::flow::{Counters, Flow, measured, peeks};
use crate::analyze::group::{Group, Grouping, Part};
use crate::analyze::load::Scan;
use crate::analyze::quantile::{USUAL, us};
use crate::analyze::table::{Builder, Output, Show};
use anyhow::Result;
use rayon::prelude::*;

/// The flow table.
pub static REPORT: Report = Report {
    name: "flows",
    question: "which TCP connections were there: bytes, calls, duration, retransmissions, latency?",
    exactness: "a row for each socket; bytes and calls of tcp_sendmsg and tcp_recvmsg, MSG_PEEK apart",
    needs: &[Need::of("sock_send", "net"), Need::of("sock_recv", "net").but(&["latency"])],
    outputs: &[
        Output::count("tx_bytes", "bytes", "bytes that were sent"),
        Output::count("tx_calls", "", "calls of tcp_sendmsg"),
        Output::count("rx_bytes", "bytes", "bytes that were received"),
        Output::count("rx_calls", "", "calls of tcp_recvmsg"),
        Output::moment("first", "first event of the connection in the span"),
        Output::moment("last", "last event of the connection in the span"),
        Output::measure("duration_ms", "ms", 3, "between the two"),
        Output::new("retrans", "", "segments that were sent again since the connection began"),
        Output::new("srtt_us", "us", "the kernel's last smoothed round-trip time"),
        Output::typical(
            "send_p50_us",
            "us",
            3,
            "time inside tcp_sendmsg: half of the calls take at most this",
        ),
        Output::typical("send_p90_us", "us", 3, "90 % of the calls"),
        Output::typical("send_p99_us", "us", 3, "99 % of the calls"),
        Output::typical("send_p99_9_us", "us", 3, "99.9 % of the calls"),
        Output::measure("send_max_us", "us", 3, "the longest"),
        Output { show: Show::Hidden, ..Output::count("bytes", "bytes", "both ways together, for --sort") },
    ],
    defaults: Defaults { by: "connection", sort: "bytes", top: None, interval: None },
    flags: &[],
    fit: None,
    run,
    compat: None,
};

static STATES: Need = Need::of("tcp_state", "net");
static SEGMENTS: Need = Need::of("tcp_rx", "net-rx");

fn run(context: &Context) -> Result<Answer> {
    let mut all = vec![sends(context)?, receives(context)?];
    if let Some(scan) = context.optional(&STATES, "retrans and srtt_us at changes of state are") {
        all.push(states(context, scan)?);
    }
    if let Some(scan) = context.optional(&SEGMENTS, "srtt_us between changes of state is") {
        all.push(segments(context, scan)?);
    }
    let mut groups = Grouping::sum_all(all);
    let grouping = context.grouping(&context.scan("sock_send")?)?;
    let mut table = context.keys(&grouping, &groups);
    fill(context, &mut table, &mut groups);
    Ok(Answer::of(table.build()?))
}

fn sends<'a>(context: &Context<'a>) -> Result<Part<'a, Flow>> {
    let mut scan = context.scan("sock_send")?;
    let [ts, ret] = scan.columns(["ts", "ret"])?;
    let latency = scan.column_or_null("latency")?;
    let keep = context.keep(&[&scan]);
    part(context, &scan, [ts, ret, latency], move |flow, [ts, ret, latency]| {
        flow.see(ts);
        flow.sent.add(ret);
        if let Some(latency) = latency {
            flow.latencies.add(latency.cast_unsigned(), &keep);
        }
    })
}

fn receives<'a>(context: &Context<'a>) -> Result<Part<'a, Flow>> {
    let mut scan = context.scan("sock_recv")?;
    let [ts, ret, flags] = scan.columns(["ts", "ret", "flags"])?;
    let scan = scan.only([flags], |[flags]| !peeks(flags));
    part(context, &scan, [ts, ret], |flow, [ts, ret]| {
        flow.see(ts);
        flow.received.add(ret);
    })
}

fn states<'a>(context: &Context<'a>, mut scan: Scan<'a>) -> Result<Part<'a, Flow>> {
    let [ts, sock, old, new] = scan.columns(["ts", "sock", "old", "new"])?;
    let (retrans, srtt) = (scan.column_or_null("retrans")?, scan.column_or_null("srtt")?);
    let listens = |old, new| new == Some(LISTEN) || (old == Some(LISTEN) && new == Some(CLOSE));
    let scan = scan.only([old, new], move |[old, new]| !listens(old, new));
    part(context, &scan, [ts, sock, retrans, srtt], |flow, [ts, sock, retrans, srtt]| {
        flow.see(ts);
        flow.sockets.merge(sock.unwrap_or(0), &Counters { retrans, srtt: measured(ts, srtt) });
    })
}

fn segments<'a>(context: &Context<'a>, mut scan: Scan<'a>) -> Result<Part<'a, Flow>> {
    let [ts, sock, state] = scan.columns(["ts", "sock", "state"])?;
    let srtt = scan.column_or_null("srtt")?;
    let scan = scan.only([state], |[state]| state != Some(LISTEN));
    part(context, &scan, [ts, sock, srtt], |flow, [ts, sock, srtt]| {
        flow.see(ts);
        flow.sockets.merge(sock.unwrap_or(0), &Counters { retrans: None, srtt: measured(ts, srtt) });
    })
}

fn part<'a, const N: usize>(
    context: &Context<'a>,
    scan: &Scan<'a>,
    columns: [usize; N],
    each: impl Fn(&mut Flow, [Option<i64>; N]) + Sync + Send + 'a,
) -> Result<Part<'a, Flow>> {
    Ok(context.grouping(scan)?.part(scan, columns, each))
}

fn fill(context: &Context, table: &mut Builder, groups: &mut [Group<Flow>]) {
    let clock = &context.trace.clock;
    let of = |group: &mut Group<Flow>| {
        // Taken, so that many threads give the memory back.
        let mut latencies = std::mem::take(&mut group.state.latencies);
        let most = latencies.max().map(us);
        let [p50, p90, p99, p99_9] = latencies.all_us(USUAL.map(|(_, q)| q));
        [p50, p90, p99, p99_9, most]
    };
    let quantiles: Vec<[Option<f64>; 5]> = context.trace.install(|| groups.par_iter_mut().map(of).collect());
    let flows = || groups.iter().map(|group| &group.state);
    let moment = |ts: Option<i64>| ts.map(|ts| clock.wall(ts.cast_unsigned()));
    let duration = |(first, last): (i64, i64)| (last - first) as f64 / 1e6;
    table
        .ints(context.output("tx_bytes"), flows().map(|flow| Some(flow.sent.bytes)))
        .ints(context.output("tx_calls"), flows().map(|flow| Some(flow.sent.calls)))
        .ints(context.output("rx_bytes"), flows().map(|flow| Some(flow.received.bytes)))
        .ints(context.output("rx_calls"), flows().map(|flow| Some(flow.received.calls)))
        .moments(context.output("first"), flows().map(|flow| moment(flow.times.map(|times| times.0))))
        .moments(context.output("last"), flows().map(|flow| moment(flow.times.map(|times| times.1))))
        .floats(context.output("duration_ms"), flows().map(|flow| flow.times.map(duration)))
        .ints(context.output("retrans"), flows().map(Flow::retrans))
        .ints(context.output("srtt_us"), flows().map(Flow::srtt));
    let names = ["send_p50_us", "send_p90_us", "send_p99_us", "send_p99_9_us", "send_max_us"];
    for (at, name) in names.into_iter().enumerate() {
        table.floats(context.output(name), quantiles.iter().map(|quantiles| quantiles[at]));
    }
    table.ints(context.output("bytes"), flows().map(|flow| Some(flow.bytes())));
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    /// One connection with both ends here, and a listener.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.receives().states().task(0, 70, 70, "redis").task(0, 80, 80, "client");
        tape.owned(0, 1, (2, 6379, 4711), 70).owned(0, 2, (2, 4711, 6379), 80).owned(0, 3, (2, 6379, 0), 70);
        tape.send(10 * MS, 80, 2, 5000, 5000).send(20 * MS, 80, 2, 10, -11);
        tape.receive(12 * MS, 70, 1, 3000, 0).receive(13 * MS, 70, 1, 2000, 2).receive(
            14 * MS,
            70,
            1,
            2000,
            0,
        );
        tape.state(0, 70, 3, (7, 10), [0; 3]);
        tape.state(5 * MS, 80, 2, (7, 2), [0; 3]).state(90 * MS, 0, 2, (1, 8), [5001, 1, 4]);
        tape
    }

    fn csv(tape: &Tape, args: &[&str]) -> Vec<String> {
        let all: Vec<&str> = ["flows", "--format", "csv"].iter().chain(args).copied().collect();
        tape.run(&all).1.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn each_end_of_a_connection_is_a_row_and_a_listener_is_none() {
        let found = csv(&tape(), &[]);
        let of = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let (client, server) = (of(&found[1]), of(&found[0]));
        assert_eq!(found.len(), 2);
        assert_eq!(
            client[..9],
            ["2", "IPv4", "10.0.0.1", "4711", "10.0.0.2", "6379", "4026531833", "80", "client"]
        );
        assert_eq!(client[10..14], ["5000", "2", "0", "0"]);
        assert_eq!(client[16..], ["85.0", "4", "25", "1.5", "", "", "", "1.5", "5000"]);
        assert_eq!(server[10..14], ["0", "0", "5000", "2"]);
        assert_eq!(server[16..], ["2.0", "", "", "", "", "", "", "", "5000"], "no change of state, no sends");
    }

    #[test]
    fn an_owner_that_takes_another_name_does_not_split_its_sockets() {
        let mut tape = tape();
        tape.task(11 * MS, 80, 80, "renamed");
        let found = csv(&tape, &[]);
        assert!(found.len() == 2 && found[1].contains(",80,client,"), "{found:?}");
    }

    #[test]
    fn losses_make_counts_lower_bounds_and_leave_durations_alone() {
        let mut tape = tape();
        let (exit, out, _) = tape.ledger(0, 0, 5).run(&["flows", "--by", "none"]);
        assert_eq!(exit, 3);
        let line = out.lines().nth(1).expect("a row");
        assert!(line.contains("≥5000") && line.contains("  85.000") && line.contains("  1.500"), "{out}");
    }

    #[test]
    fn little_memory_takes_more_passes_and_less_makes_percentiles_near_ones() {
        let mut tape = tape();
        for at in 0..1000 {
            tape.send((20 + at) * MS, 80, 2, 10, 10);
        }
        let quantiles = |args: &[&str]| {
            csv(&tape, args)[0].split(',').map(str::to_owned).collect::<Vec<_>>()[19..].to_vec()
        };
        let (exact, near) = (quantiles(&[]), quantiles(&["--memory", "100"]));
        let number = |text: &String| text.parse::<f64>().expect("a number");
        assert!(
            exact.len() == 6
                && exact.iter().zip(&near).all(|(exact, near)| {
                    number(near) <= number(exact) && number(near) >= number(exact) * 31.0 / 32.0
                }),
            "{exact:?} {near:?}"
        );
        assert!(tape.run(&["flows", "--memory", "100"]).1.contains("at most 1/32 too small"));
        assert!(!tape.run(&["flows", "--memory", "17K"]).1.contains("1/32"));
        // Little more than for the near ones, and they are exact after all.
        assert_eq!(quantiles(&["--memory", "1K"]), exact);
        let (_, out, _) = tape.run(&["flows", "--memory", "1K"]);
        assert!(out.contains("percentiles are exact, in") && !out.contains("1/32"), "{out}");
    }

    #[test]
    fn sockets_of_a_group_are_added_up() {
        let found = csv(&tape(), &["--by", "family"]);
        assert!(found[0].starts_with("IPv4,false,5000,2,5000,2,"), "{found:?}");
        assert_eq!(csv(&tape(), &["--by", "owner_comm", "--where", "lport = 6379"]).len(), 1);
    }

    #[test]
    fn columns_that_mean_something_else_in_another_table_meet_by_name() {
        // In changes of state, which know no thread in interrupt context, a name is the owner's.
        let found = csv(&tape(), &["--by", "comm"]);
        assert!(found.len() == 2 && found[0].starts_with("client,false,5000,2,0,0,"), "{found:?}");
        assert!(
            found[0].contains(",85.0,4,25,") && found[1].starts_with("redis,false,0,0,5000,2,"),
            "{found:?}"
        );
        // A group of one table has what the other tables know of it.
        let none = csv(&tape(), &["--by", "none"]);
        assert!(none.len() == 1 && none[0].starts_with("false,5000,2,5000,2,"), "{none:?}");
    }

    #[test]
    fn what_was_not_recorded_is_empty_and_said() {
        let (exit, out, messages) = tape().run(&["flows"]);
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(
            out.contains("# srtt_us between changes of state is not known: flows needs the table tcp_rx"),
            "{out}"
        );
        assert!(out.contains("capture -g net-rx"), "{out}");
        let out = tape().run(&["flows", "--where", "ret > 0"]).1;
        assert!(out.contains("not known under this --where: table tcp_state has no column 'ret'"), "{out}");
    }
}
