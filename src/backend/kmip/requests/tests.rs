//! Each request, byte for byte as it was when PyKMIP understood it. What it answered to these stands beside
//! them.

#![forbid(unsafe_code)]

use super::super::message::request;
use super::*;

const NEW: NewKey<'_> = NewKey { name: "keyward/1/3", group: "keyward", note: Some("aes-256-ctr") };
const NEW_KEK: NewKey<'_> = NewKey { name: "kek", group: "kek", note: None };
const GCM: Mode<'_> = Mode::Gcm { nonce: &[0x11; 12], aad: b"bound to this" };
const CBC: Mode<'_> = Mode::Cbc { iv: &[0x22; 16] };

/// The message that asks for `asked` in KMIP `version` is the golden file `name`.
fn same(version: &str, name: &str, asked: &[Asked<'_>]) {
    let message = request(version.parse().unwrap(), asked);
    let file = format!("tests/golden/kmip/keyward-{version}-{name}-request.ttlv");
    let golden = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(message.written() == golden, "{file} is another message");
}

#[test]
fn requests_are_what_they_were() {
    let key = DataKey::copy_of(b"0123456789abcdef0123456789abcdef").unwrap();
    let wanted = Wanted { name: Some(NEW.name), group: Some(NEW.group) };
    for version in ["1.4", "2.0"] {
        same(version, "create", &[create(&NEW_KEK, true)]);
        same(version, "register", &[register(&NEW, &key)]);
        same(version, "locate", &[locate(&wanted)]);
        same(version, "get-attributes", &[describe("1")]);
        same(version, "two-get-attributes", &[describe("1"), describe("2")]);
    }
    same("2.0", "discover-versions", &[discover()]);
    same("2.0", "activate", &[activate("1")]);
    same("2.0", "get", &[get("2")]);
    same("2.0", "encrypt", &[encrypt("1", &GCM, &[0x33; 32])]);
    same("2.0", "decrypt", &[decrypt("1", &GCM, &[[0x44; 32], [0x55; 32]].concat()[..48])]);
    same("2.0", "encrypt-cbc", &[encrypt("1", &CBC, &[0x33; 32])]);
    same("2.0", "revoke", &[revoke("1")]);
    same("2.0", "destroy", &[destroy("1")]);
}

#[test]
fn what_differs_between_releases_is_the_attributes_alone() {
    // Behind the heads of message and header, and the release itself.
    let bytes = |version, asked| request(version, &[asked]).written()[56..].to_vec();
    let [old, new, newest] = [(1, 4), (2, 0), (2, 1)].map(|(a, b)| Version::new(a, b));
    assert!(bytes(old, get("1")) == bytes(new, get("1")));
    assert!(bytes(old, describe("1")) != bytes(new, describe("1")));
    assert!(bytes(new, describe("1")) == bytes(newest, describe("1")));
    assert!(bytes(new, create(&NEW, true)) == bytes(newest, create(&NEW, true)));
}
