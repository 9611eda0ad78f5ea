//! Any text as the name of a key in AWS, and as that of a key file.
#![no_main]
use keyward::backend::aws_kms::arn::{is_same_key, region_of};
use keyward::backend::aws_kms::version_in;

libfuzzer_sys::fuzz_target!(|text: &str| {
    assert!(region_of(text).is_none_or(|region| !region.is_empty() && text.contains(region)));
    assert!(is_same_key(text, text));
    if let Some((one, other)) = text.split_once('\n') {
        assert_eq!(is_same_key(one, other), is_same_key(other, one));
    }
    if let Some((id, version)) = version_in(text) {
        assert_eq!(format!("aws-kms-key.{id}.{version}"), text);
    }
});
