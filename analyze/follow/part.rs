//! One file, or a pipe, that may grow.

use super::POLL;
use crate::analyze::error::{Exit, Failure};
use crate::analyze::files::{self, is_for_want_of_handles};
use crate::schema::reader::Frame;
use crate::schema::{FormatError, Kind, TraceReader, parts, spool};
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A whole recording, or a part of one.
pub(super) struct Part {
    path: PathBuf,
    /// What is there so far.
    pub reader: TraceReader,
    /// Nothing more will come.
    pub ended: bool,
    /// Frames that were looked at.
    seen: usize,
    /// Of a pipe: nothing more will come.
    closed: Option<Arc<AtomicBool>>,
}

impl Part {
    /// Waits for the begin of a trace.
    pub fn open(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let (file, closed) = if path.is_file() {
            (File::open(path).map_err(|error| unusable(path, &FormatError::io("open")(error)))?, None)
        } else {
            let (file, closed) = copied(path).with_context(name)?;
            (file, Some(closed))
        };
        let reader = TraceReader::follow(file).map_err(|error| unusable(path, &error))?;
        let mut part = Self { path: path.to_owned(), reader, ended: false, seen: 0, closed };
        loop {
            part.refresh()?;
            if part.has_begun() {
                return Ok(part);
            }
            if part.ended {
                let what = format!("{}: the pipe ended before a trace began", path.display());
                return Err(Failure::new(Exit::Unusable, what).into());
            }
            std::thread::sleep(POLL);
        }
    }

    /// A file that another process has made, as far as it is there; `None`: there is no trace in it.
    ///
    /// # Errors
    /// When too many files are open to look.
    pub fn found(path: PathBuf) -> Result<Option<Self>> {
        let opened = File::open(&path).map_err(FormatError::io("open")).and_then(TraceReader::follow);
        match opened {
            Ok(reader) => {
                let ended = reader.footer.is_some();
                Ok(Some(Self { path, reader, ended, seen: 0, closed: None }))
            }
            Err(error) if is_for_want_of_handles(&error) => Err(unusable(&path, &error).into()),
            Err(_) => Ok(None),
        }
    }

    /// Whether it is known what its rows are.
    pub fn has_begun(&self) -> bool {
        !self.reader.tables.is_empty()
    }

    /// Reads what is new.
    pub fn refresh(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        // Asked before reading: what came until then is read below.
        let over = self.closed.as_ref().is_some_and(|closed| closed.load(Ordering::Acquire));
        self.reader.refresh().map_err(|error| unusable(&self.path, &error))?;
        if over && self.reader.footer.is_none() {
            self.reader.end().map_err(|error| unusable(&self.path, &error))?;
        }
        self.ended = over || self.reader.footer.is_some();
        Ok(())
    }

    /// Another file has taken its place: what is cut at its end will not come.
    pub fn end(&mut self) -> Result<()> {
        if self.reader.footer.is_some() || !self.reader.growing {
            return Ok(());
        }
        self.ended = true;
        Ok(self.reader.end().map_err(|error| unusable(&self.path, &error))?)
    }

    /// The number in its recording; 0: it is a whole one.
    pub fn number(&self) -> u32 {
        self.reader.host.part
    }

    /// What the set is called that it is a part of.
    pub fn set(&self) -> Option<PathBuf> {
        (self.number() > 0).then(|| parts::set_path(&self.path, self.number())).flatten()
    }

    /// Whether its last words are that another file follows.
    pub fn goes_on(&self) -> bool {
        self.reader.footer.as_ref().is_some_and(|footer| footer.reason == parts::GOES_ON)
    }

    /// Whether the file still has its name.
    pub fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// The frames that came since this was last asked.
    pub fn news(&mut self) -> &[Frame] {
        let from = std::mem::replace(&mut self.seen, self.reader.frames.len());
        &self.reader.frames[from..]
    }

    /// The first moment that it tells of.
    pub fn begin(&self) -> u64 {
        let events = self.reader.frames.iter().filter(|frame| frame.header.kind == Kind::Events);
        let first = events.map(|frame| frame.header.min_time).min();
        first.map_or(self.reader.host.start_mono, |first| first.min(self.reader.host.start_mono))
    }

    /// The last moment that it tells of.
    pub fn last(&self) -> u64 {
        let all = self.reader.frames.iter().chain(&self.reader.cut);
        let latest = |counts: fn(Kind) -> bool| {
            let frames = all.clone().filter(|frame| counts(frame.header.kind));
            frames.map(|frame| frame.header.max_time).max().unwrap_or(0)
        };
        match &self.reader.footer {
            // What the recorder says of itself it still says when nothing is recorded any more.
            Some(footer) => footer.end_mono.max(latest(|kind| kind == Kind::Events)),
            None => latest(Kind::has_rows),
        }
    }
}

fn unusable(path: &Path, error: &FormatError) -> Failure {
    files::unusable(&path.display().to_string(), error)
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
