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
//! empty. *no*: it says what to record.

use super::answer::Answer;
use super::report::{REPORTS, Report, recorded};
use super::rows::Value;
use super::table::{Builder, Output};
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
    let verdicts: Vec<Verdict> = REPORTS.iter().map(|report| verdict(trace, report)).collect();
    let mut table = Builder::default();
    table
        .key("report", "", true, REPORTS.iter().map(|report| Value::Text(report.name.into())))
        .texts(&ANSWER, verdicts.iter().map(|verdict| Some(verdict.answer.to_owned())))
        .texts(&WHY, verdicts.iter().map(|verdict| Some(verdict.why.clone())));
    Ok(Answer::of(table.build()?))
}

fn verdict(trace: &Trace, report: &Report) -> Verdict {
    for need in report.needs {
        if let Err(failure) = recorded(trace, report, need) {
            let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!(": {hint}"));
            return Verdict { answer: "no", why: format!("{failure}{hint}") };
        }
    }
    let missing = missing(trace, report);
    if missing.is_empty() {
        return Verdict { answer: "exact", why: report.exactness.to_owned() };
    }
    Verdict { answer: "approximate", why: missing.join("; ") }
}

/// What the report would have wanted too.
fn missing(trace: &Trace, report: &Report) -> Vec<String> {
    let needs = || report.needs.iter();
    let probes = needs().filter_map(|need| trace.probes().of(need.table));
    let mut missing: Vec<String> = probes
        .filter(|probe| !probe.absent.is_empty())
        .map(|probe| format!("{} does not see {}", probe.describe(), probe.absent.replace(',', ", ")))
        .collect();
    let tables: Vec<u16> =
        needs().filter_map(|need| trace.table(need.table)).map(|table| table.number).collect();
    let losses = trace.ledger().losses(trace, trace.span, &tables);
    if !tables.is_empty() && losses.events() > 0 {
        missing.push(format!("{} events are missing: counts are lower bounds", losses.events()));
    }
    missing
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn line(tape: &Tape, report: &str) -> String {
        let (_, out, _) = tape.run(&["list", "--format", "csv"]);
        let line = out.lines().find(|line| line.starts_with(&format!("{report},")));
        line.unwrap_or_else(|| panic!("{report} in {out}")).to_owned()
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
