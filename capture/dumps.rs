//! When a flight recorder writes: some time after it was asked to, so that what follows the cause is there
//! too, and not again at once for a cause that goes on.

use super::batch::SEAL_AGE;
use super::medium::Dumped;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// A row waits this long for its batch, and some more for the ring to be looked at.
const SETTLES: Duration = Duration::from_millis(SEAL_AGE.as_millis() as u64 + 300);

/// The dumps of one recording.
pub struct Dumps {
    post: Duration,
    cool_down: Duration,
    next: Option<Next>,
    quiet_until: Option<Instant>,
}

/// A dump that is to come.
pub struct Next {
    due: Instant,
    /// Why: the causes that came before it was made, each once.
    pub why: Vec<String>,
    /// Who waits for it.
    pub waiting: Vec<Sender<Dumped>>,
}

impl Dumps {
    /// With so much time after the cause, and between two dumps that triggers asked for.
    #[must_use]
    pub fn new(post: Duration, cool_down: Duration) -> Self {
        Self { post: post + SETTLES, cool_down, next: None, quiet_until: None }
    }

    /// A trigger fired, or (with `done`) somebody asks, who is never refused.
    pub fn ask(&mut self, why: String, by_hand: bool, done: Option<Sender<Dumped>>) {
        let now = Instant::now();
        if !by_hand && self.quiet_until.is_some_and(|until| now < until) {
            return;
        }
        let due = now + self.post;
        let next = self.next.get_or_insert_with(|| Next { due, why: Vec::new(), waiting: Vec::new() });
        if !next.why.contains(&why) {
            next.why.push(why);
        }
        next.waiting.extend(done);
    }

    /// When the next one is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.next.as_ref().map(|next| next.due)
    }

    /// Whether it is.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.due().is_some_and(|due| Instant::now() >= due)
    }

    /// The dump to make now, if any; `all`: also one that is not due yet.
    pub fn take(&mut self, all: bool) -> Option<Next> {
        let next = self.next.take_if(|next| all || Instant::now() >= next.due)?;
        self.quiet_until = Some(Instant::now() + self.cool_down);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_join_and_a_trigger_waits_until_it_is_quiet() {
        let mut dumps = Dumps::new(Duration::ZERO, Duration::from_secs(600));
        assert!(dumps.take(true).is_none());
        dumps.ask("first".into(), false, None);
        let (done, _waits) = std::sync::mpsc::channel();
        dumps.ask("first".into(), false, None);
        dumps.ask("second".into(), true, Some(done));
        assert!(dumps.take(false).is_none(), "what follows the cause is still to come");
        let next = dumps.take(true).expect("one dump for both");
        assert_eq!((next.why, next.waiting.len()), (vec!["first".to_owned(), "second".to_owned()], 1));
        dumps.ask("third".into(), false, None);
        assert!(dumps.due().is_none(), "the cool-down");
        dumps.ask("fourth".into(), true, None);
        assert_eq!(dumps.take(true).expect("asked for by hand").why, ["fourth"]);
    }
}
