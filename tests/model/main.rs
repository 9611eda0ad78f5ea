//! The whole life of a keystore, at random: two processes change it, crash and start again, disks fail,
//! files are put back, vanish and change, and a simple reference says what must hold all the while. The
//! same for keys that a key store serves.
//!
//! What a process gave out to encrypt with while its state was well, or reported as made, can be read after
//! every start, unless the start is refused or warns. A number is one key for ever. A compromised version
//! never encrypts again. An error means that the keystore did not change. Nobody raises an alarm over a
//! folder that nobody tampered with.
//!
//! `KEYWARD_CASES` says how many sequences (2,000, fewer where the code is not optimised; 100,000 with
//! `KEYWARD_EXTENDED`), `KEYWARD_SEED` which is the first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dice;
mod life;
mod sequence;
mod served;
#[path = "../common/sim_disk.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod sim_disk;
mod stage;
mod world;

use life::{Life, live};

/// How many sequences there are unless somebody asks for more: half a minute of them.
const FEW: u64 = if cfg!(debug_assertions) { 250 } else { 2_000 };

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// As many sequences as wanted: none breaks anything.
fn holds<L: Life>(what: &str) {
    let extended = std::env::var_os("KEYWARD_EXTENDED").is_some();
    let cases = setting("KEYWARD_CASES").unwrap_or(if extended { 100_000 } else { FEW });
    match live::<L>(setting("KEYWARD_SEED").unwrap_or(0), cases) {
        Ok(done) => println!("| {what}: {done}"),
        Err(broken) => panic!("\n{broken}"),
    }
}

#[test]
fn whatever_happens_to_a_keystore_nothing_is_lost_in_silence() {
    holds::<world::OfKeystore>("a keystore");
}

#[test]
fn whatever_happens_to_served_keys_nothing_is_lost_in_silence() {
    holds::<served::OfServed>("served keys");
}
