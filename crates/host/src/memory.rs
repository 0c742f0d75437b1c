//! The C library's allocator, told to behave like that of a small daemon.
//!
//! By default it keeps one arena for each thread and returns memory only from an arena's end: a
//! burst of pods would leave the process twice as large as what it holds.
#![allow(unsafe_code)]

/// Keeps all allocations in one arena. To be called before threads are started. With two worker
/// threads there is little to contend for.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a parameter of the allocator; no thread allocates meanwhile, and the value is one
    // that mallopt(3) documents. A refusal leaves the default, which is only larger.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns free memory to the system. Takes about a millisecond for each ten megabytes.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) is safe to call from any thread at any time; it locks the arena.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the allocator holds, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorUsage {
    /// In use, small pieces.
    pub in_use: u64,
    /// In use, large pieces with pages of their own.
    pub mapped: u64,
    /// How many of those there are.
    pub mapped_pieces: u64,
    /// Free, but not given back to the system.
    pub kept: u64,
}

/// Asks the allocator; all zero where it cannot be asked.
pub fn allocator_usage() -> AllocatorUsage {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallinfo2(3) is safe to call from any thread at any time; it locks the arenas.
        let info = unsafe { libc::mallinfo2() };
        AllocatorUsage {
            in_use: info.uordblks as u64,
            mapped: info.hblkhd as u64,
            mapped_pieces: info.hblks as u64,
            kept: info.fordblks as u64,
        }
    }
    #[cfg(not(target_env = "gnu"))]
    AllocatorUsage::default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_held_is_seen() {
        let held = vec![1_u8; 8 << 20];
        let usage = super::allocator_usage();
        assert!(cfg!(not(target_env = "gnu")) || usage.in_use + usage.mapped >= 8 << 20, "{usage:?}");
        assert_eq!(held.len(), 8 << 20);
    }

    #[test]
    fn both_can_be_called_again_and_again() {
        for _ in 0..3 {
            super::use_one_arena();
            let held = vec![0_u8; 1 << 20];
            super::give_back();
            assert_eq!(held.len(), 1 << 20);
        }
    }
}
