//! What a file looks like that is no key file: the commonest ways to write one wrongly.

#![forbid(unsafe_code)]

/// A kind of file that is often given for a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resembling {
    /// What it looks like, to follow the file's name.
    pub(super) what: &'static str,
    /// How to make a key file of it.
    pub(super) advice: &'static str,
}

/// How such files begin (the byte-order marks by Unicode 16, section 23.8).
const BEGINNINGS: [(&[u8], Resembling); 8] = [
    (
        b"\xef\xbb\xbf",
        Resembling {
            what: "begins with a byte-order mark, as some editors write it",
            advice: "take it out: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE",
        },
    ),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (
        // `Salted__` in base64.
        b"U2FsdGVkX1",
        Resembling {
            what: "is encrypted, and written in base64",
            advice: "decode it: openssl base64 -d -in FILE -out FILE.enc, and name that",
        },
    ),
    (
        b"-----BEGIN ",
        Resembling { what: "is PEM: a certificate or another kind of key", advice: LINES },
    ),
    (
        b"age-encryption.org/",
        Resembling {
            what: "is encrypted by age, which no server can open",
            advice: "decrypt it with age, and encrypt it with openssl enc if it is to be encrypted",
        },
    ),
    (b"\x1f\x8b", Resembling { what: "is compressed", advice: "unpack it: gunzip" }),
    (b"{", Resembling { what: "is JSON: a keystore of keyward's, maybe", advice: LINES }),
];

const UTF_16: Resembling = Resembling {
    what: "is UTF-16, as some editors write it",
    advice: "write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > FILE.new",
};

const LINES: &str = "a key file has lines of id;key, such as 1;KEY";

/// What `text`, which is no key file, looks like.
pub(super) fn resembling(text: &[u8]) -> Option<Resembling> {
    let found = BEGINNINGS.iter().find(|(beginning, _)| text.starts_with(beginning));
    let bare = || {
        let key = text.trim_ascii();
        let is_key = matches!(key.len(), 32 | 48 | 64) && key.iter().all(u8::is_ascii_hexdigit);
        is_key.then_some(Resembling {
            what: "is a key without an id",
            advice: "put the id before it: 1;KEY",
        })
    };
    found.map(|(_, resembling)| *resembling).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_words_and_a_key_file_has_none() {
        for (beginning, wanted) in &BEGINNINGS {
            let text = [beginning, &b"1;00"[..]].concat();
            assert_eq!(resembling(&text), Some(*wanted));
        }
        let key = "0123456789abcdef".repeat(4);
        assert!(resembling(format!("{key}\r\n").as_bytes()).is_some());
        for text in [format!("1;{key}"), "# remark".to_owned(), String::new(), key[1..].to_owned()]
        {
            assert_eq!(resembling(text.as_bytes()), None, "{text}");
        }
    }
}
