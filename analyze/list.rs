//! `analyze TRACE list`: which questions this trace answers, exactly or not, and why.
//!
//! ```text
//! $ analyze trace.bin list
//! report    answer       why
//! filetop   no           filetop needs the table file_io, which was not recorded: record it: capture -g file …
//! tcplat    approximate  sock_send by tracepoint instead of fentry (…) does not see sock_send.latency
//! tcptop    exact        bytes as calls of tcp_sendmsg and tcp_recvmsg returned them; …
//! ```
//!
//! *exact*: everything that the report needs was recorded, and nothing of it was lost; what exactly it
//! counts stands beside. *approximate*: something is missing, and counts are lower bounds or a column is
//! empty, or the recording has samples, or what lasted long alone. *no*: it says what to record. A report refuses by the
//! same check.

use super::answer::Answer;
use super::fit::fit;
use super::report::{REPORTS, Report, defined};
use super::rows::Value;
use super::table::{Builder, Output};
use super::threshold;
use super::trace::Trace;
use anyhow::Result;

const ANSWER: Output = Output::new("answer", "", "exact, approximate or no");
const WHY: Output = Output::new("why", "", "what it counts, what is missing, or what to record");

/// How well a trace answers a report.
struct Verdict {
    answer: &'static str,
    why: String,
}

/// The answer.
pub(crate) fn answer(trace: &Trace) -> Result<Answer> {
    defined(trace, "list", "")?;
    let verdicts: Vec<Verdict> = REPORTS.iter().map(|report| verdict(trace, report)).collect();
    let mut table = Builder::default();
    table
        .key("report", "", true, REPORTS.iter().map(|report| Value::Text(report.name.into())))
        .texts(&ANSWER, verdicts.iter().map(|verdict| Some(verdict.answer.to_owned())))
        .texts(&WHY, verdicts.iter().map(|verdict| Some(verdict.why.clone())));
    Ok(Answer::of(table.build()?))
}

fn verdict(trace: &Trace, report: &Report) -> Verdict {
    let mut missing = match fit(trace, report) {
        Ok(shortcomings) => shortcomings,
        Err(failure) => {
            let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!(": {hint}"));
            return Verdict { answer: "no", why: format!("{failure}{hint}") };
        }
    };
    missing.extend(lacking(trace, report));
    if missing.is_empty() {
        return Verdict { answer: "exact", why: report.exactness.to_owned() };
    }
    Verdict { answer: "approximate", why: missing.join("; ") }
}

/// What the report would have wanted too.
fn lacking(trace: &Trace, report: &Report) -> Vec<String> {
    let needs = || report.needs.iter();
    let probes = needs().filter_map(|need| Some((need, trace.probes().of(need.table)?)));
    let absent = probes.map(|(need, probe)| (probe, need.missed(&probe.absent)));
    let mut missing: Vec<String> = absent
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(probe, columns)| format!("{} does not see {}", probe.describe(), columns.join(", ")))
        .collect();
    let mut tables: Vec<u16> =
        needs().filter_map(|need| trace.table(need.table)).map(|table| table.number).collect();
    if report.needs.is_empty() {
        // It is about whatever there is.
        tables = trace.events().map(|table| table.number).collect();
        missing.extend(threshold::of_tables(trace, &tables, 0));
    }
    let losses = trace.ledger().losses(trace, trace.span, &tables);
    if !tables.is_empty() && losses.events() > 0 {
        missing.push(format!("{} events are missing: counts are lower bounds", losses.events()));
    }
    missing
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Cell, START, Tape};

    fn line(tape: &Tape, report: &str) -> String {
        let (_, out, _) = tape.run(&["list", "--format", "csv"]);
        let line = out.lines().find(|line| line.starts_with(&format!("{report},")));
        line.unwrap_or_else(|| panic!("{report} in {out}")).to_owned()
    }

    /// What is asked where a report does not run without.
    fn words(report: &str) -> Vec<&str> {
        match report {
            "argdist" => vec![report, "-C", "pid"],
            "events" => vec![report, "--table", "task"],
            _ => vec![report],
        }
    }

    #[test]
    fn a_report_says_which_options_it_does_not_run_without() {
        let mut tape = Tape::new();
        tape.named("malloc", &["malloc"], &["size:u64"], false);
        tape.push("malloc", [START, 0, 7, 0, 100].map(Cell::from).into());
        for report in super::REPORTS {
            let needed = report.flags.iter().any(|flag| flag.needed);
            let (exit, _, messages) = tape.run(&[report.name]);
            assert_eq!(exit == 2, needed, "{}: {messages}", report.name);
        }
        let (_, page, _) = tape.run(&[]);
        assert!(page.contains("bin funccount") && !page.contains("argdist"), "{page}");
    }

    #[test]
    fn a_report_refuses_if_and_only_if_the_list_says_no() {
        let named = |calls: bool, columns: &[&str]| {
            let mut tape = Tape::new();
            tape.stacks().named("malloc", &["malloc"], columns, calls);
            tape
        };
        let sums = ["size:u64", "hits:u64", "latency_sum:u64?ns", "latency_max:u64?ns"];
        let (mut added, mut waits, mut long) = (Tape::new(), Tape::new(), Tape::new());
        added.added_up("sums", &["nap"], &sums);
        waits.stacks().sched();
        long.stacks().sched().threshold("20ms");
        assert!(line(&Tape::new(), "gethostlatency").contains("capture -e dns"));
        let tapes = [
            Tape::new(),
            named(false, &["arg1:u64"]),
            named(true, &["size:u64", "ustack:u32~stack"]),
            named(false, &["address:u64"]),
            added,
            waits,
            long,
        ];
        for (at, tape) in tapes.iter().enumerate() {
            let (_, list, _) = tape.run(&["list", "--format", "csv"]);
            for report in super::REPORTS {
                let no = list.contains(&format!("\n{},no,", report.name));
                let (exit, _, messages) = tape.run(&words(report.name));
                assert_eq!(exit == 6, no, "{} of tape {at} ends with {exit}: {messages}{list}", report.name);
            }
        }
    }

    #[test]
    fn what_was_left_out_or_only_sampled_makes_an_answer_approximate() {
        let mut tape = Tape::new();
        tape.stacks().sched().threshold("20ms");
        for report in ["runqlat", "cpudist", "runqslower", "offcputime", "wakeuptime"] {
            assert!(line(&tape, report).contains(",approximate,only what lasted at least 20ms"), "{report}");
        }
        assert!(line(&tape, "migrations").starts_with("migrations,no,"));
        assert!(tape.run(&["runqlat"]).1.contains("# only what lasted at least 20ms was recorded"));
        let mut short = Tape::new();
        short.sched().threshold("1ms");
        assert!(line(&short, "runqslower").starts_with("runqslower,exact,"));
        let asked = |least| short.run(&["runqslower", "--min", least]).1.contains("only what lasted");
        assert!(asked("500us") && !asked("1ms"));
        let columns = ["ts:u64", "cpu:u16", "tid:u32>task", "kstack:u32~stack", "ustack:u32~stack"];
        tape.table("cpu_sample", &columns);
        assert!(line(&tape, "profile").starts_with("profile,approximate,a sample stands for"));
    }

    #[test]
    fn rows_of_any_table_are_as_exact_as_the_least_of_them() {
        let mut tape = Tape::new();
        tape.send(1_000_000, 7, 1, 100, 100).ledger(0, 1, 0);
        assert!(line(&tape, "events").starts_with("events,exact,"));
        tape.ledger(0, 0, 5);
        assert!(line(&tape, "events").contains("approximate,5 events are missing"));
        let mut long = Tape::new();
        long.send(1_000_000, 7, 1, 100, 100).ledger(0, 1, 0);
        long.host(|host| host.filters.push("min-latency net=5ms".into()));
        assert!(line(&long, "events").contains("approximate,\"of group net only calls of at least 5ms"));
    }

    #[test]
    fn a_column_that_a_report_has_no_use_for_is_not_missed() {
        let flows = super::REPORTS.iter().find(|report| report.name == "flows").expect("a report");
        let missed = |table: &str| {
            let need = flows.needs.iter().find(|need| need.table == table).expect("it reads that");
            need.missed(&format!("{table}.latency, {table}.flags"))
        };
        assert_eq!(missed("sock_recv"), ["sock_recv.flags"]);
        assert_eq!(missed("sock_send"), ["sock_send.latency", "sock_send.flags"]);
    }

    #[test]
    fn each_report_has_its_verdict_and_the_reason() {
        let mut tape = Tape::new();
        tape.send(1_000_000, 7, 1, 100, 100).ledger(0, 1, 0);
        assert!(line(&tape, "tcpsend").starts_with("tcpsend,exact,\"calls of tcp_sendmsg"));
        assert!(line(&tape, "tcptop").contains("tcptop,no,"));
        assert!(line(&tape, "tcptop").contains("capture -g net"));
        tape.ledger(0, 0, 5);
        assert!(line(&tape, "tcpsend").contains("approximate,5 events are missing"));
    }
}
