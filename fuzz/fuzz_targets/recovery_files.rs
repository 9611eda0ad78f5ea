//! Any bytes as an encrypted backup, as an identity, as shares of its passphrase, and as the text within: what
//! was meant, or one line of refusal.
#![no_main]
use std::sync::LazyLock;

use keyward::age::{Identity, With, decrypt};
use keyward::backup::Backup;
use keyward::shares::{Collected, Share};

mod told;
use told::told;

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    Identity::parse(include_bytes!("../../tests/golden/age/identity.txt")).expect("it is one")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(text) = told(decrypt(bytes, With::Identity(&IDENTITY))) {
        assert!(text.expose().len() < bytes.len(), "longer than its file");
    }
    told(Identity::parse(bytes));
    told(Backup::parse(bytes, &"5a".repeat(32)));
    if let Ok(text) = std::str::from_utf8(bytes) {
        shares(text);
    }
});

fn shares(text: &str) {
    let mut collected = Collected::default();
    for words in text.lines() {
        let Some(share) = told(words.parse::<Share>()) else { return };
        told(collected.add(share));
    }
    // Higher exponents are the same work many times over.
    if collected.missing() == 0 && text.len() < 2000 {
        told(collected.secret());
    }
}
