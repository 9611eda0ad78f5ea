//! The floor: the AES and carry-less multiply instructions that a message takes at least, on registers
//! alone. No loads, no stores, no counters, no key set-up: a CPU cannot do the work in less.
#![allow(unsafe_code, unreachable_pub)]

use keyward::cipher::{Direction, Mode};

/// Instructions for one message, or `None` where nobody has said what `kernel` is made of.
pub fn chain(
    kernel: &str,
    mode: Mode,
    direction: Direction,
    rounds: usize,
    blocks: usize,
) -> Option<Box<dyn FnMut()>> {
    #[cfg(target_arch = "x86_64")]
    {
        let width = match kernel {
            "aesni" => 1,
            "vaes256" => 2,
            "vaes512" => 4,
            _ => return None,
        };
        let groups = (blocks.div_ceil(8 * width) * rounds) as u64;
        let tens = (blocks * rounds).div_ceil(10) as u64;
        Some(match (mode, direction, width) {
            (Mode::Cbc, Direction::Encrypt, _) => Box::new(move || x86::serial(tens)),
            (Mode::Gcm, _, 1) => Box::new(move || x86::gcm_xmm(groups, rounds as u64)),
            (Mode::Gcm, _, 2) => Box::new(move || x86::gcm_ymm(groups, rounds as u64)),
            (Mode::Gcm, _, _) => Box::new(move || x86::gcm_zmm(groups, rounds as u64)),
            (_, _, 1) => Box::new(move || x86::xmm(groups)),
            (_, _, 2) => Box::new(move || x86::ymm(groups)),
            (_, _, _) => Box::new(move || x86::zmm(groups)),
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    /// Declares a loop over `$body`, which changes vector registers only.
    macro_rules! chains {
        ($name:ident, $($line:literal),+) => {
            pub(super) fn $name(times: u64) {
                // SAFETY: the kernel of that width runs here, so the CPU has the instructions; only
                // the named registers change.
                unsafe {
                    asm!("2:", $($line,)+ "dec {n}", "jnz 2b", "vzeroupper",
                        n = inout(reg) times.max(1) => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        options(nomem, nostack));
                }
            }
        };
    }

    chains!(serial, ".rept 10", "aesenc xmm0, xmm1", ".endr");
    chains!(xmm, ".irp r,0,1,2,3,4,5,6,7", "aesenc xmm\\r, xmm\\r", ".endr");
    chains!(ymm, ".irp r,0,1,2,3,4,5,6,7", "vaesenc ymm\\r, ymm\\r, ymm\\r", ".endr");
    chains!(zmm, ".irp r,0,1,2,3,4,5,6,7", "vaesenc zmm\\r, zmm\\r, zmm\\r", ".endr");

    /// As above, and for each group of eight registers the 24 products of Karatsuba's GHASH and two
    /// more to reduce them: three after most rounds.
    macro_rules! gcm_chains {
        ($name:ident, $aes:literal, $product:literal, $reduce:literal) => {
            pub(super) fn $name(groups: u64, rounds: u64) {
                // SAFETY: as for the chains without products.
                unsafe {
                    asm!(
                        "2:", "mov {r}, {rounds}", "mov {p}, 8",
                        "3:", ".irp r,0,1,2,3,4,5,6,7", $aes, ".endr",
                        "test {p}, {p}", "jz 4f", "dec {p}",
                        ".irp r,8,9,10", $product, ".endr",
                        "4:", "dec {r}", "jnz 3b",
                        $reduce, $reduce,
                        "sub {n}, {rounds}", "ja 2b", "vzeroupper",
                        n = inout(reg) groups.max(1) => _, r = out(reg) _, p = out(reg) _,
                        rounds = in(reg) rounds,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        options(nomem, nostack));
                }
            }
        };
    }

    gcm_chains!(
        gcm_xmm,
        "aesenc xmm\\r, xmm\\r",
        "pclmulqdq xmm\\r, xmm11, 0",
        "pclmulqdq xmm11, xmm11, 0"
    );
    gcm_chains!(
        gcm_ymm,
        "vaesenc ymm\\r, ymm\\r, ymm\\r",
        "vpclmulqdq ymm\\r, ymm11, ymm12, 0",
        "vpclmulqdq xmm11, xmm12, xmm12, 0"
    );
    gcm_chains!(
        gcm_zmm,
        "vaesenc zmm\\r, zmm\\r, zmm\\r",
        "vpclmulqdq zmm\\r, zmm11, zmm12, 0",
        "vpclmulqdq xmm11, xmm12, xmm12, 0"
    );
}
