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
//! A recording that is rotated goes on in its next file ([`tail`]), from whichever is named.
//!
//! Any number of processes can follow one file. A file that becomes shorter is an error. Of several recordings
//! (`analyze web1.bin web2.bin tcptop --follow`) the rows stand side by side, as in [`super::beside`]: an interval waits for the
//! slowest of them.

mod part;
mod tail;
#[cfg(test)]
mod tests;

use super::answer::Answer;
use super::args::Call;
use super::beside::Side;
use super::bins::Bins;
use super::clock::{Clock, SECOND};
use super::error::{Exit, Failure};
use super::ledger::Losses;
use super::options::{Align, Format};
use super::printer::Printer;
use super::report::{Context, Report};
use super::run::{report_losses, shape, tell, unshaped};
use super::trace::Trace;
use super::window::Window;
use super::{beside, files, meant};
use crate::schema::Kind;
use crate::schema::reader::Frame;
use anyhow::Result;
use std::io::Write;
use std::time::Duration;
use tail::Tail;

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Prints intervals until the recordings end.
pub(crate) fn run(
    report: &Report,
    call: &Call,
    out: &mut dyn Write,
    messages: &mut dyn Write,
    terminal: bool,
) -> Result<Exit> {
    check(call)?;
    let tails = Tail::open(&files::named(&call.traces, messages)?)?;
    let traces = tails.iter().map(|tail| tail.trace(call, None)).collect::<Result<Vec<Trace>>>()?;
    let side = (traces.len() > 1 || beside::is_asked(call)).then(|| Side::new(&traces, call));
    let meant = meant::each(&traces, report, call)?;
    let clocks = traces.into_iter().map(|trace| trace.clock);
    let asked = tails.into_iter().zip(clocks).zip(meant).filter(|(_, meant)| *meant);
    let (tails, clocks) = asked.map(|(tail, _)| tail).unzip();
    let step = call.options.interval(report.defaults.interval)?.unwrap_or(SECOND);
    let mut follow =
        Follow { report, call, side, clocks, tails, told: Vec::new(), untold: Vec::new(), printed: None };
    let (mut printer, mut exit) = (Printer::new(&call.options, terminal), Exit::Ok);
    loop {
        let ended = follow.refresh()?;
        exit = exit.max(follow.late(messages)?);
        for window in intervals(follow.span(ended), &follow.clocks[0], step, call, ended)? {
            let (answer, losses) = follow.answer(window)?;
            printer.print(&answer, &follow.clocks[0], out)?;
            tell(&std::mem::take(&mut follow.untold), messages)?;
            exit = exit.max(report_losses(&losses, messages)?);
        }
        if ended {
            let how = |exit: Exit, tail: &Tail| Ok(exit.max(tail.how_it_ended(messages)?));
            return follow.tails.iter().try_fold(exit, how);
        }
        std::thread::sleep(POLL);
    }
}

/// What is asked of recordings that grow. Intervals are those of the first one's clock.
struct Follow<'a> {
    report: &'a Report,
    call: &'a Call,
    /// How several of them stand in one table.
    side: Option<Side>,
    tails: Vec<Tail>,
    clocks: Vec<Clock>,
    /// What has been said of the recordings beside the answers, and what is still to be said.
    told: Vec<String>,
    untold: Vec<String>,
    /// Up to where intervals were printed; `None`: none was.
    printed: Option<u64>,
}

impl Follow<'_> {
    /// A moment of a recording in the first one's clock.
    fn base(&self, at: usize, mono: u64) -> u64 {
        if at == 0 { mono } else { self.clocks[0].mono(self.clocks[at].wall(mono)) }
    }

    /// A moment of the first recording's clock in that of another.
    fn own(&self, at: usize, mono: u64) -> u64 {
        if at == 0 { mono } else { self.clocks[at].mono(self.clocks[0].wall(mono)) }
    }

    /// Reads what is new; whether all have ended.
    fn refresh(&mut self) -> Result<bool> {
        let ended =
            self.tails.iter_mut().try_fold(true, |ended, tail| anyhow::Ok(tail.refresh()? && ended))?;
        for at in 0..self.tails.len() {
            let Some(clock) = self.tails[at].clock_news(self.call)? else { continue };
            match self.printed.map(|printed| self.own(at, printed)) {
                Some(printed) => self.clocks[at].go_on(printed, &clock),
                None => self.clocks[at] = clock,
            }
        }
        Ok(ended)
    }

    /// Says what came after its interval was printed.
    fn late(&mut self, messages: &mut dyn Write) -> Result<Exit> {
        let mut exit = Exit::Ok;
        for at in 0..self.tails.len() {
            let printed = self.printed.map_or(0, |printed| self.own(at, printed));
            exit = exit.max(late(self.tails[at].news(), printed, &self.clocks[at], messages)?);
        }
        Ok(exit)
    }

    /// What is complete and not printed. One that has ended keeps the others waiting no more.
    fn span(&self, ended: bool) -> Window {
        let all = || self.tails.iter().enumerate();
        let begin = || all().map(|(at, tail)| self.base(at, tail.begin())).min().unwrap_or(0);
        let waits = all().filter(|(_, tail)| ended || !tail.ended);
        let complete = waits.map(|(at, tail)| self.base(at, tail.complete(tail.ended)));
        let to = if ended { complete.max() } else { complete.min() };
        Window { from: self.printed.unwrap_or_else(begin), to: to.unwrap_or(0) }
    }

    fn say_once(&mut self, remark: String) {
        if !self.told.contains(&remark) {
            self.told.push(remark.clone());
            self.untold.push(remark);
        }
    }

    /// What all of them say of an interval, and what they lost in it.
    fn answer(&mut self, window: Window) -> Result<(Answer, Losses)> {
        let (mut all, mut lost) = (None, Losses::default());
        for at in 0..self.tails.len() {
            let own = Window { from: self.own(at, window.from), to: self.own(at, window.to) };
            let call = self.side.as_ref().map_or(self.call, |side| &side.each);
            let mut trace = self.tails[at].trace(call, Some(own))?;
            trace.clock = self.clocks[at].clone();
            let context = Context::new(&trace, self.report, call, own)?;
            let answer = unshaped(&context)?;
            let remarks = context.cut_remarks();
            let mut losses = trace.ledger().losses(&trace, own, &context.tables());
            self.tails[at].only_news(&mut losses);
            self.tails[at].forget(own.to);
            let name = self.side.as_ref().map_or(String::new(), |side| format!("{}: ", side.name(&trace)));
            for remark in remarks {
                self.say_once(format!("{name}{remark}"));
            }
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
        self.printed = Some(window.to);
        Ok((answer, lost))
    }
}

fn check(call: &Call) -> Result<(), Failure> {
    let options = &call.options;
    let refuse = |what: &str| Err(Failure::usage(format!("--follow {what}")));
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
fn late<'f>(
    frames: impl Iterator<Item = &'f Frame>,
    printed: u64,
    clock: &Clock,
    messages: &mut dyn Write,
) -> Result<Exit> {
    let mut exit = Exit::Ok;
    for Frame { header, .. } in frames.filter(|frame| frame.header.kind == Kind::Events) {
        if header.min_time < printed {
            let time = clock.time_of_day(clock.wall(printed), 3);
            let rows = header.rows;
            writeln!(messages, "analyze: up to {rows} events came too late for the intervals before {time}")?;
            exit = Exit::Incomplete;
        }
    }
    Ok(exit)
}
