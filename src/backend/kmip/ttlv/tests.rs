//! The examples of the standard, and what is no TTLV.

#![forbid(unsafe_code)]

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut bytes = vec![0; digits.len() / 2];
    crate::hex::decode_into(&mut bytes, &digits);
    bytes
}

fn flaw(bytes: &[u8]) -> &'static str {
    match decode(bytes) {
        Ok(_) => panic!("it was read"),
        Err(flaw) => {
            assert!(flaw.at <= bytes.len());
            flaw.what
        }
    }
}

/// Section 9.1.2 of OASIS KMIP 1.4, "Examples".
const EXAMPLES: &[(&str, Value<'static>)] = &[
    ("42 00 20 | 02 | 00 00 00 04 | 00 00 00 08 00 00 00 00", Value::Integer(8)),
    (
        "42 00 20 | 03 | 00 00 00 08 | 01 B6 9B 4B A5 74 92 00",
        Value::LongInteger(123_456_789_000_000_000),
    ),
    (
        "42 00 20 | 04 | 00 00 00 10 | 00 00 00 00 03 FD 35 EB 6B C2 DF 46 18 08 00 00",
        Value::BigInteger(&[
            0, 0, 0, 0, 3, 0xFD, 0x35, 0xEB, 0x6B, 0xC2, 0xDF, 0x46, 0x18, 8, 0, 0,
        ]),
    ),
    ("42 00 20 | 05 | 00 00 00 04 | 00 00 00 FF 00 00 00 00", Value::Enumeration(255)),
    ("42 00 20 | 06 | 00 00 00 08 | 00 00 00 00 00 00 00 01", Value::Boolean(true)),
    (
        "42 00 20 | 07 | 00 00 00 0B | 48 65 6C 6C 6F 20 57 6F 72 6C 64 00 00 00 00 00",
        Value::Text("Hello World"),
    ),
    ("42 00 20 | 08 | 00 00 00 03 | 01 02 03 00 00 00 00 00", Value::Bytes(&[1, 2, 3])),
    ("42 00 20 | 09 | 00 00 00 08 | 00 00 00 00 47 DA 67 F8", Value::DateTime(1_205_495_800)),
    ("42 00 20 | 0A | 00 00 00 04 | 00 0D 2F 00 00 00 00 00", Value::Interval(864_000)),
];

#[test]
fn the_standards_examples_are_read_and_written() {
    for (hex, value) in EXAMPLES {
        let bytes = bytes(hex);
        let item = decode(&bytes).unwrap();
        assert!(item.tag == Tag(0x42_0020) && item.value == *value, "{hex}");
        let mut writer = Writer::default();
        item.write(&mut writer);
        assert_eq!(writer.written(), bytes, "{hex}");
    }
    let structure = bytes(
        "42 00 20 | 01 | 00 00 00 20 | 42 00 04 | 05 | 00 00 00 04 | 00 00 00 FE 00 00 00 00 |
         42 00 05 | 02 | 00 00 00 04 | 00 00 00 FF 00 00 00 00",
    );
    let item = decode(&structure).unwrap();
    assert_eq!(item.get(Tag(0x42_0004)).and_then(Item::enumeration), Some(254));
    assert_eq!(item.get(Tag(0x42_0005)).and_then(Item::integer), Some(255));
    let mut writer = Writer::default();
    item.write(&mut writer);
    assert_eq!(writer.written(), structure);
}

#[test]
fn what_is_unknown_is_kept() {
    let later = bytes("54 00 01 | 0B | 00 00 00 05 | 01 02 03 04 05 00 00 00");
    let item = decode(&later).unwrap();
    assert!(item.value == Value::Other(11, &[1, 2, 3, 4, 5]));
    let mut writer = Writer::default();
    item.write(&mut writer);
    assert_eq!(writer.written(), later);
}

#[test]
fn what_is_no_ttlv_is_refused() {
    for (hex, what) in [
        ("", "an item is cut short"),
        ("42 00 20 02 00 00 00", "an item is cut short"),
        ("42 00 20 02 00 00 00 04 00 00 00 08", "an item lacks its padding"),
        ("42 00 20 02 00 00 00 04 00 00", "an item is longer than its place"),
        ("42 00 20 08 FF FF FF FF 00 00 00 00 00 00 00 00", "an item is longer than its place"),
        ("42 00 20 02 00 00 00 04 00 00 00 08 00 00 00 01", "padding is not zero"),
        (
            "42 00 20 02 00 00 00 08 00 00 00 08 00 00 00 00",
            "a value has not the length of its type",
        ),
        ("42 00 20 06 00 00 00 08 00 00 00 00 00 00 00 02", "a boolean is neither 0 nor 1"),
        ("42 00 20 07 00 00 00 01 FF 00 00 00 00 00 00 00", "a text is not UTF-8"),
        (
            "42 00 20 04 00 00 00 01 FF 00 00 00 00 00 00 00",
            "a value has not the length of its type",
        ),
        ("42 00 20 08 00 00 00 00 42", "data follows the end of the message"),
        // A structure whose last item reaches beyond it.
        (
            "42 00 20 01 00 00 00 08 42 00 04 05 00 00 00 04 00 00 00 FE 00 00 00 00",
            "an item is longer than its place",
        ),
    ] {
        assert_eq!(flaw(&bytes(hex)), what, "{hex}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        let mut all = Vec::new();
        for left in (0..depth).rev() {
            all.extend([0x42, 0, 0x20, 1, 0, 0, 0, u8::try_from(left * 8).unwrap()]);
        }
        all
    };
    assert!(decode(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(flaw(&nested(MAX_DEPTH + 1)), "structures stand too deep in each other");
}

#[test]
fn length_is_bounded() {
    assert_eq!(flaw(&vec![0; MAX_MESSAGE + 8]), "the message is too long");
}
