//! Any bytes: keys of legal sizes in strict order, or a flaw at a place that the file has.
#![no_main]
use keyward::backend::file::{Dialect, Edition, keyfile};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    for dialect in [Dialect::Keyward, Dialect::Original(Edition::V11_8)] {
        match keyfile::parse(text, dialect) {
            Ok(keys) => {
                assert!(keys.is_sorted_by(|a, b| (a.id, a.version) < (b.id, b.version)));
                assert!(keys.iter().all(|key| matches!(key.data.expose().len(), 16 | 24 | 32)));
            }
            Err(flaw) => assert!(flaw.line <= text.len() && flaw.column <= text.len() + 1),
        }
    }
});
