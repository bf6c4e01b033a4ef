//! Signals: SIGINT, SIGTERM and SIGHUP (a terminal that is closed) end the recording, once or often sent;
//! SIGUSR1 asks a flight recorder for its memory.

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What has been asked for.
pub struct Signals {
    stop: Arc<AtomicBool>,
    dump: Arc<AtomicBool>,
}

impl Signals {
    /// From now on signals are only noted.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self> {
        let signals = Self { stop: Arc::default(), dump: Arc::default() };
        for (signal, flag) in [SIGINT, SIGTERM, SIGHUP]
            .map(|end| (end, &signals.stop))
            .into_iter()
            .chain([(SIGUSR1, &signals.dump)])
        {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("handle signals")?;
        }
        Ok(signals)
    }

    /// Whether the recording is to end.
    #[must_use]
    pub fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a dump was asked for since the last call.
    #[must_use]
    pub fn dump(&self) -> bool {
        self.dump.swap(false, Ordering::Relaxed)
    }
}
