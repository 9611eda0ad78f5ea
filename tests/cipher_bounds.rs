//! Memory around a message: inaccessible pages right before and right after input and output, so that
//! a byte read or written outside ends the test.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::mem::MaybeUninit;
use std::ptr::{null_mut, slice_from_raw_parts_mut};

use keyward::cipher::{Context, Direction, Kernel, Mode, Padding};

#[path = "../benches/common/random.rs"]
mod random;

const PAGE: usize = 4096;

/// Memory between two pages that nobody may touch.
struct Guarded {
    start: *mut u8,
    len: usize,
}

impl Guarded {
    /// `pages` pages of it.
    fn new(pages: usize) -> Self {
        let len = (pages + 2) * PAGE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: asks for new memory, at an address of the system's choice, and makes the middle of
        // it accessible.
        unsafe {
            let start = libc::mmap(null_mut(), len, libc::PROT_NONE, private, -1, 0).cast::<u8>();
            assert_ne!(start.cast(), libc::MAP_FAILED);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(start.add(PAGE).cast(), pages * PAGE, access), 0);
            Self { start, len }
        }
    }

    /// The first `len` bytes, right behind the first guard.
    fn first(&mut self, len: usize) -> &mut [u8] {
        self.at(PAGE, len)
    }

    /// The last `len` bytes, right before the second guard.
    fn last(&mut self, len: usize) -> &mut [u8] {
        self.at(self.len - PAGE - len, len)
    }

    fn at(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(at >= PAGE && at + len <= self.len - PAGE);
        // SAFETY: between the guards, as just asserted; borrowed from `self`.
        unsafe { &mut *slice_from_raw_parts_mut(self.start.add(at), len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows it any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

fn room(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: bytes may be seen as perhaps uninitialised ones; only bytes are written to them here.
    unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) }
}

/// A message of `len` bytes with input and output at the end of their memory, then at its beginning.
fn touch(
    [input, output]: &mut [Guarded; 2],
    kernel: Kernel,
    (mode, direction, padding): (Mode, Direction, Padding),
    len: usize,
) {
    for at_end in [true, false] {
        let src = if at_end { input.last(len) } else { input.first(len) };
        random::Random::new(len as u64).fill(src);
        let mut slot = MaybeUninit::uninit();
        let (key, iv) = ([1; 32], [2; 16]);
        let context =
            Context::init_with(kernel, &mut slot, mode, direction, padding, &key, &iv).unwrap();
        let promised = context.update_len(len);
        let dst = if at_end { output.last(promised) } else { output.first(promised) };
        match context.update(src, room(dst)) {
            Ok(done) => assert_eq!(done, promised),
            Err(_) => assert!(mode == Mode::Gcm && len < 16),
        }
        let _ = context.finish();
    }
}

#[test]
fn nothing_outside_input_and_output_is_touched() {
    let mut memory = [Guarded::new(5), Guarded::new(5)];
    for name in Kernel::NAMES {
        let Some(kernel) = Kernel::named(name) else {
            println!("{name}: NOT RUN, this CPU has not the instructions");
            continue;
        };
        for mode in [Mode::Cbc, Mode::Ctr, Mode::Gcm] {
            for direction in [Direction::Encrypt, Direction::Decrypt] {
                for padding in [Padding::None, Padding::Pkcs7] {
                    if mode == Mode::Gcm && padding == Padding::None {
                        continue;
                    }
                    let lens = (0..600).step_by(1 + usize::from(cfg!(debug_assertions)));
                    for len in lens.chain([4066, 8162, 16_354]) {
                        touch(&mut memory, kernel, (mode, direction, padding), len);
                    }
                }
            }
        }
    }
}
