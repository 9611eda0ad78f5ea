//! Any bytes as a certificate: whatever is found there is read within the bytes, and a moment is one that can
//! be written.
#![no_main]
use keyward::backend::http::certificate_as_fuzzed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (_, ends) = certificate_as_fuzzed(bytes);
    if let Some(ends) = ends {
        let written = ends.to_string();
        assert_eq!(written.parse().ok(), Some(ends), "{written}");
    }
});
