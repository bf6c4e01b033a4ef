//! Opening perf events: sampling clocks, changes of address spaces, and kprobe events of tracefs.

use anyhow::{Context as _, Result, ensure};
use libbpf_sys::perf_event_attr;
use std::fs;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// Attributes of a kind and number, all else zero.
///
/// # Panics
/// Never: the attributes are a small struct.
#[must_use]
pub fn attributes(kind: u32, config: u64) -> perf_event_attr {
    let size = u32::try_from(size_of::<perf_event_attr>()).expect("a small struct");
    perf_event_attr { type_: kind, size, config, ..Default::default() }
}

/// Whose events are counted.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// Those of all tasks on a processor.
    Processor(i32),
    /// Those of a thread on all processors; 0: our own.
    Task(i32),
}

/// Opens an event.
///
/// # Errors
/// When the kernel refuses.
pub fn open(attributes: &perf_event_attr, whose: Whose) -> Result<OwnedFd> {
    let attributes = std::ptr::from_ref(attributes);
    let (task, cpu) = match whose {
        Whose::Processor(cpu) => (-1, cpu),
        Whose::Task(tid) => (tid, -1),
    };
    // SAFETY: the attributes are valid for the call; of the other arguments none is an address.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes, task, cpu, -1, CLOSE_ON_EXEC) };
    ensure!(fd >= 0, "perf_event_open: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// The processors that run now.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn online_cpus() -> Result<Vec<i32>> {
    let path = "/sys/devices/system/cpu/online";
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    ranges(text.trim()).with_context(|| format!("{path}: expected ranges such as 0-3,6, found {text}"))
}

fn ranges(text: &str) -> Option<Vec<i32>> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        list.extend(from.parse::<i32>().ok()?..=to.parse().ok()?);
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_ranges() {
        assert_eq!(ranges("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(ranges("0"), Some(vec![0]));
        assert_eq!(ranges("none"), None);
    }
}
