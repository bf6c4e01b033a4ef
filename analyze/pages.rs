//! What the allocator does with memory that is freed.
//!
//! A list goes through its columns slice by slice, and each slice asks for what the one before has freed. glibc gives
//! large pieces back to the system at once and asks for them again, and the system clears every page: a third of a
//! long list's CPU time. So pieces of up to 4 MiB, more than a column of a slice has, and 64 MiB in all stay with the
//! process. Larger ones still go back, so that the peak stays that of what is held.

/// Keeps freed memory for a while, where the C library can be told to.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep() {
    // SAFETY: mallopt may be called at any time; it changes when memory is returned, not what any of it holds. What it
    // refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Elsewhere it does as it likes.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
