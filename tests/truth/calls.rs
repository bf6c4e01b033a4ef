//! `calls`: system calls of which each number is known.

use std::ffi::CStr;
use std::io;
use std::time::Duration;

use crate::json::Object;
use crate::options::Options;
use crate::process::now_ns;

/// No such file.
const MISSING: &CStr = c"/nonexistent/truth";

/// `--count` times getppid, `--missing` times a file that is not there is opened, and ten sleeps of `--ms`.
pub fn calls(options: &Options) -> io::Result<Object> {
    let start = now_ns();
    for _ in 0..options.count {
        // SAFETY: no arguments; getppid always succeeds, and this is a call each time.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    for _ in 0..options.missing {
        // SAFETY: a valid C string, and flags.
        if unsafe { libc::open(MISSING.as_ptr(), libc::O_RDONLY) } >= 0 {
            return Err(io::Error::other(format!("{MISSING:?} exists")));
        }
    }
    let called = now_ns();
    let naps: Vec<u64> = (0..10)
        .map(|_| {
            let before = now_ns();
            std::thread::sleep(Duration::from_millis(options.ms));
            now_ns() - before
        })
        .collect();
    Ok(Object::new()
        .value("pid", std::process::id())
        .value("getppid", options.count)
        .value("openat", options.missing)
        .value("calls_ns", called - start)
        .list("naps_ns", naps))
}
