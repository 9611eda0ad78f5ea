//! Any text as a configuration, and as a MySQL component's: one that opens, or one line that names a
//! place which the text has.
#![no_main]
use std::path::Path;
use std::sync::Arc;

use keyward::config::component::Component;
use keyward::config::{Config, ProviderConfig};
use keyward::env::{Deadline, Rng, fake::FakeRng};
use keyward::{Error, backend};

mod told;
use told::{SECRET, line};

/// What people write into a configuration in place of a file's name.
const INLINE: [&str; 5] = ["passphrase", "password", "token", "pin", "secret_id"];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let path = Path::new("k.toml");
    line(Component::parse(path, text));
    let Some(config) = Config::parse(path, text).map_err(|error| placed(text, error)).ok() else {
        return;
    };
    let _ = Deadline::after(config.policy.rotate_after.unwrap_or_default());
    for ProviderConfig { timeout, section, .. } in &config.providers {
        let _ = Deadline::after(*timeout);
        let rng: Arc<dyn Rng> = Arc::new(FakeRng::new(1));
        if let Err(error) = backend::open(section, &rng) {
            let is_secret = |key| {
                section.text(key).is_ok_and(|text| text.is_some_and(|text| text.contains(SECRET)))
            };
            if text.matches(SECRET).count() == 1 && INLINE.into_iter().any(is_secret) {
                assert!(!error.to_string().contains(SECRET), "a secret: {error}");
            }
            placed(text, error);
        }
    }
});

fn placed(text: &str, error: Error) {
    let line = error.what().strip_prefix("k.toml:").and_then(|rest| rest.split_once(':'));
    if let Some(number) = line.and_then(|(number, _)| number.parse::<usize>().ok()) {
        assert!((1..=text.split('\n').count()).contains(&number), "{error}");
    }
    assert!(!error.to_string().contains(char::is_control), "several lines: {error}");
}
