//! The flight recorder: the last seconds stay in memory, as finished frames, until something asks for them.
//!
//! Rows are packed and compressed as always, and kept by epoch; an epoch stands alone, so the oldest can go
//! when they are too old or too large together. A dump takes what is there, gives it a file of a set
//! ([`super::set`]), and starts anew: no row is in two dumps. It is written by a thread of its own, and what
//! it has not yet written still counts against the memory.

use super::clocks::Reading;
use super::limit::Limit;
use super::medium::{Border, Dumped, Medium, Progress, Rows};
use super::preface::{Preface, plain};
use super::set::FileSet;
use crate::schema::{Batch, Kind, Packed, Packer, TraceTotals, TraceWriter};
use anyhow::{Context as _, Result};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

/// With less, one epoch would not fit.
pub const SMALLEST: u64 = 4 << 20;
/// As much as fits, unless a time is given.
const LARGEST: usize = 512 << 20;
/// The memory holds at least this many epochs, so that what goes is a small part of it.
const EPOCHS: u32 = 8;

/// The last seconds.
pub struct Flight {
    preface: Preface,
    packer: Packer,
    /// ns.
    window: u64,
    capacity: usize,
    ended: VecDeque<Epoch>,
    current: Epoch,
    set: FileSet,
    writing: Option<Writing>,
    /// Bytes that a dump has still to write.
    unwritten: Arc<AtomicUsize>,
    /// When the recording ended, ns.
    over: Option<u64>,
    progress: Progress,
}

type Done = (Vec<TraceTotals>, u64);

/// A dump on its way.
struct Writing {
    path: PathBuf,
    /// Events that it takes from the memory.
    rows: Rows,
    thread: JoinHandle<Result<Done>>,
}

/// What belongs together.
struct Epoch {
    began: Reading,
    /// What the ledger carries over if a file begins here.
    opening: Option<Packed>,
    /// … if one ends here.
    closing: Option<Packed>,
    frames: Vec<Packed>,
    bytes: usize,
    newest: u64,
    rows: Rows,
}

impl Epoch {
    fn new(opening: Option<Packed>) -> Self {
        Self {
            began: Reading::now(),
            opening,
            closing: None,
            frames: Vec::new(),
            bytes: 0,
            newest: 0,
            rows: Rows::new(),
        }
    }

    fn push(&mut self, kind: Kind, frame: Packed) {
        self.bytes += frame.size();
        if kind == Kind::Events {
            self.newest = self.newest.max(frame.max_time());
            let (table, rows) = frame.rows();
            *self.rows.entry(table).or_default() += rows;
        }
        self.frames.push(frame);
    }

    fn events(&self) -> u64 {
        self.rows.values().sum()
    }
}

/// Events of epochs, by table.
fn rows_of<'a>(epochs: impl IntoIterator<Item = &'a Epoch>) -> Rows {
    let mut sum = Rows::new();
    for (&table, rows) in epochs.into_iter().flat_map(|epoch| &epoch.rows) {
        *sum.entry(table).or_default() += rows;
    }
    sum
}

impl Flight {
    /// Keeps as much as `limit` says.
    ///
    /// # Errors
    /// When zstd cannot be set up.
    pub fn new(preface: Preface, set: FileSet, limit: Limit) -> Result<Self> {
        let bytes = |size| usize::try_from(size).unwrap_or(usize::MAX);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self {
            packer: preface.packer()?,
            preface,
            window: limit.time.map_or(u64::MAX, nanos),
            capacity: limit.size.map_or(LARGEST, bytes),
            ended: VecDeque::new(),
            current: Epoch::new(None),
            set,
            writing: None,
            unwritten: Arc::default(),
            over: None,
            progress: Progress::default(),
        })
    }

    /// Lets go of epochs that are too old, or too much.
    fn trim(&mut self) {
        let horizon = super::host::now().saturating_sub(self.window);
        let kept: usize = self.ended.iter().map(|epoch| epoch.bytes).sum();
        let mut bytes = kept + self.current.bytes + self.unwritten.load(Ordering::Relaxed);
        while let Some(oldest) = self.ended.front()
            && (bytes > self.capacity || oldest.newest.max(oldest.began.mono) < horizon)
        {
            bytes -= oldest.bytes;
            self.progress.let_go += oldest.events();
            self.ended.pop_front();
        }
    }

    fn carried(&mut self, epoch: u32, rows: &Batch) -> Result<Option<Packed>> {
        let pack = || self.packer.pack(Kind::Stats, epoch, rows);
        (rows.rows > 0).then(pack).transpose().map_err(plain)
    }

    /// Takes the result of a dump; waits for it. What a dump was to hold that failed is lost: it is in no other.
    fn reap(&mut self) {
        let Some(Writing { path, rows, thread }) = self.writing.take() else { return };
        match thread.join().expect("the dump's thread does not panic") {
            Ok((totals, bytes)) => {
                self.progress.add(&totals, bytes);
                if let Err(error) = self.set.ended(path) {
                    self.progress.faults.push(format!("{error:#}"));
                }
            }
            Err(error) => {
                self.progress.faults.push(format!("{error:#}"));
                self.progress.lose(&rows);
            }
        }
        self.progress.files = self.set.files();
    }
}

impl Medium for Flight {
    fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        if batch.rows > 0 {
            let frame = self.packer.pack(kind, epoch, batch).map_err(plain)?;
            self.current.push(kind, frame);
        }
        Ok(())
    }

    fn keep(&mut self, kind: Kind, batch: &Batch) {
        self.preface.keep(kind, batch);
    }

    fn wants_turn(&self) -> bool {
        self.current.bytes >= self.capacity / EPOCHS as usize
    }

    fn turn(&mut self, border: Border) -> Result<()> {
        self.current.closing = self.carried(border.epoch.saturating_sub(1), &border.closing)?;
        let next = Epoch::new(self.carried(border.epoch, &border.opening)?);
        self.ended.push_back(std::mem::replace(&mut self.current, next));
        self.trim();
        if self.writing.as_ref().is_some_and(|dump| dump.thread.is_finished()) {
            self.reap();
        }
        Ok(())
    }

    fn longest_epoch(&self) -> Duration {
        let part = Duration::from_nanos(self.window) / EPOCHS;
        part.clamp(Duration::from_millis(500), Duration::from_secs(10))
    }

    fn dump(&mut self, why: &str, done: Vec<Sender<Dumped>>) -> Result<()> {
        self.reap();
        let (part, path, output) = self.set.begin()?;
        let epochs = std::mem::take(&mut self.ended);
        let rows = rows_of(&epochs);
        self.unwritten.store(epochs.iter().map(|epoch| epoch.bytes).sum(), Ordering::Relaxed);
        let start = epochs.front().map(|epoch| epoch.began);
        let (preface, unwritten, why) = (self.preface.clone(), Arc::clone(&self.unwritten), why.to_owned());
        let to = path.clone();
        let over = self.over;
        let work = move || {
            let result = preface.open(output, part, start).and_then(|mut to| {
                if let Some(at) = over {
                    to.ends_at(at);
                }
                write(to, epochs, &unwritten, &why)
            });
            unwritten.store(0, Ordering::Relaxed);
            let result = result.with_context(|| format!("write {}", to.display()));
            let told = result.as_ref().map(|_| to).map_err(|error| format!("{error:#}"));
            // Who asked may be gone by now.
            for done in done {
                let _ = done.send(told.clone());
            }
            result
        };
        match std::thread::Builder::new().name("dump".into()).spawn(work) {
            Ok(thread) => self.writing = Some(Writing { path, rows, thread }),
            Err(error) => {
                self.progress.lose(&rows);
                return Err(error).context("start a thread for the dump");
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.progress.bytes
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn ended(&mut self, at: u64) {
        self.over = Some(at);
    }

    fn finish(self: Box<Self>, _reason: &str) -> (Progress, Result<()>) {
        (self.give_up(), Ok(()))
    }

    fn give_up(mut self: Box<Self>) -> Progress {
        self.reap();
        self.progress.let_go += self.ended.iter().chain([&self.current]).map(Epoch::events).sum::<u64>();
        self.progress
    }
}

/// Writes epochs one after the other. What the ledger carries over counts at both ends of the file only.
fn write(
    mut to: TraceWriter<super::output::Output>,
    mut epochs: VecDeque<Epoch>,
    unwritten: &AtomicUsize,
    why: &str,
) -> Result<Done> {
    let opening = epochs.front_mut().and_then(|first| first.opening.take());
    let closing = epochs.back_mut().and_then(|last| last.closing.take());
    let frames = epochs.into_iter().flat_map(|epoch| epoch.frames);
    for frame in opening.into_iter().chain(frames).chain(closing) {
        let size = frame.size();
        to.append_packed(frame).map_err(plain)?;
        let less = |left: usize| Some(left.saturating_sub(size));
        _ = unwritten.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
    let totals = to.totals().to_vec();
    let (output, bytes) = to.finish(&format!("dumped: {why}")).map_err(plain)?;
    output.sync().context("sync the file")?;
    Ok((totals, bytes))
}
