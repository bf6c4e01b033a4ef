//! The recorder's lock on the file that it writes: it tells a recording that goes on from one that was killed.
//!
//! An end that is missing looks the same in both. The kernel lets go of the lock (`flock`) with the process that holds it,
//! however that ends, and a copy of the file has none: so who finds it held knows that more will come. Where a file
//! system has no locks, a file that is being written reads as one that was cut.

use std::fs::{File, TryLockError};
use std::time::Duration;

/// Readers hold the lock for as long as it takes to see that it is free.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// Holds a file for as long as it is open, as far as its file system can.
pub fn hold(file: &File) {
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            // Without a lock the recording is no worse.
            Ok(()) | Err(TryLockError::Error(_)) => return,
        }
    }
}

/// Whether somebody holds a file. Readers do not see each other.
#[must_use]
pub fn is_held(file: &File) -> bool {
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
        Ok(()) => {
            // What stays locked by this is let go with the file.
            _ = file.unlock();
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_until_its_writer_is_gone() {
        let path = std::env::temp_dir().join(format!("tapedeck-lock-{}", std::process::id()));
        let writer = File::create(&path).expect("a temporary file");
        let readers = [(); 2].map(|()| File::open(&path).expect("it is there"));
        let held = || readers.each_ref().map(is_held);
        assert_eq!(held(), [false, false]);
        hold(&writer);
        assert_eq!(held(), [true, true]);
        drop(writer);
        assert_eq!(held(), [false, false]);
        std::fs::remove_file(path).expect("ours");
    }
}
