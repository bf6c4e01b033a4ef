//! Processors that come online while a recording runs: what was opened for each one is to be opened for them too. With
//! one that goes offline its perf events are gone for good, so one that returns counts as new.

use super::perf_event::online_cpus;
use std::time::{Duration, Instant};

/// They are looked for this often: one that was away for less is not missed.
const EVERY: Duration = Duration::from_millis(100);

/// Those that were there when last looked at.
#[derive(Debug, Default)]
pub struct Processors {
    online: Vec<i32>,
    due: Option<Instant>,
}

impl Processors {
    /// Those that run now.
    #[must_use]
    pub fn new() -> Self {
        Self { online: online_cpus().unwrap_or_default(), due: None }
    }

    /// Those that have come since the last time.
    pub fn arrived(&mut self) -> Vec<i32> {
        let now = Instant::now();
        if self.due.is_some_and(|due| now < due) {
            return Vec::new();
        }
        self.due = Some(now + EVERY);
        online_cpus().map(|online| self.note(online)).unwrap_or_default()
    }

    fn note(&mut self, online: Vec<i32>) -> Vec<i32> {
        let before = std::mem::replace(&mut self.online, online);
        self.online.iter().copied().filter(|cpu| !before.contains(cpu)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_returns_is_new() {
        let mut processors = Processors { online: vec![0, 1], due: None };
        assert!(processors.note(vec![0, 1]).is_empty());
        assert!(processors.note(vec![0]).is_empty());
        assert_eq!(processors.note(vec![0, 1, 2]), [1, 2]);
        assert!(Processors::new().arrived().is_empty(), "nobody switches them here");
    }
}
