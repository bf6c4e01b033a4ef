//! The new file of a verb that rewrites: whole or not there, private, and never the input.

use crate::analyze::error::Failure;
use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where the new trace goes.
pub(super) struct Output<'a> {
    to: Sink<'a>,
    /// The file under its name while it is being written, and its name afterwards.
    names: Option<(PathBuf, PathBuf)>,
}

enum Sink<'a> {
    File(BufWriter<File>),
    Pipe(&'a mut dyn Write),
}

impl<'a> Output<'a> {
    /// `-` is standard output. A file is written beside its place and moved there when it is whole.
    pub fn create(path: &Path, force: bool, inputs: &[PathBuf], out: &'a mut dyn Write) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self { to: Sink::Pipe(out), names: None });
        }
        let name = path.display();
        if inputs.iter().any(|input| same_file(input, path)) {
            return Err(Failure::usage(format!("{name} is the input, which is never overwritten"))
                .hint("name another file with -o")
                .into());
        }
        if !force && path.symlink_metadata().is_ok() {
            return Err(exists(path).into());
        }
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

fn exists(path: &Path) -> Failure {
    Failure::usage(format!("{} exists", path.display()))
        .hint("choose another name, or replace it with --force")
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
