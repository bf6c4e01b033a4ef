//! Several recordings in one answer: `analyze web1.bin web2.bin tcptop`.
//!
//! ```text
//! time      host  pid  comm   …
//! 12:01:07  web1   70  nginx  …
//! 12:01:07  web2   91  nginx  …
//! ```
//!
//! Ids mean something in one recording only, so each is answered by itself, and the rows stand side by side
//! in one table, told apart by `host`; by `file` where hosts are the same, or where `--by` names it; by both where
//! `--by host` does not tell all apart; by `trace_host` beside a report's own `host`. Sorting, cutting and `--having` are
//! then for the whole. `--where` can name both as well; a recording that such a condition leaves out ([`super::meant`])
//! is not asked: it has no rows, not even empty intervals. Times are wall clock time by each recording's own clock rows,
//! so that intervals of different hosts are the same intervals; offsets (`--from 10s`) count from the earliest start.

use super::answer::{Answer, Body, Page};
use super::args::Call;
use super::error::{Exit, Failure};
use super::escape::visible;
use super::ledger::Losses;
use super::options::Format;
use super::report::{Context, Report};
use super::table::{Heading, Show, TIME, Table};
use super::trace::Trace;
use super::window::Window;
use super::{meant, run};
use anyhow::{Context as _, Result};
use polars::prelude::{IntoColumn, NamedFrom, Series};
use std::collections::HashSet;
use std::io::Write;

/// What tells recordings apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Host,
    File,
}

impl Label {
    /// As `--by` asks, else by host where that tells them apart.
    fn choose(traces: &[Trace], by: &[&str]) -> &'static [Self] {
        let hosts: HashSet<&str> = traces.iter().map(|trace| trace.reader.host.hostname.as_str()).collect();
        let distinct = hosts.len() == traces.len();
        match (by.contains(&"host"), by.contains(&"file")) {
            (asked, false) if asked || distinct => {
                if distinct {
                    &[Self::Host]
                } else {
                    &[Self::Host, Self::File]
                }
            }
            (true, _) => &[Self::Host, Self::File],
            (false, _) => &[Self::File],
        }
    }

    fn name(self) -> &'static str {
        if self == Self::Host { "host" } else { "file" }
    }

    fn of(self, trace: &Trace) -> &str {
        if self == Self::Host { &trace.reader.host.hostname } else { &trace.name }
    }
}

/// Whether `--by` names what tells recordings apart: then one alone has that column too.
pub(crate) fn is_asked(call: &Call) -> bool {
    call.options.by.iter().flat_map(|by| by.split(',')).any(|word| matches!(word.trim(), "host" | "file"))
}

/// Answers for all of them.
pub(crate) fn answer(
    traces: &[Trace],
    report: &Report,
    call: &Call,
    out: &mut dyn Write,
    messages: &mut dyn Write,
    terminal: bool,
) -> Result<Exit> {
    if call.options.compat {
        return Err(Failure::usage("--compat prints one trace at a time").into());
    }
    let side = Side::new(traces, call);
    let base = base(traces);
    let window = run::window(union(traces, base), &base.clock, Some(report), call)?;
    let (mut all, mut losses, mut failure) = (None, Losses::default(), None);
    let mut remarks = Vec::new();
    let meant = meant::each(traces, report, call)?;
    for (trace, _) in traces.iter().zip(meant).filter(|(_, meant)| *meant) {
        let name = side.name(trace);
        match one(trace, report, &side.each, translate(window, base, trace)) {
            Ok((answer, lost, cut)) => {
                losses.add(name, lost);
                remarks.extend(cut.into_iter().map(|remark| format!("{name}: {remark}")));
                all = Some(side.add(all, answer, trace).context(name.to_owned())?);
            }
            Err(error)
                if error.downcast_ref().is_some_and(|why: &Failure| why.exit == Exit::CannotAnswer) =>
            {
                writeln!(messages, "analyze: {}", visible(&format!("{name}: {error}")))?;
                failure = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let Some(mut answer) = all else {
        return Err(failure.unwrap_or_else(|| Failure::usage("no trace is named").into()));
    };
    run::shape(report, &call.options, &mut answer)?;
    let notes = matches!(call.options.format(), Format::Table | Format::Json);
    if !notes && call.options.check.is_none() {
        run::tell(&remarks, messages)?;
    }
    let names: Vec<&str> = traces.iter().map(|trace| trace.name.as_str()).collect();
    let (trace, clock) = (names.join(", "), &base.clock);
    let page = Page { report: report.name, trace: &trace, window, clock, answer: &answer, losses: &losses };
    let exit = run::deliver(&page, call, out, messages, terminal)?;
    Ok(if failure.is_some() { exit.max(Exit::Incomplete) } else { exit })
}

/// How recordings stand side by side.
pub(crate) struct Side {
    /// The last of them tells any two apart.
    labels: &'static [Label],
    /// What is asked of each of them.
    pub each: Call,
}

impl Side {
    /// As `--by` asks, which then is without what tells recordings apart.
    pub fn new(traces: &[Trace], call: &Call) -> Self {
        let by: Vec<&str> = call.options.by.iter().flat_map(|by| by.split(',')).map(str::trim).collect();
        let mut each = call.clone();
        let rest: Vec<&str> = by.iter().copied().filter(|&word| word != "host" && word != "file").collect();
        each.options.by =
            each.options.by.map(|_| if rest.is_empty() { "none".into() } else { rest.join(",") });
        Self { labels: Label::choose(traces, &by), each }
    }

    /// What tells a recording apart.
    pub fn name<'t>(&self, trace: &'t Trace) -> &'t str {
        self.labels.last().map_or("", |label| label.of(trace))
    }

    /// Adds the answer of a recording to those of the ones before.
    pub fn add(&self, all: Option<Answer>, more: Answer, trace: &Trace) -> Result<Answer> {
        beside(all, more, self, trace)
    }
}

/// What a report says of one of them, not yet sorted or cut, what that one lost, and what to say beside.
fn one(trace: &Trace, report: &Report, call: &Call, window: Window) -> Result<(Answer, Losses, Vec<String>)> {
    let context = Context::new(trace, report, call, window)?;
    let answer = run::unshaped(&context)?;
    let losses = trace.ledger().losses(trace, window, &context.tables());
    Ok((answer, losses, context.cut_remarks()))
}

/// Adds the rows of an answer under the name of its recording.
fn beside(all: Option<Answer>, mut more: Answer, side: &Side, trace: &Trace) -> Result<Answer> {
    let name = side.name(trace);
    for label in side.labels.iter().rev() {
        more.table = more.table.map(|table| labelled(table, label.name(), label.of(trace))).transpose()?;
    }
    if side.each.options.format() != Format::Table {
        // Programs know a section by its name, and there would be one of each recording.
        more.sections.retain(|section| matches!(section.body, Body::Table(_)) && section.name.is_empty());
    }
    for section in &mut more.sections {
        section.title = format!("{name}: {}", section.title);
    }
    let Some(mut all) = all else { return Ok(more) };
    if let (Some(table), Some(more)) = (&mut all.table, &mut more.table) {
        table.take_hidden(more)?;
        more.take_hidden(table)?;
        table.frame.vstack_mut(&more.frame).context("its columns differ from those of the others")?;
    }
    if let Some(lines) = &more.plain {
        all.plain.get_or_insert_default().push_str(lines);
    }
    all.sections.append(&mut more.sections);
    let new: Vec<String> = more.notes.into_iter().filter(|note| !all.notes.contains(note)).collect();
    all.notes.extend(new);
    Ok(all)
}

/// Puts the name in front, behind the time. A report may have such a column of its own, as look-ups of hosts do.
fn labelled(mut table: Table, column: &str, name: &str) -> Result<Table> {
    let taken = table.headings.iter().any(|heading| heading.name == column);
    let column = if taken { format!("trace_{column}") } else { column.to_owned() };
    let at = usize::from(table.headings.first().is_some_and(|heading| heading.name == TIME));
    let names = Series::new(column.as_str().into(), vec![name; table.height()]);
    table.frame.insert_column(at, names.into_column())?;
    let heading = Heading { name: column, unit: String::new(), show: Show::Plain, key: true };
    table.headings.insert(at, heading);
    Ok(table)
}

/// The one whose monotonic clock reaches back furthest: in it, every moment of the others has a time.
fn base(traces: &[Trace]) -> &Trace {
    let uptime = |trace: &&Trace| i128::from(trace.span.from) - i128::from(trace.clock.wall(trace.span.from));
    traces.iter().max_by_key(uptime).expect("there are several")
}

/// From the earliest start to the latest end, by the clock of `base`.
fn union(traces: &[Trace], base: &Trace) -> Window {
    let wall = |of: fn(Window) -> u64| move |trace: &Trace| base.clock.mono(trace.clock.wall(of(trace.span)));
    let from = traces.iter().map(wall(|span| span.from)).min();
    let to = traces.iter().map(wall(|span| span.to)).max();
    Window { from: from.unwrap_or(0), to: to.unwrap_or(1) }
}

/// The part of a trace's span that lies in a window of `base`; empty where there is none.
fn translate(window: Window, base: &Trace, trace: &Trace) -> Window {
    let moment = |mono| trace.clock.mono(base.clock.wall(mono));
    let from = moment(window.from).clamp(trace.span.from, trace.span.to);
    Window { from, to: moment(window.to).clamp(from, trace.span.to) }
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Folder, Tape};

    fn tape(host: &str, calls: u64) -> Tape {
        let mut tape = Tape::new();
        tape.host(|it| host.clone_into(&mut it.hostname)).task(0, 7, 70, host);
        (0..calls).for_each(|at| {
            tape.send(at * 10_000_000, 7, 1, 100, 100);
        });
        tape.ledger(0, calls, 0);
        tape
    }

    #[test]
    fn hosts_stand_side_by_side_in_common_intervals() {
        let folder = Folder::new();
        // The second host booted half a second later, and so began its recording.
        let mut late = tape("db", 100);
        late.host(|it| it.start_real += 500_000_000);
        folder.put("a.bin", &tape("web", 200).bytes()).put("b.bin", &late.bytes());
        let (exit, out, messages) = folder.run("a.bin b.bin tcpsend --format csv --utc");
        assert_eq!((exit, messages.as_str()), (0, ""), "{out}");
        let rows: Vec<&str> = out.lines().skip(1).collect();
        assert!(out.starts_with("time,host,lower_bound,calls,"), "{out}");
        assert!(rows[0].starts_with("2026-11-22T11:01:07+00:00,web,false,75,"), "{out}");
        assert!(rows.iter().any(|row| row.starts_with("2026-11-22T11:01:08+00:00,db,")), "{out}");
        let (_, total, _) = folder.run("a.bin b.bin tcpsend --interval all --by host --format csv");
        assert!(total.contains("web,false,200,") && total.contains("db,false,100,"), "{total}");
        assert_eq!(total.lines().count(), 3);
        let (_, files, _) = folder.run("a.bin b.bin tcpsend --interval all --by file,comm --format csv");
        assert!(files.starts_with("file,comm,") && files.contains("a.bin,web,false,200"), "{files}");
        let (_, top, _) = folder.run("a.bin b.bin tcpsend --interval all --top 1 --sort calls --format csv");
        assert!(top.contains("web,false,200") && top.lines().count() == 2, "{top}");
        let (_, pages, _) = folder.run("a.bin b.bin info");
        assert_eq!(pages.matches("kernel").count(), 2);
    }

    #[test]
    fn a_condition_can_name_recordings() {
        let folder = Folder::new();
        let mut lossy = tape("db", 100);
        lossy.ledger(0, 100, 5);
        folder.put("a.bin", &tape("web", 200).bytes()).put("b.bin", &lossy.bytes());
        let hosts = |words: &str, condition: &str| {
            let line = format!("{words} --format csv --where {}", condition.replace(' ', "~"));
            let (exit, out, messages) = folder.run(&line);
            let rows: Vec<String> = out.lines().skip(1).map(str::to_owned).collect();
            (exit, rows, messages)
        };
        let (exit, rows, messages) = hosts("a.bin b.bin tcpsend", "host = 'web'");
        assert_eq!((exit, rows.len(), messages.as_str()), (0, 3, ""), "what db lost is of no interest");
        assert!(rows.iter().all(|row| row.contains(",web,false,")), "{rows:?}");
        let (exit, rows, messages) =
            hosts("a.bin b.bin tcpsend --interval all", "file LIKE '%b.bin' AND pid = 70");
        assert!(exit == 3 && rows.len() == 1 && rows[0].starts_with("db,true,100,"), "{rows:?}{messages}");
        let (_, rows, _) = hosts("a.bin b.bin tcpsend --interval all", "host = 'web' OR pid = 70");
        assert_eq!(rows.len(), 2, "all of both: {rows:?}");
        let (_, rows, _) = hosts("a.bin b.bin events --table sock_send", "host = 'web'");
        assert!(rows.len() == 200 && rows.iter().all(|row| row.contains(",web,")), "{}", rows.len());
        let (_, rows, _) = hosts("a.bin b.bin tcpsend --interval all", "host = 'elsewhere'");
        assert!(rows.len() == 2 && rows.iter().all(|row| row.contains(",0,")), "nobody is that: {rows:?}");
        let (exit, rows, _) = hosts("a.bin tcpsend --interval all", "host = 'web'");
        assert!(exit == 0 && rows[0].starts_with("false,200,"), "one alone has a name, too: {rows:?}");
    }

    #[test]
    fn recordings_of_one_host_keep_their_files() {
        let folder = Folder::new();
        folder.put("a.bin", &tape("web", 5).bytes()).put("b.bin", &tape("web", 7).bytes());
        let (_, out, _) = folder.run("a.bin b.bin tcpsend --interval all --by host --format csv");
        let rows: Vec<&str> = out.lines().collect();
        assert!(rows[0].starts_with("host,file,lower_bound,calls") && rows.len() == 3, "{out}");
        assert!(rows[1].contains("b.bin,false,7,") && rows[2].contains("a.bin,false,5,"), "{out}");
    }

    #[test]
    fn one_alone_has_a_host_too() {
        let folder = Folder::new();
        folder.put("a.bin", &tape("web", 5).bytes());
        let (_, out, _) = folder.run("a.bin tcpsend --interval all --by host,comm --format csv");
        assert!(out.starts_with("host,comm,") && out.contains("\nweb,web,false,5,"), "{out}");
        let (_, out, _) = folder.run("a.bin tcpsend --interval all --by file --format csv");
        assert!(out.contains("a.bin,false,5,"), "{out}");
    }

    #[test]
    fn clock_rows_say_where_a_host_stands_in_time() {
        let folder = Folder::new();
        let mut early = tape("db", 100);
        // Its wall clock was half a second behind when the recording began, and was then set right.
        early.host(|it| it.start_real -= 500_000_000);
        let late = folder.put("a.bin", &tape("web", 200).bytes()).put("b.bin", &early.bytes());
        let calls = |folder: &Folder, second: &str| {
            let (_, out, _) = folder.run("a.bin b.bin tcpsend --format csv --utc");
            let row =
                out.lines().find(|row| row.starts_with(&format!("2026-11-22T11:01:{second}+00:00,db,")));
            row.and_then(|row| row.split(',').nth(3)).map(str::to_owned)
        };
        let of = |found: [&str; 3]| found.map(|calls| (!calls.is_empty()).then(|| calls.to_owned()));
        // 12:01:06.75 to 12:01:07.75, by the only clock that the file has.
        assert_eq!(["06", "07", "08"].map(|second| calls(late, second)), of(["25", "75", ""]));
        early.clock(1, 500_000_000).clock(2_000_000_000, 500_000_000);
        folder.put("b.bin", &early.bytes());
        // 12:01:07.25 to 12:01:08.25, as that of the other host; the first one was sent before the clock was set.
        assert_eq!(["06", "07", "08"].map(|second| calls(&folder, second)), of(["1", "74", "25"]));
    }

    #[test]
    fn ids_of_two_files_are_two_things() {
        let folder = Folder::new();
        folder.put("a.bin", &tape("web", 5).bytes()).put("b.bin", &tape("db", 7).bytes());
        let (_, out, _) =
            folder.run("a.bin b.bin tcpsend --interval all --by pid,comm --sort calls --format csv");
        let rows: Vec<&str> = out.lines().skip(1).collect();
        assert!(
            rows[0].starts_with("db,70,db,false,7,") && rows[1].starts_with("web,70,web,false,5,"),
            "{out}"
        );
    }

    #[test]
    fn one_that_cannot_answer_does_not_silence_the_others() {
        let folder = Folder::new();
        let mut bare = Tape::new();
        bare.host(|it| it.hostname = "bare".into()).probe("failed", "", 0);
        folder.put("a.bin", &tape("web", 5).bytes()).put("b.bin", &bare.bytes());
        let (exit, out, messages) = folder.run("a.bin b.bin tcpsend --interval all --format csv");
        assert_eq!(exit, 3);
        assert!(
            out.contains("web,false,5") && messages.contains("bare: tcpsend needs the probe"),
            "{out}{messages}"
        );
        assert_eq!(folder.run("b.bin b.bin tcpsend").0, 6);
    }

    #[test]
    fn a_folder_is_its_traces_and_a_set_is_one_of_them() {
        let folder = Folder::new();
        for part in 1..=3u32 {
            let mut tape = Tape::new();
            tape.host(|it| (it.recording, it.part) = ("r".into(), part)).task(0, 7, 70, "web");
            tape.send(u64::from(part) * 1_000_000_000, 7, 1, 100, 100).ledger(0, 1, 0);
            folder.put(&format!("t.00000{part}.bin"), &tape.bytes());
        }
        folder.put("notes.txt", b"no trace, and longer than sixteen bytes");
        let dir = folder.path().display().to_string();
        let (exit, out, messages) = folder.run(&format!("{dir} tcpsend --interval all --format csv"));
        assert_eq!((exit, out.lines().nth(1).map(|row| &row[..8])), (0, Some("false,3,")), "{out}{messages}");
        let (exit, _, messages) = folder.run("t.000001.bin t.000003.bin check");
        assert_eq!(exit, 3);
        assert!(messages.contains("part 2 of the recording is not here"), "{messages}");
        folder.put("other.bin", &tape("db", 5).bytes());
        let (_, out, _) = folder.run(&format!("{dir} tcpsend --interval all --by file --format csv"));
        assert!(out.lines().count() == 3 && out.contains("t.000001.bin and 2 more,false,3,"), "{out}");
    }
}
