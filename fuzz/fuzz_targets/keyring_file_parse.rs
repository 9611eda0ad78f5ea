//! Any bytes as the file of MySQL's stock keyring: keys that are what they say, or an error that shows
//! nothing of the file.
#![no_main]
use keyward::compat;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match compat::parse_keyring_file(bytes) {
        Ok(keys) => {
            let fits = keys.iter().all(|key| key.info.purpose.key_len() == key.data.expose().len());
            assert!(fits);
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
