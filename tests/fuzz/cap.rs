//! No single allocation of a run may be larger than any that a reader has reason for: what a file claims is not
//! memory. Beyond it the program ends with "memory allocation of N bytes failed".

use std::alloc::{GlobalAlloc, Layout, System};

/// Four times the largest message.
const LARGEST: usize = 4 * tapedeck::schema::frame::MAX_MESSAGE as usize;

struct Capped;

#[global_allocator]
static ALLOCATOR: Capped = Capped;

// SAFETY: all that is given out is the system allocator's, which gets it back; null is what there is none of.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout, as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout, as it is.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > LARGEST {
            return std::ptr::null_mut();
        }
        // SAFETY: what the caller got from this allocator came from the system's.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: what the caller got from this allocator came from the system's.
        unsafe { System.dealloc(at, layout) }
    }
}
