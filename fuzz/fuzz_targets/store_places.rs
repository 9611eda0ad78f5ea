//! Any text where a key store's place is expected: an address that is written as it is read, or one line
//! of refusal without the password that may stand in it.
#![no_main]
use keyward::backend::kmip::Address;
use keyward::backend::vault::{Place, is_path};

mod told;
use told::{SECRET, told};

libfuzzer_sys::fuzz_target!(|text: &str| {
    kmip(text);
    vault(text);
});

fn kmip(text: &str) {
    if let Some(address) = told(Address::parse(text, 5696)) {
        assert!(address.port > 0 && !address.host.is_empty());
        assert_eq!(told(Address::parse(&address.to_string(), 1)), Some(address));
    }
}

fn vault(text: &str) {
    // A password ends at the @ before the host.
    let with_password = text.replace(SECRET, "me").replacen("://", &format!("://me:{SECRET}@"), 1);
    for url in [&text.replace(SECRET, "me"), &with_password] {
        for place in [told(Place::of_url(url)), told(Place::of_base(url, "kv/keys"))] {
            let Some(place) = place else { continue };
            assert!(is_path(&place.mount) && place.address.has_host());
            let again = format!("{}v1/{}", place.address, place.mount);
            assert_eq!(told(Place::of_url(&again)), Some(place), "{again}");
        }
    }
}
