//! Tells the allocator of the GNU C library to keep what is freed. Left alone it gives the large
//! buffers of each chunk back to the system and asks for them again: for quantised weights that took
//! a third of the time of `pack`. Source: mallopt(3).

#![allow(
    unsafe_code,
    reason = "the library has no other way to set its parameters"
)]

/// Blocks up to this many bytes come from the heap: the most that the library allows.
const FROM_HEAP_MAX: libc::c_int = 32 << 20;
/// Free bytes at the end of the heap beyond which it shrinks.
const KEPT_MAX: libc::c_int = 64 << 20;

/// Sets the parameters; `false` if the library refuses, which costs only time.
pub(crate) fn keep_freed() -> bool {
    let set = |parameter, value| {
        // SAFETY: only numbers are passed, and it is called before there are other threads.
        unsafe { libc::mallopt(parameter, value) == 1 }
    };
    set(libc::M_MMAP_THRESHOLD, FROM_HEAP_MAX) && set(libc::M_TRIM_THRESHOLD, KEPT_MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_library_takes_the_parameters() {
        assert!(super::keep_freed());
    }
}
