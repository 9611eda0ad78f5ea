//! The heap of this library: what is given back to it is wiped first. Libraries for TLS and HTTP
//! copy tokens and keys through buffers of their own, which nobody else would wipe.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// The system's heap, wiped. Keys themselves are in the arena, not here.
struct Wiping;

#[global_allocator]
static HEAP: Wiping = Wiping;

// SAFETY: each call goes to `System` with the layout that it came with; what lies between only
// writes zeroes into blocks that the caller has given up.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        wipe(block, layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.dealloc(block, layout) };
    }

    /// Always into a new block: the system's own way would leave the old one as it is.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, does not overflow,
        // and it is not 0.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as above.
        let new = unsafe { System.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both blocks are at least this long, and the new one is nobody else's.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
            // SAFETY: the caller gives up `block`, which has this layout.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Writes zeroes that no optimisation takes away because the block is about to be freed.
fn wipe(block: *mut u8, len: usize) {
    // SAFETY: `block` has `len` bytes, ours to write until it is freed.
    unsafe { ptr::write_bytes(block, 0, len) };
    // SAFETY: empty; tells the compiler that somebody may look at the block.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heap beneath keeps the first bytes of a free block for itself, so the middle is looked at.
    #[test]
    fn a_block_is_zero_when_it_is_freed() {
        let mut block = [0xa5_u8; 256];
        wipe(block.as_mut_ptr(), 128);
        assert!(block[..128].iter().all(|byte| *byte == 0));
        assert!(block[128..].iter().all(|byte| *byte == 0xa5));
    }

    #[test]
    fn what_grows_and_shrinks_keeps_its_content() {
        let mut list: Vec<u32> = Vec::new();
        for number in 0..10_000 {
            list.push(number);
        }
        list.truncate(100);
        list.shrink_to_fit();
        assert!(list.iter().copied().eq(0..100));
    }
}
