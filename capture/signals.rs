//! Signals: SIGINT, SIGTERM and SIGHUP (a terminal that is closed) end the recording, once or often sent;
//! SIGUSR1 asks a flight recorder for its memory. What was ignored when the recorder was started, as `nohup` and shells
//! have it for what runs in the background, stays ignored.

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
        let ends = [SIGINT, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)).chain([SIGTERM]);
        for (signal, flag) in ends.map(|end| (end, &signals.stop)).chain([(SIGUSR1, &signals.dump)]) {
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

/// Whether it is to be ignored, as whoever started this program wants.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: zero is valid for every field of sigaction, to which the pointer leads; nothing is changed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
