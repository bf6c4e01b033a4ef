//! Where the recorder's rows go: one file ([`Single`]), a set of files ([`super::set`]), or memory
//! until they are asked for ([`super::flight`]).

use super::preface::{Preface, plain};
use crate::schema::{Batch, Kind, TraceTotals, TraceWriter};
use anyhow::{Context as _, Result, bail};
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Takes the rows of a recording.
pub trait Medium: Send {
    /// Takes rows of an epoch.
    ///
    /// # Errors
    /// When they cannot be written: then neither can later ones.
    fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()>;

    /// Rows that hold for the whole recording, so that every further file needs them too.
    fn keep(&mut self, kind: Kind, batch: &Batch);

    /// Whether the epoch should end, because the next file is due.
    fn wants_turn(&self) -> bool {
        false
    }

    /// An epoch has ended: here one file may end and another begin.
    ///
    /// # Errors
    /// When the next file cannot be begun.
    fn turn(&mut self, _border: Border) -> Result<()> {
        Ok(())
    }

    /// No epoch may be longer.
    fn longest_epoch(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Writes out what is in memory, and tells `done` when that is on its way to the disk.
    ///
    /// # Errors
    /// When this medium keeps nothing in memory, or a file cannot be begun.
    fn dump(&mut self, _why: &str, _done: Vec<Sender<Dumped>>) -> Result<()> {
        bail!("this recording has no memory to dump: start it with --flight")
    }

    /// Bytes of all files so far.
    fn bytes(&self) -> u64;

    /// What has been written.
    fn progress(&self) -> Progress;

    /// Ends the last file.
    ///
    /// # Errors
    /// When it cannot be written.
    fn finish(self: Box<Self>, reason: &str) -> Result<Progress>;
}

/// What the ledger needs where a file ends: rows for the old one and for the new one.
pub struct Border {
    /// The new epoch.
    pub epoch: u32,
    /// Last rows of the old file.
    pub closing: Batch,
    /// First rows of the new file.
    pub opening: Batch,
}

/// What became of a dump: its file, or why there is none.
pub type Dumped = std::result::Result<PathBuf, String>;

/// What a medium has written.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Per table, over all files.
    pub totals: Vec<TraceTotals>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files of a set that were ended so far.
    pub files: Vec<PathBuf>,
    /// Events that left the memory without a dump.
    pub let_go: u64,
    /// Dumps that failed, and why.
    pub faults: Vec<String>,
}

impl Progress {
    /// Adds what a file holds.
    pub fn add(&mut self, totals: &[TraceTotals], bytes: u64) {
        self.bytes += bytes;
        self.totals.resize(self.totals.len().max(totals.len()), TraceTotals::default());
        for (sum, one) in self.totals.iter_mut().zip(totals) {
            sum.rows += one.rows;
            sum.raw_bytes += one.raw_bytes;
            sum.stored_bytes += one.stored_bytes;
        }
    }
}

/// One file, or a pipe, or any other sink.
pub struct Single<W: Write> {
    writer: TraceWriter<W>,
    _sync: Option<Sender<()>>,
}

impl<W: Write> Single<W> {
    /// Writes the head of the trace; `sync` lives as long.
    ///
    /// # Errors
    /// When the sink refuses.
    pub fn new(preface: &Preface, sink: W, sync: Option<Sender<()>>) -> Result<Self> {
        Ok(Self { writer: preface.open(sink, 0, None)?, _sync: sync })
    }
}

impl<W: Write + Send> Medium for Single<W> {
    fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        self.writer.append(kind, epoch, batch).map_err(plain)
    }

    fn keep(&mut self, _kind: Kind, _batch: &Batch) {}

    fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    fn progress(&self) -> Progress {
        Progress { totals: self.writer.totals().to_vec(), bytes: self.writer.bytes(), ..Progress::default() }
    }

    fn finish(self: Box<Self>, reason: &str) -> Result<Progress> {
        let totals = self.writer.totals().to_vec();
        let (_, bytes) = self.writer.finish(reason).map_err(plain).context("end the file")?;
        Ok(Progress { totals, bytes, ..Progress::default() })
    }
}
