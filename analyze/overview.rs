//! `analyze TRACE`: what happened, in one page, and where to look next.
//!
//! Counts and sizes come from frame headers, latency lines and top lists from the footer's histograms and totals
//! ([`super::busiest`]). That part is there at once, however large the file. Response times pair events, so they
//! follow, with progress on a terminal, and `--quick` leaves them out.

use super::answer::{Answer, Body};
use super::args::Call;
use super::busiest::{LISTS, List};
use super::info;
use super::load::{Chunk, Scan};
use super::options::Options;
use super::report::{Context, REPORTS, Report, fit, recorded};
use super::rows::Value;
use super::table::{Builder, Output, Table};
use super::threshold;
use super::trace::Trace;
use super::window::Window;
use crate::schema::TableDef;
use crate::schema::histogram::Histogram;
use anyhow::Result;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Pairing more events than this is left to `tcplat`.
const RESPONSES_ROWS: u64 = 20_000_000;
/// Reports that the page names.
const NEXT: usize = 8;

/// What is left for [`rest`].
pub(crate) struct Rest(Vec<&'static List>);

/// What the file says of itself: nothing is decoded for it but names.
pub(crate) fn instant(trace: &Trace, window: Window) -> Result<(Answer, Rest)> {
    let mut answer = Answer::default();
    answer.section("host", "", Body::Facts(info::host(trace)));
    let probes: Vec<String> = trace
        .probes()
        .iter()
        .filter(|probe| probe.status != "off")
        .map(super::probes::Probe::describe)
        .collect();
    if !probes.is_empty() {
        answer.section("probes", "Probes", Body::Lines(probes));
    }
    answer.section("events", "Events", Body::Table(events(trace, window)?));
    if let Some(cost) = cost(trace) {
        answer.section("cost", "Cost of the recording (an estimate)", Body::Lines(vec![cost]));
    }
    let latency = latency(trace);
    if !latency.is_empty() {
        answer.section("latency", "Latency over the whole recording (to 1/32)", Body::Lines(latency));
    }
    let mut rest = Vec::new();
    for list in &LISTS {
        if !list.by_totals(trace, window, &mut answer)? {
            rest.push(list);
        }
    }
    Ok((answer, Rest(rest)))
}

/// What takes a look at the events; with `quick`, that it was left out.
pub(crate) fn rest(trace: &Trace, window: Window, rest: &Rest, quick: bool) -> Result<Answer> {
    let mut answer = Answer::default();
    if quick {
        let lists = rest.0.iter().map(|list| list.title.to_lowercase());
        let left_out: Vec<String> = lists.chain(["TCP response latency".into()]).collect();
        answer = answer.note(format!("left out by --quick: {}", left_out.join(", ")));
    } else {
        rest.0.iter().try_for_each(|list| list.by_events(trace, window, &mut answer))?;
        if let Some(responses) = responses(trace, window)? {
            answer.section("responses", "TCP response latency", Body::Table(responses));
        }
    }
    answer.section("next", "Look next", Body::Lines(next(trace)));
    Ok(answer)
}

const ROWS: Output = Output::new("rows", "", "rows in the span");
const PER_S: Output = Output::decimal("per_s", "1/s", 1, "rows per second of the span");
const BYTES_EACH: Output = Output::decimal("bytes_each", "bytes", 2, "bytes in the file per row");
const LOST: Output = Output::new("lost", "", "events that are missing");

/// Per event table: how many, how dense, what is missing.
fn events(trace: &Trace, window: Window) -> Result<Table> {
    let defs: Vec<&TableDef> = trace
        .events()
        .map(AsRef::as_ref)
        .filter(|def| trace.rows_of(def.number) > 0 || lost(trace, window, def) > 0)
        .collect();
    let in_file = || defs.iter().map(|def| trace.rows_of(def.number));
    let counted: Vec<u64> = defs.iter().map(|def| rows_within(trace, window, def)).collect();
    let rows = || counted.iter().copied();
    let stored = defs.iter().map(|def| trace.stored_of(def.number));
    let each: Vec<Option<f64>> =
        in_file().zip(stored).map(|(rows, stored)| (rows > 0).then(|| stored as f64 / rows as f64)).collect();
    let mut table = Builder::default();
    table
        .key("table", "", true, defs.iter().map(|def| Value::Text(def.name.as_str().into())))
        .ints(&ROWS, rows().map(Some))
        .floats(&PER_S, rows().map(|rows| Some(rows as f64 / window.seconds())))
        .floats(&BYTES_EACH, each.into_iter())
        .ints(&LOST, defs.iter().map(|def| Some(lost(trace, window, def))));
    table.build()
}

/// Headers know the whole; a part must be counted.
fn rows_within(trace: &Trace, window: Window, def: &TableDef) -> u64 {
    match trace.table(&def.name) {
        Some(def) if window != trace.span => {
            let count = |sum: &mut u64, chunk: &Chunk| *sum += chunk.each().count() as u64;
            Scan::new(trace, def, window).fold(u64::default, count, |sum, more| *sum += more)
        }
        _ => trace.rows_of(def.number),
    }
}

fn lost(trace: &Trace, window: Window, def: &TableDef) -> u64 {
    trace.ledger().losses(trace, window, &[def.number]).events()
}

/// What `tcplat --metric response` says, where that takes no more than some seconds.
fn responses(trace: &Trace, window: Window) -> Result<Option<Table>> {
    let report = &super::report::tcplat::REPORT;
    let tables = || report.needs.iter().map(|need| recorded(trace, report, need));
    let rows: u64 = tables().flatten().map(|table| trace.rows_of(table.number)).sum();
    if tables().any(|table| table.is_err()) || rows > RESPONSES_ROWS {
        return Ok(None);
    }
    let flags = [("metric", "response".to_owned())].into();
    let call = Call { traces: Vec::new(), verb: None, operand: None, options: Options::default(), flags };
    let context = Context::new(trace, report, &call, window)?;
    Ok((report.run)(&context)?.table.filter(|table| table.height() > 0))
}

/// One line per histogram of the footer.
fn latency(trace: &Trace) -> Vec<String> {
    let Some(footer) = &trace.reader.footer else { return Vec::new() };
    let sorted: BTreeMap<_, _> = footer.histograms.iter().collect();
    let line = |(&(table, column), histogram): (&(u16, u16), &Histogram)| {
        let def = trace.tables.get(usize::from(table))?;
        let column = def.columns.get(usize::from(column))?;
        let us = |q| histogram.quantile(q).map(|ns| format!("{:.1}", ns as f64 / 1e3));
        let (p50, p90, p99) = (us(0.5)?, us(0.9)?, us(0.99)?);
        let n = histogram.total();
        (n > 0).then(|| {
            let aside = if column.name == "latency" { threshold::aside(trace, def) } else { String::new() };
            format!("{}.{}: n {n}, p50 {p50} us, p90 {p90} us, p99 {p99} us{aside}", def.name, column.name)
        })
    };
    sorted.into_iter().filter_map(line).collect()
}

fn cost(trace: &Trace) -> Option<String> {
    let rows = trace.gather("cost")?;
    let last = rows.len().checked_sub(1)?;
    let number = |name| rows.def.column(name).map(|column| rows.raw(column, last));
    let share = |ns: u64| ns as f64 / 1e7 / trace.span.seconds() / f64::from(trace.reader.host.cpus.max(1));
    let (bpf, runs) = (number("bpf_ns")?, number("bpf_runs")?);
    let (user, system, rss) = (number("user_ns")?, number("system_ns")?, number("rss")?);
    Some(format!(
        "programs in the kernel {:.3} % of all processors ({runs} runs), recorder {:.3} %, {} MiB of memory",
        share(bpf),
        share(user + system),
        rss >> 20
    ))
}

/// The reports that have most to say about this trace, and where the others are.
fn next(trace: &Trace) -> Vec<String> {
    let rows = |report: &Report| -> Option<u64> {
        let tables = report.needs.iter().map(|need| recorded(trace, report, need).ok());
        let rows = tables.map(|table| table.map(|table| trace.rows_of(table.number)));
        rows.collect::<Option<Vec<_>>>()?.into_iter().max()
    };
    let mut reports: Vec<(u64, &Report)> =
        REPORTS.iter().filter_map(|report| Some((rows(report).filter(|&rows| rows > 0)?, *report))).collect();
    // None that would refuse, as it does that has to be told what is asked.
    let asks = |report: &Report| report.flags.iter().any(|flag| flag.needed);
    reports.retain(|(_, report)| !asks(report) && fit(trace, report).is_ok());
    reports.sort_by_key(|&(rows, report)| (Reverse(rows), report.name));
    let line = |name: &str, question: &str| format!("analyze {} {name:<12} {question}", trace.name);
    let most = reports.iter().take(NEXT).map(|(_, report)| line(report.name, report.question));
    most.chain([line("list", "what else this trace answers, and what it would have to hold for the rest")])
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::analyze::run::run;
    use crate::analyze::testkit::{Folder, Tape};

    /// What had been written at each flush.
    #[derive(Default)]
    struct Screen {
        text: String,
        flushed: Vec<String>,
    }

    impl std::io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.text.push_str(std::str::from_utf8(bytes).expect("UTF-8"));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            self.flushed.push(self.text.clone());
            Ok(())
        }
    }

    #[test]
    fn what_is_known_at_once_is_on_the_screen_before_events_are_paired() {
        let folder = Folder::new();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/redis.bin");
        folder.put("a.bin", &std::fs::read(fixture).expect("a fixture"));
        let mut screen = Screen::default();
        let line = ["analyze".to_owned(), folder.path().join("a.bin").display().to_string()];
        run(&line, &mut screen, &mut std::io::sink(), true).expect("a page");
        let (first, last) = (&screen.flushed[0], screen.flushed.last().expect("two"));
        assert!(
            first.contains("Events") && first.contains("Latency over") && !first.contains("response latency"),
            "{first}"
        );
        assert!(last.starts_with(first.as_str()) && last.contains("TCP response latency"), "{last}");
    }

    #[test]
    fn the_page_of_a_whole_recording_decodes_no_event_but_for_latency() {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "web").send(1_000, 7, 1, 100, 100);
        let mut bytes = tape.bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let sends = trace.table("sock_send").expect("the table is there").number;
        let frame = trace.reader.frames_of(sends).next().expect("one frame");
        bytes[frame.offset as usize + frame.header.header_length() + 20] ^= 0x10;
        let page = |args: &[&str]| crate::analyze::testkit::run_bytes(&bytes, args);
        let (exit, quick, _) = page(&["--quick"]);
        assert_eq!(exit, 0, "the damage is in what is not looked at: {quick}");
        assert!(quick.contains("left out by --quick") && quick.contains("Busiest"), "{quick}");
        assert_eq!(page(&["--from", "+0.000000001s"]).0, 3, "a part of it must be counted");
        assert_eq!(tape.run(&["tcpsend", "--quick"]).0, 2);
    }
}
