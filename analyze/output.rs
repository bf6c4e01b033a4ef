//! What `-o` names: whole or not there, private, and never the input.
//!
//! What is there and is no file (a device, a pipe) is written into: a file that took its place would be the end of it.

use super::error::{Exit, Failure};
use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where a new trace or an answer goes.
pub(crate) struct Output<'a> {
    to: Sink<'a>,
    /// The file under its name while it is being written, and its name afterwards.
    names: Option<(PathBuf, PathBuf)>,
}

enum Sink<'a> {
    File(BufWriter<File>),
    Pipe(&'a mut dyn Write),
}

impl<'a> Output<'a> {
    /// `-` is standard output. A file is written beside its place and moved there when it is whole; with `force` it
    /// may replace another.
    pub fn create(path: &Path, force: bool, inputs: &[PathBuf], out: &'a mut dyn Write) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self { to: Sink::Pipe(out), names: None });
        }
        not_an_input(path, inputs)?;
        if !force && path.symlink_metadata().is_ok() {
            return Err(exists(path).into());
        }
        if path.metadata().is_ok_and(|meta| !meta.is_file()) {
            let file = OpenOptions::new().write(true).open(path);
            let file = file.with_context(|| format!("cannot write to {}", path.display()))?;
            return Ok(Self { to: Sink::File(BufWriter::new(file)), names: None });
        }
        // What a link leads to is replaced, and not the link.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // Without --force the name itself is taken at once, so that two of us cannot both have it.
        let part = if force {
            let mut part = path.file_name().unwrap_or_default().to_owned();
            part.push(format!(".{}.part", std::process::id()));
            path.with_file_name(part)
        } else {
            path.to_owned()
        };
        let file = options.open(&part).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => anyhow::Error::from(exists(&part)),
            io::ErrorKind::NotFound => anyhow::Error::from(no_folder(path)),
            _ => anyhow::Error::new(error).context(format!("cannot create {}", part.display())),
        })?;
        Ok(Self { to: Sink::File(BufWriter::new(file)), names: Some((part, path.to_owned())) })
    }

    /// The file is whole.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        let Some((part, path)) = self.names.take() else { return Ok(()) };
        if part != path {
            std::fs::rename(&part, &path).with_context(|| format!("replace {}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Output<'_> {
    /// Half a file looks like a trace that was cut.
    fn drop(&mut self) {
        if let Some((part, _)) = &self.names {
            // The error that brought us here is being told already.
            let _ = std::fs::remove_file(part);
        }
    }
}

/// Refuses what would destroy a trace that is read.
pub(crate) fn not_an_input(path: &Path, inputs: &[PathBuf]) -> Result<(), Failure> {
    if inputs.iter().any(|input| same_file(input, path)) {
        let what = format!("{} is the input, which is never overwritten", path.display());
        return Err(Failure::usage(what).hint("name another file"));
    }
    Ok(())
}

fn exists(path: &Path) -> Failure {
    Failure::usage(format!("{} exists", path.display()))
        .hint("choose another name, or replace it with --force")
}

fn no_folder(path: &Path) -> Failure {
    let folder = path.parent().unwrap_or(path).display();
    Failure::new(Exit::Unusable, format!("cannot create {}: there is no folder {folder}", path.display()))
        .hint(format!("make it (mkdir -p {folder}), or name a file elsewhere"))
}

/// Links and other spellings of one file are one file.
fn same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b) || same_inode(a, b)
}

#[cfg(unix)]
fn same_inode(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    id(a).zip(id(b)).is_some_and(|(a, b)| a == b)
}

#[cfg(not(unix))]
fn same_inode(_: &Path, _: &Path) -> bool {
    false
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            Sink::File(file) => file.write(bytes),
            Sink::Pipe(pipe) => pipe.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            Sink::File(file) => file.flush(),
            Sink::Pipe(pipe) => pipe.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Folder, Tape};

    fn tape() -> Vec<u8> {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "web").send(0, 7, 1, 100, 100);
        tape.bytes()
    }

    fn files(folder: &Folder) -> usize {
        std::fs::read_dir(folder.path()).expect("a folder").count()
    }

    #[test]
    fn an_answer_never_replaces_what_it_is_from() {
        let folder = Folder::new();
        let bytes = tape();
        folder.put("a.bin", &bytes);
        let path = folder.path().join("a.bin");
        std::fs::hard_link(&path, folder.path().join("same.bin")).expect("a folder of ours");
        let at = folder.path().display().to_string();
        for line in [
            "a.bin tcpsend -o a.bin",
            "a.bin -o same.bin",
            "a.bin tcpsend --check same.bin --update",
            &format!("{at} tcpsend -o a.bin"),
            &format!("{at} merge -o a.bin --force"),
        ] {
            let (exit, _, messages) = folder.run(line);
            assert!(
                exit == 2 && messages.contains("is the input, which is never overwritten"),
                "{line}: {messages}"
            );
        }
        assert!(folder.bytes("a.bin") == bytes);
        assert_eq!(files(&folder), 2, "nothing is left lying about");
    }

    #[test]
    fn an_answer_replaces_another_when_it_is_whole_and_is_its_owner_s() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new();
        folder.put("a.bin", &tape()).put("answer.csv", b"mine");
        let to = folder.path().join("answer.csv").display().to_string();
        assert_eq!(folder.run(&format!("a.bin execsnoop -o {to}")).0, 6);
        assert_eq!((folder.bytes("answer.csv"), files(&folder)), (b"mine".to_vec(), 2));
        let link = folder.path().join("link.csv");
        std::os::unix::fs::symlink("answer.csv", &link).expect("a folder of ours");
        assert_eq!(folder.run(&format!("a.bin tcpsend -o {}", link.display())).0, 0);
        let text = String::from_utf8(folder.bytes("answer.csv")).expect("UTF-8");
        assert!(text.starts_with("time,") && link.is_symlink(), "{text}");
        let mode = std::fs::metadata(&to).expect("it is there").permissions().mode();
        assert_eq!((mode & 0o777, files(&folder)), (0o600, 3));
        let (exit, out, _) = folder.run("a.bin tcpsend --interval all --format csv -o -");
        assert!(exit == 0 && out.contains(",1,"), "{out}");
    }

    #[test]
    fn an_answer_that_has_no_place_is_not_worked_out() {
        let folder = Folder::new();
        folder.put("a.bin", b"no trace");
        let (exit, _, messages) = folder.run("a.bin tcpsend -o /nonexistent/answer.csv");
        assert!(
            exit == 1 && messages.contains("cannot create /nonexistent/answer.csv: there is no"),
            "{messages}"
        );
    }

    /// As a device has: a name that something else must not take.
    #[test]
    fn what_is_no_file_is_written_into() {
        use std::os::unix::fs::FileTypeExt as _;
        let folder = Folder::new();
        folder.put("a.bin", &tape());
        for line in ["a.bin recompress -o p.bin --force", "a.bin tcpsend -o p.bin"] {
            let path = folder.pipe("p.bin");
            let pipe = path.clone();
            let reader = std::thread::spawn(move || std::fs::read(pipe).expect("a pipe of ours"));
            assert_eq!(folder.run(line).0, 0);
            assert!(!reader.join().expect("it read").is_empty());
            let kind = std::fs::symlink_metadata(&path).expect("it is there").file_type();
            assert!(kind.is_fifo(), "{line}");
            std::fs::remove_file(&path).expect("it is there");
        }
        assert_eq!(folder.run(&format!("a.bin tcpsend -o {}", folder.path().display())).0, 1);
    }
}
