//! `capture --min-wait` and `--min-latency`: what a recording answers that has of the scheduler's events, or of a group's
//! calls, only those that lasted long.

use super::error::Failure;
use super::report::Need;
use super::trace::Trace;
use super::window::duration;
use crate::schema::TableDef;

/// What was asked for.
fn word(trace: &Trace) -> Option<&str> {
    let words = &trace.reader.host.filters;
    words.iter().find_map(|word| word.strip_prefix("min-wait ")).filter(|least| *least != "0ns")
}

/// What is missing where all that lasted at least `least` ns is asked for.
pub(crate) fn above(trace: &Trace, least: u64) -> Vec<String> {
    let found = word(trace).filter(|found| duration(found).is_none_or(|found| found > least));
    let remark =
        |found| format!("only what lasted at least {found} was recorded: shorter ones are in no figure");
    found.map(remark).into_iter().collect()
}

/// How well a trace answers what is about stacks of waits: only long ones have any.
pub(crate) fn with_stacks(trace: &Trace) -> Result<Vec<String>, Failure> {
    match word(trace) {
        Some(_) => Ok(above(trace, 0)),
        None => {
            Err(Failure::cannot("waits were recorded without stacks: only those above a threshold have any")
                .hint("record them: capture -g sched --min-wait 1ms …"))
        }
    }
}

/// The same of what has no length: it is not recorded beside what has.
pub(crate) fn without(trace: &Trace) -> Result<Vec<String>, Failure> {
    match word(trace) {
        None => Ok(Vec::new()),
        Some(_) => Err(Failure::cannot("a recording with --min-wait has only what takes time: no moves")
            .hint("record them: capture -g sched … without --min-wait")),
    }
}

/// How long a call had to take to be in a table: those of its group, if it knows how long they took.
fn least<'a>(trace: &'a Trace, def: &TableDef) -> Option<&'a str> {
    let measured = def.column("latency").is_some_and(|latency| def.columns[latency].absent.is_empty());
    let words = trace.reader.host.filters.iter().filter(|_| measured);
    let mut groups = words.filter_map(|word| word.strip_prefix("min-latency ")?.split_once('='));
    groups.find(|(group, _)| *group == def.group).map(|(_, least)| least)
}

/// Whether some of the tables have long calls only, so that counts of them are lower bounds.
pub(crate) fn cuts(trace: &Trace, tables: &[u16]) -> bool {
    let defs = tables.iter().filter_map(|&table| trace.tables.get(usize::from(table)));
    defs.into_iter().any(|def| least(trace, def).is_some())
}

/// What is missing of the tables that a report needs.
pub(crate) fn of_calls(trace: &Trace, needs: &[Need]) -> Vec<String> {
    remarks(trace, needs.iter().filter_map(|need| trace.table(need.table)).map(AsRef::as_ref))
}

/// The same of the tables that an answer has read.
pub(crate) fn of_tables(trace: &Trace, tables: &[u16]) -> Vec<String> {
    let rows = |def: &&TableDef| trace.rows_of(def.number) > 0;
    remarks(
        trace,
        tables.iter().filter_map(|&table| Some(trace.tables.get(usize::from(table))?.as_ref())).filter(rows),
    )
}

fn remarks<'a>(trace: &Trace, tables: impl Iterator<Item = &'a TableDef>) -> Vec<String> {
    let mut remarks = Vec::new();
    for def in tables {
        let Some(least) = least(trace, def) else { continue };
        let remark = format!(
            "of group {} only calls of at least {least} were recorded: shorter ones are in no figure, so counts and \
             sums are lower bounds, and means and percentiles are of the long ones alone",
            def.group
        );
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn told(words: &[&str]) -> (String, String) {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "redis-server").sock(0, 1, 2, 4711, 6379).send(100, 7, 1, 10, 10);
        tape.host(|host| host.filters.extend(words.iter().map(|&word| word.to_owned())));
        let (exit, out, messages) = tape.run(&["tcpsend", "--interval", "all"]);
        assert_eq!(exit, 0, "{messages}");
        (out, messages)
    }

    #[test]
    fn what_has_no_notes_says_on_the_side_that_only_long_calls_are_there() {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "redis-server").sock(0, 1, 2, 4711, 6379).send(100, 7, 1, 10, 10);
        let words = [
            &["sql", "SELECT count(*) FROM sock_send"][..],
            &["events", "--table", "sock_send"],
            &["tcpsend", "--format", "csv"],
            &["--quick"],
        ];
        let said = |tape: &Tape, words| tape.run(words).2.contains("only calls of at least 5ms");
        assert!(words.iter().all(|words| !said(&tape, words)));
        tape.host(|host| host.filters.push("min-latency net=5ms".into()));
        for words in words {
            assert!(said(&tape, words), "{words:?}");
        }
        let (_, out, messages) = tape.run(&["tcpsend", "--interval", "all"]);
        assert!(
            out.contains("# of what was recorded: ") && !messages.contains("at least 5ms"),
            "{out}{messages}"
        );
    }

    #[test]
    fn counts_of_calls_above_a_threshold_are_lower_bounds() {
        let (out, messages) = told(&["min-latency file=1ms", "min-latency net=5ms"]);
        let said = format!("{out}{messages}");
        assert!(said.contains("of group net only calls of at least 5ms were recorded"), "{said}");
        assert!(!said.contains("group file") && out.contains("≥1 "), "{said}");
        let (out, messages) = told(&["min-latency file=1ms", "min-wait 1ms"]);
        assert!(!out.contains('≥') && !messages.contains("of at least"), "{out}{messages}");
    }
}
