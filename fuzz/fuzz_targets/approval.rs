//! Any bytes as a request, as a signature under one and as an approver's key: an error, or what reads back as it
//! is written. A signature that says to be over the bytes themselves would have to be a real one.
#![no_main]
use keyward::approval::{PublicKey, Sealed, Signature};

mod told;
use told::line;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(sealed) = line(Sealed::parse(bytes)) {
        assert_eq!(sealed.text.as_bytes(), bytes);
        assert_eq!(line(Sealed::parse(sealed.text.as_bytes())), Some(sealed));
    }
    if let Some(signature) = line(Signature::parse(bytes)) {
        let _ = signature.is_over(bytes);
        assert!(signature.key().fingerprint().starts_with("SHA256:"));
    }
    if let Some(key) =
        std::str::from_utf8(bytes).ok().and_then(|text| line(text.parse::<PublicKey>()))
    {
        let again =
            line(key.to_string().parse::<PublicKey>()).expect("what was read can be written");
        assert!(again.is(&key) && again.name() == key.name());
    }
});
