//! Any bytes as a binary log, decrypted with a key that they may even fit: bounded output, no crash, and
//! what comes out plain goes through a second time as it is.
#![no_main]
use keyward::binlog::{LogKey, Need, decrypt, need};
use keyward::key::PageMode;
use keyward::secret::DataKey;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, log)) = bytes.split_first() else { return };
    let mode = if choice & 1 == 0 { PageMode::Cbc } else { PageMode::Ctr };
    let key = DataKey::copy_of(&[7; 32][..[16, 24, 32][usize::from(choice >> 1) % 3]]).unwrap();
    let key = match need(log) {
        Ok(Need::Nothing) => LogKey::Nothing,
        Ok(Need::Version(version)) => LogKey::Pages(version, &key, mode),
        Ok(Need::Named(_)) => LogKey::Keyring(&key),
        Err(_) => return,
    };
    let mut plain = Vec::new();
    let written = decrypt(log, key, false, &mut plain);
    assert!(plain.len() <= log.len());
    if written.is_ok() && matches!(key, LogKey::Pages(..)) {
        let mut again = Vec::new();
        decrypt(&plain[..], LogKey::Nothing, false, &mut again).unwrap();
        assert!(again == plain);
    }
});
