//! What the allocator does with memory that is freed.
//!
//! A list goes through its columns slice by slice, and each slice asks for what the one before has freed. glibc gives
//! large pieces back to the system at once and asks for them again, and the system clears every page: a third of a
//! long list's CPU time. So from the first slice on pieces of up to 4 MiB, more than a column of a slice has, and 32 MiB
//! in all stay with the process. Who makes no slices is better off without: what is freed would count in its peak.

/// Keeps freed memory from now on, where the C library can be told to.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep() {
    // SAFETY: mallopt may be called at any time; it changes when memory is returned, not what any of it holds. What it
    // refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 32 << 20);
    }
}

/// Elsewhere it does as it likes.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
