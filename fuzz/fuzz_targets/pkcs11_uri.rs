//! Any text: a URI with attributes that are text, or one line of refusal.
#![no_main]
use keyward::backend::pkcs11::uri::Uri;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Uri::parse(text) {
        Ok(uri) => {
            let texts = [&uri.token, &uri.serial, &uri.manufacturer, &uri.model, &uri.object];
            for text in texts.into_iter().chain([&uri.module, &uri.pin_file]).flatten() {
                assert!(!text.is_empty() && !text.chars().any(char::is_control));
            }
            assert!(uri.id.is_none_or(|id| !id.is_empty()));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
});
