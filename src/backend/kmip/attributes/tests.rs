//! What PyKMIP tells of one and the same key in either KMIP.

#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::message::Response;
use super::*;

fn told(version: &str) -> Attributes {
    let file = format!("tests/golden/kmip/pykmip-{version}-get-attributes-response.ttlv");
    let response = Response::new(Zeroizing::new(std::fs::read(file).unwrap()));
    let mut answers = response.answers(1).unwrap();
    Attributes::read(&answers.pop().unwrap().payload)
}

#[test]
fn both_kinds_of_attributes_are_read() {
    let [old, new] = ["1.4", "2.0"].map(told);
    for told in [&old, &new] {
        assert_eq!(told.names, ["keyward/1/3"]);
        assert_eq!(told.note.as_deref(), Some("aes-256-ctr"));
        assert_eq!(told.state, Some(State::Active));
        assert!(told.is_aes() && told.may_wrap() && told.is_exportable());
    }
    assert!(old.created.is_some() && old.created == new.created);
}

#[test]
fn what_is_no_aes_key_is_seen_in_either() {
    let reads = |write: &dyn Fn(&mut Writer)| {
        let mut to = Writer::default();
        to.structure(Tag(0x42_007C), |to| write(to));
        Attributes::read(&super::super::ttlv::decode(to.written()).unwrap())
    };
    assert!(reads(&|_| {}).is_aes());
    let tagged = reads(&|to| {
        to.structure(ATTRIBUTES, |to| {
            to.enumeration(CRYPTOGRAPHIC_ALGORITHM, 4);
            to.boolean(SENSITIVE, true);
            to.integer(CRYPTOGRAPHIC_USAGE_MASK, 4);
            // What nobody here knows.
            to.text(Tag(0x42_0500), "x");
        });
    });
    assert!(!tagged.is_aes() && !tagged.may_wrap() && !tagged.is_exportable());
    let named = reads(&|to| {
        to.structure(ATTRIBUTE, |to| {
            to.text(ATTRIBUTE_NAME, "Cryptographic Algorithm");
            to.enumeration(ATTRIBUTE_VALUE, 4);
        });
    });
    assert!(!named.is_aes() && named.may_wrap());
    // A bare value beside the structure is none of the object's attributes.
    assert!(reads(&|to| to.enumeration(CRYPTOGRAPHIC_ALGORITHM, 4)).is_aes());
}
