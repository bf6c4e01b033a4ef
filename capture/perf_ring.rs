//! Changes of address spaces, as the kernel tells them through perf events: one ring per processor.

use super::mappings::Mapping;
use super::perf_event::{self, Whose};
use super::processors::Processors;
use anyhow::{Context as _, Result};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of one ring: some thousand changes.
const SIZE: usize = 256 << 10;
const EXEC: u16 = libbpf_sys::PERF_RECORD_MISC_COMM_EXEC as u16;

/// What happened to an address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is replaced by an empty one.
    Exec {
        /// The process.
        pid: u32,
    },
    /// A new process has a copy of it.
    Fork {
        /// The new process.
        pid: u32,
        /// Whose copy.
        parent: u32,
    },
    /// The process is gone.
    Exit {
        /// The process.
        pid: u32,
    },
    /// Something was mapped as code.
    Map(Mapping),
}

/// The rings of all processors; none where the kernel does not allow that: then /proc alone is asked.
#[derive(Default)]
pub struct PerfRings {
    rings: Vec<(i32, PerfRing)>,
    processors: Processors,
}

impl PerfRings {
    /// Opens one per processor.
    #[must_use]
    pub fn open() -> Self {
        let cpus = perf_event::online_cpus().unwrap_or_default();
        let open = |&cpu| Ok((cpu, PerfRing::open(cpu)?));
        let rings = cpus.iter().map(open).collect::<Result<_>>().unwrap_or_default();
        Self { rings, processors: Processors::new() }
    }

    /// What has happened since the last time, in order, and whether some of it was not told: the kernel had to drop it, or
    /// a processor has come online meanwhile.
    pub fn drain(&mut self) -> (Vec<(u64, Change)>, bool) {
        let (mut changes, mut lost) = (Vec::new(), false);
        for (_, ring) in &mut self.rings {
            ring.drain(|record| match parse(record) {
                Some(Told::Change(ts, change)) => changes.push((ts, change)),
                Some(Told::Lost) => lost = true,
                None => {}
            });
        }
        lost |= self.follow_processors();
        changes.sort_by_key(|(ts, _)| *ts);
        (changes, lost)
    }

    /// Opens rings for processors that have come online. True: there were some.
    fn follow_processors(&mut self) -> bool {
        if self.rings.is_empty() {
            return false;
        }
        let arrived = self.processors.arrived();
        self.rings.retain(|(cpu, _)| !arrived.contains(cpu));
        // Without a ring of its own, what is mapped on a processor is found in /proc later.
        self.rings.extend(arrived.iter().filter_map(|&cpu| Some((cpu, PerfRing::open(cpu).ok()?))));
        !arrived.is_empty()
    }
}

struct PerfRing {
    start: *mut u8,
    page: usize,
    _event: OwnedFd,
}

// SAFETY: the mapping is shared memory with the kernel; one thread at a time uses it.
unsafe impl Send for PerfRing {}

impl PerfRing {
    fn open(cpu: i32) -> Result<Self> {
        let dummy = u64::from(libbpf_sys::PERF_COUNT_SW_DUMMY);
        let mut attributes = perf_event::attributes(libbpf_sys::PERF_TYPE_SOFTWARE, dummy);
        attributes.sample_type = libbpf_sys::PERF_SAMPLE_TIME.into();
        attributes.set_sample_id_all(1);
        attributes.set_use_clockid(1);
        attributes.clockid = libc::CLOCK_MONOTONIC;
        // Not with build ids, though the kernel would tell them: up to 6.18 at least it then marks the records of
        // everybody else's events as having one too, and `perf` dies of what it reads.
        attributes.set_mmap(1);
        attributes.set_mmap2(1);
        attributes.set_comm(1);
        attributes.set_comm_exec(1);
        attributes.set_task(1);
        let event = perf_event::open(&attributes, Whose::Processor(cpu))?;
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).context("page size")?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh shared mapping of an open descriptor; the result is checked.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), page + SIZE, protection, libc::MAP_SHARED, event.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("map a perf ring");
        }
        Ok(Self { start: start.cast(), page, _event: event })
    }

    /// One of the two positions in the ring's first page.
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the kernel's page is mapped readable and writable, the positions in it are aligned, and both
        // sides access them atomically.
        unsafe { AtomicU64::from_ptr(self.start.add(offset).cast()) }
    }

    fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        let head = self.position(std::mem::offset_of!(libbpf_sys::perf_event_mmap_page, data_head));
        let tail = self.position(std::mem::offset_of!(libbpf_sys::perf_event_mmap_page, data_tail));
        let (mut at, end) = (tail.load(Ordering::Relaxed), head.load(Ordering::Acquire));
        let mut record = Vec::new();
        while at < end {
            let size = usize::from(u16::from_ne_bytes([self.byte(at + 6), self.byte(at + 7)]));
            if size < 8 {
                break; // not a record: the kernel never writes this
            }
            record.clear();
            record.extend((at..at + size as u64).map(|at| self.byte(at)));
            take(&record);
            at += size as u64;
        }
        tail.store(end, Ordering::Release);
    }

    fn byte(&self, at: u64) -> u8 {
        let offset = self.page + (at as usize & (SIZE - 1));
        // SAFETY: within the data area, before the head that was loaded with acquire order, and not
        // overwritten before the tail passes it.
        unsafe { self.start.add(offset).read() }
    }
}

impl Drop for PerfRing {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `open`.
        unsafe { libc::munmap(self.start.cast(), self.page + SIZE) };
    }
}

enum Told {
    Change(u64, Change),
    Lost,
}

fn u32_at(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*record.get(at..)?.first_chunk()?))
}

fn u64_at(record: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*record.get(at..)?.first_chunk()?))
}

/// A record of the kernel: `struct perf_event_header`, a body by its type, and the time at its end.
fn parse(record: &[u8]) -> Option<Told> {
    let misc = u16::from_ne_bytes(*record.get(4..)?.first_chunk()?);
    let (pid, second, tid) = (u32_at(record, 8)?, u32_at(record, 12)?, u32_at(record, 16)?);
    let ts = u64_at(record, record.len().checked_sub(8)?)?;
    let change = match u32_at(record, 0)? {
        libbpf_sys::PERF_RECORD_COMM if misc & EXEC != 0 => Change::Exec { pid },
        libbpf_sys::PERF_RECORD_FORK if pid != second => Change::Fork { pid, parent: second },
        libbpf_sys::PERF_RECORD_EXIT if pid == tid => Change::Exit { pid },
        libbpf_sys::PERF_RECORD_MMAP2 => Change::Map(parse_map(record, pid)?),
        libbpf_sys::PERF_RECORD_LOST => return Some(Told::Lost),
        _ => return None,
    };
    Some(Told::Change(ts, change))
}

fn parse_map(record: &[u8], pid: u32) -> Option<Mapping> {
    let (start, length, offset) = (u64_at(record, 16)?, u64_at(record, 24)?, u64_at(record, 32)?);
    let name = record.get(72..record.len() - 8)?.split(|&byte| byte == 0).next()?;
    let path = String::from_utf8_lossy(name).into_owned();
    Some(Mapping { start, end: start.checked_add(length)?, offset, path, pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(8 + body.len() + 8).expect("small");
        [&kind.to_ne_bytes()[..], &misc.to_ne_bytes(), &size.to_ne_bytes(), body, &77u64.to_ne_bytes()]
            .concat()
    }

    #[test]
    fn a_mapping_is_read_as_the_kernel_writes_it() {
        let mut body = [7u32.to_ne_bytes(), 8u32.to_ne_bytes()].concat();
        for number in [0x1000u64, 0x500, 0x2000] {
            body.extend(number.to_ne_bytes());
        }
        body.resize(64, 0xaa);
        body.extend(b"/bin/true\0\0\0\0\0\0\0");
        let Some(Told::Change(77, Change::Map(mapping))) =
            parse(&record(libbpf_sys::PERF_RECORD_MMAP2, 0, &body))
        else {
            panic!("a mapping");
        };
        let expected =
            Mapping { start: 0x1000, end: 0x1500, offset: 0x2000, path: "/bin/true".into(), pid: 7 };
        assert_eq!(mapping, expected);
    }

    #[test]
    fn threads_share_their_address_space() {
        let fork = |pid: u32, parent: u32| {
            let body: Vec<u8> = [pid, parent, 9, 9].iter().flat_map(|number| number.to_ne_bytes()).collect();
            parse(&record(libbpf_sys::PERF_RECORD_FORK, 0, &body))
        };
        assert!(fork(7, 7).is_none(), "a thread");
        assert!(matches!(fork(8, 7), Some(Told::Change(77, Change::Fork { pid: 8, parent: 7 }))));
        assert!(parse(&[1, 2, 3]).is_none());
    }
}
