//! Any bytes as what a KMIP server answers: items that are written back as they came, or a flaw at a
//! place that they have.
#![no_main]
use keyward::backend::kmip::message::Response;
use keyward::backend::kmip::ttlv::{Writer, decode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Ok(item) => {
            let mut writer = Writer::default();
            item.write(&mut writer);
            assert_eq!(writer.written(), bytes);
        }
        Err(flaw) => assert!(flaw.at <= bytes.len()),
    }
    let response = Response::new(bytes.to_vec().into());
    for asked in 1..=3 {
        if let Ok(answers) = response.answers(asked) {
            assert_eq!(answers.len(), asked);
        }
    }
});
