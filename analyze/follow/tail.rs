//! A recording that may go on: in its file, and in the next one of its set.
//!
//! The recorder begins a file before it ends the one before, so whether there is a next one is known when a file has
//! its footer. Files that the recorder removes (`--keep`) stay readable while they are open; they are let go when their
//! intervals are printed, so that the disk gets its room back.

use super::part::Part;
use crate::analyze::args::Call;
use crate::analyze::clock::Clock;
use crate::analyze::error::Exit;
use crate::analyze::escape::visible;
use crate::analyze::files;
use crate::analyze::ledger::{Losses, not_here};
use crate::analyze::trace::{LAG, Trace, cut, last_moment};
use crate::analyze::window::Window;
use crate::schema::reader::Frame;
use crate::schema::{FormatError, Kind, TraceReader, parts};
use anyhow::Result;
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

/// The files of one recording, in order.
pub(super) struct Tail {
    name: String,
    parts: Vec<Part>,
    /// Nothing more will come.
    pub ended: bool,
    /// Damage that was told of: it is in the way of each interval, and news once.
    told: HashSet<String>,
    /// Frames of readings of its clocks that were looked at.
    clock_frames: usize,
}

/// What comes behind a file that has ended.
enum Next {
    Begun(Box<Part>),
    /// A file that says nothing yet.
    Awaited,
    Nothing,
}

impl Tail {
    /// Waits for the begin of each file, and puts those of one recording together.
    pub fn open(paths: &[PathBuf]) -> Result<Vec<Self>> {
        let mut tails: Vec<Self> = Vec::new();
        for path in paths {
            let part = Part::open(path)?;
            let same = |tail: &&mut Self| part.reader.is_of_the_recording_of(&tail.parts[0].reader);
            match tails.iter_mut().find(same) {
                Some(tail) => tail.parts.push(part),
                None => tails.push(Self::new(path.display().to_string(), part)),
            }
        }
        for tail in &mut tails {
            tail.parts.sort_by_key(Part::number);
        }
        Ok(tails)
    }

    /// One file, for a start.
    pub fn new(name: String, part: Part) -> Self {
        Self { name, parts: vec![part], ended: false, told: HashSet::new(), clock_frames: 0 }
    }

    /// Reads what is new, in files that are new too; whether it is the end.
    pub fn refresh(&mut self) -> Result<bool> {
        self.parts.iter_mut().try_for_each(Part::refresh)?;
        while self.last().ended && !self.ended {
            match self.next()? {
                Next::Begun(part) => self.parts.push(*part),
                Next::Awaited => break,
                Next::Nothing => {
                    self.parts.iter_mut().try_for_each(Part::end)?;
                    self.ended = true;
                }
            }
        }
        Ok(self.ended)
    }

    fn last(&self) -> &Part {
        self.parts.last().expect("a recording has a file")
    }

    fn next(&self) -> Result<Next> {
        let last = self.last();
        let Some(set) = last.set() else { return Ok(Next::Nothing) };
        let files = parts::parts(&set).map_err(|error| {
            files::unusable(&set.display().to_string(), &FormatError::io("look for more files")(error))
        })?;
        let later = files.into_iter().filter(|(number, _)| *number > last.number());
        for (_, path) in later {
            let Some(part) = Part::found(path)? else { continue };
            if part.reader.is_of_the_recording_of(&last.reader) {
                return Ok(Next::Begun(Box::new(part)));
            }
            // A name alone may be somebody else's: it is worth waiting for only where another file was promised.
            if !part.has_begun() && last.goes_on() {
                return Ok(Next::Awaited);
            }
        }
        Ok(Next::Nothing)
    }

    /// Says so if what is there ends before the recording did.
    pub fn how_it_ended(&self, messages: &mut dyn Write) -> Result<Exit> {
        let missing = self.last().goes_on().then(|| {
            let next = self.last().number() + 1;
            format!("the recording goes on, and no file with its part {next} or a later one is here")
        });
        let cuts = self.parts.iter().filter_map(|part| cut(&part.reader, (0, "the file")));
        let mut exit = Exit::Ok;
        for what in cuts.chain(missing) {
            writeln!(messages, "analyze: {}: {}", visible(&self.name), visible(&what))?;
            exit = Exit::Incomplete;
        }
        Ok(exit)
    }

    /// The frames that came since this was last asked.
    pub fn news(&mut self) -> impl Iterator<Item = &Frame> {
        self.parts.iter_mut().flat_map(Part::news)
    }

    /// The first moment that it tells of.
    pub fn begin(&self) -> u64 {
        self.parts[0].begin()
    }

    /// Up to which moment everything is there.
    pub fn complete(&self, ended: bool) -> u64 {
        if ended {
            return self.end().saturating_add(1);
        }
        self.parts.iter().map(Part::last).max().unwrap_or(0).saturating_sub(LAG)
    }

    /// The last moment of all of it, as a trace of these files has it.
    fn end(&self) -> u64 {
        let frames = self.parts.iter().flat_map(|part| part.reader.frames.iter().chain(&part.reader.cut));
        let whole = self.parts.iter().all(|part| part.reader.footer.is_some());
        let footer = self.last().reader.footer.as_ref().filter(|_| whole);
        last_moment(frames, footer).unwrap_or(self.parts[0].reader.host.start_mono)
    }

    /// Lets go of files that are gone, if all up to this moment is answered, also of the time of parts that are not
    /// there between it and the next one. Others stay: an interval may begin with what
    /// one of them has, such as a snapshot or a send without its answer.
    pub fn forget(&mut self, until: u64) {
        while let [first, next, ..] = &self.parts[..]
            && first.last() < until
            && next.reader.host.start_mono <= until
            && !first.is_there()
        {
            self.parts.remove(0);
        }
    }

    /// Leaves the damage and the parts that were not told of before. That parts went while others were read is what the
    /// recorder does with `--keep`; those that a file says it lacks were gone before.
    pub fn only_news(&mut self, losses: &mut Losses) {
        losses.damage.retain(|place| self.told.insert(place.clone()));
        losses.absent.retain(|parts| self.told.insert(parts.clone()));
        let before: Vec<String> =
            self.parts.iter().flat_map(|part| &part.reader.absent).map(not_here).collect();
        let meanwhile = losses.absent.iter_mut().filter(|parts| !before.contains(parts));
        meanwhile.for_each(|parts| parts.push_str(": removed (--keep) before being read"));
    }

    /// What its clocks have said, if they have said more since this was last asked.
    pub fn clock_news(&mut self, call: &Call) -> Result<Option<Clock>> {
        let table = self.parts[0].reader.table("clock").map(|def| def.number);
        let told = |frame: &Frame| frame.header.kind.has_rows() && Some(frame.header.table) == table;
        let frames = self.frames().filter(|frame| told(frame)).count();
        if std::mem::replace(&mut self.clock_frames, frames) == frames {
            return Ok(None);
        }
        Ok(Some(self.having(call, told)?.clock))
    }

    /// The trace as far as a span needs it: the names of the epochs of its events, and what was counted before its
    /// end (the ledger is ahead of the events, which would look like a loss).
    pub fn trace(&self, call: &Call, window: Option<Window>) -> Result<Trace> {
        let inside = |frame: &&Frame| {
            let header = &frame.header;
            header.kind == Kind::Events
                && window.is_none_or(|window| window.touches(header.min_time, header.max_time))
        };
        let first = self.frames().filter(inside).map(|frame| frame.header.epoch).min().unwrap_or(0);
        let ledger = self.parts[0].reader.table("ledger").map(|def| def.number);
        self.having(call, |frame| match frame.header.kind {
            Kind::Identity => frame.header.epoch.saturating_add(1) >= first,
            Kind::Stats if Some(frame.header.table) == ledger => {
                window.is_none_or(|window| frame.header.max_time < window.to)
            }
            _ => true,
        })
    }

    fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.parts.iter().flat_map(|part| &part.reader.frames)
    }

    /// A trace of the frames that are needed.
    fn having(&self, call: &Call, needed: impl Fn(&Frame) -> bool) -> Result<Trace> {
        let views = self.parts.iter().map(|part| part.reader.view(&needed)).collect::<Result<Vec<_>, _>>();
        let all = views.and_then(TraceReader::join);
        let all = all.map_err(|error| files::unusable(&self.name, &error))?;
        Trace::new(self.name.clone(), all, call.options.threads, call.options.utc)
    }
}
