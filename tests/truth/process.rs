//! Processes, clocks and the alarm that ends every one of them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

/// No process of this program lives longer, whatever happens.
const LIFE_SECONDS: u32 = 30;

/// The result of a system call: -1 means "see errno".
pub fn check<T: Copy + Into<i64>>(returned: T) -> io::Result<T> {
    if returned.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// SIGALRM ends the process after half a minute.
pub fn set_alarm() {
    // SAFETY: plain system call.
    unsafe { libc::alarm(LIFE_SECONDS) };
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the trace.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours; this clock exists on every kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The kernel's number of the calling thread.
pub fn tid() -> i32 {
    // SAFETY: plain system call.
    unsafe { libc::gettid() }
}

/// The calling thread's name, as the kernel has it.
pub fn comm() -> String {
    std::fs::read_to_string("/proc/thread-self/comm")
        .map_or_else(|_| String::new(), |comm| comm.trim_end().to_owned())
}

/// Names the calling thread (15 bytes count).
pub fn set_comm(name: &str) {
    let name = std::ffi::CString::new(name).unwrap_or_default();
    // SAFETY: a C string that outlives the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// A pipe: what is read from the first end was written to the second.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors; both are ours alone from here on.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// A forked process that does one thing and hands back a text (a JSON fragment).
pub struct Child {
    pid: libc::pid_t,
    result: File,
}

impl Child {
    /// Forks; the child runs `work` under the name `comm` and exits. Call it before any thread is started.
    pub fn fork(comm: &str, work: impl FnOnce() -> io::Result<String>) -> io::Result<Self> {
        let (read, write) = pipe()?;
        // SAFETY: the process has one thread here, so the child may do all that its parent may.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            drop(read);
            run_child(comm, File::from(write), work);
        }
        Ok(Self { pid, result: File::from(read) })
    }

    /// Waits for the end of the child, and returns its text.
    pub fn join(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.result.read_to_string(&mut text)?;
        let mut status = 0;
        // SAFETY: our own child, and a status of ours.
        check(unsafe { libc::waitpid(self.pid, &raw mut status, 0) })?;
        if status == 0 {
            Ok(text)
        } else {
            Err(io::Error::other(format!("the child ended with wait status {status}")))
        }
    }
}

/// The life of a forked child. It ends by `_exit`: nothing that the parent set up is run or flushed twice.
fn run_child(comm: &str, mut result: File, work: impl FnOnce() -> io::Result<String>) -> ! {
    set_alarm(); // an alarm is not inherited
    set_comm(comm);
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let status = match work().and_then(|text| result.write_all(text.as_bytes())) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("truth: {comm}: {error}");
            1
        }
    };
    // SAFETY: never returns.
    unsafe { libc::_exit(status) }
}

/// An anonymous file of `size` bytes: a source for sendfile that needs no file system.
pub fn memory_file(size: usize) -> io::Result<File> {
    // SAFETY: a C string literal; the descriptor is ours alone from here on.
    let mut file =
        unsafe { File::from_raw_fd(check(libc::memfd_create(c"truth".as_ptr(), libc::MFD_CLOEXEC))?) };
    file.write_all(&vec![b'f'; size])?;
    Ok(file)
}
