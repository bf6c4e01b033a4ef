//! From sealed batches to the file: one thread that owns the writer, the identity and the epochs.
//!
//! Drain threads hand over through a bounded queue. When writing is slower than events for long, the
//! queue fills, the drain threads wait, the rings fill, and the probes count what they drop: nothing
//! grows without bound and nothing is lost in silence.

use super::batch::{Builder, Sealed, framed};
use super::identity::Identity;
use super::layout::Layout;
use super::record::{Own, Row};
use crate::schema::{Batch, Host, Kind, Role, TraceTotals, TraceWriter};
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches on their way, at about 1 MiB each.
const QUEUE: usize = 16;
/// Event frames in an epoch.
const EPOCH_FRAMES: usize = 16;
/// An epoch of a quiet recording ends after this time.
const EPOCH_AGE: Duration = Duration::from_secs(10);
/// Names of what the rows refer to follow them after at most this time.
const IDENTITY_AGE: Duration = Duration::from_millis(500);

/// What the recorder is told.
pub enum Message {
    /// From a drain thread.
    Sealed(Sealed),
    /// Rows of our own tables, as records.
    Rows(Own, Vec<Vec<u8>>),
    /// The recording ends, for this reason.
    Finish(String),
}

/// What became of the file.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Per table.
    pub totals: Vec<TraceTotals>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Events that were taken from the rings but not written, per table.
    pub discarded: HashMap<u16, u64>,
    /// Why writing stopped early.
    pub error: Option<String>,
}

/// The running recorder.
pub struct Recorder {
    /// Where to send messages.
    pub to: SyncSender<Message>,
    thread: JoinHandle<Written>,
    progress: Arc<std::sync::Mutex<Written>>,
}

impl Recorder {
    /// Writes the head of the trace and starts the thread.
    ///
    /// # Errors
    /// When the head cannot be written.
    pub fn start<W: Write + Send + 'static>(
        sink: W,
        level: i32,
        host: &Host,
        layouts: &Arc<Vec<Layout>>,
    ) -> anyhow::Result<Self> {
        let tables = layouts.iter().map(|layout| layout.def.clone()).collect();
        let writer = TraceWriter::new(sink, level, host, tables)?;
        let (to, from) = sync_channel(QUEUE);
        let progress = Arc::default();
        let work = Work {
            writer: Some(writer),
            identity: Identity::new(layouts),
            layouts: Arc::clone(layouts),
            frames: 0,
            epoch_began: Instant::now(),
            identity_due: Instant::now() + IDENTITY_AGE,
            written: Written::default(),
            progress: Arc::clone(&progress),
        };
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || work.run(&from))?;
        Ok(Self { to, thread, progress })
    }

    /// What has been written so far.
    ///
    /// # Panics
    /// When the thread panicked.
    #[must_use]
    pub fn progress(&self) -> Written {
        self.progress.lock().expect("the writer does not panic").clone()
    }

    /// Ends the trace with its footer and waits for it.
    ///
    /// # Panics
    /// When the thread panicked.
    #[must_use]
    pub fn finish(self, reason: &str) -> Written {
        // A thread that is gone has said why in what it returns.
        let _ = self.to.send(Message::Finish(reason.to_owned()));
        self.thread.join().expect("the writer does not panic")
    }
}

struct Work<W: Write> {
    /// None once writing failed: then everything is counted as discarded.
    writer: Option<TraceWriter<W>>,
    identity: Identity,
    layouts: Arc<Vec<Layout>>,
    frames: usize,
    epoch_began: Instant,
    identity_due: Instant,
    written: Written,
    progress: Arc<std::sync::Mutex<Written>>,
}

impl<W: Write> Work<W> {
    fn run(mut self, from: &Receiver<Message>) -> Written {
        let mut reason = "the recorder went away".to_owned();
        loop {
            let wait = self.identity_due.saturating_duration_since(Instant::now());
            match from.recv_timeout(wait) {
                Ok(Message::Sealed(sealed)) => self.take(sealed),
                Ok(Message::Rows(own, rows)) => self.write_rows(own, &rows),
                Ok(Message::Finish(why)) => {
                    reason = why;
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= self.identity_due {
                self.write_identity();
            }
        }
        self.finish(&reason)
    }

    fn take(&mut self, sealed: Sealed) {
        match sealed {
            Sealed::Identity(records) => {
                for record in framed(&records) {
                    let table = usize::from(u16::from_le_bytes([record[8], record[9]]));
                    self.identity.define(table, record);
                }
            }
            Sealed::Events(batch) => {
                self.identity.mark(&batch);
                self.append(Kind::Events, &batch);
                self.frames += 1;
                if self.frames >= EPOCH_FRAMES || self.epoch_began.elapsed() >= EPOCH_AGE {
                    self.close_epoch();
                }
            }
        }
    }

    fn write_rows(&mut self, own: Own, rows: &[Vec<u8>]) {
        let Some(table) = self.layouts.iter().position(|layout| layout.def.name == own.name()) else {
            return;
        };
        let mut builder = Builder::new(Arc::clone(&self.layouts), table, crate::schema::frame::RECORDER);
        for row in rows {
            builder.push(row);
        }
        let kind = if own == Own::Clock { Kind::Clock } else { Kind::Stats };
        self.append(kind, &builder.seal());
    }

    fn write_identity(&mut self) {
        self.identity_due = Instant::now() + IDENTITY_AGE;
        let mut builders: HashMap<usize, Builder> = HashMap::new();
        let layouts = &self.layouts;
        self.identity.take_pending(|table, record| {
            let fresh = || Builder::new(Arc::clone(layouts), table, crate::schema::frame::RECORDER);
            builders.entry(table).or_insert_with(fresh).push(record);
        });
        let mut tables: Vec<usize> = builders.keys().copied().collect();
        tables.sort_unstable();
        for table in tables {
            let batch = builders.get_mut(&table).map(Builder::seal).unwrap_or_default();
            self.append(Kind::Identity, &batch);
        }
        self.show_progress();
    }

    fn close_epoch(&mut self) {
        self.write_identity();
        self.identity.next_epoch();
        self.frames = 0;
        self.epoch_began = Instant::now();
    }

    fn append(&mut self, kind: Kind, batch: &Batch) {
        let Some(writer) = &mut self.writer else { return self.discard(batch) };
        if let Err(error) = writer.append(kind, self.identity.epoch(), batch) {
            self.written.error = Some(error.to_string());
            self.written.totals = writer.totals().to_vec();
            self.written.bytes = writer.bytes();
            self.writer = None;
            self.discard(batch);
        }
    }

    fn discard(&mut self, batch: &Batch) {
        if self.layouts[usize::from(batch.table)].def.role == Role::Event {
            *self.written.discarded.entry(batch.table).or_default() += batch.rows as u64;
        }
    }

    fn show_progress(&mut self) {
        if let Some(writer) = &self.writer {
            self.written.totals = writer.totals().to_vec();
            self.written.bytes = writer.bytes();
        }
        if let Ok(mut progress) = self.progress.lock() {
            progress.clone_from(&self.written);
        }
    }

    fn finish(mut self, reason: &str) -> Written {
        self.write_identity();
        if let Some(writer) = self.writer.take() {
            match writer.finish(reason) {
                Ok((_, bytes)) => self.written.bytes = bytes,
                Err(error) => self.written.error = Some(error.to_string()),
            }
        }
        self.written
    }
}

/// One row for [`Own::Clock`]: the clocks, read together.
#[must_use]
pub fn clock_row() -> Vec<u8> {
    use super::host::clock;
    let ts = clock(libc::CLOCK_MONOTONIC);
    let (real, boot, tai) =
        (clock(libc::CLOCK_REALTIME), clock(libc::CLOCK_BOOTTIME), clock(libc::CLOCK_TAI));
    // Read once more: the middle of the two belongs to what was read between them.
    let middle = u64::midpoint(ts, clock(libc::CLOCK_MONOTONIC));
    Row::new().u64(middle).u64(real).u64(boot).u64(tai).bytes()
}
