//! Where the recorder's rows go: one file ([`Single`]), a set of files ([`super::set`]), or memory
//! until they are asked for ([`super::flight`]).

use super::disk::Syncing;
use super::preface::{Preface, plain};
use crate::schema::{Batch, Kind, TraceTotals, TraceWriter};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
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

    /// The recording has ended at that moment, ns: what is still to come tells of it, and is no part of it.
    fn ended(&mut self, at: u64);

    /// Ends the last file: what has been written, and whether it is on the disk.
    fn finish(self: Box<Self>, reason: &str) -> (Progress, Result<()>);

    /// Nothing more can be written: what is there of it.
    fn give_up(self: Box<Self>) -> Progress;
}

/// Rows by number of their table.
pub type Rows = BTreeMap<u16, u64>;

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
    /// Events that are in none of the files, since the disk would not have them.
    pub lost: Rows,
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

    /// Rows that no file will hold.
    pub fn lose(&mut self, rows: &Rows) {
        for (&table, &count) in rows {
            *self.lost.entry(table).or_default() += count;
        }
    }

    /// The same of rows that a file was taken to hold.
    pub fn take_back(&mut self, rows: &Rows) {
        self.lose(rows);
        for (&table, &count) in rows {
            if let Some(totals) = self.totals.get_mut(usize::from(table)) {
                totals.rows = totals.rows.saturating_sub(count);
            }
        }
    }
}

/// A file that is being written, and synced where it is one and that is wanted.
pub struct Open<W: Write> {
    /// Where rows go.
    pub writer: TraceWriter<W>,
    sync: Option<Syncing>,
}

impl<W: Write> Open<W> {
    /// After the head of the trace was written.
    #[must_use]
    pub fn new(writer: TraceWriter<W>, sync: Option<Syncing>) -> Self {
        Self { writer, sync }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// When they cannot be written: then neither can later ones.
    pub fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        self.writer.append(kind, epoch, batch).map_err(plain)?;
        if let Some(sync) = self.sync.as_mut().filter(|_| kind == Kind::Events) {
            sync.wrote(self.writer.bytes(), batch.table, batch.rows as u64);
        }
        Ok(())
    }

    /// What is in it so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        progress.add(self.writer.totals(), self.writer.bytes());
        progress
    }

    /// Writes its end: what is in it, and what waits for the disk.
    pub fn finish(self, reason: &str) -> (Progress, Option<Syncing>, Result<()>) {
        let mut progress = self.progress();
        let result = self.writer.finish(reason).map_err(plain).context("end the file");
        let result = result.map(|(_, bytes)| progress.bytes = bytes);
        (progress, self.sync, result)
    }

    /// What is on the disk of a file that cannot be ended.
    #[must_use]
    pub fn give_up(self) -> Progress {
        let mut progress = self.progress();
        // That something is amiss is known already; of how many rows is not.
        _ = settle(&mut progress, self.sync);
        progress
    }
}

/// Waits for the disk, and takes back what it would not have.
///
/// # Errors
/// When there was something.
pub fn settle(progress: &mut Progress, sync: Option<Syncing>) -> Result<()> {
    let Some(mut sync) = sync else { return Ok(()) };
    let result = sync.wait();
    progress.take_back(&sync.lost());
    result.context("sync the file")
}

/// One file, or a pipe, or any other sink.
pub struct Single<W: Write>(Open<W>);

impl<W: Write> Single<W> {
    /// Writes the head of the trace; `sync` is what syncs the sink.
    ///
    /// # Errors
    /// When the sink refuses.
    pub fn new(preface: &Preface, sink: W, sync: Option<Syncing>) -> Result<Self> {
        Ok(Self(Open::new(preface.open(sink, 0, None)?, sync)))
    }
}

impl<W: Write + Send> Medium for Single<W> {
    fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        self.0.append(kind, epoch, batch)
    }

    fn keep(&mut self, _kind: Kind, _batch: &Batch) {}

    fn bytes(&self) -> u64 {
        self.0.writer.bytes()
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }

    fn ended(&mut self, at: u64) {
        self.0.writer.ends_at(at);
    }

    fn finish(self: Box<Self>, reason: &str) -> (Progress, Result<()>) {
        let (mut progress, sync, result) = self.0.finish(reason);
        let synced = settle(&mut progress, sync);
        (progress, result.and(synced))
    }

    fn give_up(self: Box<Self>) -> Progress {
        self.0.give_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_in_a_file_takes_nothing_from_it() {
        let mut progress = Progress::default();
        progress.add(&[TraceTotals { rows: 10, ..TraceTotals::default() }], 100);
        progress.lose(&[(0, 4)].into());
        assert_eq!((progress.totals[0].rows, progress.lost[&0]), (10, 4));
        progress.take_back(&[(0, 3)].into());
        assert_eq!((progress.totals[0].rows, progress.lost[&0]), (7, 7));
    }
}
