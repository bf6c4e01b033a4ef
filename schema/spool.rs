//! A pipe as a file: what cannot be read by position is copied to a file without a name first.
//!
//! So a pipe takes space in the temporary folder (`TMPDIR`) and none in memory, whatever comes through it. What
//! is no trace is given up early.

use super::error::{FormatError, Result};
use super::frame::{MAGIC, SYNC};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A trace has a frame header in its first bytes: some are enough to see that this is none.
const HEAD: u64 = 1 << 20;

/// A private file that goes with the last handle of it.
///
/// # Errors
/// When the temporary folder takes no file.
pub fn nameless() -> io::Result<File> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tapedeck-pipe-{}-{number}", std::process::id()));
    let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(about)?;
    std::fs::remove_file(&path).map_err(about)?;
    Ok(file)
}

/// All of a pipe.
pub(super) fn whole(mut from: impl Read) -> Result<File> {
    let mut head = Vec::new();
    from.by_ref().take(HEAD).read_to_end(&mut head).map_err(FormatError::io("read the pipe"))?;
    if header_in(&head).is_none() {
        return Err(FormatError::NotATrace { length: head.len() as u64 });
    }
    let mut to = nameless().map_err(FormatError::io("copy the pipe to a file"))?;
    to.write_all(&head)
        .and_then(|()| io::copy(&mut from, &mut to))
        .map_err(FormatError::io("copy the pipe to a file"))?;
    Ok(to)
}

/// Where a frame header of ours can begin.
pub(super) fn header_in(bytes: &[u8]) -> Option<usize> {
    bytes.windows(16).position(|window| window[..4] == MAGIC.to_le_bytes() && window[8..] == SYNC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek as _;

    #[test]
    fn a_pipe_that_is_no_trace_is_given_up_early() {
        let endless = io::repeat(0);
        assert!(matches!(whole(endless), Err(FormatError::NotATrace { length: HEAD })));
        assert!(matches!(whole(&b"tapedeck"[..]), Err(FormatError::NotATrace { length: 8 })));
    }

    #[test]
    fn what_comes_is_all_there() {
        let mut bytes = [&[1; 300][..], &MAGIC.to_le_bytes(), &[0; 4], &SYNC].concat();
        bytes.resize(3 << 20, 7);
        let mut file = whole(&bytes[..]).expect("it may be a trace");
        let mut found = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut found)).expect("a file of ours");
        assert!(found == bytes);
    }
}
