//! `-- COMMAND`: forked before everything else, held at a gate until all probes are attached.

use super::filter::User;
use anyhow::{Context as _, Result, bail};
use std::ffi::{CString, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

/// The child that runs the command.
pub struct Command {
    pid: libc::pid_t,
    gate: Option<io::PipeWriter>,
    report: io::PipeReader,
    name: String,
    /// Becomes readable when it ends; none before Linux 5.3.
    ended: Option<OwnedFd>,
}

/// Without a descriptor of the command, its end is looked for this often.
const POLL: Duration = Duration::from_millis(20);

/// Why a command did not start; the exit status is what `env` would return.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {name}")]
pub struct NotStarted {
    name: String,
    source: io::Error,
}

impl NotStarted {
    /// 127 when there is no such command, 126 when it cannot be run.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.source.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

impl Command {
    /// Forks. The child waits for [`Command::release`] and gives up if this process ends before.
    /// Must be called while this process has one thread. With `stdout_taken` the command's standard
    /// output goes where standard error goes, since it would mix with the trace.
    ///
    /// # Errors
    /// When a pipe or the process cannot be made.
    pub fn fork(words: &[OsString], user: Option<&User>, stdout_taken: bool) -> Result<Self> {
        let name = words[0].to_string_lossy().into_owned();
        let argv: Vec<CString> = words
            .iter()
            .map(|word| CString::new(word.clone().into_vec()))
            .collect::<Result<_, _>>()
            .context("a word of COMMAND")?;
        let (wait, gate) = io::pipe().context("make a pipe")?;
        let (report, tell) = io::pipe().context("make a pipe")?;
        // SAFETY: this process has one thread, so the child may use everything that it inherits.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).context("fork"),
            0 => {
                drop((gate, report));
                if stdout_taken {
                    // SAFETY: plain system call on the child's own descriptors.
                    unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) };
                }
                child(wait, tell, &argv, user)
            }
            pid => Ok(Self { pid, gate: Some(gate), report, name, ended: pidfd(pid) }),
        }
    }

    /// Process id of the command.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Lets the command start.
    ///
    /// # Errors
    /// [`NotStarted`] when it cannot be executed.
    pub fn release(&mut self) -> Result<()> {
        let mut gate = self.gate.take().context("a command is released once")?;
        gate.write_all(b"!").context("release the command")?;
        drop(gate);
        let mut code = [0; 4];
        // Nothing comes when exec succeeds: the pipe then closes by itself.
        match self.report.read_exact(&mut code) {
            Ok(()) => {
                self.wait();
                let source = io::Error::from_raw_os_error(i32::from_ne_bytes(code));
                bail!(NotStarted { name: self.name.clone(), source })
            }
            Err(_) => Ok(()),
        }
    }

    /// The exit status if the command has ended: its own, or 128 + the signal that killed it.
    #[must_use]
    pub fn try_wait(&mut self) -> Option<u8> {
        let mut status = 0;
        // SAFETY: our own child; `status` is valid.
        let done = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        (done == self.pid).then(|| exit_code(status))
    }

    /// Sleeps until the command may have ended, and no longer than that.
    pub fn sleep(&self, longest: Duration) {
        let Some(ended) = &self.ended else { return std::thread::sleep(longest.min(POLL)) };
        let mut poll = libc::pollfd { fd: ended.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(longest.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        };
        // SAFETY: one valid descriptor and a valid time. A signal or an error only ends the sleep.
        unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    }

    /// The recording ends before its command: it is asked to end too, and given some time. Its exit status.
    #[must_use]
    pub fn end(&mut self) -> u8 {
        self.terminate();
        for _ in 0..200 {
            if let Some(status) = self.try_wait() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        125
    }

    fn wait(&self) {
        // SAFETY: our own child.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }

    fn terminate(&self) {
        // SAFETY: our own child, which has not been waited for.
        unsafe { libc::kill(self.pid, libc::SIGTERM) };
    }
}

fn pidfd(pid: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: plain system call; the descriptor is nobody else's.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        i32::try_from(fd).ok().filter(|fd| *fd >= 0).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

fn exit_code(status: i32) -> u8 {
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    u8::try_from(code).unwrap_or(125)
}

/// The child's side: never returns to the caller's code.
fn child(mut wait: io::PipeReader, mut tell: io::PipeWriter, argv: &[CString], user: Option<&User>) -> ! {
    let mut go = [0];
    if wait.read_exact(&mut go).is_ok() {
        let error = run(argv, user);
        let code = error.raw_os_error().unwrap_or(libc::EINVAL);
        // The parent is the only one who could be told about a failure here.
        let _ = tell.write_all(&code.to_ne_bytes());
    }
    // SAFETY: ends this process without running the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

fn run(argv: &[CString], user: Option<&User>) -> io::Error {
    if let Some(Err(error)) = user.map(become_user) {
        return error;
    }
    // SAFETY: Rust ignores SIGPIPE for itself; a command expects the default.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: a null-terminated array of C strings that outlive the call.
    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
    io::Error::last_os_error()
}

fn become_user(user: &User) -> io::Result<()> {
    let name = CString::new(user.name.as_str()).map_err(io::Error::other)?;
    // SAFETY: valid C string and plain numbers; every result is checked, in the order that leaves no privilege behind.
    let failed = unsafe {
        libc::initgroups(name.as_ptr(), user.gid) != 0
            || libc::setgid(user.gid) != 0
            || libc::setuid(user.uid) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this process has one thread.
    unsafe {
        std::env::set_var("HOME", &user.home);
        std::env::set_var("USER", &user.name);
        std::env::set_var("LOGNAME", &user.name);
    }
    Ok(())
}
