//! Where records come from (stop 2): a live ring, or recorded bytes in tests and benchmarks.

use super::batch::framed;
use anyhow::{Context as _, Result};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// A stream of records.
pub trait EventSource: Send {
    /// Hands out the records that are there, in order, and returns how many bytes they took.
    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize;

    /// Waits until the ring has filled by a good part, or for `timeout`.
    fn wait(&mut self, timeout: Duration);
}

/// Records in memory, each behind its length; handed out `chunk` bytes at a time.
pub struct RecordedSource {
    bytes: Vec<u8>,
    at: usize,
    chunk: usize,
}

impl RecordedSource {
    /// Over bytes such as [`crate::capture::batch::framed`] reads.
    #[must_use]
    pub fn new(bytes: Vec<u8>, chunk: usize) -> Self {
        Self { bytes, at: 0, chunk }
    }
}

impl EventSource for RecordedSource {
    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize {
        let mut done = 0;
        for record in framed(&self.bytes[self.at..]) {
            take(record);
            done += record.len() + 4;
            if done >= self.chunk {
                break;
            }
        }
        self.at += done;
        done
    }

    fn wait(&mut self, _timeout: Duration) {}
}

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;
/// The consumer's position is published this often while draining: often enough that probes find
/// space, seldom enough that the cache line it shares with them does not bounce for every record.
const PUBLISH: u64 = 64 << 10;
/// No record of ours is longer, its header included.
const LONGEST: usize = 64 << 10;

/// A BPF ring buffer, read through its own mapping.
///
/// Why not libbpf's reader: it publishes its position after every record, takes a callback that must
/// not fail or panic, and loses the record at which the callback says stop.
pub struct Ring {
    consumer: Mapping,
    producer: Mapping,
    size: usize,
    /// Bytes of the data area that are mapped once more behind it.
    again: usize,
    page: usize,
    epoll: OwnedFd,
}

impl Ring {
    /// Maps the ring behind `map`, whose data area is `size` bytes.
    ///
    /// # Errors
    /// When the kernel refuses the mapping.
    pub fn open(map: BorrowedFd, size: usize) -> Result<Self> {
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).context("page size")?;
        let consumer = Mapping::new(map, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        // The kernel has the data twice in a row, so that no record wraps. Of the second time a record's length is enough,
        // and each page that is mapped counts as the recorder's memory again.
        let again = size.min(LONGEST);
        let producer = Mapping::new(map, page, page + size + again, libc::PROT_READ)?;
        Ok(Self { consumer, producer, size, again, page, epoll: edge_epoll(map)? })
    }

    fn consumed(&self) -> &AtomicU64 {
        // SAFETY: the first eight bytes of the consumer page are its position, aligned, shared with
        // the kernel, and accessed only atomically.
        unsafe { AtomicU64::from_ptr(self.consumer.start.cast()) }
    }

    fn produced(&self) -> u64 {
        // SAFETY: the first eight bytes of the producer page are its position, aligned and mapped
        // readable; it is only loaded.
        unsafe { AtomicU64::from_ptr(self.producer.start.cast()) }.load(Ordering::Acquire)
    }

    /// The header of the record at `position`: length and state.
    fn header(&self, position: u64) -> u32 {
        let offset = self.page + (position as usize & (self.size - 1));
        // SAFETY: records start at multiples of eight within the data area, which is mapped from
        // `page` on; the kernel writes the word with release order when the record is complete.
        unsafe { AtomicU32::from_ptr(self.producer.start.add(offset).cast()) }.load(Ordering::Acquire)
    }

    /// Nothing where it is longer than any of ours: that makes no sense, and its reader says so.
    fn record(&self, position: u64, length: usize) -> &[u8] {
        if length + HEADER > self.again {
            return &[];
        }
        let offset = self.page + (position as usize & (self.size - 1)) + HEADER;
        // SAFETY: it begins within the data area and is no longer than what is mapped behind it; the kernel does not
        // touch a complete record until the consumer's position has passed it.
        unsafe { std::slice::from_raw_parts(self.producer.start.add(offset), length) }
    }
}

impl EventSource for Ring {
    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize {
        let start = self.consumed().load(Ordering::Relaxed);
        let (mut at, mut published, end) = (start, start, self.produced());
        while at < end {
            let header = self.header(at);
            if header & BUSY != 0 {
                break;
            }
            let length = (header & !DISCARDED) as usize;
            if header & DISCARDED == 0 {
                take(self.record(at, length));
            }
            at += ((length + HEADER) as u64).next_multiple_of(8);
            if at - published >= PUBLISH {
                self.consumed().store(at, Ordering::Release);
                published = at;
            }
        }
        self.consumed().store(at, Ordering::Release);
        (at - start) as usize
    }

    fn wait(&mut self, timeout: Duration) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `event` is one valid event and `epoll` an open descriptor. A signal or an error
        // only means that the next drain comes early.
        unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &raw mut event, 1, timeout) };
    }
}

/// Edge-triggered: reports the wakeups that probes force at a fill mark, not that there is data,
/// since there nearly always is some.
fn edge_epoll(map: BorrowedFd) -> Result<OwnedFd> {
    // SAFETY: no preconditions; the result is checked.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("epoll_create1");
    }
    // SAFETY: the call above returned a new descriptor that nobody else owns.
    let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET).cast_unsigned(), u64: 0 };
    // SAFETY: both descriptors are open and `event` is valid.
    if unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, map.as_raw_fd(), &raw mut event) } < 0 {
        return Err(std::io::Error::last_os_error()).context("epoll_ctl on a ring");
    }
    Ok(epoll)
}

struct Mapping {
    start: *mut u8,
    length: usize,
}

// SAFETY: the mapping is shared memory with the kernel; one thread at a time uses it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd, offset: usize, length: usize, protection: i32) -> Result<Self> {
        let offset = libc::off_t::try_from(offset).context("ring offset")?;
        // SAFETY: a fresh shared mapping of an open descriptor; the result is checked.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("map a ring");
        }
        Ok(Self { start: start.cast(), length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
