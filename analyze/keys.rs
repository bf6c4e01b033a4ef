//! Keys of a terminal, one by one, without waiting for a line.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal as _, Stdin, stdin, stdout};
use std::time::Duration;

/// What a key means to a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Space: stop here, or go on.
    Pause,
    /// `n`: the next interval, and stop there.
    Step,
    /// `+`: twice as fast.
    Faster,
    /// `-`: half as fast.
    Slower,
    /// `q`, or Ctrl-C.
    Quit,
}

/// Standard input as a source of keys; as it was before once this is dropped.
pub(crate) struct Keys {
    stdin: Stdin,
    before: Option<Termios>,
}

impl Keys {
    /// Takes the keyboard, if there is one.
    pub fn take() -> Self {
        let stdin = stdin();
        let before = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            // Refused: then keys come with the next line, which is no reason not to replay.
            let _ = tcsetattr(&stdin, OptionalActions::Now, &raw);
        }
        Self { stdin, before }
    }

    /// Waits for a key, at most so long; `None`: none came that means something.
    pub fn wait(&mut self, time: Option<Duration>) -> Option<Key> {
        if self.before.is_none() {
            std::thread::sleep(time?);
            return None;
        }
        let limit = time.and_then(|time| Timespec::try_from(time).ok());
        let mut ready = [PollFd::new(&self.stdin, PollFlags::IN)];
        if !poll(&mut ready, limit.as_ref()).is_ok_and(|ready| ready > 0) {
            return None;
        }
        let mut byte = [0];
        // Not through the buffer of `Stdin`, which a poll does not see.
        match rustix::io::read(&self.stdin, &mut byte) {
            Ok(1) => key(byte[0]),
            _ => Some(Key::Quit), // the terminal is gone
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(&self.stdin, OptionalActions::Now, before);
        }
    }
}

fn key(byte: u8) -> Option<Key> {
    match byte {
        b' ' => Some(Key::Pause),
        b'n' => Some(Key::Step),
        b'+' => Some(Key::Faster),
        b'-' => Some(Key::Slower),
        b'q' | 3 => Some(Key::Quit),
        _ => None,
    }
}

/// Columns and rows of the terminal.
pub(crate) fn size() -> (usize, usize) {
    let size = tcgetwinsize(stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}
