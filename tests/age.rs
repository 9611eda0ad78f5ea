//! age files: those that the standard command wrote, and all that can be wrong with one.
//!
//! `tests/golden/age` has files of age 1.3.1 with their identity: the standard's HPKE is an older draft, so
//! whatever a library makes of it later must still open these.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use keyward::Kind;
use keyward::age::{For, Identity, Recipient, With, decrypt, encrypt};
use keyward::env::System;

const GOLDEN: &str = "tests/golden/age";

#[test]
fn what_age_itself_wrote_opens() {
    let identity = identity("identity.txt");
    let digits = "0123456789abcdef".repeat(4096);
    for (name, text) in [
        ("short", "one line\n".to_owned()),
        ("empty", String::new()),
        ("chunks", digits.repeat(2)),
        ("chunk-and-one", digits + "x"),
    ] {
        let opened = decrypt(&golden(&format!("{name}.age")), With::Identity(&identity)).unwrap();
        assert!(opened.expose() == text.as_bytes(), "{name}");
    }
    let with = With::Passphrase(b"correct horse");
    assert_eq!(decrypt(&golden("passphrase.age"), with).unwrap().expose(), b"one line\n");
    // The recipient that age-keygen derived is the one that we derive.
    let text = String::from_utf8(golden("identity.txt")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    assert_eq!(identity.recipient().unwrap().to_string(), line);
    assert_eq!(identity.to_text().unwrap().expose(), golden("identity.txt"));
}

#[test]
fn what_we_write_opens_for_each_recipient_and_nobody_else() {
    let (one, two) = (identity("identity.txt"), Identity::generate(&System).unwrap());
    let recipients = [one.recipient().unwrap(), two.recipient().unwrap()];
    for len in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let text = vec![b'x'; len];
        let file = encrypt(&text, For::Recipients(&recipients), &System).unwrap();
        for identity in [&one, &two] {
            assert!(decrypt(&file, With::Identity(identity)).unwrap().expose() == text, "{len}");
        }
        let other = decrypt(&file, With::Identity(&self::identity("other.txt"))).err().unwrap();
        assert_eq!(other.kind(), Kind::NotMine);
        assert_eq!(decrypt(&file, With::Passphrase(b"x")).err().unwrap().kind(), Kind::NotMine);
    }
    let file = encrypt(b"text", For::Passphrase(b"long and good"), &System).unwrap();
    let opened = decrypt(&file, With::Passphrase(b"long and good")).unwrap();
    assert_eq!(opened.expose(), b"text");
    let wrong = decrypt(&file, With::Passphrase(b"long and god")).err().unwrap();
    assert_eq!(wrong.kind(), Kind::NotMine);
    let again = encrypt(&[], For::Recipients(&[]), &System).unwrap_err();
    assert_eq!(again.kind(), Kind::Config);
}

#[test]
fn what_is_damaged_or_anothers_is_refused() {
    let identity = identity("identity.txt");
    let refused = |file: &[u8]| decrypt(file, With::Identity(&identity)).err().map(|e| e.kind());
    for other in ["classical.age", "passphrase.age"] {
        assert_eq!(refused(&golden(other)), Some(Kind::NotMine), "{other}");
    }
    for none in [&golden("armour.age")[..], b"", b"age-encryption.org/v2\n", b"{}"] {
        assert_eq!(refused(none), Some(Kind::Config));
    }
    let file = golden("short.age");
    for len in (0..file.len()).step_by(7) {
        assert!(refused(&file[..len]).is_some(), "cut at {len}");
    }
    for at in (0..file.len()).step_by(5) {
        let mut file = file.clone();
        file[at] ^= 1;
        assert!(refused(&file).is_some(), "byte {at}");
    }
    let passphrase = String::from_utf8_lossy(&golden("passphrase.age")).into_owned();
    let two = passphrase.replacen("v1\n", "v1\n-> another recipient\nAAAA\n", 1);
    let told = decrypt(two.as_bytes(), With::Passphrase(b"correct horse")).err().unwrap();
    assert!(told.to_string().contains("a passphrase next to other recipients"), "{told}");
    let longer = [&file[..], b"x"].concat();
    assert_eq!(refused(&longer), Some(Kind::Corrupt));
    // Chunks that are swapped, left out or too many.
    let chunks = golden("chunks.age");
    let start = chunks.len() - 2 * (65_536 + 16);
    let (first, second) = chunks[start..].split_at(65_536 + 16);
    for body in [[second, first].concat(), first.to_vec(), [first, first, second].concat()] {
        assert_eq!(refused(&[&chunks[..start], &body].concat()), Some(Kind::Corrupt));
    }
}

#[test]
fn a_recipient_or_identity_that_is_none_is_told() {
    for text in ["", "age1pq1", "age1qqqq", "ssh-ed25519 AAAA"] {
        assert!(text.parse::<Recipient>().is_err(), "{text}");
    }
    let text = String::from_utf8(golden("identity.txt")).unwrap();
    for wrong in [text.to_lowercase(), text.repeat(2), text.replace("PQ-1", "1"), String::new()] {
        let error = Identity::parse(wrong.as_bytes()).err().unwrap().to_string();
        let key = text.lines().last().unwrap();
        assert!(!error.contains(&key[20..40]), "{error}");
    }
}

fn identity(name: &str) -> Identity {
    Identity::parse(&golden(name)).unwrap()
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(format!("{GOLDEN}/{name}")).unwrap()
}
