//! Any bytes where something sealed is expected: nothing but what was sealed opens, and that is written
//! as it was read.
#![no_main]
use std::sync::{Arc, Mutex};

use keyward::backend::file::Digest;
use keyward::backend::file::encrypted::{Derivation, decrypt, is_encrypted, is_whole};
use keyward::backend::file::{Dialect, keyfile};
use keyward::backend::local::{Cost, KekSource, LocalWrapper, Settings};
use keyward::backend::pkcs11::payload::Payload;
use keyward::env::{Deadline, Rng, fake::FakeRng};
use keyward::provider::{KeyWrapper, WrapContext, WrappedKey};
use keyward::secret::source::{Given, SecretSource};
use keyward::store::Witness;
use keyward::{Error, Result};

mod told;
use told::told;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    payload(bytes);
    key_file(bytes);
    witness(bytes);
    wrapped(bytes);
});

/// The salt that was in the bytes.
struct Salt<'a>(Mutex<&'a [u8]>);

impl Rng for Salt<'_> {
    fn fill(&self, out: &mut [u8]) -> Result<()> {
        let mut rest = self.0.lock().expect("nobody else has it");
        let (salt, behind) = rest.split_at(out.len());
        out.copy_from_slice(salt);
        *rest = behind;
        Ok::<_, Error>(())
    }
}

fn payload(bytes: &[u8]) {
    let Some(data) = told(Payload::open(bytes, b"here")) else { return };
    let again = Payload::seal(data.expose(), b"here", &Salt(Mutex::new(bytes)));
    assert!(told(again).is_some_and(|again| again.bytes() == bytes));
    assert!(Payload::open(bytes, b"there").is_err());
}

fn key_file(bytes: &[u8]) {
    if !is_encrypted(bytes) || !is_whole(bytes) {
        return;
    }
    let digest = Digest::ALL[bytes.len() / 16 % 5];
    let how = Derivation { digest, pbkdf2_iterations: u32::from(bytes[8] & 1) };
    let Some(Some(text)) = told(decrypt(bytes, b"correct horse", how)) else { return };
    // PKCS#7 has from one byte to a block of padding (RFC 5652, section 6.3).
    assert!((1..=16).contains(&(bytes.len() - 16 - text.expose().len())));
    let _ = keyfile::parse(text.expose(), Dialect::Keyward);
}

fn witness(bytes: &[u8]) {
    let Some(witness) = told(Witness::parse(bytes)) else { return };
    let written = told(witness.to_bytes()).expect("what was read can be written");
    let again = told(Witness::parse(&written)).and_then(|again| told(again.to_bytes()));
    assert_eq!(again, Some(written));
}

fn wrapped(bytes: &[u8]) {
    let kek = SecretSource::Option(Given::new("kek", &"5a".repeat(32)));
    let settings = Settings { kek: KekSource::KeyFile(kek), cost: Cost::default() };
    let rng: Arc<dyn Rng> = Arc::new(FakeRng::new(1));
    let Some(wrapper) = told(LocalWrapper::new(settings, rng)) else { return };
    let by = || Deadline::after(std::time::Duration::from_secs(10));
    let context = WrapContext { keystore: "of a fuzzer".to_owned(), store_key: 1 };
    let Some(info) = told(wrapper.describe(by())) else { return };
    let found = serde_json::from_slice(bytes).unwrap_or_else(|_| WrappedKey {
        kek: info.kek,
        algorithm: info.algorithm,
        parameters: Default::default(),
        blob: bytes.to_vec(),
    });
    assert!(told(wrapper.unwrap(&found, &context, by())).is_none(), "a guess opens");
}
