//! What 10,000 keys cost in locked memory. A test program of its own, as it gives up root's right
//! to lock without limit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unsafe_code)]

use keyward::secret::{SecretBytes, lock_state};

#[test]
fn ten_thousand_keys_fit_the_unprivileged_limit() {
    let limit = libc::rlimit { rlim_cur: 512 * 1024, rlim_max: 512 * 1024 };
    // SAFETY: plain system calls on this process, which has no other test.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit), 0);
        assert!(libc::geteuid() != 0 || libc::setuid(65_534) == 0);
    }
    let bytes = |n: u32| n.to_le_bytes().repeat(8);
    let keys: Vec<_> = (0..10_000).map(|n| SecretBytes::copy_of(&bytes(n))).collect();
    let state = lock_state();
    println!("10,000 keys of 32 bytes: {state}, {} of it hidden", state.hidden);
    assert_eq!(state.unlocked, 0, "{state}");
    assert!(state.locked <= 400_000, "{state}");
    assert!(keys.iter().zip(0..).all(|(key, n)| key.expose() == bytes(n)));
    drop(keys);
    let state = lock_state();
    assert_eq!((state.locked, state.unlocked), (0, 0), "with the last secret, all of it goes");
}
