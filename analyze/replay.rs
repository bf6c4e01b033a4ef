//! `analyze TRACE replay REPORT`: what the live tool would have shown, interval by interval.
//!
//! ```text
//! $ analyze trace.bin replay filetop                      in the recorded rhythm
//! $ analyze trace.bin replay tcptop --interval 5s --speed 10
//! $ analyze trace.bin replay opensnoop --speed max --from 10s --compat
//! ```
//!
//! A report with intervals is shown at the end of each, as a live tool prints it: on a terminal in place
//! of the one before. A report that lists events prints them as they come. `--speed` is how many times
//! faster than it was, or `max` for no waiting. All options of the report hold (`--where`, `--by`, `--top`);
//! without `--interval` an interval is what the report has of itself, or a second.
//!
//! Keys on a terminal: space stops and goes on, `n` shows the next interval and stops, `+` and `-` change
//! the speed, `q` ends.

use super::answer::Answer;
use super::args::Call;
use super::bins::Bins;
use super::clock::SECOND;
use super::error::Failure;
use super::keys::{self, Key, Keys};
use super::options::{Align, Format};
use super::report::{Context, Report};
use super::run::{compat, run_report};
use super::trace::Trace;
use super::window::Window;
use super::{args, print};
use anyhow::Result;
use std::io::Write;
use std::time::Duration;

/// What is shown at once, and when.
struct Screen {
    /// Moment of the trace at which the live tool would have printed it.
    moment: u64,
    text: String,
}

/// Shows the report interval by interval; returns the tables that were read, and what to say of them.
pub(crate) fn run(
    trace: &Trace,
    call: &Call,
    window: Window,
    out: &mut dyn Write,
    terminal: bool,
) -> Result<(Vec<u16>, Vec<String>)> {
    let report = report_of(call)?;
    if call.options.format() != Format::Table || call.options.output.is_some() {
        return Err(Failure::usage("replay prints for people, as time goes by")
            .hint("for programs ask the report itself: --interval 1s --format ndjson")
            .into());
    }
    let mut pace = Pace::of(call)?;
    let show = Show { trace, report, call };
    let length = call.options.interval(report.defaults.interval)?.unwrap_or(SECOND);
    let bins = Bins::new(window, &trace.clock, Some(length), call.options.align == Align::Start)?;
    // Without an interval a report that lists events lists them, and others need not be run to the end.
    let first = show.answer(bins.window(0), None)?;
    let mut keys = terminal.then(Keys::take);
    let mut wait = |time| match &mut keys {
        Some(keys) => keys.wait(time),
        None => time.and_then(|time| {
            std::thread::sleep(time);
            None
        }),
    };
    let mut now = window.from;
    for bin in 0..bins.len() as u32 {
        let screen = if first.0.events {
            show.lines(bins.window(bin), bin == 0)?
        } else {
            show.table(bins.window(bin), length)?
        };
        if !pace.reach(screen.moment.saturating_sub(now), &mut wait) {
            break;
        }
        now = screen.moment;
        let text =
            if terminal && !first.0.events { pace.framed(&screen, bin, &bins, report) } else { screen.text };
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok((first.1, first.2))
}

fn report_of(call: &Call) -> Result<&'static Report, Failure> {
    let Some(name) = &call.operand else {
        return Err(Failure::usage("replay needs a report").hint("analyze TRACE replay filetop"));
    };
    args::report(name).ok_or_else(|| {
        Failure::usage(format!("there is no report '{name}' to replay"))
            .hint("analyze --help lists the reports")
    })
}

/// One report on parts of a trace.
struct Show<'a> {
    trace: &'a Trace,
    report: &'static Report,
    call: &'a Call,
}

impl Show<'_> {
    fn answer(&self, window: Window, interval: Option<u64>) -> Result<(Answer, Vec<u16>, Vec<String>)> {
        let call = self.call_with(interval);
        let context = Context::new(self.trace, self.report, &call, window)?;
        Ok((run_report(&context)?, context.tables(), context.cut_remarks()))
    }

    fn call_with(&self, interval: Option<u64>) -> Call {
        let mut call = self.call.clone();
        call.options.interval = interval.map(|length| format!("{length}ns"));
        call
    }

    fn print(&self, window: Window, interval: Option<u64>) -> Result<String> {
        let call = self.call_with(interval);
        let context = Context::new(self.trace, self.report, &call, window)?;
        let answer = run_report(&context)?;
        if call.options.compat {
            return Ok(String::from_utf8_lossy(&compat(&context, &answer)?).into_owned());
        }
        Ok(answer.table.as_ref().map_or_else(String::new, |table| print::grid(table, &self.trace.clock)))
    }

    /// The events of an interval, below each other; the names of the columns once.
    fn lines(&self, window: Window, first: bool) -> Result<Screen> {
        let text = self.print(window, None)?;
        let text = if first { text } else { text.split_once('\n').map_or("", |(_, rest)| rest).to_owned() };
        Ok(Screen { moment: window.to, text })
    }

    /// The table of an interval.
    fn table(&self, window: Window, length: u64) -> Result<Screen> {
        let mut text = self.print(window, Some(length))?;
        text.push('\n');
        Ok(Screen { moment: window.to, text })
    }
}

/// How fast it goes.
struct Pace {
    /// `None`: without waiting.
    speed: Option<f64>,
    paused: bool,
}

impl Pace {
    fn of(call: &Call) -> Result<Self, Failure> {
        let text = call.flags.get("speed").map_or("1", String::as_str);
        let wrong =
            || Failure::usage(format!("--speed {text}: expected a number such as 1, 0.5 or 10, or 'max'"));
        let speed = match text {
            "max" => None,
            text => Some(
                text.parse()
                    .ok()
                    .filter(|&speed: &f64| speed > 0.0 && speed.is_finite())
                    .ok_or_else(wrong)?,
            ),
        };
        Ok(Self { speed, paused: false })
    }

    /// Lets `ns` of the trace pass; false: that is enough.
    fn reach(&mut self, ns: u64, wait: &mut dyn FnMut(Option<Duration>) -> Option<Key>) -> bool {
        let mut left = ns as f64;
        loop {
            let time = match (self.paused, self.speed) {
                (true, _) => None,
                (false, None) => return true,
                (false, Some(speed)) => Some(Duration::from_secs_f64(left / speed / 1e9)),
            };
            let began = std::time::Instant::now();
            let key = wait(time);
            if let (false, Some(speed)) = (self.paused, self.speed) {
                left = (left - began.elapsed().as_secs_f64() * 1e9 * speed).max(0.0);
            }
            match key {
                Some(Key::Quit) => return false,
                Some(Key::Pause) => self.paused = !self.paused,
                Some(Key::Step) => {
                    self.paused = true;
                    return true;
                }
                Some(Key::Faster) => self.speed = self.speed.map(|speed| speed * 2.0),
                Some(Key::Slower) => self.speed = self.speed.map(|speed| speed / 2.0),
                None if self.paused => {}
                None => return true,
            }
        }
    }

    /// A screen in place of the one before, below a line that says where it is.
    fn framed(&self, screen: &Screen, bin: u32, bins: &Bins, report: &Report) -> String {
        let (width, height) = keys::size();
        let state = match (self.paused, self.speed) {
            (true, _) => "stopped".to_owned(),
            (false, None) => "without waiting".to_owned(),
            (false, Some(speed)) => format!("×{speed}"),
        };
        let head = format!(
            "{} {}/{} {state}  space stop/go, n next, + - speed, q end",
            report.name,
            bin + 1,
            bins.len()
        );
        let lines = std::iter::once(head.as_str()).chain(screen.text.lines()).take(height.saturating_sub(1));
        let cut: Vec<String> = lines.map(|line| line.chars().take(width).collect()).collect();
        format!("\x1b[H\x1b[2J{}\n", cut.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::testkit::Tape;

    const MS: u64 = 1_000_000;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "cc1").file(1, 8, "/a");
        tape.open_call(100 * MS, 7, 1, 0, 3, "/a").open_call(1_900 * MS, 7, 1, 0, 4, "/a");
        tape.io(200 * MS, 7, 1, 1, (10, 10)).io(1_800 * MS, 7, 1, 2, (20, 20));
        tape
    }

    #[test]
    fn what_is_being_recorded_is_for_the_report_to_follow() {
        let (exit, out, messages) = tape().run(&["replay", "filetop", "--follow"]);
        assert_eq!((exit, out.as_str()), (2, ""));
        assert!(messages.contains("analyze TRACE filetop --follow"), "{messages}");
    }

    #[test]
    fn intervals_follow_each_other() {
        let (exit, out, messages) = tape().run(&["replay", "filetop", "--speed", "max", "--sort", "reads"]);
        let expected = concat!(
            "time      tid  comm  type  path  reads  writes  read_bytes  write_bytes\n",
            "12:01:07    7  cc1   file  /a        1       0          10            0\n",
            "\n",
            "time  tid  comm  type  path  reads  writes  read_bytes  write_bytes\n",
            "\n",
            "time      tid  comm  type  path  reads  writes  read_bytes  write_bytes\n",
            "12:01:09    7  cc1   file  /a        0       1           0           20\n",
        );
        assert_eq!((exit, messages.as_str()), (0, ""));
        assert!(out.starts_with(expected), "{out}");
    }

    #[test]
    fn events_are_listed_under_one_heading() {
        let (exit, out, _) = tape().run(&["replay", "opensnoop", "--speed", "max", "--full-path"]);
        assert_eq!((exit, out.matches("path").count(), out.matches("/a\n").count()), (0, 1, 2), "{out}");
        let compat = tape().run(&["replay", "opensnoop", "--speed", "max", "--compat"]).1;
        assert_eq!((compat.matches("COMM").count(), compat.lines().count()), (1, 3), "{compat}");
    }

    #[test]
    fn it_keeps_the_rhythm_and_obeys_keys() {
        let mut keys =
            vec![None, Some(Key::Faster), None, Some(Key::Pause), Some(Key::Step), Some(Key::Quit)]
                .into_iter();
        let mut asked = Vec::new();
        let mut wait = |time| {
            asked.push(time);
            keys.next().flatten()
        };
        let mut pace = Pace { speed: Some(2.0), paused: false };
        assert!(pace.reach(SECOND, &mut wait));
        assert!(pace.reach(SECOND, &mut wait));
        assert!(pace.reach(SECOND, &mut wait), "by one step");
        assert!(pace.paused);
        assert!(!pace.reach(SECOND, &mut wait), "it is ended while it stands");
        assert_eq!(asked[0], Some(Duration::from_millis(500)));
        assert!(asked[2].is_some_and(|time| time <= Duration::from_millis(250)), "{asked:?}");
        assert_eq!(asked[4..], [None, None]);
    }

    #[test]
    fn wrong_words_are_explained() {
        let (exit, _, messages) = tape().run(&["replay", "opensnop"]);
        assert!(exit == 2 && messages.contains("no report 'opensnop'"), "{messages}");
        let (exit, _, messages) = tape().run(&["replay", "opensnoop", "--speed", "fast"]);
        assert!(exit == 2 && messages.contains("or 'max'"), "{messages}");
        let (exit, _, messages) = tape().run(&["replay", "opensnoop", "--format", "json"]);
        assert!(exit == 2 && messages.contains("for people"), "{messages}");
    }
}
