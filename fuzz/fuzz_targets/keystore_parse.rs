//! Any bytes as a keystore file: an error or a keystore, never a crash. Its seeds are in
//! `tests/golden/keystore`.

#![no_main]

use keyward::secret::DataKey;
use keyward::store::Sealed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(sealed) = Sealed::parse(bytes) else { return };
    // The check has to be computed over whatever was let in, and no guessed key opens it.
    let Ok(key) = DataKey::copy_of(&[7; 32]) else { return };
    assert!(sealed.open(key).is_err());
});
