//! Gives back memory that a recorder has needed and needs no more, so that its peak is that of one stage and not the sum of all.

use super::probes::FAMILIES;

/// After the start: the compiled objects. They are pages of the program's own file, 3 MiB that libbpf has read and nobody reads
/// again; should somebody do so, they come back from there.
pub fn objects() {
    // SAFETY: no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for (_, object) in FAMILIES {
        let begin = (object.as_ptr() as usize).next_multiple_of(page);
        let end = (object.as_ptr() as usize + object.len()) / page * page;
        if begin < end {
            // SAFETY: these are whole pages of a constant, in a mapping of a file that nobody can write to: its contents are
            // those of the file, before and after. A failure leaves them where they are.
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED) };
        }
    }
}

/// Before names are looked up, for which the largest files are read: what rows, batches and queue took, which the allocator keeps
/// for more of them.
pub fn heap() {
    // SAFETY: it has no preconditions, and touches nothing that is allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    /// Whether a page of this process is in memory, as the kernel says (`/proc/PID/pagemap`, bit 63).
    fn is_resident(address: usize) -> bool {
        let pages = std::fs::File::open("/proc/self/pagemap").expect("procfs");
        // SAFETY: no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("a size");
        let mut entry = [0; 8];
        pages.read_exact_at(&mut entry, (address / page * 8) as u64).expect("an entry for each page");
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    #[test]
    fn objects_leave_and_are_what_they_were() {
        let (_, object) = FAMILIES.iter().max_by_key(|(_, object)| object.len()).expect("families");
        let sum = || object.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        let (before, middle) = (sum(), object.as_ptr() as usize + object.len() / 2);
        assert!(is_resident(middle));
        // Other tests may read it again meanwhile.
        let left = (0..100).any(|_| {
            objects();
            !is_resident(middle)
        });
        assert!(left, "nothing was given back");
        assert_eq!(sum(), before);
    }
}
