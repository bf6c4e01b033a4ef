//! A set of files: their names, and the recording that goes from one to the next (`--rotate`).
//!
//! `trace.bin` becomes `trace.000001.bin`, `trace.000002.bin`, …: sorted by name they are in order. Each
//! is a whole trace; see DESIGN.md for what makes them a set. A file ends where an epoch ends, so it is a little
//! larger or older than asked for.

use super::clocks::Reading;
use super::disk::Syncing;
use super::limit::Limit;
use super::medium::{Border, Medium, Open, Progress, settle};
use super::output::Output;
use super::preface::Preface;
use crate::schema::parts::{GOES_ON, part_path, parts};
use crate::schema::{Batch, Kind};
use anyhow::{Context as _, Result, bail};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The names of a set, and the files of it that are there.
pub struct FileSet {
    path: PathBuf,
    part: u32,
    keep: usize,
    ended: VecDeque<PathBuf>,
}

impl FileSet {
    /// For a set named after `path`, of which at most `keep` files stay (0: all). An earlier set of that name goes, with
    /// `force`, since two recordings in one set could not be told apart by name.
    ///
    /// # Errors
    /// When there is such a set and `force` is off, or the directory cannot be read.
    pub fn new(path: &Path, keep: usize, force: bool) -> Result<Self> {
        if path.as_os_str() == "-" {
            bail!("a set of files cannot go to standard output: name a file with -o");
        }
        let old = parts(path).with_context(|| format!("look for an earlier set of {}", path.display()))?;
        for (_, old) in old {
            if !force {
                let (old, path) = (old.display(), path.display());
                bail!("{old} exists, of a recording before: choose another name than {path}, or --force");
            }
            fs::remove_file(&old).with_context(|| format!("remove {}", old.display()))?;
        }
        Ok(Self { path: path.to_owned(), part: 0, keep, ended: VecDeque::new() })
    }

    /// Creates the next file: its number, name, and where to write.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn begin(&mut self) -> Result<(u32, PathBuf, Output)> {
        let path = part_path(&self.path, self.part + 1);
        let output = Output::create(&path, false)?;
        self.part += 1;
        Ok((self.part, path, output))
    }

    /// A file is complete; older ones than are to be kept go.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn ended(&mut self, path: PathBuf) -> Result<()> {
        self.ended.push_back(path);
        while self.keep > 0 && self.ended.len() > self.keep {
            let Some(old) = self.ended.pop_front() else { break };
            fs::remove_file(&old).with_context(|| format!("remove {}", old.display()))?;
        }
        Ok(())
    }

    /// The complete files that are there.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.ended.iter().cloned().collect()
    }
}

/// Ended files wait for the disk beside the one that is written: no more than these.
const WAITING: usize = 4;

/// A recording that turns to the next file when one is large or old enough.
pub struct Rotation {
    preface: Preface,
    set: FileSet,
    limit: Limit,
    sync: bool,
    path: PathBuf,
    open: Open<Output>,
    began: Instant,
    /// Ended files that are not on the disk yet.
    ended: VecDeque<Syncing>,
    before: Progress,
}

impl Rotation {
    /// Begins the first file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(preface: Preface, mut set: FileSet, limit: Limit, sync: bool) -> Result<Self> {
        let (path, open) = begin(&preface, &mut set, sync, None)?;
        let (began, ended, before) = (Instant::now(), VecDeque::new(), Progress::default());
        Ok(Self { preface, set, limit, sync, path, open, began, ended, before })
    }

    /// Ends the file, and begins the next.
    fn next(&mut self) -> Result<()> {
        let (path, open) = begin(&self.preface, &mut self.set, self.sync, Some(Reading::now()))?;
        self.began = Instant::now();
        let path = std::mem::replace(&mut self.path, path);
        let (progress, sync, result) = std::mem::replace(&mut self.open, open).finish(GOES_ON);
        self.before.add(&progress.totals, progress.bytes);
        self.ended.extend(sync.map(|mut sync| {
            sync.end();
            sync
        }));
        result?;
        self.settle(WAITING)?;
        self.set.ended(path)
    }

    /// Takes notice of ended files that are on the disk, and waits until all but so many are.
    fn settle(&mut self, waiting: usize) -> Result<()> {
        let mut result = Ok(());
        while self.ended.front().is_some_and(|file| self.ended.len() > waiting || file.has_ended()) {
            result = result.and(settle(&mut self.before, self.ended.pop_front()));
        }
        result
    }
}

/// Creates the next file of a set.
fn begin(
    preface: &Preface,
    set: &mut FileSet,
    sync: bool,
    start: Option<Reading>,
) -> Result<(PathBuf, Open<Output>)> {
    let (part, path, output) = set.begin()?;
    let sync = if sync { output.keep_synced()? } else { None };
    Ok((path, Open::new(preface.open(output, part, start)?, sync)))
}

impl Medium for Rotation {
    fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        self.open.append(kind, epoch, batch)
    }

    fn keep(&mut self, kind: Kind, batch: &Batch) {
        self.preface.keep(kind, batch);
    }

    fn wants_turn(&self) -> bool {
        self.limit.reached(self.open.writer.bytes(), self.began.elapsed())
    }

    fn turn(&mut self, border: Border) -> Result<()> {
        if !self.wants_turn() {
            return self.settle(WAITING);
        }
        self.append(Kind::Stats, border.epoch.saturating_sub(1), &border.closing)?;
        self.next()?;
        self.append(Kind::Stats, border.epoch, &border.opening)
    }

    fn bytes(&self) -> u64 {
        self.before.bytes + self.open.writer.bytes()
    }

    fn progress(&self) -> Progress {
        let mut progress = self.before.clone();
        progress.add(self.open.writer.totals(), self.open.writer.bytes());
        progress.files = self.set.files();
        progress
    }

    fn ended(&mut self, at: u64) {
        self.open.writer.ends_at(at);
    }

    fn finish(mut self: Box<Self>, reason: &str) -> (Progress, Result<()>) {
        let earlier = self.settle(0);
        let (last, sync, result) = self.open.finish(reason);
        self.before.add(&last.totals, last.bytes);
        let synced = settle(&mut self.before, sync);
        let ended = self.set.ended(self.path);
        self.before.files = self.set.files();
        (self.before, earlier.and(result).and(synced).and(ended))
    }

    fn give_up(mut self: Box<Self>) -> Progress {
        // The recording has failed already; of how many rows is still to be counted.
        _ = self.settle(0);
        let last = self.open.give_up();
        self.before.add(&last.totals, last.bytes);
        self.before.lose(&last.lost);
        self.before.files = self.set.files();
        self.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_set_is_replaced_only_when_told_to() {
        let directory = std::env::temp_dir().join(format!("tapedeck-set-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for temporary files");
        let path = directory.join("t.bin");
        for name in ["t.000001.bin", "t.000007.bin", "t.12.bin", "t.00000x.bin", "u.000001.bin"] {
            fs::write(directory.join(name), "precious").expect("a file");
        }
        let refused = FileSet::new(&path, 0, false).err().expect("files are there").to_string();
        assert!(refused.contains("t.000001.bin exists") && refused.contains("--force"), "{refused}");
        let mut set = FileSet::new(&path, 2, true).expect("told to");
        assert_eq!(fs::read_dir(&directory).expect("ours").count(), 3, "what is not of the set stays");
        for _ in 0..4 {
            let (_, path, _) = set.begin().expect("a file");
            set.ended(path).expect("ours to remove");
        }
        let left = [3, 4].map(|part| (part, part_path(&path, part)));
        assert_eq!(parts(&path).expect("ours"), left);
        assert!(FileSet::new(Path::new("-"), 0, false).is_err());
        fs::remove_dir_all(directory).expect("ours");
    }
}
