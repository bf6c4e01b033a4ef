//! Where a trace's bytes are.

use std::fs::File;
use std::io;

/// Where a trace's bytes are: read by position, never mapped, so that a file that shrinks is an error and not a crash.
#[derive(Debug)]
pub(super) enum Source {
    File(File, u64),
    Memory(Vec<u8>),
    /// Files that lie end to end: where each begins.
    Set(Vec<(u64, Self)>),
}

impl Source {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Set(files) => files.last().map_or(0, |(start, file)| start + file.length()),
        }
    }

    /// Looks again how long the file is.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        if let Self::File(file, length) = self {
            *length = file.metadata()?.len();
        }
        Ok(())
    }

    /// The same bytes once more.
    pub(super) fn share(&self) -> io::Result<Self> {
        Ok(match self {
            Self::File(file, length) => Self::File(file.try_clone()?, *length),
            Self::Memory(bytes) => Self::Memory(bytes.clone()),
            Self::Set(files) => {
                let share = |(start, file): &(u64, Self)| Ok((*start, file.share()?));
                Self::Set(files.iter().map(share).collect::<io::Result<_>>()?)
            }
        })
    }

    /// This, and behind it another.
    pub(super) fn followed_by(self, next: Self) -> Self {
        let start = self.length();
        let mut files = if let Self::Set(files) = self { files } else { vec![(0, self)] };
        files.push((start, next));
        Self::Set(files)
    }

    /// Up to `to.len()` bytes from `offset`; fewer only at the end of a file.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => read_at(file, offset, to),
            Self::Set(files) => {
                let after = files.partition_point(|&(start, _)| start <= offset);
                let Some((start, file)) = files.get(after.wrapping_sub(1)) else { return Ok(0) };
                file.read(offset - start, to)
            }
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
