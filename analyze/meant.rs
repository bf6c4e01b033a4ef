//! Which of several recordings a condition is about, known before any event is looked at.
//!
//! ```text
//! $ analyze web.bin db.bin tcpsend --where "host = 'web' AND rport = 443"
//! ```
//!
//! A recording that `--where` leaves out whatever its events are is not asked: that it lacks a table, or lost
//! something, is of no interest. The condition is taken apart at AND, OR and NOT. A part that names nothing but the
//! recording (`host`, `file`) is true or false there, any other is not known, and what these come to follows by
//! three-valued logic: only what is certainly false leaves a recording out. Nulls would not do in place of what is not known,
//! since SQL can ask for them (`rport IS NOT NULL`).

use super::args::Call;
use super::input::{Inputs, RECORDING, Source};
use super::mask;
use super::report::{ANY, Report};
use super::trace::Trace;
use crate::schema::{Role, TableDef};
use anyhow::Result;
use polars::prelude::{
    BooleanFunction, DataFrame, DataType, Expr, FunctionExpr, IntoColumn, IntoLazy, NamedFrom, Operator,
    Series,
};

/// For each recording whether it is to be asked. Where the condition leaves out all of them, all are: the answer
/// still has columns, and what is wrong with the condition is said.
pub(crate) fn each(traces: &[Trace], report: &Report, call: &Call) -> Result<Vec<bool>> {
    let Some(condition) = &call.options.condition else { return Ok(vec![true; traces.len()]) };
    let expr = mask::parse("--where", condition)?;
    let names: Vec<&str> =
        RECORDING.into_iter().filter(|name| names_recordings(traces, report, call, name)).collect();
    let meant: Vec<bool> =
        traces.iter().map(|trace| Known { trace, names: &names }.of(&expr) != Some(false)).collect();
    Ok(if meant.contains(&true) { meant } else { vec![true; traces.len()] })
}

/// Whether a name is the recording's in every table that the report may be about, and not that of a text of events.
/// All recordings are looked at, since the one that lacks the table cannot say.
fn names_recordings(traces: &[Trace], report: &Report, call: &Call, name: &str) -> bool {
    let of_recording = |trace: &Trace, def: &TableDef| {
        matches!(Inputs::of(trace, def).get(name).map(|input| &input.source), Some(Source::Recording(_)))
    };
    traces.iter().all(|trace| {
        let asked = trace.tables.iter().filter(|def| may_be_about(report, call, def));
        asked.into_iter().all(|def| of_recording(trace, def))
    })
}

fn may_be_about(report: &Report, call: &Call, def: &TableDef) -> bool {
    let named = call.flags.get("table").is_some_and(|table| *table == def.name);
    let group = |group: &str| def.group == group && def.role == Role::Event;
    named || report.needs.iter().any(|need| need.table == def.name || need.table == ANY && group(need.group))
}

/// What is known of all events of a recording.
struct Known<'a> {
    trace: &'a Trace,
    /// Which columns are the recording's own.
    names: &'a [&'a str],
}

impl Known<'_> {
    /// What a condition says of all of them; `None`: that is not known.
    fn of(&self, expr: &Expr) -> Option<bool> {
        match expr {
            Expr::BinaryExpr { left, op: Operator::And, right } => {
                self.one_decides(false, [left.as_ref(), right.as_ref()])
            }
            Expr::BinaryExpr { left, op: Operator::Or, right } => {
                self.one_decides(true, [left.as_ref(), right.as_ref()])
            }
            Expr::Function { input, function: FunctionExpr::Boolean(BooleanFunction::Not) } => {
                self.of(input.first()?).map(|known| !known)
            }
            // SQL's NOT has it around what it negates.
            Expr::Cast { expr, dtype, .. } if dtype.as_literal() == Some(&DataType::Boolean) => self.of(expr),
            part => self.value(part),
        }
    }

    /// One false part makes AND false, one true part makes OR true; without it all must be known.
    fn one_decides(&self, decides: bool, parts: [&Expr; 2]) -> Option<bool> {
        let known = parts.map(|part| self.of(part));
        let all = known.iter().all(Option::is_some);
        if known.contains(&Some(decides)) { Some(decides) } else { all.then_some(!decides) }
    }

    /// Of a part that names nothing else.
    fn value(&self, part: &Expr) -> Option<bool> {
        if mask::names(part).iter().any(|name| !self.names.contains(&name.as_str())) {
            return None;
        }
        let values = [self.trace.reader.host.hostname.as_str(), self.trace.name.as_str()];
        let column =
            |(name, value): (&str, &str)| Series::new(name.into(), vec![value.to_owned()]).into_column();
        let frame = DataFrame::new(1, RECORDING.into_iter().zip(values).map(column).collect()).ok()?;
        // What polars refuses here it refuses when the condition is asked of events, and then it is said.
        let value = frame.lazy().select([part.clone().alias("known")]).collect().ok()?;
        value.column("known").ok()?.bool().ok()?.get(0)
    }
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Cell, Folder, START, Tape};

    /// Sends of a host.
    fn sends(host: &str) -> Tape {
        let mut tape = Tape::new();
        tape.host(|it| host.clone_into(&mut it.hostname)).task(0, 7, 70, "nginx");
        tape.send(0, 7, 1, 100, 100).ledger(0, 1, 0);
        tape
    }

    /// A host where they could not be recorded.
    fn bare(host: &str) -> Tape {
        let mut tape = Tape::new();
        tape.host(|it| host.clone_into(&mut it.hostname)).probe("failed", "", 0);
        tape
    }

    #[test]
    fn what_is_certainly_left_out_is_not_asked() {
        let folder = Folder::new();
        folder.put("a.bin", &sends("web").bytes()).put("b.bin", &bare("db").bytes());
        let exit = |condition: &str| {
            let condition = condition.replace(' ', "~");
            let line = format!("b.bin a.bin tcpsend --interval all --format csv --where {condition}");
            let (exit, out, messages) = folder.run(&line);
            assert_eq!(exit == 0, messages.is_empty(), "{messages}");
            assert_eq!(
                out.lines().count(),
                if matches!(exit, 0 | 3) { 2 } else { 0 },
                "{condition}: {out}{messages}"
            );
            exit
        };
        for certain in [
            "host = 'web'",
            "host <> 'db' AND pid = 70",
            "pid = 70 AND file LIKE '%a.bin'",
            "NOT (host IN ('db', 'mail') OR pid = 1)",
            "(host = 'db' AND 1 = 2) OR host = 'web'",
            "host = 'web' OR (file NOT LIKE '%b.bin' AND comm = 'nginx')",
        ] {
            assert_eq!(exit(certain), 0, "{certain}");
        }
        for open in [
            "pid = 70",
            "host = 'web' OR pid = 70",
            "host = 'web' OR comm IS NOT NULL",
            "NOT (host = 'db' AND pid = 1)",
            "concat(host, comm) = 'webnginx'",
            "host = 'web' OR host = 'db'",
        ] {
            assert_eq!(exit(open), 3, "{open}");
        }
        // Nobody is that: all are asked, so that there is something to say.
        assert_eq!(exit("host = 'mail'"), 3);
        assert_eq!(exit("host = 5"), 2);
        assert_eq!(exit("host = 'web' AND prot = 70"), 2);
    }

    #[test]
    fn a_text_of_events_may_be_called_host_as_well() {
        let folder = Folder::new();
        let lookup = |host: &str| {
            let mut tape = sends(host);
            tape.named("getaddrinfo", &["getaddrinfo"], &["host:text"], true);
            let cells = [START, 0, 7, 0, 5_000, 0].map(Cell::from).into_iter();
            tape.push("getaddrinfo", cells.chain(["web".into()]).collect());
            tape
        };
        folder.put("a.bin", &lookup("web").bytes()).put("b.bin", &lookup("db").bytes());
        folder.put("c.bin", &sends("mail").bytes());
        let rows = |line: &str| {
            let (exit, out, messages) = folder.run(&format!("a.bin b.bin c.bin {line} --format csv"));
            (exit, out.lines().count() - 1, messages)
        };
        let (_, out, _) = folder.run("a.bin b.bin gethostlatency --format csv");
        assert!(out.starts_with("time,trace_host,") && out.contains(",host\r\n"), "both names: {out}");
        // Two hosts asked for that name. The third has no such probe, and could have.
        let (exit, lines, messages) = rows("gethostlatency --where host~=~'web'");
        assert!((exit, lines) == (3, 2) && messages.contains("mail: "), "{lines} {messages}");
        assert_eq!(rows("events --table getaddrinfo --where host~=~'web'").1, 2);
        // Sends have none of their own.
        assert_eq!(rows("events --table sock_send --where host~=~'web'"), (0, 1, String::new()));
    }

    #[test]
    fn what_is_left_out_is_not_followed() {
        let folder = Folder::new();
        folder.put("a.bin", &sends("web").bytes()).put("b.bin", &bare("db").bytes());
        let (exit, out, messages) =
            folder.run("b.bin a.bin tcpsend --follow --format csv --where host~=~'web'");
        assert_eq!((exit, messages.as_str()), (0, ""), "{out}");
        assert!(out.starts_with("time,host,") && out.contains(",web,false,1,"), "{out}");
        assert_eq!(folder.run("b.bin a.bin tcpsend --follow --format csv").0, 6);
    }
}
