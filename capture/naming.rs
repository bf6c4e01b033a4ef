//! Looks names of functions up while the recording goes on, for a dump or the next file of a set that is due: on a
//! thread of its own, so that the files that it reads hold no rows up.

use super::function_names;
use super::stacks::Stacks;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing waits longer for names: a file system may not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The names for one file after the other.
pub struct Naming {
    stacks: Arc<Stacks>,
    work: Option<Work>,
}

struct Work {
    began: Instant,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Naming {
    /// For the stacks of a recording.
    #[must_use]
    pub fn new(stacks: Arc<Stacks>) -> Self {
        Self { stacks, work: None }
    }

    /// Whether somebody should come back later.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.thread.is_finished() && work.began.elapsed() < PATIENCE)
    }

    /// Begins, if that has not been done for this file; true while it goes on.
    pub fn goes_on(&mut self) -> bool {
        if self.work.is_none() {
            let stacks = Arc::clone(&self.stacks);
            let thread = std::thread::Builder::new().name("names".into());
            // Without a thread there are no names, but the dump is made.
            let Ok(thread) = thread.spawn(move || function_names::rows(&stacks.places())) else {
                return false;
            };
            self.work = Some(Work { began: Instant::now(), thread });
        }
        self.is_busy()
    }

    /// The rows that were found in time; none where a strange file was too much for the library that reads it.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let done = self.work.take().filter(|work| work.thread.is_finished());
        done.map_or_else(Vec::new, |work| work.thread.join().unwrap_or_default())
    }
}
