#![forbid(unsafe_code)]

use super::*;
use crate::env::System;

/// One of the reference's vectors, under the passphrase `TREZOR`: what it is of, shares, the secret's
/// digits (none where the shares are no good), and a key that derives from it elsewhere.
type Vector = (String, Vec<String>, String, String);

fn collected(shares: &[impl AsRef<str>]) -> Result<Collected> {
    let mut all = Collected::default();
    shares.iter().try_for_each(|share| all.add(share.as_ref().parse()?))?;
    Ok(all)
}

#[test]
fn the_references_vectors() {
    let text = include_str!("../../tests/golden/slip39/vectors.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    for (name, shares, secret, _) in &vectors {
        let found = collected(shares).and_then(|all| all.secret_by(b"TREZOR"));
        let digits = found.and_then(|found| passphrase(&found)).ok();
        let digits = digits.as_ref().map_or(&b""[..], |digits| digits.expose());
        assert_eq!(digits, secret.as_bytes(), "{name}");
    }
    let valid = vectors.iter().filter(|vector| !vector.2.is_empty()).count();
    assert_eq!((vectors.len(), valid), (45, 15));
}

#[test]
fn any_so_many_give_the_secret_and_fewer_nothing() {
    let secret = SecretBytes::build(SECRET, |bytes| System.fill(bytes)).unwrap();
    for (needed, of) in [(2, 2), (2, 3), (3, 5), (16, 16)] {
        let shares = split(&secret, needed, of, &System).unwrap();
        assert!(shares.iter().all(|share| share.split(' ').count() == 20));
        let needed = usize::from(needed);
        for from in 0..shares.len() {
            let some: Vec<_> = (0..needed).map(|n| &*shares[(from + n) % shares.len()]).collect();
            let all = collected(&some).unwrap();
            assert_eq!(all.missing(), 0);
            assert!(all.secret().unwrap().expose() == secret.expose());
            let fewer = collected(&some[1..]).unwrap();
            assert_eq!(fewer.missing(), 1);
            assert_eq!(fewer.secret().err().map(|error| error.kind()), Some(Kind::Config));
        }
    }
    for (needed, of) in [(0, 0), (1, 1), (1, 2), (3, 2), (2, 17)] {
        assert!(split(&secret, needed, of, &System).is_err(), "{needed} of {of}");
    }
}

#[test]
fn what_is_wrong_with_a_share_is_told() {
    let secret = SecretBytes::copy_of(&[7; SECRET]);
    let shares = split(&secret, 2, 3, &System).unwrap();
    let others = split(&secret, 2, 3, &System).unwrap();
    let refused = |text: &str, why: &str| {
        let error = text.parse::<Share>().err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    };
    let words: Vec<&str> = shares[0].split(' ').collect();
    refused(&words[1..].join(" "), "19 words");
    refused("", "0 words");
    refused(&"a".repeat(2_000), "letters");
    refused(&shares[0].replacen(words[3], "keyward", 1), "word 4 is none");
    for at in 0..words.len() - 1 {
        let mut swapped = words.clone();
        swapped.swap(at, at + 1);
        if swapped != words {
            refused(&swapped.join(" "), "checksum");
        }
    }
    let mut all = collected(&[shares[0].to_ascii_uppercase()]).unwrap();
    let mut wrong = |text: &str| all.add(text.parse().unwrap()).unwrap_err().to_string();
    assert!(wrong(&shares[0]).contains("share 1 again"));
    assert!(wrong(&others[1]).contains("another secret"));
    all.add(shares[2].parse().unwrap()).unwrap();
    assert!(all.secret().is_ok());
}

#[test]
fn shares_that_were_mixed_give_no_secret() {
    let of = |byte| split(&SecretBytes::copy_of(&[byte; SECRET]), 2, 2, &System).unwrap();
    let mut all = collected(&of(1)[..1]).unwrap();
    let mut other: Share = of(2)[1].parse().unwrap();
    // Two sets in 32,768 have the same id by chance.
    other.common = all.shares[0].common;
    all.add(other).unwrap();
    assert_eq!(all.secret().err().map(|error| error.kind()), Some(Kind::Corrupt));
}
