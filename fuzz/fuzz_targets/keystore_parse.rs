//! Any bytes as a keystore file, of either format: an error or a keystore, never a crash. Its seeds are
//! in `tests/golden/keystore`.

#![no_main]

use keyward::env::fake::FakeRng;
use keyward::secret::DataKey;
use keyward::store::{STORE_KEY_LEN, Sealed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(sealed) = Sealed::parse(bytes) else { return };
    // What is told before anybody verified it.
    let contents = sealed.unverified();
    assert!(contents.epoch() > 0 && contents.revision().to_string().contains("generation"));
    for key in contents.keys() {
        let newest = key.newest().map(|entry| entry.version);
        assert!(contents.next_version(key.name(), 2).map_or(true, |next| Some(next) > newest));
    }
    // The check has to be computed over whatever was let in, and no guessed key opens it.
    let number = u64::from(contents.wrap_context().store_key);
    let Ok(key) = DataKey::copy_of(&[7; 32]) else { return };
    assert!(Sealed::parse(bytes).is_ok_and(|sealed| sealed.open(key).is_err()));
    // The seeds' own key opens those that were not changed: they are written as they were read.
    let Ok(key) = DataKey::generate(STORE_KEY_LEN, &FakeRng::new(number + 1)) else { return };
    let Ok(keystore) = sealed.open(key) else { return };
    if let Ok(text) = keystore.to_bytes() {
        let again = Sealed::parse(&text);
        assert!(again.is_ok_and(|again| again.unverified() == keystore.contents()));
    }
});
