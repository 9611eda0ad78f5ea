//! Wiping what a computation with secrets leaves behind outside of the arena: on the stack and in
//! the vector registers, from where a core dump or a later bug would bring it to light.

use std::cell::Cell;
use std::hint::black_box;
use std::mem::MaybeUninit;

/// How much stack is wiped, in bytes: several times what our ciphers and hashes need, and a
/// quarter of the smallest stack that a server gives a thread.
const REACH: usize = 64 * 1024;

/// How large a result may be, in bytes. It is copied out whole, and what its variant does not use of it
/// may be what stood on the stack before: in no more than this is no room for a cipher with its key.
const LARGEST: usize = 96;

thread_local! {
    /// Whether an outer `scrubbed` of this thread wipes anyway.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, and then wipes the stack that it used and the vector registers, also if it panics.
/// What it returns must hold secrets only in locked memory, and be small (box what is not). Takes about
/// 2 microseconds; within another `scrubbed`, nothing.
pub fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    const { assert!(size_of::<T>() <= LARGEST, "box the result") };
    if WITHIN.replace(true) {
        return work();
    }
    let _wipe = Wipe;
    call(work)
}

struct Wipe;

impl Drop for Wipe {
    fn drop(&mut self) {
        WITHIN.set(false);
        wipe_stack();
        wipe_registers();
    }
}

/// Keeps the work in stack frames of its own, below the caller's, where `wipe_stack` reaches it.
#[inline(never)]
fn call<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn wipe_stack() {
    let mut below = [const { MaybeUninit::<u64>::uninit() }; REACH / 8];
    // SAFETY: `below` is in our own frame and as long as that; any bytes are valid in it. The C library
    // promises that this is not left out although nobody reads it.
    unsafe { libc::explicit_bzero(below.as_mut_ptr().cast(), size_of_val(&below)) };
    black_box(&below);
}

#[cfg(target_arch = "x86_64")]
fn wipe_registers() {
    use std::arch::asm;

    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: zeroes registers that AVX-512 has, and tells the compiler that they changed.
        unsafe {
            asm!(
                "vpxord zmm16, zmm16, zmm16",
                "vpxord zmm17, zmm17, zmm17",
                "vpxord zmm18, zmm18, zmm18",
                "vpxord zmm19, zmm19, zmm19",
                "vpxord zmm20, zmm20, zmm20",
                "vpxord zmm21, zmm21, zmm21",
                "vpxord zmm22, zmm22, zmm22",
                "vpxord zmm23, zmm23, zmm23",
                "vpxord zmm24, zmm24, zmm24",
                "vpxord zmm25, zmm25, zmm25",
                "vpxord zmm26, zmm26, zmm26",
                "vpxord zmm27, zmm27, zmm27",
                "vpxord zmm28, zmm28, zmm28",
                "vpxord zmm29, zmm29, zmm29",
                "vpxord zmm30, zmm30, zmm30",
                "vpxord zmm31, zmm31, zmm31",
                clobber_abi("sysv64"),
                options(nomem, nostack),
            );
        }
    }
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: zeroes all of ymm0 to ymm15 (zmm, where there are such), which the compiler is told.
        unsafe { asm!("vzeroall", clobber_abi("sysv64"), options(nomem, nostack)) };
    } else {
        // SAFETY: zeroes xmm0 to xmm15, which every x86-64 has, and tells the compiler so.
        unsafe {
            asm!(
                "xorps xmm0, xmm0",
                "xorps xmm1, xmm1",
                "xorps xmm2, xmm2",
                "xorps xmm3, xmm3",
                "xorps xmm4, xmm4",
                "xorps xmm5, xmm5",
                "xorps xmm6, xmm6",
                "xorps xmm7, xmm7",
                "xorps xmm8, xmm8",
                "xorps xmm9, xmm9",
                "xorps xmm10, xmm10",
                "xorps xmm11, xmm11",
                "xorps xmm12, xmm12",
                "xorps xmm13, xmm13",
                "xorps xmm14, xmm14",
                "xorps xmm15, xmm15",
                clobber_abi("sysv64"),
                options(nomem, nostack),
            );
        }
    }
}

/// Elsewhere the next computation overwrites them.
#[cfg(not(target_arch = "x86_64"))]
fn wipe_registers() {}
