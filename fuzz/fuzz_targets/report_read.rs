//! Any text as a report, as its signature's key, and as one server's part of another report: it is read or
//! refused in one line, nobody but the key's owner has signed it, and what it says of itself stays text on
//! the page that is made of it.
#![no_main]
use keyward::hex::Hex;
use keyward::report::note::{self, Signer};
use keyward::report::{Document, csv, html};

mod told;
use told::line;

/// Stands in the seeds where a name or a reason does.
const MARKUP: &str = "<hunter2";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let signer = Signer { keystore: "k".to_owned(), key: Hex([7; 32]) };
    assert!(line(note::verify(text, &[signer])).is_none(), "a guess is signed");
    line(note::has_signature(text));
    line(Signer::parse(text));
    let Ok(document) = serde_json::from_str::<Document>(text) else { return };
    if document.is_known() {
        assert!(!html(&document).contains(MARKUP), "what is named became markup");
        let _ = csv(&document);
    }
});
