//! One send at a time through `io_uring`, by raw system calls: the C library has no wrappers for them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::check;

const OP_SEND: u8 = 26;
const OFFSET_RINGS: i64 = 0;
const OFFSET_ENTRIES: i64 = 0x1000_0000;
const ENTER_GETEVENTS: u32 = 1;
const FEATURE_SINGLE_MMAP: u32 = 1;

/// Where the parts of the submission ring are (`struct io_sqring_offsets`).
#[repr(C)]
#[derive(Default)]
struct SubmissionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_address: u64,
}

/// Where the parts of the completion ring are (`struct io_cqring_offsets`).
#[repr(C)]
#[derive(Default)]
struct CompletionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    entries: u32,
    flags: u32,
    reserved: u32,
    user_address: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    submission_entries: u32,
    completion_entries: u32,
    flags: u32,
    thread_cpu: u32,
    thread_idle: u32,
    features: u32,
    worker_fd: u32,
    reserved: [u32; 3],
    submission: SubmissionOffsets,
    completion: CompletionOffsets,
}

/// `struct io_uring_sqe`, as far as a send uses it.
#[repr(C)]
struct Submission {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    message_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_cqe`.
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// A ring with room for one request.
pub struct Ring {
    fd: OwnedFd,
    rings: Mapping,
    entries: Mapping,
    parameters: Parameters,
}

impl Ring {
    /// Sets up a ring; the error says why this kernel has none for us.
    pub fn new() -> io::Result<Self> {
        let mut parameters = Parameters::default();
        // SAFETY: the kernel fills our parameters; the new descriptor is ours alone.
        let fd = unsafe {
            let fd = check(libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters))?;
            OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?)
        };
        if parameters.features & FEATURE_SINGLE_MMAP == 0 {
            return Err(io::Error::other("io_uring without a single mapping (before 5.4)"));
        }
        let submission_end =
            parameters.submission.array as usize + parameters.submission_entries as usize * 4;
        let completion_end = parameters.completion.entries as usize
            + parameters.completion_entries as usize * size_of::<Completion>();
        let rings = Mapping::new(&fd, submission_end.max(completion_end), OFFSET_RINGS)?;
        let size = parameters.submission_entries as usize * size_of::<Submission>();
        let entries = Mapping::new(&fd, size, OFFSET_ENTRIES)?;
        Ok(Self { fd, rings, entries, parameters })
    }

    /// Sends `data` on the socket and waits for the result.
    pub fn send(&mut self, socket: RawFd, data: &[u8]) -> io::Result<usize> {
        let request = Submission {
            opcode: OP_SEND,
            flags: 0,
            priority: 0,
            fd: socket,
            offset: 0,
            address: data.as_ptr().addr() as u64,
            length: u32::try_from(data.len()).map_err(io::Error::other)?,
            message_flags: libc::MSG_NOSIGNAL.cast_unsigned(),
            user_data: 0,
            rest: [0; 3],
        };
        let offsets = &self.parameters.submission;
        // SAFETY: entry 0 and slot 0 are inside of the mappings, and free: one request at a time. The data outlives
        // the request, since we wait for its completion.
        unsafe {
            self.entries.at::<Submission>(0).write(request);
            self.rings.at::<u32>(offsets.array).write(0);
            self.rings.counter(offsets.tail).fetch_add(1, Ordering::Release);
            let none = ptr::null::<libc::sigset_t>();
            check(libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                1,
                1,
                ENTER_GETEVENTS,
                none,
                0,
            ))?;
        }
        self.completion()
    }

    /// Takes the one completion that is there.
    fn completion(&self) -> io::Result<usize> {
        let offsets = &self.parameters.completion;
        // SAFETY: these offsets are the kernel's own, inside of the mapping.
        let result = unsafe {
            let head = self.rings.counter(offsets.head);
            if head.load(Ordering::Relaxed) == self.rings.counter(offsets.tail).load(Ordering::Acquire) {
                return Err(io::Error::other("io_uring_enter returned without a completion"));
            }
            let mask = self.rings.at::<u32>(offsets.ring_mask).read();
            let index = head.load(Ordering::Relaxed) & mask;
            let entry = self.rings.at::<Completion>(offsets.entries).add(index as usize).read();
            head.fetch_add(1, Ordering::Release);
            entry.result
        };
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }
}

/// Memory shared with the kernel.
struct Mapping {
    start: *mut libc::c_void,
    size: usize,
}

impl Mapping {
    fn new(fd: &OwnedFd, size: usize, offset: i64) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, anywhere.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                protection,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, size })
    }

    /// # Safety
    /// `offset` must be inside of the mapping.
    unsafe fn at<T>(&self, offset: u32) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.start.byte_add(offset as usize).cast() }
    }

    /// # Safety
    /// As `at`, and a counter of the ring must be there.
    unsafe fn counter(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the caller's promise; counters of a ring are aligned.
        unsafe { AtomicU32::from_ptr(self.at(offset)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and its last use.
        unsafe { libc::munmap(self.start, self.size) };
    }
}
