//! Where a trace's bytes are.

use std::fs::File;
use std::io;

/// Where a trace's bytes are: read by position, never mapped, so that a file that shrinks is an error and not a crash.
#[derive(Debug)]
pub(super) enum Source {
    File(File, u64),
    Memory(Vec<u8>),
}

impl Source {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Up to `to.len()` bytes from `offset`; fewer only at the end.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => read_at(file, offset, to),
            Self::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
                let length = rest.len().min(to.len());
                to[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            }
        }
    }
}

fn read_at(file: &File, mut offset: u64, mut to: &mut [u8]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let mut done = 0;
    while !to.is_empty() {
        match file.read_at(to, offset) {
            Ok(0) => break,
            Ok(length) => {
                done += length;
                offset += length as u64;
                to = &mut to[length..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
