//! Whether a trace answers a report, and how well: what `list` says, and by what a report refuses.

use super::error::{Exit, Failure, nearest};
use super::report::{ANY, Need, Report};
use super::threshold;
use super::trace::Trace;
use crate::schema::{Role, TableDef};
use std::sync::Arc;

/// What keeps the answer of a trace from being exact: nothing, or remarks; or why there is none.
pub(crate) type Fit = fn(&Trace) -> Result<Vec<String>, Failure>;

/// What keeps a trace's answer from being exact, as far as that does not depend on how it is asked; if there is none, why.
pub(crate) fn fit(trace: &Trace, report: &Report) -> Result<Vec<String>, Failure> {
    for need in report.needs {
        // Which of the user's probes it takes, and how those are recorded, the report knows better.
        match report.fit {
            Some(_) if need.table == ANY => silenced(trace, report, need)?,
            _ => drop(recorded(trace, report, need)?),
        }
    }
    // One that shows long calls alone knows how long.
    report.fit.map_or_else(|| Ok(threshold::of_calls(trace, report.needs, 0)), |fit| fit(trace))
}

/// Whether a table was recorded; if not, why.
pub(crate) fn recorded<'a>(
    trace: &'a Trace,
    report: &Report,
    need: &Need,
) -> Result<&'a Arc<TableDef>, Failure> {
    silenced(trace, report, need)?;
    if need.table == ANY {
        let filled = trace.tables.iter().find(|table| table.group == need.group && table.role == Role::Event);
        return filled.ok_or_else(|| {
            Failure::cannot(format!("{} needs a probe of the user's own, and none was recorded", report.name))
                .hint("record one: capture -e 't:sched:sched_switch' …")
        });
    }
    let probe = trace.probes().of(need.table);
    let off = probe.filter(|probe| probe.status != "attached");
    match (trace.table(need.table), off) {
        (Some(table), None) => Ok(table),
        (Some(table), Some(_)) if trace.rows_of(table.number) > 0 => Ok(table),
        (_, Some(probe)) if probe.status == "failed" => Err(Failure::cannot(format!(
            "{} needs the probe {}, which could not be attached: {}",
            report.name, probe.name, probe.reason
        ))
        .hint("capture --list shows what a kernel can attach and how")),
        _ => Err(Failure::cannot(format!(
            "{} needs the table {}, which was not recorded",
            report.name, need.table
        ))
        .hint(format!("record it: capture -g {} …", need.group))),
    }
}

/// That a trace has no table of that name, and which one may be meant.
pub(crate) fn no_table(trace: &Trace, name: &str) -> Failure {
    let names = || trace.tables.iter().map(|table| table.name.as_str());
    let near = nearest(name, names()).map_or(String::new(), |near| format!(": did you mean '{near}'?"));
    Failure::cannot(format!("this trace has no table '{name}'{near}"))
        .hint(format!("it has {}", names().collect::<Vec<_>>().join(", ")))
}

/// A file that is cut before it says what was recorded, or before the first event, does not say that nothing was.
fn silenced(trace: &Trace, report: &Report, need: &Need) -> Result<(), Failure> {
    let what = if need.table == ANY { String::new() } else { format!(" of {}", need.table) };
    defined(trace, report.name, &what)?;
    let without = || trace.events().all(|table| trace.rows_of(table.number) == 0);
    match trace.cut().filter(|_| without()) {
        Some(cut) => Err(unknown(trace, report.name, &what, "its first events", &cut)),
        None => Ok(()),
    }
}

/// Without the definitions of its tables no row of a file can be read, whatever else is whole.
pub(crate) fn defined(trace: &Trace, verb: &str, what: &str) -> Result<(), Failure> {
    let missing = "the definitions of its tables";
    trace.undefined().map_or(Ok(()), |why| Err(unknown(trace, verb, what, missing, &why)))
}

fn unknown(trace: &Trace, verb: &str, what: &str, missing: &str, why: &str) -> Failure {
    let what = format!("{verb}: nothing{what} is known, since {missing} are missing: {why}");
    Failure::new(Exit::Unusable, what).hint(format!(
        "compare its size with that of the original, or copy it again; analyze {} check says what is there",
        trace.name
    ))
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Folder, Tape};
    use crate::schema::Kind;

    #[test]
    fn a_file_that_is_cut_early_does_not_say_that_nothing_was_recorded() {
        let folder = Folder::new();
        let mut tape = Tape::new();
        tape.receives();
        (0..100).for_each(|at| {
            tape.send(at, 7, 1, 100, 100);
        });
        tape.rows_per_frame(50);
        let bytes = tape.bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let place = |table: &str| {
            trace
                .reader
                .frames_of(trace.table(table).expect("it").number)
                .map(|frame| frame.offset as usize)
                .collect::<Vec<_>>()
        };
        let (tables, sends) = (trace.reader.frames[1].offset as usize, place("sock_send"));
        for (at, missing) in [
            (tables, "the definitions of its tables are missing: the file ends at byte"),
            (tables + 100, "the definitions of its tables are missing: the file is cut or damaged at byte"),
            (sends[0], "its first events are missing: the file ends at byte"),
            (sends[0] + 100, "its first events are missing: the file is cut or damaged at byte"),
        ] {
            folder.put("a.bin", &bytes[..at]);
            for report in ["tcpsend", "tcplat", "flows", "trace"] {
                let (exit, out, messages) = folder.run(&format!("a.bin {report}"));
                assert_eq!((exit, out.as_str()), (1, ""), "{report} of {at} bytes: {messages}");
                assert!(messages.contains(missing) && !messages.contains("not recorded"), "{messages}");
            }
            let (_, list, _) = folder.run("a.bin list --format csv");
            assert!(!list.contains("not recorded"), "{list}");
        }
        // Both copies of the definitions are damaged, and all else is whole.
        let mut flipped = bytes.clone();
        for frame in trace.reader.frames.iter().filter(|frame| frame.header.kind == Kind::Tables) {
            flipped[frame.offset as usize + frame.header.header_length() + 20] ^= 0x10;
        }
        folder.put("a.bin", &flipped);
        for verb in ["tcpsend", "trace", "list", "sql~", "events --table sock_send"] {
            let line = verb.replace("sql~", "sql SELECT~1~FROM~sock_send");
            let (exit, _, messages) = folder.run(&format!("a.bin {line}"));
            assert_eq!(exit, 1, "{verb}: {messages}");
            let why = "the definitions of its tables are missing: damaged at byte";
            assert!(messages.contains(why) && !messages.contains("not recorded"), "{messages}");
        }
        // With some events there is an answer, and it says of which table the file has none.
        folder.put("a.bin", &bytes[..sends[1] + 100]);
        let (exit, out, _) = folder.run("a.bin tcpsend --interval all --format csv");
        assert!(exit == 3 && out.contains(",50,"), "{out}");
        let (_, out, _) = folder.run("a.bin tcptop");
        assert!(out.contains("nothing of sock_recv is in the file up to where it ends"), "{out}");
        // A whole file may well have nothing of a table.
        folder.put("a.bin", &bytes);
        assert!(!folder.run("a.bin tcptop").1.contains("nothing of"));
        assert_eq!(folder.run("a.bin execsnoop").0, 6);
    }
}
