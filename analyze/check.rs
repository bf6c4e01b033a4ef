//! `analyze TRACE check`: is all of it there?
//!
//! Decompresses and decodes every frame, looks for gaps in the sequence numbers, and adds up the loss
//! ledger against the rows. Ends with 3 when anything is missing.

use super::answer::{Answer, Body};
use super::clock::SECOND;
use super::ledger::not_here;
use super::progress::Pass;
use super::trace::Trace;
use crate::schema::Role;
use crate::schema::frame::Kind;
use crate::schema::reader::{Frame, Scratch};
use crate::schema::walk::Missing;
use serde_json::json;

/// The answer. What it finds, every other verb would find later: the losses are the trace's own.
pub(crate) fn answer(trace: &Trace) -> Answer {
    let frames: Vec<&Frame> =
        trace.reader.frames.iter().filter(|frame| !matches!(frame.header.kind, Kind::Unknown(_))).collect();
    let pass = Pass::over("all frames", frames.len());
    let read = |scratch: &mut Scratch, frame: &&Frame| {
        pass.step();
        trace.verify_header(frame);
        if frame.header.kind.has_rows() {
            return trace.read(frame, None, scratch).map_or(0, |rows| rows.len() as u64);
        }
        trace.verify(frame, scratch);
        0
    };
    let rows: u64 = trace.each(&frames, read).into_iter().sum();
    drop(pass);
    let unreadable = trace.unreadable();
    let mut lines = gaps(trace);
    lines.extend(trace.reader.absent.iter().map(not_here));
    lines.extend(ledger(trace));
    lines.extend(super::sampled::history(trace));
    lines.extend(suspended(trace));
    lines.extend(stop(trace));
    let mut answer = Answer::default();
    let facts = vec![
        (
            "frames",
            json!(trace.reader.frames.len()),
            format!("{} in {} bytes", trace.reader.frames.len(), trace.reader.length()),
        ),
        ("rows", json!(rows), format!("{rows} decoded")),
        ("unreadable", json!(unreadable.len()), format!("{} frames", unreadable.len())),
        ("damage", json!(trace.reader.damage.len()), format!("{} places", trace.reader.damage.len())),
    ];
    answer.section("found", "", Body::Facts(facts));
    answer.section("sums", "", Body::Lines(lines));
    answer
}

fn name(trace: &Trace, table: u16) -> &str {
    trace.tables.get(usize::from(table)).map_or("?", |def| &def.name)
}

fn gaps(trace: &Trace) -> Vec<String> {
    let line = |missing: Missing| {
        let file = missing.told_at.and_then(|offset| trace.file_at(offset));
        let file = file.map_or(String::new(), |(_, name)| format!("{name}: "));
        let what = match missing.table {
            Some(table) => format!("{} rows of {}", missing.rows, name(trace, table)),
            None => format!("{} frames", missing.frames),
        };
        format!("{file}stream {}: {what} are missing", missing.stream)
    };
    let lines: Vec<String> = trace.reader.missing().into_iter().map(line).collect();
    if lines.is_empty() { vec!["sequence numbers: no gap".into()] } else { lines }
}

fn ledger(trace: &Trace) -> Vec<String> {
    let ledger = trace.ledger();
    let mut lines = Vec::new();
    // Identity rows are written where they are referred to, again in each epoch: no sum is due to close.
    let identity =
        |table: u16| trace.tables.get(usize::from(table)).is_some_and(|def| def.role == Role::Identity);
    for (table, counts) in ledger.totals().into_iter().filter(|total| !identity(total.0)) {
        let attempted = counts.attempted();
        let left_out = match counts.left_out {
            0 => String::new(),
            count => format!(" + left_out {count}"),
        };
        let carried = match (counts.carried_in, counts.carried_out) {
            (0, 0) => String::new(),
            (from, to) => format!("; {from} came from the file before, {to} are in the next"),
        };
        lines.push(format!(
            "{}: attempted {attempted} = stored {} + filtered {} + ring_full {} + state_full {}{left_out}; discarded {}{carried}",
            name(trace, table),
            counts.stored,
            counts.filtered,
            counts.ring_full,
            counts.state_full,
            counts.discarded
        ));
    }
    for (table, found, due) in ledger.unbalanced(trace) {
        lines.push(format!("{}: {found} rows, the ledger says {due}: it does not close", name(trace, table)));
    }
    if lines.is_empty() {
        lines.push("the trace has no loss ledger".into());
    } else if ledger.unbalanced(trace).is_empty() {
        lines.push("the ledger closes".into());
    }
    lines
}

/// `CLOCK_BOOTTIME` goes on while the host is suspended, the trace's clock does not: nothing happens in that time, and no
/// duration has it.
fn suspended(trace: &Trace) -> Vec<String> {
    let Some(rows) = trace.gather("clock") else { return Vec::new() };
    let (Some(ts), Some(boot)) = (rows.def.column("ts"), rows.def.column("boottime")) else {
        return Vec::new();
    };
    let mut clocks: Vec<(u64, u64)> =
        (0..rows.len()).map(|row| (rows.raw(ts, row), rows.raw(boot, row))).collect();
    clocks.sort_unstable();
    let asleep = |pair: &[(u64, u64)]| {
        let [before, after] = [pair[0], pair[1]].map(|(mono, boot)| boot.saturating_sub(mono));
        let seconds = after.saturating_sub(before) as f64 / SECOND as f64;
        let at = pair[1].0.saturating_sub(trace.span.from) as f64 / SECOND as f64;
        (seconds > 0.1).then(|| format!("the host was suspended for {seconds:.1} s until {at:.1} s"))
    };
    clocks.windows(2).filter_map(asleep).collect()
}

/// Without a footer the end is where the file ends, or will be elsewhere.
fn stop(trace: &Trace) -> Option<String> {
    let last = (trace.span.to - trace.span.from) as f64 / SECOND as f64;
    if trace.settled.is_some() {
        return Some(format!("still being recorded: what came after {last:.3} s is not all here yet"));
    }
    let cut = trace.reader.footer.is_none();
    cut.then(|| format!("no footer: the recording did not stop cleanly; its last event is at {last:.3} s"))
}

#[cfg(test)]
mod tests {
    use super::{Frame, Kind};
    use crate::analyze::testkit::{START, Tape, run_bytes};

    fn tape() -> Tape {
        let mut tape = Tape::new();
        for at in 0..400 {
            tape.send(at * 10_000_000, 7, 1, 100, 100);
        }
        tape.ledger(0, 400, 0).rows_per_frame(100);
        tape
    }

    #[test]
    fn a_whole_trace_is_fine() {
        let (exit, out, messages) = tape().run(&["check"]);
        assert_eq!((exit, messages.as_str()), (0, ""), "{out}");
        assert!(out.contains("the ledger closes") && out.contains("no gap"), "{out}");
    }

    #[test]
    fn a_suspended_host_is_named_and_times_go_on_after_it() {
        let mut tape = tape();
        tape.clock(0, 0).clock(1_000_000_000, 0).woken(2_000_000_000, 3600 * 1_000_000_000);
        let (exit, out, messages) = tape.run(&["check"]);
        assert_eq!(exit, 0, "{messages}");
        assert!(out.contains("the host was suspended for 3600.0 s until 2.0 s"), "{out}");
        // What came before it keeps its time of day, what comes after it is an hour later.
        let trace = tape.open();
        let wall = |at: u64| trace.clock.wall(START + at) - trace.clock.wall(START);
        assert_eq!((wall(1_500_000_000), wall(2_500_000_000)), (1_500_000_000, 3_602_500_000_000));
    }

    #[test]
    fn a_flipped_byte_costs_its_frame_and_is_named() {
        let mut bytes = tape().bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let frame = trace.reader.frames_of(2).nth(1).expect("four frames");
        let at = frame.offset as usize + frame.header.header_length() + 40;
        bytes[at] ^= 0x10;
        let (exit, out, messages) = run_bytes(&bytes, &["check"]);
        assert_eq!(exit, 3, "{out}");
        assert!(messages.contains("missing_rows 100") && messages.contains("damaged: byte"), "{messages}");
        let (exit, out, _) = run_bytes(&bytes, &["tcpsend", "--interval", "all", "--format", "csv"]);
        assert_eq!(exit, 3);
        assert!(out.contains("true,300,"), "{out}");
    }

    #[test]
    fn a_copy_of_the_definitions_is_looked_at_too() {
        let mut bytes = tape().bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let spare = |frame: &&Frame| matches!(frame.header.kind, Kind::Tables | Kind::Checkpoint);
        let frame = trace.reader.frames.iter().rfind(spare).expect("a checkpoint at the end");
        let at = frame.offset as usize + frame.header.header_length() + 20;
        bytes[at] ^= 0x10;
        let (exit, out, _) = run_bytes(&bytes, &["check"]);
        assert_eq!(exit, 3, "{out}");
        let found = out.lines().find(|line| line.starts_with("unreadable")).unwrap_or_default();
        assert!(found.ends_with(" 1 frames"), "{out}");
    }

    #[test]
    fn a_cut_file_opens_and_says_what_the_ledger_misses() {
        let bytes = tape().bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let last = trace.reader.frames_of(2).last().expect("four frames").offset as usize;
        let (exit, out, messages) = run_bytes(&bytes[..last + 70], &["check"]);
        assert_eq!(exit, 3);
        assert!(out.contains("no footer") && messages.contains("is cut"), "{out}{messages}");
        // Its header is cut too, or whole: then it says which rows are gone, and counts of its span are lower bounds.
        let counts = |end: usize| {
            run_bytes(&bytes[..end], &["tcpsend", "--interval", "1s", "--align", "start", "--format", "csv"])
        };
        let (exit, out, messages) = counts(last + 70);
        assert!(exit == 3 && !out.contains("true,") && !messages.contains("missing_rows"), "{out}{messages}");
        let (exit, out, messages) = counts(last + 120);
        assert!(exit == 3 && messages.contains("missing_rows 100"), "{out}{messages}");
        let marks: Vec<bool> = out.lines().skip(1).map(|line| line.contains(",true,")).collect();
        assert_eq!(marks, [false, false, false, true], "{out}");
    }
}
