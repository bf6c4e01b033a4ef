//! How far a pass over the file is, on a terminal, once it takes long enough for somebody to wonder.
//!
//! Passes lie in each other: what pairs events reads some frames at a time, and may have to look names up. Only
//! the outermost is shown, since it alone knows how much there is to do.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

thread_local! {
    /// How many passes this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// One pass over frames. The bar goes away with it, and is only drawn where standard error is a terminal.
pub(crate) struct Pass {
    what: String,
    frames: u64,
    done: AtomicU64,
    began: Instant,
    /// It is the outermost.
    shown: bool,
    bar: OnceLock<ProgressBar>,
}

impl Pass {
    /// Before the first frame of a table, or of whatever is read.
    pub fn over(what: &str, frames: usize) -> Self {
        let depth = DEPTH.replace(DEPTH.get() + 1);
        Self {
            what: what.to_owned(),
            frames: frames as u64,
            done: AtomicU64::new(0),
            began: Instant::now(),
            // Threads of the pool work for a pass that another thread is in.
            shown: depth == 0 && rayon::current_thread_index().is_none(),
            bar: OnceLock::new(),
        }
    }

    /// After each frame, from any thread.
    pub fn step(&self) {
        self.steps(1);
    }

    /// After several frames.
    pub fn steps(&self, frames: usize) {
        let done = self.done.fetch_add(frames as u64, Ordering::Relaxed) + frames as u64;
        if self.shown && self.began.elapsed() >= PATIENCE {
            self.bar.get_or_init(|| self.bar()).set_position(done);
        }
    }

    fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %, {eta} left");
        let bar = ProgressBar::new(self.frames).with_elapsed(self.began.elapsed());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("reading {}", super::escape::visible(&self.what)));
        bar
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_pass_is_the_one_that_is_shown() {
        let whole = Pass::over("the file", 4);
        for _ in 0..2 {
            let wave = Pass::over("two frames", 2);
            assert!(!wave.shown);
            wave.step();
            wave.step();
            whole.steps(2);
        }
        assert!(whole.shown);
        assert_eq!(whole.done.load(Ordering::Relaxed), whole.frames);
        drop(whole);
        let next = Pass::over("another", 1);
        assert!(next.shown, "the first is over");
    }

    #[test]
    fn a_pass_that_takes_long_has_a_bar() {
        let mut pass = Pass::over("the file", 10);
        pass.step();
        assert!(pass.bar.get().is_none(), "nobody wonders yet");
        pass.began = Instant::now().checked_sub(PATIENCE).expect("this machine runs for longer than that");
        pass.steps(4);
        assert_eq!(pass.bar.get().map(ProgressBar::position), Some(5));
    }
}
