//! What of a file is on the disk.
//!
//! The kernel takes what is written, keeps it in memory, and says later, once, that the disk would not have it. So a thread
//! syncs the file soon after something was written, and at its end; what a sync refused is an error of the recording, and
//! the rows that came since the last good one are not taken for written.

use super::medium::Rows;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What was written waits for a sync no longer than this: the rest of a second is the batches' ([`super::batch::SEAL_AGE`]).
const SYNC_AFTER: Duration = Duration::from_millis(100);

/// An open file, and how much of it is on the disk.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    written: AtomicU64,
    synced: AtomicU64,
    /// The error number with which a sync failed, or 0.
    fault: AtomicI32,
}

impl Disk {
    /// For a file that nothing was written to.
    #[must_use]
    pub fn new(file: File, path: &Path) -> Arc<Self> {
        let path = path.to_owned();
        let (written, synced, fault) = (AtomicU64::new(0), AtomicU64::new(0), AtomicI32::new(0));
        Arc::new(Self { file, path, written, synced, fault })
    }

    /// Writes, unless a sync has failed: a file whose pages are gone must not go on to a clean end.
    ///
    /// # Errors
    /// When the kernel refuses, or refused a sync.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let taken = (&self.file).write(bytes)?;
        self.written.fetch_add(taken as u64, Ordering::Release);
        Ok(taken)
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// When it will never be.
    pub fn sync(&self) -> io::Result<()> {
        self.check()?;
        let written = self.written.load(Ordering::Acquire);
        self.note(self.file.sync_data())?;
        self.synced.fetch_max(written, Ordering::Release);
        Ok(())
    }

    /// The same, of the file's name in its directory too.
    ///
    /// # Errors
    /// As [`Disk::sync`].
    pub fn sync_all(&self) -> io::Result<()> {
        self.sync_name()?;
        self.sync()
    }

    fn sync_name(&self) -> io::Result<()> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // A directory that may be written but not read cannot be synced; the file still is.
        let Ok(directory) = File::open(parent.unwrap_or(Path::new("."))) else { return Ok(()) };
        self.note(directory.sync_all())
    }

    /// Keeps that a sync failed. Devices, pipes and some file systems have nothing to sync.
    fn note(&self, result: io::Result<()>) -> io::Result<()> {
        let Err(error) = result else { return Ok(()) };
        match error.raw_os_error().unwrap_or(libc::EIO) {
            libc::EINVAL | libc::ENOTSUP | libc::ENOSYS => return Ok(()),
            number => self.fault.store(number, Ordering::Release),
        }
        Err(error)
    }

    fn is_dirty(&self) -> bool {
        self.written.load(Ordering::Acquire) != self.synced.load(Ordering::Acquire)
    }

    fn check(&self) -> io::Result<()> {
        match self.fault.load(Ordering::Acquire) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// A file that is being synced by a thread of its own, which ends with the value, after the last sync.
#[derive(Debug)]
pub struct Syncing {
    disk: Arc<Disk>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// What may not be on the disk yet, in order.
    frames: VecDeque<Frame>,
}

/// Rows of a table, and where in the file they end.
#[derive(Debug)]
struct Frame {
    end: u64,
    table: u16,
    rows: u64,
}

impl Syncing {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(disk: &Arc<Disk>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let own = Arc::clone(disk);
        let thread =
            std::thread::Builder::new().name("sync".into()).spawn(move || keep_synced(&own, &stopped))?;
        Ok(Self { disk: Arc::clone(disk), stop: Some(stop), thread: Some(thread), frames: VecDeque::new() })
    }

    /// Rows that count as recorded were written, up to `end`.
    pub fn wrote(&mut self, end: u64, table: u16, rows: u64) {
        let synced = self.disk.synced.load(Ordering::Acquire);
        while self.frames.front().is_some_and(|frame| frame.end <= synced) {
            self.frames.pop_front();
        }
        self.frames.push_back(Frame { end, table, rows });
    }

    /// Rows that were written and are not on the disk, if a sync has failed.
    #[must_use]
    pub fn lost(&self) -> Rows {
        let mut lost = Rows::new();
        let synced = self.disk.synced.load(Ordering::Acquire);
        if self.disk.check().is_err() {
            for frame in self.frames.iter().filter(|frame| frame.end > synced) {
                *lost.entry(frame.table).or_default() += frame.rows;
            }
        }
        lost
    }

    /// Asks for the last sync, without waiting for it.
    pub fn end(&mut self) {
        self.stop = None;
    }

    /// Whether that is done.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the last sync.
    ///
    /// # Errors
    /// When one has failed.
    ///
    /// # Panics
    /// When the thread panicked.
    pub fn wait(&mut self) -> io::Result<()> {
        self.end();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the sync's thread does not panic");
        }
        self.disk.check()
    }
}

/// A failure is kept with the file: who writes to it next, or waits for its end, is told.
fn keep_synced(disk: &Disk, stopped: &Receiver<()>) {
    let mut well = disk.sync_name().is_ok();
    while well && stopped.recv_timeout(SYNC_AFTER) == Err(RecvTimeoutError::Timeout) {
        well = !disk.is_dirty() || disk.sync().is_ok();
    }
    // One that failed has said so.
    _ = disk.sync();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str) -> (Arc<Disk>, PathBuf) {
        let path = std::env::temp_dir().join(format!("tapedeck-disk-{name}-{}", std::process::id()));
        (Disk::new(File::create(&path).expect("a temporary file"), &path), path)
    }

    #[test]
    fn what_came_after_the_last_good_sync_is_lost_when_one_fails() {
        let (disk, path) = disk("fault");
        let mut syncing = Syncing::start(&disk).expect("a thread");
        assert_eq!(disk.write(b"four").expect("room"), 4);
        syncing.wrote(4, 7, 10);
        disk.sync().expect("a disk");
        disk.write(b"more").expect("room");
        disk.fault.store(libc::EIO, Ordering::Release);
        syncing.wrote(8, 7, 3);
        syncing.wrote(9, 8, 5);
        assert_eq!(syncing.lost(), Rows::from([(7, 3), (8, 5)]));
        assert_eq!(syncing.wait().unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(disk.write(b"x").is_err() && disk.sync().is_err(), "no clean end");
        std::fs::remove_file(path).expect("ours");
    }

    #[test]
    fn a_file_is_synced_soon_after_it_was_written_and_at_its_end() {
        let (disk, path) = disk("soon");
        let mut syncing = Syncing::start(&disk).expect("a thread");
        disk.write(b"four").expect("room");
        syncing.wrote(4, 7, 10);
        let began = std::time::Instant::now();
        while disk.is_dirty() {
            assert!(began.elapsed() < Duration::from_secs(10), "nobody syncs");
            std::thread::sleep(Duration::from_millis(5));
        }
        disk.write(b"more").expect("room");
        syncing.wrote(8, 7, 1);
        syncing.wait().expect("a disk");
        assert!(!disk.is_dirty() && syncing.lost().is_empty());
        std::fs::remove_file(path).expect("ours");
    }

    #[test]
    fn a_device_has_nothing_to_sync() {
        let path = Path::new("/dev/null");
        let file = File::options().write(true).open(path).expect("it is everywhere");
        let disk = Disk::new(file, path);
        disk.write(b"x").expect("it takes everything");
        disk.sync_all().expect("nothing to do");
    }
}
