//! From what the command line names to traces.
//!
//! A folder stands for the traces in it, `-` for standard input. Files of one recording (`capture --rotate`)
//! are one trace; anything else is a trace of its own, and reports answer for each side by side.

use super::error::{Exit, Failure};
use super::options::Options;
use super::trace::Trace;
use crate::schema::{TraceReader, frame};
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Opens everything that is named.
pub(crate) fn open(paths: &[PathBuf], options: &Options) -> Result<Vec<Trace>> {
    let mut recordings: Vec<(String, Vec<TraceReader>)> = Vec::new();
    for path in paths {
        for file in expand(path)? {
            let name = file.display().to_string();
            let reader = TraceReader::open(&file)
                .map_err(|error| Failure::new(Exit::Unusable, format!("{name}: {error}")))?;
            let same = |known: &&mut (String, Vec<TraceReader>)| reader.is_of_the_recording_of(&known.1[0]);
            match recordings.iter_mut().find(same) {
                Some(known) => known.1.push(reader),
                None => recordings.push((name, vec![reader])),
            }
        }
    }
    let trace = |(name, mut files): (String, Vec<TraceReader>)| {
        let (name, reader) = match files.len() {
            1 => (name, files.remove(0)),
            many => {
                let reader = TraceReader::join(files)
                    .map_err(|error| Failure::new(Exit::Unusable, format!("{name}: {error}")))?;
                (format!("{name} and {} more", many - 1), reader)
            }
        };
        Trace::new(name, reader, options.threads, options.utc)
    };
    recordings.into_iter().map(trace).collect()
}

/// The traces of a folder by name, or the file itself.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = path.display();
    let entries = std::fs::read_dir(path).with_context(|| format!("read {name}"))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && is_trace(path))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(Exit::Unusable, format!("{name}: no trace is in this folder")).into());
    }
    Ok(files)
}

/// What else is in a folder is none of our business, a damaged trace is.
fn is_trace(path: &Path) -> bool {
    let mut begin = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin[8..] == frame::SYNC
}
