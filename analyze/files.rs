//! From what the command line names to traces.
//!
//! A folder stands for the traces in it, a quoted pattern for the files it matches, `-` for standard input. Files of one recording (`capture --rotate`)
//! are one trace; anything else is a trace of its own, and reports answer for each side by side. Of several files
//! one that cannot be used is named, and the others answer.
//!
//! A file that a recorder is writing is read as far as all is there. Files of a set come and go meanwhile: one that has
//! just begun says nothing yet, and one that `--keep` has removed is as if it had been before; both are named, and no loss.

use super::error::{Exit, Failure};
use super::escape::visible;
use super::options::Options;
use super::pattern;
use super::trace::Trace;
use crate::schema::{FormatError, TraceReader, frame, parts};
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What could be opened, and why the rest could not.
pub(crate) struct Opened {
    traces: Vec<Trace>,
    unusable: Vec<Failure>,
    /// Of those that could: what is not in them yet, or not any more.
    remarks: Vec<String>,
}

impl Opened {
    /// All of them: an answer that is a trace must not lack one.
    pub fn all(self, messages: &mut dyn Write) -> Result<Vec<Trace>> {
        self.say(messages)?;
        Ok(self.unusable.into_iter().next().map_or(Ok(self.traces), Err)?)
    }

    /// Those that can be used, at least one, and how a run on them ends at best.
    pub fn usable(mut self, messages: &mut dyn Write) -> Result<(Vec<Trace>, Exit)> {
        if self.traces.is_empty() && !self.unusable.is_empty() {
            return Err(self.unusable.remove(0).into());
        }
        for failure in &self.unusable {
            writeln!(messages, "analyze: {}", visible(&failure.to_string()))?;
        }
        self.say(messages)?;
        let exit = if self.unusable.is_empty() { Exit::Ok } else { Exit::Incomplete };
        Ok((self.traces, exit))
    }

    fn say(&self, messages: &mut dyn Write) -> Result<()> {
        let written = self.traces.iter().filter_map(Trace::still_written);
        for remark in self.remarks.iter().cloned().chain(written) {
            writeln!(messages, "analyze: {}", visible(&remark))?;
        }
        Ok(())
    }
}

/// The files that are meant, each of them once.
pub(crate) fn named(paths: &[PathBuf], messages: &mut dyn Write) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut places = HashMap::new();
    for path in paths {
        for file in expand(path)? {
            // What has no place is told apart by name: standard input, or a file that has just been removed.
            let place = file.metadata().map_err(|_| file.clone()).map(|meta| (meta.dev(), meta.ino()));
            let name = visible(&file.display().to_string());
            if let Some(known) = places.insert(place, name.clone()) {
                writeln!(messages, "analyze: {name} is the same as {known}: it counts once")?;
                continue;
            }
            files.push(file);
        }
    }
    Ok(files)
}

/// Opens files to ask them, and puts those of one recording together. One that is being written ends where all is there.
pub(crate) fn open(files: &[PathBuf], options: &Options) -> Result<Opened> {
    read(files, options, Ok)
}

/// The same to copy them: what is there, to the last byte. A copy does not go on, so the end is one that was cut.
pub(crate) fn open_to_copy(files: &[PathBuf], options: &Options) -> Result<Opened> {
    let cut =
        |mut reader: TraceReader| if reader.growing { reader.end().map(|()| reader) } else { Ok(reader) };
    read(files, options, cut)
}

type Opening = fn(TraceReader) -> Result<TraceReader, FormatError>;

fn read(files: &[PathBuf], options: &Options, opening: Opening) -> Result<Opened> {
    let mut recordings: Vec<Vec<Named>> = Vec::new();
    let mut opened = Opened { traces: Vec::new(), unusable: Vec::new(), remarks: Vec::new() };
    for file in files {
        let name = file.display().to_string();
        let reader = match TraceReader::open(file).and_then(opening) {
            Ok(reader) => reader,
            Err(error) if is_for_want_of_handles(&error) => return Err(unusable(&name, &error).into()),
            Err(error) => {
                match passing(&error).filter(|_| is_of_a_set(file, files)) {
                    Some(why) => opened.remarks.push(format!("{name}: {why}")),
                    None => opened.unusable.push(unusable(&name, &error)),
                }
                continue;
            }
        };
        let same = |known: &&mut Vec<Named>| reader.is_of_the_recording_of(&known[0].1);
        match recordings.iter_mut().find(same) {
            Some(known) => known.push((name, reader)),
            None => recordings.push(vec![(name, reader)]),
        }
    }
    for mut files in recordings {
        let name = match &files[..] {
            [(first, _), more @ ..] if !more.is_empty() => format!("{first} and {} more", more.len()),
            files => files[0].0.clone(),
        };
        match in_order(&mut files).and_then(|set| Ok((set, joined(files)?))) {
            Ok((set, reader)) => {
                let trace = Trace::new(name, reader, options.threads, options.utc)?;
                opened.traces.push(trace.of_files(set).up_to_settled());
            }
            Err(error) => opened.unusable.push(unusable(&name, &error)),
        }
    }
    Ok(opened)
}

/// Why a file of a set may be of no use without anything being wrong.
fn passing(error: &FormatError) -> Option<&'static str> {
    match error {
        FormatError::JustBegun => Some("it has just begun, and nothing is in it yet"),
        FormatError::Io { reason, .. } if reason.kind() == ErrorKind::NotFound => {
            Some("removed (--keep) before being read")
        }
        _ => None,
    }
}

/// Whether others of the set that a file is called after are named too.
pub(crate) fn is_of_a_set(file: &Path, files: &[PathBuf]) -> bool {
    let set = |path: &Path| parts::set_path(path, parts::part_number(path)?);
    let other = |path: &PathBuf| path != file && set(path).is_some() && set(path) == set(file);
    files.iter().any(other)
}

/// A file, by its name.
type Named = (String, TraceReader);

/// Brings the files of a set in order: their names and lengths. The recorder begins a file before it ends the one before:
/// what has come into that one since it was opened is read, or rows would be missing before those of the next.
fn in_order(files: &mut [Named]) -> Result<Vec<(String, u64)>, FormatError> {
    files.sort_by_key(|(_, file)| file.host.part);
    if let [ended @ .., _] = files {
        ended.iter_mut().filter(|(_, file)| file.growing).try_for_each(|(_, file)| file.refresh())?;
    }
    Ok(files.iter().map(|(name, file)| (name.clone(), file.length())).collect())
}

/// The files of one recording, in order, as one trace.
fn joined(mut files: Vec<Named>) -> Result<TraceReader, FormatError> {
    match files.len() {
        1 => Ok(files.remove(0).1),
        _ => TraceReader::join(files.into_iter().map(|(_, file)| file).collect()),
    }
}

/// Why a file cannot be used, with the next step where the file is not to blame.
pub(crate) fn unusable(name: &str, error: &FormatError) -> Failure {
    let failure = Failure::new(Exit::Unusable, format!("{name}: {error}"));
    match error {
        FormatError::NotATrace { length: 0 } => {
            failure.hint("the file is empty: whatever made it wrote nothing; capture -o FILE records anew")
        }
        error if is_for_want_of_handles(error) => failure.hint(MORE_HANDLES),
        _ => failure,
    }
}

/// `EMFILE` has this number on every Unix that there is.
const TOO_MANY_OPEN: i32 = 24;

pub(crate) fn is_for_want_of_handles(error: &FormatError) -> bool {
    matches!(error, FormatError::Io { reason, .. } if reason.raw_os_error() == Some(TOO_MANY_OPEN))
}

const MORE_HANDLES: &str = "each file stays open: allow more of them with 'ulimit -n' (up to 'ulimit -Hn'; beyond, as root), \
     or name fewer, or join some first: analyze FILES… merge -o one.bin";

/// What a pattern stands for, the traces of a folder by name, or the file itself.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if let Some(found) = pattern::files(path) {
        let files = found?.into_iter().map(|path| folder(&path)).collect::<Result<Vec<_>>>()?;
        return Ok(files.concat());
    }
    folder(path)
}

/// The traces of a folder by name, or the file itself.
fn folder(path: &Path) -> Result<Vec<PathBuf>> {
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

#[cfg(test)]
mod tests;
