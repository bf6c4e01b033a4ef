//! How far a recording is, as the threads see that empty its rings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// A ring that may get its last record any moment is looked at this often.
const SOON: Duration = Duration::from_millis(5);

const RECORDING: u8 = 0;
const STOPPED: u8 = 1;
const DETACHED: u8 = 2;

/// Shared by the session, which moves it on, and the threads.
#[derive(Clone, Debug, Default)]
pub struct Stage(Arc<AtomicU8>);

impl Stage {
    /// Of records that are all there already.
    #[must_use]
    pub fn over() -> Self {
        let stage = Self::default();
        stage.detached();
        stage
    }

    /// The programs record no more events; what they keep of identity still comes.
    pub fn stopped(&self) {
        self.0.store(STOPPED, Ordering::Relaxed);
    }

    /// There are no programs any more: a ring that is empty now stays so.
    pub fn detached(&self) {
        self.0.store(DETACHED, Ordering::Relaxed);
    }

    /// Whether the programs are gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DETACHED
    }

    /// How long to wait before the next look at a ring that could do with one after `pause`.
    #[must_use]
    pub fn pause(&self, pause: Duration) -> Duration {
        if self.0.load(Ordering::Relaxed) == RECORDING { pause } else { pause.min(SOON) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_ends_is_not_waited_for() {
        let stage = Stage::default();
        let idle = Duration::from_millis(400);
        assert_eq!((stage.pause(idle), stage.is_over()), (idle, false));
        stage.clone().stopped();
        assert!(stage.pause(idle) < idle / 10 && !stage.is_over());
        stage.detached();
        assert!(stage.is_over() && Stage::over().is_over());
    }
}
