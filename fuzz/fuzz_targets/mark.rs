//! Any bytes as a mark: an error, or a mark that reads back as it is written.
#![no_main]
use keyward::mark::Mark;

mod told;
use told::told;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(mark) = told(Mark::parse(bytes)) {
        assert!(mark.keys().all(|key| key.name.is_for_files()));
        let again = mark.to_bytes().expect("what was read can be written");
        assert_eq!(told(Mark::parse(&again)), Some(mark));
    }
});
