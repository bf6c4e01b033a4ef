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
    let mut recordings: Vec<(String, Vec<TraceReader>)> = Vec::new();
    let mut opened = Opened { traces: Vec::new(), unusable: Vec::new(), remarks: Vec::new() };
    for file in files {
        let name = file.display().to_string();
        let reader = match TraceReader::open(file).and_then(opening) {
            Ok(reader) => reader,
            Err(error) if is_for_want_of_handles(&error) => return Err(handles(&name, &error).into()),
            Err(error) => {
                match passing(&error).filter(|_| is_of_a_set(file, files)) {
                    Some(why) => opened.remarks.push(format!("{name}: {why}")),
                    None => opened.unusable.push(unusable(&name, &error)),
                }
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
                let trace = Trace::new(name, reader, options.threads, options.utc)?;
                opened.traces.push(trace.as_far_as_written());
            }
            Err(failure) => opened.unusable.push(failure),
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

/// The files of one recording as one trace. The recorder begins a file before it ends the one before: what has come into
/// that one since it was opened is read, or rows would be missing before those of the next.
fn joined(name: &str, mut files: Vec<TraceReader>) -> Result<(String, TraceReader), Failure> {
    if files.len() == 1 {
        return Ok((name.to_owned(), files.remove(0)));
    }
    let all = format!("{name} and {} more", files.len() - 1);
    let last = files.iter().map(|file| file.host.part).max();
    let mut ended = files.iter_mut().filter(|file| file.growing && Some(file.host.part) != last);
    let whole = ended.try_for_each(TraceReader::refresh).and_then(|()| TraceReader::join(files));
    whole.map(|reader| (all, reader)).map_err(|error| unusable(name, &error))
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
mod tests {
    use crate::analyze::testkit::{Folder, Tape};
    use crate::schema::{TraceReader, lock, parts};
    use std::fs::File;
    use std::io::Write as _;

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

    /// Ten seconds of a set's part, ten sends in each.
    fn part(number: u32) -> Vec<u8> {
        let mut tape = Tape::new();
        let begin = u64::from(number - 1) * 10_000_000_000;
        tape.host(|it| {
            (it.recording, it.part) = ("r".into(), number);
            (it.start_mono, it.start_real) = (it.start_mono + begin, it.start_real + begin);
        });
        for at in 0..100 {
            tape.send(begin + at * 100_000_000, 7, 1, 100, 100);
        }
        tape.rows_per_frame(10).ending(parts::GOES_ON)
    }

    #[test]
    fn a_file_that_is_being_recorded_is_answered_as_far_as_all_is_there() {
        let folder = Folder::new();
        let bytes = part(1);
        folder.put("a.bin", &bytes[..bytes.len() / 2]);
        let calls = |out: &str| -> u64 {
            let count = |line: &str| line.split(',').nth(2).and_then(|calls| calls.parse::<u64>().ok());
            out.lines().filter_map(count).sum()
        };
        let recorder = File::options().append(true).open(folder.path().join("a.bin")).expect("ours");
        lock::hold(&recorder);
        let (exit, out, messages) = folder.run("a.bin tcpsend --format csv");
        assert_eq!((exit, messages.lines().count(), out.contains("true")), (0, 1, false), "{messages}");
        assert!(messages.starts_with("analyze: a.bin: still being recorded: "), "{messages}");
        let settled = calls(&out);
        let (_, out, _) = folder.run("a.bin check");
        assert!(out.contains("still being recorded") && !out.contains("no footer"), "{out}");
        // A copy is of all bytes, and says that its end is none.
        let (exit, _, messages) = folder.run("a.bin recompress -o b.bin");
        assert!(exit == 3 && !messages.contains("still"), "{messages}");
        drop(recorder);
        let (exit, out, messages) = folder.run("a.bin tcpsend --format csv");
        assert!(exit == 3 && messages.contains("cut"), "{messages}");
        assert!(settled > 0 && calls(&out) == settled + 20, "two seconds more: {out}");
    }

    #[test]
    fn files_of_a_set_come_and_go_while_it_is_read() {
        let folder = Folder::new();
        folder.put("t.000002.bin", &part(2)).put("t.000003.bin", b"");
        let third = File::options().append(true).open(folder.path().join("t.000003.bin")).expect("ours");
        lock::hold(&third);
        let alone = folder.run("t.000002.bin tcpsend --format csv");
        let (exit, out, messages) = folder.run("t.000001.bin t.000002.bin t.000003.bin tcpsend --format csv");
        assert_eq!((exit, &out), (0, &alone.1), "{messages}");
        let said: Vec<&str> = messages.lines().collect();
        assert_eq!(
            said,
            [
                "analyze: t.000001.bin: removed (--keep) before being read",
                "analyze: t.000003.bin: it has just begun, and nothing is in it yet"
            ]
        );
        // What nothing is left of, and what nobody records, is an error.
        assert_eq!(folder.run("t.000003.bin tcpsend").0, 1);
        assert_eq!(folder.run("t.000002.bin t.000009.bin tcpsend").0, 1);
        drop(third);
        assert_eq!(folder.run("t.000002.bin t.000003.bin tcpsend").0, 3);
    }

    #[test]
    fn what_came_into_a_file_before_the_next_one_is_read_too() {
        let (folder, first) = (Folder::new(), part(1));
        folder.put("t.000001.bin", &first[..first.len() / 2]).put("t.000002.bin", &part(2));
        let path = folder.path().join("t.000001.bin");
        let recorder = File::options().append(true).open(&path).expect("ours");
        lock::hold(&recorder);
        let open = |name: &str| TraceReader::open(&folder.path().join(name)).expect("a trace");
        let files = vec![open("t.000001.bin"), open("t.000002.bin")];
        assert!(files[0].growing);
        (&recorder).write_all(&first[first.len() / 2..]).expect("room");
        let (_, all) = super::joined("t", files).expect("one recording");
        assert!(all.footer.is_some() && !all.growing && all.missing().is_empty());
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
