//! Where a recording goes, as the command line says: one file or pipe, a rotating set, or memory.

use super::args::Args;
use super::flight::{self, Flight};
use super::hidden::{self, Hiding};
use super::limit::Limit;
use super::medium::{Medium, Single};
use super::output::{Output, free_space};
use super::preface::Preface;
use super::recorder::SMALLEST_BOUND;
use super::set::{FileSet, Rotation};
use crate::schema::parts::part_path;
use crate::schema::{Host, TableDef};
use anyhow::{Context as _, Result, bail};
use indicatif::HumanBytes;
use std::path::Path;
use std::time::Duration;

/// The place, claimed before anything is loaded.
pub enum Target {
    /// One file, or standard output.
    One(Output),
    /// A set of files.
    Set(FileSet),
}

impl Target {
    /// Checks the bounds, and creates the file.
    ///
    /// # Errors
    /// When the place cannot be written, or a bound leaves no room.
    pub fn new(args: &Args) -> Result<Self> {
        let path = args.output.as_deref().context("-o FILE is required")?;
        if let Some(bound) = args.max_size.filter(|&bound| bound < SMALLEST_BOUND) {
            let (bound, least) = (HumanBytes(bound), HumanBytes(SMALLEST_BOUND));
            bail!("--max-size {bound}: less than {least} leaves no room to end well");
        }
        if let Some(size) = args.flight.and_then(|limit| limit.size).filter(|&size| size < flight::SMALLEST) {
            bail!("--flight {}: it needs at least {}", HumanBytes(size), HumanBytes(flight::SMALLEST));
        }
        let zero = |limit: &Limit| limit.size == Some(0) || limit.time == Some(Duration::ZERO);
        if args.rotate.as_ref().is_some_and(zero) {
            bail!("--rotate 0: each file would end before its first row: write 1GiB, 10m or both");
        }
        if args.keep == Some(0) {
            bail!("--keep 0 would leave no file: keep 1 or more, or leave it out to keep all");
        }
        if let (Some(keep), None, None) = (args.keep, &args.rotate, &args.flight) {
            bail!("--keep {keep}: of one file there is nothing to keep: add --rotate or --flight");
        }
        if let Some(free) = free_if_low(path, args.min_free) {
            let (free, least) = (HumanBytes(free), HumanBytes(args.min_free));
            bail!("only {free} are free for {}, less than the {least} of --min-free", path.display());
        }
        if args.rotate.is_some() || args.flight.is_some() {
            return Ok(Self::Set(FileSet::new(path, args.keep.unwrap_or(0), args.force)?));
        }
        Output::create(path, args.force).map(Self::One)
    }

    /// What takes the rows.
    ///
    /// # Errors
    /// When the head of the first file cannot be written, or the key for what is to be hidden cannot be read.
    pub fn medium(self, args: &Args, mut host: Host, mut tables: Vec<TableDef>) -> Result<Box<dyn Medium>> {
        let Some(redaction) = hidden::redaction(args)? else {
            return self.plain_medium(args, Preface::new(host, args.level, tables));
        };
        let readable = tables.clone();
        hidden::hide_in_head(args, &redaction, &mut host, &mut tables);
        let medium = self.plain_medium(args, Preface::new(host, args.level, tables))?;
        Ok(Box::new(Hiding::new(medium, redaction, readable)))
    }

    fn plain_medium(self, args: &Args, preface: Preface) -> Result<Box<dyn Medium>> {
        let sync = !args.no_sync;
        Ok(match (self, args.flight) {
            (Self::One(output), _) => {
                let sync = if sync { output.keep_synced()? } else { None };
                Box::new(Single::new(&preface, output, sync)?)
            }
            (Self::Set(set), Some(limit)) => Box::new(Flight::new(preface, set, limit)?),
            (Self::Set(set), None) => {
                Box::new(Rotation::new(preface, set, args.rotate.unwrap_or_default(), sync)?)
            }
        })
    }

    /// Takes back what a recording left that could not begin.
    pub fn withdraw(args: &Args) {
        let Some(path) = args.output.as_deref() else { return };
        let rotates = args.rotate.is_some();
        Output::remove(&if rotates { part_path(path, 1) } else { path.to_owned() });
    }
}

/// How much is free, if that is too little; a pipe needs no space.
#[must_use]
pub fn free_if_low(path: &Path, least: u64) -> Option<u64> {
    let to_disk = path.as_os_str() != "-";
    free_space(path).filter(|&free| to_disk && free < least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn bounds_that_mean_nothing_are_refused() {
        let told = |words: &str| {
            let line = format!("capture -o /dev/null/none.bin {words}");
            let args = Args::try_parse_from(line.split(' ')).expect("well formed");
            Target::new(&args).err().map_or(String::new(), |error| format!("{error:#}"))
        };
        for rotate in ["0", "0B", "10m,0B", "0s/1GiB"] {
            assert!(told(&format!("--rotate {rotate}")).contains("before its first row"), "{rotate}");
        }
        assert!(told("--keep 3").contains("add --rotate or --flight"));
        assert!(told("--rotate 1s --keep 0").contains("leave it out to keep all"));
        for words in ["--rotate 1s --keep 3", "--flight 30s --keep 3", "--rotate 1s"] {
            assert!(!told(words).contains("--keep") && !told(words).contains("first row"), "{}", told(words));
        }
    }
}
