//! `--follow`: a trace that is still being written, interval by interval as they arrive, as `tail -f` does with text.
//!
//! ```text
//! capture -o trace.bin & analyze trace.bin tcptop --follow
//! capture -o - | analyze - tcpsend --follow --interval 5s
//! ```
//!
//! Each interval is answered from its own events, as `--from … --to …` would, and printed once it is complete: when
//! the recorder wrote something that is two seconds younger, since no row waits longer than that before it is
//! written. Rows that come later all the same are named. A report that lists events lists those of each
//! interval. It ends where the recording ends, or with the pipe. Only names of recent epochs are read, so the
//! cost of an interval does not grow with the file.
//!
//! Any number of processes can follow one file. A file that becomes shorter is an error. Of several files
//! (`analyze web1.bin web2.bin tcptop --follow`) the rows stand side by side, as in [`super::beside`]: an interval waits for the
//! slowest of them.

use super::answer::Answer;
use super::args::Call;
use super::beside::Side;
use super::bins::Bins;
use super::clock::{Clock, SECOND};
use super::error::{Exit, Failure};
use super::escape::visible;
use super::ledger::Losses;
use super::options::{Align, Format};
use super::report::{Context, Report};
use super::run::{report_losses, shape, unshaped};
use super::table::Table;
use super::trace::{Trace, cut};
use super::window::Window;
use super::{beside, export, files, json, meant, print};
use crate::schema::reader::Frame;
use crate::schema::{Kind, TraceReader, spool};
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Rows are in the file this long after their event: a batch waits a second, names half of one.
const LAG: u64 = 2 * SECOND;

/// Prints intervals until the recordings end.
pub(crate) fn run(
    report: &Report,
    call: &Call,
    out: &mut dyn Write,
    messages: &mut dyn Write,
    terminal: bool,
) -> Result<Exit> {
    check(call)?;
    let files = files::named(&call.traces, messages)?;
    let tails = files.iter().map(|path| Tail::open(path)).collect::<Result<Vec<Tail>>>()?;
    let traces = tails.iter().map(|tail| tail.trace(call, None)).collect::<Result<Vec<Trace>>>()?;
    let side = (traces.len() > 1 || beside::is_asked(call)).then(|| Side::new(&traces, call));
    let meant = meant::each(&traces, report, call)?;
    let clocks = traces.into_iter().map(|trace| trace.clock);
    let asked = tails.into_iter().zip(clocks).zip(meant).filter(|(_, meant)| *meant);
    let (mut tails, clocks): (Vec<Tail>, Vec<Clock>) = asked.map(|(tail, _)| tail).unzip();
    let follow = Follow { report, call, side, clocks };
    let clock = &follow.clocks[0];
    let step = call.options.interval(report.defaults.interval)?.unwrap_or(SECOND);
    let text = export::Text { terminal, safe: call.options.csv_safe };
    let mut printer = Printer { format: call.options.format(), text, widths: Vec::new(), first: true };
    let starts = tails.iter().enumerate().map(|(at, tail)| follow.base(at, tail.reader.host.start_mono));
    let (mut next, mut exit) = (starts.min().unwrap_or(0), Exit::Ok);
    loop {
        let mut ended = true;
        for (at, tail) in tails.iter_mut().enumerate() {
            ended &= tail.refresh()?;
            let late = late(tail.news(), follow.own(at, next), &follow.clocks[at], messages)?;
            exit = exit.max(late);
        }
        // One that has ended keeps the others waiting no more.
        let waits = tails.iter().enumerate().filter(|(_, tail)| ended || !tail.ended);
        let complete = waits.map(|(at, tail)| follow.base(at, tail.complete(tail.ended)));
        let until = if ended { complete.max() } else { complete.min() };
        let span = Window { from: next, to: until.unwrap_or(0) };
        for window in intervals(span, clock, step, call, ended)? {
            let (answer, losses) = follow.answer(&tails, window)?;
            if let Some(table) = &answer.table {
                out.write_all(printer.rows(table, clock).as_bytes())?;
            }
            if printer.format == Format::Table {
                out.write_all(print::sections(&answer, clock).as_bytes())?;
            }
            out.flush()?;
            exit = exit.max(report_losses(&losses, messages)?);
            next = window.to;
        }
        if ended {
            return tails.iter().try_fold(exit, |exit, tail| Ok(exit.max(tail.how_it_ended(messages)?)));
        }
        std::thread::sleep(POLL);
    }
}

/// What is asked of files that grow. Intervals are those of the first one's clock.
struct Follow<'a> {
    report: &'a Report,
    call: &'a Call,
    /// How several of them stand in one table.
    side: Option<Side>,
    clocks: Vec<Clock>,
}

impl Follow<'_> {
    /// A moment of a file in the first one's clock.
    fn base(&self, at: usize, mono: u64) -> u64 {
        if at == 0 { mono } else { self.clocks[0].mono(self.clocks[at].wall(mono)) }
    }

    /// A moment of the first file's clock in that of another.
    fn own(&self, at: usize, mono: u64) -> u64 {
        if at == 0 { mono } else { self.clocks[at].mono(self.clocks[0].wall(mono)) }
    }

    /// What all of them say of an interval, and what they lost in it.
    fn answer(&self, tails: &[Tail], window: Window) -> Result<(Answer, Losses)> {
        let (mut all, mut lost) = (None, Losses::default());
        for (at, tail) in tails.iter().enumerate() {
            let own = Window { from: self.own(at, window.from), to: self.own(at, window.to) };
            let call = self.side.as_ref().map_or(self.call, |side| &side.each);
            let mut trace = tail.trace(call, Some(own))?;
            trace.clock = self.clocks[at].clone();
            let context = Context::new(&trace, self.report, call, own)?;
            let answer = unshaped(&context)?;
            let losses = trace.ledger().losses(&trace, own, &context.tables());
            match &self.side {
                None => (all, lost) = (Some(answer), losses),
                Some(side) => {
                    all = Some(side.add(all, answer, &trace)?);
                    lost.add(side.name(&trace), losses);
                }
            }
        }
        let mut answer = all.expect("there is a file at least");
        shape(self.report, &self.call.options, &mut answer)?;
        Ok((answer, lost))
    }
}

fn check(call: &Call) -> Result<(), Failure> {
    let options = &call.options;
    let refuse = |what: &str| Err(Failure::usage(format!("--follow {what}")));
    if let Some(folder) = call.traces.iter().find(|path| path.is_dir()) {
        let what = format!("{} is a folder, and --follow reads files", folder.display());
        return Err(Failure::usage(what).hint("name the files that are being written"));
    }
    match options.format() {
        _ if options.from.is_some() || options.to.is_some() || options.at.is_some() => {
            refuse("begins at the begin: leave out --from, --to and --at")
        }
        _ if options.compat || options.check.is_some() || options.output.is_some() => {
            refuse("prints: leave out --compat, --check and -o")
        }
        Format::Json | Format::Parquet => refuse("prints rows as they come: take --format ndjson or csv"),
        _ => Ok(()),
    }
}

/// The intervals that are complete; the last one of a recording may be short.
fn intervals(span: Window, clock: &Clock, step: u64, call: &Call, ended: bool) -> Result<Vec<Window>> {
    if span.from >= span.to {
        return Ok(Vec::new());
    }
    let bins = Bins::new(span, clock, Some(step), call.options.align == Align::Start)?;
    let whole = if ended { bins.len() } else { bins.len() - 1 };
    let windows = (0..whole as u32).map(|bin| bins.window(bin));
    Ok(windows.filter(|window| window.from < window.to).collect())
}

/// What came after its interval was printed.
fn late(frames: &[Frame], printed: u64, clock: &Clock, messages: &mut dyn Write) -> Result<Exit> {
    let mut exit = Exit::Ok;
    for Frame { header, .. } in frames.iter().filter(|frame| frame.header.kind == Kind::Events) {
        if header.min_time < printed {
            let time = clock.time_of_day(clock.wall(printed), 3);
            let rows = header.rows;
            writeln!(messages, "analyze: up to {rows} events came too late for the intervals before {time}")?;
            exit = Exit::Incomplete;
        }
    }
    Ok(exit)
}

/// A file that may grow.
struct Tail {
    name: String,
    reader: TraceReader,
    /// Nothing more will come.
    ended: bool,
    /// Frames that were looked at.
    seen: usize,
    /// Of a pipe: nothing more will come.
    closed: Option<Arc<AtomicBool>>,
}

impl Tail {
    /// Waits for the begin of a trace.
    fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let (file, closed) = if path.is_file() {
            (File::open(path).with_context(|| name.clone())?, None)
        } else {
            let (file, closed) = copied(path).with_context(|| name.clone())?;
            (file, Some(closed))
        };
        let unusable = |error| Failure::new(Exit::Unusable, format!("{name}: {error}"));
        let mut reader = TraceReader::follow(file).map_err(unusable)?;
        loop {
            let over = closed.as_ref().is_some_and(|closed| closed.load(Ordering::Acquire));
            reader.refresh().map_err(unusable)?;
            if !reader.tables.is_empty() {
                return Ok(Self { name, reader, closed, ended: false, seen: 0 });
            }
            if over {
                let what = format!("{name}: the pipe ended before a trace began");
                return Err(Failure::new(Exit::Unusable, what).into());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Reads what is new; whether it is the end.
    fn refresh(&mut self) -> Result<bool> {
        // Asked before reading: what came until then is read below.
        let over = self.closed.as_ref().is_some_and(|closed| closed.load(Ordering::Acquire));
        let refreshed = self.reader.refresh();
        refreshed.map_err(|error| Failure::new(Exit::Unusable, format!("{}: {error}", self.name)))?;
        if over && self.reader.footer.is_none() && self.reader.growing {
            let rest = self.reader.end();
            rest.map_err(|error| Failure::new(Exit::Unusable, format!("{}: {error}", self.name)))?;
        }
        self.ended = over || self.reader.footer.is_some();
        Ok(self.ended)
    }

    /// Says so if a pipe ended before the recording did.
    fn how_it_ended(&self, messages: &mut dyn Write) -> Result<Exit> {
        let Some(cut) = cut(&self.reader) else { return Ok(Exit::Ok) };
        writeln!(messages, "analyze: {}: {}", visible(&self.name), visible(&cut))?;
        Ok(Exit::Incomplete)
    }

    /// The frames that came since this was last asked.
    fn news(&mut self) -> &[Frame] {
        let from = std::mem::replace(&mut self.seen, self.reader.frames.len());
        &self.reader.frames[from..]
    }

    /// Up to which moment everything is there.
    fn complete(&self, ended: bool) -> u64 {
        let all = self.reader.frames.iter().chain(&self.reader.cut);
        let rows = all.filter(|frame| frame.header.kind.has_rows());
        let last = rows.map(|frame| frame.header.max_time).max().unwrap_or(0);
        let end = self.reader.footer.as_ref().map_or(last, |footer| footer.end_mono.max(last));
        if ended { end.saturating_add(1) } else { last.saturating_sub(LAG) }
    }

    /// The trace as far as a span needs it: the names of the epochs of its events, and what was counted before its
    /// end (the ledger is ahead of the events, which would look like a loss).
    fn trace(&self, call: &Call, window: Option<Window>) -> Result<Trace> {
        let frames = || self.reader.frames.iter();
        let inside = |frame: &&Frame| {
            let header = &frame.header;
            header.kind == Kind::Events
                && window.is_none_or(|window| window.touches(header.min_time, header.max_time))
        };
        let first = frames().filter(inside).map(|frame| frame.header.epoch).min().unwrap_or(0);
        let ledger = self.reader.table("ledger").map(|def| def.number);
        let needed = |frame: &Frame| match frame.header.kind {
            Kind::Identity => frame.header.epoch.saturating_add(1) >= first,
            Kind::Stats if Some(frame.header.table) == ledger => {
                window.is_none_or(|window| frame.header.max_time < window.to)
            }
            _ => true,
        };
        let view = self.reader.view(needed).map_err(|error| anyhow::anyhow!("{}: {error}", self.name))?;
        Trace::new(self.name.clone(), view, call.options.threads, call.options.utc)
    }
}

/// Copies a pipe to a file without a name, from where it can be read by position.
fn copied(path: &Path) -> Result<(File, Arc<AtomicBool>)> {
    let mut to = spool::nameless()?;
    let file = to.try_clone()?;
    let mut from: Box<dyn io::Read + Send> =
        if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let closed = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&closed);
    std::thread::Builder::new().name("spool".into()).spawn(move || {
        // A pipe that fails has ended: what came is all there is, and the trace says that it has no footer.
        let _ = io::copy(&mut from, &mut to);
        done.store(true, Ordering::Release);
    })?;
    Ok((file, closed))
}

/// Rows under one heading.
struct Printer {
    format: Format,
    text: export::Text,
    widths: Vec<usize>,
    first: bool,
}

impl Printer {
    fn rows(&mut self, table: &Table, clock: &Clock) -> String {
        let first = std::mem::replace(&mut self.first, false);
        match self.format {
            Format::Ndjson => json::rows(table, clock).map(|row| json::text(&row, false)).collect(),
            Format::Csv => {
                let text = export::csv(table, clock, self.text);
                let begin = if first { 0 } else { text.find("\r\n").map_or(0, |end| end + 2) };
                text[begin..].to_owned()
            }
            _ => print::continued(table, clock, &mut self.widths, first),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Folder, START, Tape, run_bytes};
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::time::Duration;

    /// Ten seconds, written second by second.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "web").sock(0, 1, 2, 4711, 80);
        for at in 0..100 {
            tape.send(at * 100_000_000, 7, 1, 100, 100);
        }
        for second in 0..10u64 {
            tape.ledger(second * 1_000_000_000, 10, 0);
        }
        tape.rows_per_frame(10);
        tape
    }

    #[test]
    fn what_is_followed_is_what_is_there_in_the_end() {
        let folder = Folder::new();
        let bytes = tape().bytes();
        folder.put("a.bin", &bytes[..bytes.len() / 3]);
        let path = folder.path().join("a.bin");
        let rest = bytes[bytes.len() / 3..].to_vec();
        let writer = std::thread::spawn(move || {
            let mut file = OpenOptions::new().append(true).open(path).expect("it is there");
            for piece in rest.chunks(rest.len() / 5 + 1) {
                std::thread::sleep(Duration::from_millis(60));
                file.write_all(piece).expect("the file takes more");
            }
        });
        for report in ["tcpsend --by comm", "events --table sock_send", "tcpsend --interval 3s"] {
            let live = folder.run(&format!("a.bin {report} --format csv --follow"));
            let words: Vec<&str> = report.split(' ').chain(["--format", "csv"]).collect();
            assert_eq!(live, run_bytes(&bytes, &words), "{report}");
        }
        writer.join().expect("it wrote everything");
    }

    #[test]
    fn a_pipe_that_ends_too_early_says_so() {
        let folder = Folder::new();
        let bytes = tape().bytes();
        let trace = Tape::open_bytes(bytes.clone(), 1);
        let sends = trace.table("sock_send").expect("the table is there").number;
        let last = trace.reader.frames_of(sends).last().expect("ten frames").offset as usize;
        // In the middle of a frame, between two, and not too early.
        for (end, exit, said) in
            [(last + 100, 3, "is cut"), (last, 3, "without the end"), (bytes.len(), 0, "")]
        {
            let (path, bytes) = (folder.pipe(&format!("{end}.bin")), bytes[..end].to_vec());
            let writer = std::thread::spawn(move || std::fs::write(path, bytes).expect("it is read"));
            let (found, out, messages) = folder.run(&format!("{end}.bin tcpsend --format csv --follow"));
            writer.join().expect("it wrote everything");
            assert_eq!(found, exit, "{messages}");
            assert!(messages.contains(said) && (exit > 0 || messages.is_empty()), "{messages}");
            // A second of ten calls was in the frame that is not whole.
            let cut = out.lines().any(|line| line.contains(",true,"));
            assert_eq!(cut, end == last + 100, "{out}");
        }
        assert!(folder.run(". tcpsend --follow").2.contains(". is a folder"));
    }

    #[test]
    fn several_files_are_followed_side_by_side() {
        let folder = Folder::new();
        let (mut web, mut db) = (tape(), tape());
        web.host(|it| it.hostname = "web".into());
        // Its monotonic clock began two seconds later, and so did its recording.
        db.host(|it| (it.hostname, it.start_real) = ("db".into(), it.start_real + 2_000_000_000));
        let bytes = db.bytes();
        folder.put("a.bin", &web.bytes()).put("b.bin", &bytes[..bytes.len() / 3]);
        let path = folder.path().join("b.bin");
        let rest = bytes[bytes.len() / 3..].to_vec();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(250));
            let mut file = OpenOptions::new().append(true).open(path).expect("it is there");
            file.write_all(&rest).expect("the file takes more");
        });
        let live = folder.run("a.bin b.bin tcpsend --format csv --follow");
        writer.join().expect("it wrote everything");
        let mut after = folder.run("a.bin b.bin tcpsend --format csv");
        assert!(live.1.starts_with("time,host,lower_bound,calls,"), "{}", live.1);
        // A host has no row for an interval before its start or after its end, where all is one answer.
        let calls = |out: &str, host: &str| {
            let rows = out.lines().filter(|row| row.contains(&format!(",{host},")));
            rows.map(|row| row.split(',').nth(3).unwrap_or("").parse::<u64>().unwrap_or(0))
                .collect::<Vec<_>>()
        };
        for host in ["web", "db"] {
            let nonzero =
                |out: &str| calls(out, host).into_iter().filter(|&calls| calls > 0).collect::<Vec<_>>();
            assert_eq!(nonzero(&live.1), nonzero(&after.1), "{host}: {}", live.1);
            assert_eq!(nonzero(&live.1).iter().sum::<u64>(), 100);
        }
        after = folder.run("a.bin b.bin tcpsend --by file --format csv --follow");
        assert!(after.1.starts_with("time,file,") && after.1.contains("a.bin,"), "{}", after.1);
    }

    #[test]
    fn an_interval_from_before_a_host_s_clock_began_has_no_rate() {
        let folder = Folder::new();
        let (mut web, mut db) = (tape(), tape());
        web.host(|it| it.hostname = "web".into());
        db.host(|it| (it.hostname, it.start_real) = ("db".into(), it.start_real + 2_000_000_000_000));
        folder.put("a.bin", &web.bytes()).put("b.bin", &db.bytes());
        let (_, out, messages) = folder.run("a.bin b.bin tcpsend --interval 500s --format csv --follow");
        let first: Vec<&str> = out.lines().filter(|line| line.contains(",db,")).take(1).collect();
        assert!(first[0].ends_with(",db,false,0,,0,0") && !out.contains("NaN"), "{out}{messages}");
    }

    #[test]
    fn an_interval_waits_until_its_rows_are_written() {
        use crate::schema::TraceReader;
        let folder = Folder::new();
        folder.put("a.bin", &tape().bytes());
        let file = std::fs::File::open(folder.path().join("a.bin")).expect("it is there");
        let reader = TraceReader::follow(file).expect("a trace");
        let tail = super::Tail { name: "a.bin".into(), reader, closed: None, ended: false, seen: 0 };
        assert_eq!(tail.complete(false), START + 9_900_000_000 - super::LAG);
        assert_eq!(tail.complete(true), START + 9_900_000_001);
    }

    #[test]
    fn a_file_that_becomes_shorter_is_an_error_and_no_crash() {
        let folder = Folder::new();
        let bytes = tape().bytes();
        folder.put("a.bin", &bytes[..bytes.len() / 2]);
        let path = folder.path().join("a.bin");
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(250));
            OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(100)).expect("it is cut");
        });
        let (exit, _, messages) = folder.run("a.bin tcpsend --follow");
        writer.join().expect("it was cut");
        assert_eq!(exit, 1);
        assert!(messages.contains("shorter"), "{messages}");
        assert_eq!(folder.run("a.bin tcpsend --follow --from 1s").0, 2);
        assert_eq!(folder.run("a.bin info --follow").0, 2);
    }
}
