//! How far a pass over the file is, on a terminal, once it takes long enough for somebody to wonder.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// One pass over the frames of a table. The bar goes away with it, and is only drawn where standard error is a terminal.
pub(crate) struct Pass {
    table: String,
    frames: u64,
    done: AtomicU64,
    began: Instant,
    bar: OnceLock<ProgressBar>,
}

impl Pass {
    /// Before the first frame.
    pub fn over(table: &str, frames: usize) -> Self {
        Self {
            table: table.to_owned(),
            frames: frames as u64,
            done: AtomicU64::new(0),
            began: Instant::now(),
            bar: OnceLock::new(),
        }
    }

    /// After each frame, from any thread.
    pub fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.began.elapsed() >= PATIENCE {
            self.bar.get_or_init(|| self.bar()).set_position(done);
        }
    }

    fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %, {eta} left");
        let bar = ProgressBar::new(self.frames).with_elapsed(self.began.elapsed());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("reading {}", super::escape::visible(&self.table)));
        bar
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
