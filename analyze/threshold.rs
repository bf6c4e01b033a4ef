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

/// The same in ns, where it is more than what an answer shows at least. A word that is no time is taken for a long one.
fn least_above(trace: &Trace, def: &TableDef, shown: u64) -> Option<u64> {
    least(trace, def).map(|least| duration(least).unwrap_or(u64::MAX)).filter(|&least| least > shown)
}

/// How long calls had to take, ns, where some of the tables have long ones only, so that counts of them are lower bounds
/// for an answer on all that took `shown` ns at least.
pub(crate) fn cut(trace: &Trace, tables: &[u16], shown: u64) -> Option<u64> {
    let defs = tables.iter().filter_map(|&table| trace.tables.get(usize::from(table)));
    defs.filter_map(|def| least_above(trace, def, shown)).max()
}

/// What is missing of the tables that a report needs, if it shows all that took `shown` ns at least.
pub(crate) fn of_calls(trace: &Trace, needs: &[Need], shown: u64) -> Vec<String> {
    remarks(trace, needs.iter().filter_map(|need| trace.table(need.table)).map(AsRef::as_ref), shown)
}

/// The same of the tables that an answer has read.
pub(crate) fn of_tables(trace: &Trace, tables: &[u16], shown: u64) -> Vec<String> {
    let rows = |def: &&TableDef| trace.rows_of(def.number) > 0;
    let defs = tables.iter().filter_map(|&table| Some(trace.tables.get(usize::from(table))?.as_ref()));
    remarks(trace, defs.filter(rows), shown)
}

/// What to say beside a table's percentiles.
pub(crate) fn aside(trace: &Trace, def: &TableDef) -> String {
    least(trace, def).map_or(String::new(), |least| format!(" (only calls of at least {least})"))
}

fn remarks<'a>(trace: &Trace, tables: impl Iterator<Item = &'a TableDef>, shown: u64) -> Vec<String> {
    let mut remarks = Vec::new();
    for def in tables.filter(|def| least_above(trace, def, shown).is_some()) {
        let Some(least) = least(trace, def) else { continue };
        let remark = format!(
            "of group {} only calls of at least {least} were recorded: shorter ones are in no figure, so counts and \
             sums are lower bounds, and means and percentiles are of the long ones alone (≤: those of all are no larger)",
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
    use crate::analyze::testkit::{Folder, Tape};

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
    fn what_goes_on_and_what_stands_side_by_side_says_so_too() {
        let folder = Folder::new();
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "redis-server").sock(0, 1, 2, 4711, 6379).send(100, 7, 1, 10, 10);
        folder.put("whole.bin", &tape.bytes());
        tape.host(|host| host.filters.push("min-latency net=5ms".into()));
        folder.put("long.bin", &tape.bytes());
        for line in ["long.bin replay tcpsend --speed max", "long.bin tcpsend --follow"] {
            let (exit, _, messages) = folder.run(line);
            assert_eq!(
                (exit, messages.matches("only calls of at least 5ms").count()),
                (0, 1),
                "{line}: {messages}"
            );
        }
        let beside = "whole.bin long.bin tcpsend --interval all --by file --format csv";
        let (exit, out, messages) = folder.run(beside);
        assert!(
            exit == 0 && messages.contains("long.bin: of group net only calls of at least 5ms"),
            "{messages}"
        );
        assert!(!messages.contains("whole.bin: of group"), "{messages}");
        let rows: Vec<&str> = out.lines().collect();
        assert!(rows[0].starts_with("file,lower_bound,only_from_us,calls"), "{out}");
        assert!(
            rows[1].starts_with("long.bin,true,5000.0,1,") && rows[2].starts_with("whole.bin,false,,1,"),
            "{out}"
        );
    }

    #[test]
    fn a_mean_or_a_percentile_of_long_calls_is_at_least_that_of_all() {
        let mut tape = Tape::new();
        let each = ["ts:u64", "cpu:u16", "tid:u32>task", "syscall:u16=syscall", "errno:u16=errno"];
        tape.table("syscall", &[&each[..], &["open:u32", "latency:u64^ns"]].concat());
        let sums = ["ts:u64", "cpu:u16", "tgid:u32>task", "syscall:u16=syscall", "errno:u16=errno"];
        let more = ["slot:u32", "open:u32", "calls:u64", "total:u64?ns", "longest:u64?ns"];
        tape.table("syscall_agg", &[&sums[..], &more].concat());
        tape.group("syscall", "syscalls").group("syscall_agg", "syscalls");
        tape.task(0, 7, 70, "db").event("syscall", 100, [7, 1, 0, 0, 6_000_000]);
        let columns = |tape: &Tape| tape.run(&["syscount"]).1;
        assert!(!columns(&tape).contains('≤'));
        tape.host(|host| host.filters.push("min-latency syscalls=5ms".into()));
        let out = columns(&tape);
        assert!(out.contains("≥6000.000  ≤6000.000  ≤6000.000") && out.contains("  6000.000"), "{out}");
        let csv = tape.run(&["syscount", "--format", "csv"]).1;
        assert!(csv.contains("only_from_us") && csv.contains("true,5000.0,"), "{csv}");
    }

    #[test]
    fn a_report_on_what_took_longer_misses_nothing() {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "db").file(1, 8, "/db/table");
        tape.event("file_io", 100, [7, 1, 2, 8192, 4096, 3_000_000]).group("file_io", "file");
        tape.host(|host| host.filters.push("min-latency file=1ms".into()));
        let said = |words: &[&str]| {
            let (_, out, messages) = tape.run(words);
            out + &messages
        };
        assert!(said(&["list", "--format", "csv"]).contains("fileslower,exact,"));
        let empty = said(&["fileslower"]);
        assert!(
            !empty.contains("only calls of") && empty.contains("1 calls took less than 10 ms"),
            "{empty}"
        );
        let all = said(&["fileslower", "--min", "0.5", "--by", "comm"]);
        assert!(all.contains("≥1") && all.contains("of group file only calls of at least 1ms"), "{all}");
        let same = said(&["fileslower", "--min", "1", "--by", "comm"]);
        assert!(!same.contains('≥') && !same.contains("only calls of"), "{same}");
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
