//! From what the command line names to traces.
//!
//! A folder stands for the traces in it, `-` for standard input. Files of one recording (`capture --rotate`)
//! are one trace; anything else is a trace of its own, and reports answer for each side by side. Of several files
//! one that cannot be used is named, and the others answer.

use super::error::{Exit, Failure};
use super::options::Options;
use super::trace::Trace;
use crate::schema::{FormatError, TraceReader, frame};
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What could be opened, and why the rest could not.
pub(crate) struct Opened {
    traces: Vec<Trace>,
    unusable: Vec<Failure>,
}

impl Opened {
    /// All of them: an answer that is a trace must not lack one.
    pub fn all(self) -> Result<Vec<Trace>, Failure> {
        self.unusable.into_iter().next().map_or(Ok(self.traces), Err)
    }

    /// Those that can be used, at least one, and how a run on them ends at best.
    pub fn usable(mut self, messages: &mut dyn Write) -> Result<(Vec<Trace>, Exit)> {
        if self.traces.is_empty() && !self.unusable.is_empty() {
            return Err(self.unusable.remove(0).into());
        }
        for failure in &self.unusable {
            writeln!(messages, "analyze: {}", super::escape::visible(&failure.to_string()))?;
        }
        let exit = if self.unusable.is_empty() { Exit::Ok } else { Exit::Incomplete };
        Ok((self.traces, exit))
    }
}

/// The files that are meant, each of them once.
pub(crate) fn named(paths: &[PathBuf], messages: &mut dyn Write) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut places = HashMap::new();
    for path in paths {
        for file in expand(path)? {
            // Standard input has no place, and is there once too.
            let id = file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
            if let Some(known) = places.insert(id, file.display().to_string()) {
                let name = super::escape::visible(&file.display().to_string());
                writeln!(
                    messages,
                    "analyze: {name} is the same as {}: it counts once",
                    super::escape::visible(&known)
                )?;
                continue;
            }
            files.push(file);
        }
    }
    Ok(files)
}

/// Opens files, and puts those of one recording together.
pub(crate) fn open(files: &[PathBuf], options: &Options) -> Result<Opened> {
    let mut recordings: Vec<(String, Vec<TraceReader>)> = Vec::new();
    let mut opened = Opened { traces: Vec::new(), unusable: Vec::new() };
    for file in files {
        let name = file.display().to_string();
        let reader = match TraceReader::open(file) {
            Ok(reader) => reader,
            Err(error) if is_for_want_of_handles(&error) => return Err(handles(&name, &error).into()),
            Err(error) => {
                opened.unusable.push(unusable(&name, &error));
                continue;
            }
        };
        let same = |known: &&mut (String, Vec<TraceReader>)| reader.is_of_the_recording_of(&known.1[0]);
        match recordings.iter_mut().find(same) {
            Some(known) => known.1.push(reader),
            None => recordings.push((name, vec![reader])),
        }
    }
    for (name, files) in recordings {
        match joined(&name, files) {
            Ok((name, reader)) => {
                opened.traces.push(Trace::new(name, reader, options.threads, options.utc)?);
            }
            Err(failure) => opened.unusable.push(failure),
        }
    }
    Ok(opened)
}

/// The files of one recording as one trace.
fn joined(name: &str, mut files: Vec<TraceReader>) -> Result<(String, TraceReader), Failure> {
    if files.len() == 1 {
        return Ok((name.to_owned(), files.remove(0)));
    }
    let all = format!("{name} and {} more", files.len() - 1);
    TraceReader::join(files).map(|reader| (all, reader)).map_err(|error| unusable(name, &error))
}

fn unusable(name: &str, error: &FormatError) -> Failure {
    Failure::new(Exit::Unusable, format!("{name}: {error}"))
}

/// `EMFILE` has this number on every Unix that there is.
const TOO_MANY_OPEN: i32 = 24;

fn is_for_want_of_handles(error: &FormatError) -> bool {
    matches!(error, FormatError::Io { reason, .. } if reason.raw_os_error() == Some(TOO_MANY_OPEN))
}

fn handles(name: &str, error: &FormatError) -> Failure {
    unusable(name, error).hint(
        "each file stays open: allow more of them with 'ulimit -n' (up to 'ulimit -Hn'; beyond, as root), or name fewer, \
         or join some first: analyze FILES… merge -o one.bin",
    )
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

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Folder, Tape};

    fn sends(host: &str) -> Vec<u8> {
        let mut tape = Tape::new();
        tape.send(0, 7, 1, 100, 100).host(|it| it.hostname = host.into());
        tape.bytes()
    }

    #[test]
    fn one_file_that_cannot_be_used_costs_itself_alone() {
        let folder = Folder::new();
        folder.put("a.bin", &sends("web")).put("b.bin", &sends("db"));
        folder.put("broken.bin", &[&sends("x")[..20], &[0; 500]].concat());
        let line = "tcpsend --interval all --format csv";
        let whole = folder.run(&format!("a.bin b.bin {line}"));
        assert_eq!(whole.0, 0, "{}", whole.2);
        let at = folder.path().display().to_string();
        for named in ["a.bin broken.bin b.bin", &at] {
            let (exit, out, messages) = folder.run(&format!("{named} {line}"));
            assert_eq!((exit, &out), (3, &whole.1), "{messages}");
            assert!(messages.contains("broken.bin: not a tapedeck trace"), "{messages}");
        }
        // Alone, or for a trace that would lack it, it is an error.
        assert_eq!(folder.run(&format!("broken.bin {line}")).0, 1);
        assert_eq!(folder.run(&format!("{at} merge -o all.bin")).0, 1);
    }

    #[test]
    fn too_many_files_are_no_damaged_ones() {
        let reason = std::io::Error::from_raw_os_error(super::TOO_MANY_OPEN);
        assert!(reason.to_string().starts_with("Too many open files"), "{reason}");
        let error = super::FormatError::Io { what: "open", reason };
        assert!(super::is_for_want_of_handles(&error));
        let hint = super::handles("a.bin", &error).hint.expect("the next step");
        assert!(hint.contains("ulimit -n"), "{hint}");
    }

    #[test]
    fn a_pipe_is_read_as_the_file_would_be() {
        let folder = Folder::new();
        let bytes = sends("web");
        folder.put("a.bin", &bytes);
        let path = folder.pipe("p.bin");
        let writer = std::thread::spawn(move || std::fs::write(path, bytes).expect("it is read"));
        let line = "tcpsend --interval all --format csv";
        assert_eq!(folder.run(&format!("p.bin {line}")), folder.run(&format!("a.bin {line}")));
        writer.join().expect("it wrote everything");
        // What is endless and no trace is given up.
        let (exit, _, messages) = folder.run("/dev/zero tcpsend");
        assert!(exit == 1 && messages.contains("no frame header in 1048576 bytes"), "{messages}");
    }

    #[test]
    fn a_file_counts_once_however_often_it_is_named() {
        let folder = Folder::new();
        folder.put("a.bin", &sends("web"));
        let once = folder.run("a.bin tcpsend --interval all --format csv");
        let at = folder.path().display().to_string();
        for named in ["a.bin a.bin", &format!("{at} a.bin")] {
            let (exit, out, messages) = folder.run(&format!("{named} tcpsend --interval all --format csv"));
            assert_eq!((exit, &out), (0, &once.1));
            assert!(messages.contains("a.bin is the same as a.bin: it counts once"), "{messages}");
        }
    }
}
