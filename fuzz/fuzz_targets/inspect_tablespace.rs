//! Any bytes as a data file: a report, never a crash; what was understood has sensible numbers.
#![no_main]
use keyward::inspect;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inspect::every_format(bytes);
    if let Ok(report) = inspect::tablespace(bytes) {
        assert!(report.needs.iter().all(|need| need.count <= report.pages));
        assert!(report.unencrypted <= report.pages);
        assert!(report.master_key.is_none_or(|key| key.name().starts_with("INNODBKey-")));
    }
});
