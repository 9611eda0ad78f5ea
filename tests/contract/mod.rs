//! What every provider must do, said once each. `provider_contract.rs` runs it on all of them.
//!
//! To add a provider, write a fixture in `fixtures/` and name it in a list in
//! `provider_contract.rs`, with its feature if it has one. To add a behaviour, write a function in `server.rs` or `wrapper.rs` and
//! name it in the macro at the end of that file.

pub mod fixtures;
pub mod server;
pub mod wrapper;

#[path = "../common/stack.rs"]
mod stack;

use std::fmt::Debug;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use keyward::env::Deadline;
use keyward::error::{Error, Kind};
use keyward::key::{CheckValue, KeyRef};
use keyward::provider::{KeyServer, KeyWrapper, Probe};

/// Why a fixture cannot be had on this machine, such as "no softhsm2-util": its tests then say so
/// and pass, unless KEYWARD_REQUIRE_ALL is set.
pub struct Missing(#[allow(dead_code)] pub String);

/// A key store of one kind, started (or filled) for one test. Dropping it ends it.
pub trait Fixture: Sized {
    fn start() -> Result<Self, Missing>;

    /// Byte strings that no error and no description may hold, be it as they are, in hex or in
    /// base64: key material, PINs, tokens, passphrases.
    fn secrets(&self) -> Vec<Vec<u8>>;
}

/// A key store that serves. It holds key 1 in at least two versions, and key 2.
pub trait ServerFixture: Fixture {
    /// Whether keys can be put and removed.
    const WRITABLE: bool;

    /// A new provider on it; several may be open at once.
    fn open(&self) -> Box<dyn KeyServer>;

    /// What it held at the start.
    fn held(&self) -> Vec<(KeyRef, CheckValue)>;
}

/// A key store that wraps.
pub trait WrapperFixture: Fixture {
    /// The longest key that it can wrap, in bytes.
    const MAX_LEN: usize = keyward::secret::DataKey::MAX_LEN;

    /// Every how many bits of a wrapped key one is flipped: 1 where a call costs nothing.
    const FLIP_STEP: usize = 1;

    /// What a changed blob may be taken for. A store that keeps the key's name in the blob may
    /// say `NotMine`; where the name stands beside it, only `Corrupt` is right.
    const CHANGED_BLOB: &[Kind] = &[Kind::Corrupt];

    /// A new provider on it; several may be open at once.
    fn open(&self) -> Box<dyn KeyWrapper>;

    /// A provider on a store of the same kind with another wrapping key.
    fn open_other(&self) -> Box<dyn KeyWrapper>;
}

/// The fixture, or nothing where it is missing and may be.
pub fn start<F: Fixture>() -> Option<F> {
    match F::start() {
        Ok(fixture) => Some(fixture),
        Err(Missing(reason)) => {
            assert!(
                std::env::var_os("KEYWARD_REQUIRE_ALL").is_none(),
                "{} is missing: {reason}",
                std::any::type_name::<F>()
            );
            eprintln!("skipped, {}: {reason}", std::any::type_name::<F>());
            None
        }
    }
}

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub fn passed() -> Deadline {
    Deadline::after(Duration::ZERO)
}

/// Does `call` and asserts that it leaves a server's thread most of its stack.
#[track_caller]
pub fn shallow<T: Send>(what: &str, call: impl FnOnce() -> T + Send) -> T {
    let (done, taken) = stack::taken(call);
    assert!(taken <= stack::MAY_TAKE, "{what} takes {} KiB of the caller's stack", taken >> 10);
    done
}

/// Asserts that `result` is an error of one of `kinds`, in one line and without a secret.
#[track_caller]
pub fn refused<T>(result: Result<T, Error>, kinds: &[Kind], secrets: &[Vec<u8>]) -> Error {
    let Err(error) = result else { panic!("it went through, and {kinds:?} was due") };
    assert!(kinds.contains(&error.kind()), "{:?} for {kinds:?}: {error}", error.kind());
    let text = error.to_string();
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
    assert!(!text.contains(&format!("{:?}", error.kind())), "a variant's name: {text}");
    silent(&error, secrets);
    silent(&text, secrets);
    error
}

/// Asserts that nothing of `secrets` shows in `shown`.
#[track_caller]
pub fn silent(shown: &impl Debug, secrets: &[Vec<u8>]) {
    let text = format!("{shown:?}");
    let lower = text.to_lowercase();
    for secret in secrets.iter().filter(|secret| secret.len() >= 8) {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!lower.contains(&hex[..16]), "a secret in hex: {text}");
        // Without the last digits, which depend on what would follow.
        let whole = &secret[..secret.len() / 3 * 3];
        for base64 in [STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)] {
            assert!(!text.contains(&base64), "a secret in base64: {text}");
        }
        if let Ok(plain) = std::str::from_utf8(secret) {
            assert!(!text.contains(plain), "a secret as it is: {text}");
        }
        let list = format!("{:?}", &secret[..8]);
        assert!(!text.contains(list.trim_end_matches(']')), "a secret as a list: {text}");
    }
}

/// Asserts that `probe` says something, and nothing of `secrets`.
#[track_caller]
pub fn telling(probe: &Probe, secrets: &[Vec<u8>]) {
    assert!(!probe.facts.is_empty());
    for (name, value) in &probe.facts {
        assert!(!name.is_empty() && !value.is_empty(), "{probe:?}");
        assert!(!value.chars().any(char::is_control), "{probe:?}");
    }
    silent(probe, secrets);
}

#[test]
fn a_secret_is_seen_however_it_is_shown() {
    let secret = b"\x01\x02 sixteen bytes".to_vec();
    let hex: String = secret.iter().map(|byte| format!("{byte:02X}")).collect();
    let base64 = STANDARD_NO_PAD.encode(&secret);
    let list = format!("{secret:?}");
    for leak in [&hex, &base64, &list, "a passphrase"] {
        let secrets = [secret.clone(), b"a passphrase".to_vec()];
        let text = format!("cannot open x: {leak}");
        let seen = std::panic::catch_unwind(|| silent(&text, &secrets)).is_err();
        assert!(seen, "{leak} went unseen");
    }
    silent(&"cannot open x: no such file", &[secret]);
}
