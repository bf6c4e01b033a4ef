//! From sealed batches to the file: one thread that owns the writer, the identity and the epochs.
//!
//! Drain threads hand over through a bounded queue. When writing is slower than events for long, the
//! queue fills, the drain threads wait, the rings fill, and the probes count what they drop: nothing
//! grows without bound and nothing is lost in silence.

use super::aggregate::Summed;
use super::batch::{Builder, Sealed, framed};
use super::books::Books;
use super::budget::Permit;
use super::dumps::Dumps;
use super::host::now;
use super::identity::Identity;
use super::layout::Layout;
use super::medium::{Border, Dumped, Medium, Progress, Rows};
use super::naming::Naming;
use super::record::Own;
use super::stacks::Stacks;
use super::trigger::Condition;
use crate::schema::{Batch, Kind, Role};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages on their way. What batches among them hold is bounded by the gauge that admits them.
const QUEUE: usize = 256;
/// Event frames in an epoch.
const EPOCH_FRAMES: usize = 16;
/// Names of what the rows refer to follow them after at most this time.
const IDENTITY_AGE: Duration = Duration::from_millis(500);
/// Names that a file waits for are asked after so often.
const NAMES_LATER: Duration = Duration::from_millis(20);

/// Below a bound on the size by this much, no further event is written: room for the end of the file.
const ROOM_AT_END: u64 = 5 << 18;
/// By this much (or an eighth), the recording is asked to end: room for what is still on its way.
const ROOM_TO_STOP: u64 = 2 << 20;
/// A bound on the size must leave room for both.
pub const SMALLEST_BOUND: u64 = 4 << 20;

/// What the recorder is told.
pub enum Message {
    /// From a drain thread; the room that it takes is free again once it has been written.
    Sealed(Sealed, Permit),
    /// Rows of our own tables, as records.
    Rows(Own, Vec<Vec<u8>>),
    /// Write out what is in memory, and tell `done`; without that a trigger asks, and may ask in vain.
    Dump {
        /// The cause.
        why: String,
        /// Where to say what became of it.
        done: Option<Sender<Dumped>>,
        /// Somebody asks, not a trigger.
        by_hand: bool,
    },
    /// Records of the table of that number that came through no ring: what programs added up, or /proc tells.
    Events(usize, Vec<Summed>),
    /// Say what has become of all that was sent before this.
    Settle(Sender<Written>),
    /// The recording ended at that moment (ns), for this reason.
    Finish(String, u64),
}

/// What a recording keeps to.
#[derive(Default)]
pub struct Rules {
    /// Its files hold no more bytes than this.
    pub max_size: Option<u64>,
    /// For a flight recorder: rows that make it write.
    pub conditions: Vec<Condition>,
    /// … and when.
    pub dumps: Option<Dumps>,
    /// Names of functions, for each file that ends before the recording does.
    pub naming: Option<Naming>,
    /// What numbers the stacks of what programs added up.
    pub stacks: Option<Arc<Stacks>>,
}

/// What became of the file.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Rows and bytes.
    pub progress: Progress,
    /// The files are nearly as large as they may be.
    pub full: bool,
    /// Events that were taken from the rings and are in no file, per table.
    pub discarded: Rows,
    /// Why writing stopped early.
    pub error: Option<String>,
    /// Dumps that could not be begun, and why.
    pub faults: Vec<String>,
}

impl Written {
    /// Events that the ledger of a file that is still to be written tells of. Not those of a dump that failed: to other
    /// dumps they are as if they had never been.
    #[must_use]
    pub fn unaccounted(&self) -> Rows {
        let lost = |table: &u16| self.progress.lost.get(table).copied().unwrap_or(0);
        self.discarded.iter().map(|(table, count)| (*table, count.saturating_sub(lost(table)))).collect()
    }

    /// The first thing that went wrong with a file.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let early = self.error.as_ref().map(|error| format!("{error}: the trace ends early"));
        let dump = self.progress.faults.iter().chain(&self.faults).next();
        early.or_else(|| dump.map(|fault| format!("a dump failed: {fault}")))
    }

    fn progressed(&mut self, progress: Progress) {
        for (&table, &count) in &progress.lost {
            let known = self.progress.lost.get(&table).copied().unwrap_or(0);
            *self.discarded.entry(table).or_default() += count.saturating_sub(known);
        }
        self.progress = progress;
    }
}

/// The running recorder.
pub struct Recorder {
    /// Where to send messages.
    pub to: SyncSender<Message>,
    thread: JoinHandle<Written>,
    progress: Arc<std::sync::Mutex<Written>>,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(medium: Box<dyn Medium>, layouts: &Arc<Vec<Layout>>, rules: Rules) -> anyhow::Result<Self> {
        let (to, from) = sync_channel(QUEUE);
        let progress = Arc::default();
        let work = Work {
            epoch_age: medium.longest_epoch(),
            medium: Some(medium),
            rules,
            books: Books::default(),
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

    /// The same, once all is written that was sent so far.
    ///
    /// # Panics
    /// When the thread panicked.
    #[must_use]
    pub fn settled(&self) -> Written {
        let (to, from) = channel();
        let asked = self.to.send(Message::Settle(to)).is_ok();
        // A thread that is gone has left its last words.
        from.recv().ok().filter(|_| asked).unwrap_or_else(|| self.progress())
    }

    /// Ends the trace, of a recording that ended `at` that moment (ns), with its footer and waits for it.
    ///
    /// # Panics
    /// When the thread panicked.
    #[must_use]
    pub fn finish(self, reason: &str, at: u64) -> Written {
        // A thread that is gone has said why in what it returns.
        let _ = self.to.send(Message::Finish(reason.to_owned(), at));
        self.thread.join().expect("the writer does not panic")
    }
}

struct Work {
    /// None once writing failed: then everything is counted as discarded.
    medium: Option<Box<dyn Medium>>,
    rules: Rules,
    books: Books,
    identity: Identity,
    layouts: Arc<Vec<Layout>>,
    frames: usize,
    /// An epoch of a quiet recording ends after this time.
    epoch_age: Duration,
    epoch_began: Instant,
    identity_due: Instant,
    written: Written,
    progress: Arc<std::sync::Mutex<Written>>,
}

impl Work {
    fn run(mut self, from: &Receiver<Message>) -> Written {
        let mut reason = "the recorder went away".to_owned();
        loop {
            let due = self.next_deed();
            match from.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Message::Sealed(sealed, _permit)) => self.take(sealed),
                Ok(Message::Rows(own, rows)) => self.write_rows(own, &rows),
                Ok(Message::Dump { why, done, by_hand }) => self.ask_for_dump(why, by_hand, done),
                Ok(Message::Events(table, rows)) => self.take_records(table, &rows),
                Ok(Message::Settle(to)) => {
                    self.show_progress();
                    // Who asked may be gone by now.
                    let _ = to.send(self.written.clone());
                }
                Ok(Message::Finish(why, at)) => {
                    reason = why;
                    if let Some(medium) = &mut self.medium {
                        medium.ended(at);
                    }
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.end_epoch_if_due();
            self.dump(false);
            if Instant::now() >= self.identity_due {
                self.write_identity();
            }
        }
        self.finish(&reason)
    }

    fn next_deed(&self) -> Instant {
        if self.rules.naming.as_ref().is_some_and(Naming::is_busy) {
            return Instant::now() + NAMES_LATER;
        }
        let dump = self.rules.dumps.as_ref().and_then(Dumps::due);
        dump.map_or(self.identity_due, |due| due.min(self.identity_due))
    }

    fn take(&mut self, sealed: Sealed) {
        match sealed {
            Sealed::Identity(records) => framed(&records).for_each(|record| self.define(record)),
            Sealed::Events(batch) => {
                self.identity.mark(&batch);
                self.books.arrived(batch.table, batch.rows as u64);
                if let Some(condition) =
                    self.rules.conditions.iter().find(|condition| condition.holds(&batch))
                {
                    self.ask_for_dump(condition.text.clone(), false, None);
                }
                self.append(Kind::Events, &batch);
                self.frames += 1;
            }
        }
    }

    fn define(&mut self, record: &[u8]) {
        let table = usize::from(u16::from_le_bytes([record[8], record[9]]));
        self.identity.define(table, record);
    }

    fn take_records(&mut self, table: usize, rows: &[Summed]) {
        if self.layouts[table].def.role == Role::Identity {
            return rows.iter().for_each(|row| self.define(&row.record));
        }
        let mut builder = Builder::new(Arc::clone(&self.layouts), table, crate::schema::frame::RECORDER);
        let stacks = self.rules.stacks.clone();
        if let Some(stacks) = &stacks {
            stacks.update();
        }
        for row in rows {
            builder.push_with(&row.record, |_, words| match &stacks {
                Some(stacks) if !words.is_empty() => {
                    stacks.number(row.met, words, |record| self.define(&record))
                }
                _ => 0,
            });
        }
        self.take(Sealed::Events(builder.seal()));
    }

    fn ask_for_dump(&mut self, why: String, by_hand: bool, done: Option<Sender<Dumped>>) {
        match (&mut self.rules.dumps, done) {
            (Some(dumps), done) => dumps.ask(why, by_hand, done),
            (None, Some(done)) => {
                // Who asked may be gone by now.
                let _ =
                    done.send(Err("this recording keeps nothing in memory: start it with --flight".into()));
            }
            (None, None) => {}
        }
    }

    /// Makes the dump that is due; `all`: at the end, when all names that there are have been written.
    fn dump(&mut self, all: bool) {
        let due = self.rules.dumps.as_ref().is_some_and(Dumps::is_due);
        if !all && (!due || self.rules.naming.as_mut().is_some_and(Naming::goes_on)) {
            return;
        }
        let Some(next) = self.rules.dumps.as_mut().and_then(|dumps| dumps.take(all)) else { return };
        if !all {
            self.write_names();
        }
        self.close_epoch();
        let Some(medium) = &mut self.medium else { return };
        let waiting = next.waiting.clone();
        if let Err(error) = medium.dump(&next.why.join(" and "), next.waiting) {
            let fault = format!("{error:#}");
            for done in waiting {
                let _ = done.send(Err(fault.clone()));
            }
            self.written.faults.push(fault);
        }
        self.show_progress();
    }

    fn write_rows(&mut self, own: Own, rows: &[Vec<u8>]) {
        let Some(table) = self.layouts.iter().position(|layout| layout.def.name == own.name()) else {
            return;
        };
        let kind = if own == Own::Clock { Kind::Clock } else { Kind::Stats };
        let batch = self.batch(table, rows);
        match (own, &mut self.medium) {
            (Own::Clock | Own::Probe | Own::Enum, Some(medium)) => medium.keep(kind, &batch),
            (Own::Ledger, _) => rows.iter().for_each(|row| self.books.counted(row)),
            _ => {}
        }
        self.append(kind, &batch);
    }

    fn batch(&self, table: usize, rows: &[Vec<u8>]) -> Batch {
        let mut builder = Builder::new(Arc::clone(&self.layouts), table, crate::schema::frame::RECORDER);
        for row in rows {
            builder.push(row);
        }
        builder.seal()
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

    fn end_epoch_if_due(&mut self) {
        if self.medium.as_ref().is_some_and(|medium| medium.wants_turn()) {
            self.turn_when_named();
        } else if self.frames >= EPOCH_FRAMES || self.epoch_began.elapsed() >= self.epoch_age {
            self.close_epoch();
        }
    }

    /// Ends a file of a set once the names of its functions are in it; what comes meanwhile is in it too.
    fn turn_when_named(&mut self) {
        if self.rules.naming.as_mut().is_some_and(Naming::goes_on) {
            return;
        }
        self.write_names();
        self.close_epoch();
    }

    fn write_names(&mut self) {
        let names = self.rules.naming.as_mut().map_or_else(Vec::new, Naming::take);
        if !names.is_empty() {
            self.write_rows(Own::Symbol, &names);
        }
    }

    fn close_epoch(&mut self) {
        self.write_identity();
        let epoch = self.identity.next_epoch();
        self.frames = 0;
        self.epoch_began = Instant::now();
        let is_event = |table: u16| self.layouts[usize::from(table)].def.role == Role::Event;
        let (closing, opening) = self.books.border(now(), is_event);
        let border = Border { epoch, closing: self.ledger_of(&closing), opening: self.ledger_of(&opening) };
        if let Some(Err(error)) = self.medium.as_mut().map(|medium| medium.turn(border)) {
            self.fail(&error);
        }
    }

    fn ledger_of(&self, rows: &[Vec<u8>]) -> Batch {
        let ledger = self.layouts.iter().position(|layout| layout.def.name == Own::Ledger.name());
        let ledger = ledger.expect("every recording has a ledger");
        let mut builder = Builder::new(Arc::clone(&self.layouts), ledger, crate::schema::frame::RECORDER);
        for row in rows {
            builder.push(row);
        }
        builder.seal()
    }

    fn append(&mut self, kind: Kind, batch: &Batch) {
        if kind == Kind::Events && self.has_no_room() {
            return self.discard(batch);
        }
        let Some(medium) = &mut self.medium else { return self.discard(batch) };
        if let Err(error) = medium.append(kind, self.identity.epoch(), batch) {
            self.fail(&error);
            self.discard(batch);
        }
    }

    /// Sees to the bound on the size: first asks for the end, then discards.
    fn has_no_room(&mut self) -> bool {
        let (Some(bound), Some(medium)) = (self.rules.max_size, &self.medium) else { return false };
        let left = bound.saturating_sub(medium.bytes());
        if left < ROOM_TO_STOP.max(bound / 8) && !self.written.full {
            self.written.full = true;
            self.show_progress();
        }
        left < ROOM_AT_END
    }

    /// What was written stays; nothing more comes.
    fn fail(&mut self, error: &anyhow::Error) {
        self.written.error = Some(format!("{error:#}"));
        if let Some(medium) = self.medium.take() {
            self.written.progressed(medium.give_up());
        }
    }

    fn discard(&mut self, batch: &Batch) {
        if self.layouts[usize::from(batch.table)].def.role == Role::Event {
            *self.written.discarded.entry(batch.table).or_default() += batch.rows as u64;
        }
    }

    fn show_progress(&mut self) {
        if let Some(medium) = &self.medium {
            self.written.progressed(medium.progress());
        }
        if let Ok(mut progress) = self.progress.lock() {
            progress.clone_from(&self.written);
        }
    }

    fn finish(mut self, reason: &str) -> Written {
        self.write_identity();
        self.dump(true);
        if let Some(medium) = self.medium.take() {
            let (progress, result) = medium.finish(reason);
            self.written.progressed(progress);
            self.written.error = result.err().map(|error| format!("{error:#}"));
        }
        self.written
    }
}
