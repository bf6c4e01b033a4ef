//! One process: how long, how much work, how much memory.

use std::io;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a process used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds.
    pub wall: f64,
    /// Seconds of user and system time.
    pub cpu: f64,
    /// Peak, KiB.
    pub rss: i64,
}

impl Usage {
    /// The better of two, each figure by itself.
    pub fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu), rss: self.rss.min(other.rss) }
    }
}

/// Runs a command to its end, its output thrown away.
pub fn measure(command: &mut Command) -> io::Result<Usage> {
    let began = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn()?;
    let pid = child.id().cast_signed();
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage, which the kernel overwrites.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables; nobody else waits for this child of ours.
    if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
        return Err(io::Error::last_os_error());
    }
    let wall = began.elapsed().as_secs_f64();
    // 3: something is missing, which a generated trace may well say of its ledger.
    if !libc::WIFEXITED(status) || ![0, 3].contains(&libc::WEXITSTATUS(status)) {
        return Err(io::Error::other(format!("{command:?} ended with status {status:#x}")));
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Usage { wall, cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime), rss: usage.ru_maxrss })
}
