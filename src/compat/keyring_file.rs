//! The file of MySQL's stock component, `component_keyring_file`: JSON with every key in plain hex.
//!
//! The format was learnt from files that MySQL 9.7 wrote; `tests/golden/keyring` keeps one.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::error::{Error, Kind, Result};
use crate::key::{
    KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, KeyringKey, KeyringName, Purpose,
};
use crate::manager::ExportedKey;
use crate::secret::{self, DataKey};
use crate::trust;

/// The longest file, in bytes: a thousand keys of the longest kind.
const MAX_LEN: usize = 32 << 20;

/// The longest configuration of the component, in bytes.
const MAX_CONFIG_LEN: u64 = 1 << 16;

/// The only version of the format so far.
const VERSION: &str = "1.0";

/// What stands in the file; the keys are borrowed, so that none is copied out of locked memory.
#[derive(Deserialize)]
struct Document<'a> {
    version: &'a str,
    #[serde(borrow)]
    elements: Vec<Element<'a>>,
}

#[derive(Deserialize)]
struct Element<'a> {
    user: Name,
    data_id: Name,
    data_type: &'a str,
    data: &'a str,
}

/// A user or a data id: the server writes their bytes as they are, UTF-8 or not, and escapes some.
struct Name(KeyringName);

/// The component's own configuration, `component_keyring_file.cnf`.
#[derive(Deserialize)]
struct Configuration {
    path: Option<PathBuf>,
}

/// The keyring file: the one at `path`, or the one that a `.cnf` there names.
pub fn at(path: &Path) -> Result<PathBuf> {
    if path.extension().is_none_or(|ending| ending != "cnf") {
        return Ok(path.to_owned());
    }
    let text = trust::read_text(path, MAX_CONFIG_LEN)
        .map_err(|refusal| refusal.of("cannot read config file", path))?;
    match serde_json::from_str(&text) {
        Ok(Configuration { path: Some(file) }) if file.is_absolute() => Ok(file),
        _ => Err(Error::new(Kind::Config, format!("{} names no `path`", path.display())).advise(
            "name the keyring file itself, or the component_keyring_file.cnf that names it: with \
             read_local_config that is the one in the data directory",
        )),
    }
}

/// Every key of the file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<ExportedKey>> {
    let text = secret::read_file(path, MAX_LEN)?;
    parse(text.expose()).map_err(|error| error.within(path.display()))
}

/// Every key of a file that says `text`. `Config` where it is no such file or a key is none,
/// `Unsupported` where it is of another version.
pub fn parse(text: &[u8]) -> Result<Vec<ExportedKey>> {
    let document: Document<'_> = serde_json::from_slice(text).map_err(|cause| {
        // The cause's own words may quote the file.
        let place = format!("line {} column {}", cause.line(), cause.column());
        Error::new(Kind::Config, format!("not a keyring file, by {place}"))
            .advise("name the file that `path` names in component_keyring_file.cnf")
    })?;
    if document.version != VERSION {
        let what = format!("a keyring file of version {:?}", document.version);
        return Err(Error::new(Kind::Unsupported, what)
            .advise(format!("this keyward knows version {VERSION}")));
    }
    let mut names = BTreeSet::new();
    let mut keys = Vec::new();
    for element in &document.elements {
        let key = element.read()?;
        if !names.insert(key.info.key.name.clone()) {
            let what = format!("key {} stands in it twice", key.info.key.name);
            return Err(Error::new(Kind::Config, what).advise("take one of them out"));
        }
        keys.push(key);
    }
    Ok(keys)
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Name, E> {
                Ok(Name(bytes.into()))
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

impl Element<'_> {
    fn read(&self) -> Result<ExportedKey> {
        let name = KeyName::named(self.data_id.0.clone(), self.user.0.clone());
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("key {name}: {what}"))
                .advise("compare the file with a backup of it")
        };
        if self.data_id.0.is_empty() {
            return Err(wrong("its name is empty"));
        }
        let data = self.material().map_err(|error| wrong(error.what()))?;
        let kind = KeyringKey::new(self.data_type, data.expose().len())
            .map_err(|error| wrong(error.what()))?;
        let info = KeyInfo {
            key: KeyRef::new(name, KeyVersion::FIRST),
            state: KeyState::Active,
            purpose: Purpose::Keyring(kind),
            created: None,
            check: None,
        };
        ExportedKey::proven(info, data)
    }

    /// The key, from hex straight into locked memory.
    fn material(&self) -> Result<DataKey> {
        let not_hex = || Error::new(Kind::Config, "its data is not hex");
        let (pairs, []) = self.data.as_bytes().as_chunks::<2>() else { return Err(not_hex()) };
        DataKey::of_keyring(pairs.len(), |to| {
            for (byte, pair) in to.iter_mut().zip(pairs) {
                let digit = |n: u8| char::from(n).to_digit(16).and_then(|n| u8::try_from(n).ok());
                let (high, low) = (digit(pair[0]), digit(pair[1]));
                *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(not_hex)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_by_the_components_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let cnf = folder.path().join("component_keyring_file.cnf");
        let found = |text: &str| {
            std::fs::write(&cnf, text).unwrap();
            at(&cnf).map_err(|error| error.to_string())
        };
        assert_eq!(found(r#"{"path": "/k", "read_only": false}"#), Ok("/k".into()));
        for text in [r#"{"read_local_config": true}"#, r#"{"path": "k"}"#, "{", ""] {
            assert!(
                found(text).unwrap_err().contains("component_keyring_file.cnf names no `path`")
            );
        }
        assert_eq!(at(Path::new("/any/keyring")).unwrap(), Path::new("/any/keyring"));
    }

    fn file(elements: &str) -> String {
        format!("{{\"version\":\"1.0\",\"elements\":[{elements}]}}")
    }

    fn element(id: &str, kind: &str, data: &str) -> String {
        format!(
            "{{\"user\":\"\",\"data_id\":\"{id}\",\"data_type\":\"{kind}\",\"data\":\"{data}\",\
             \"extension\":[]}}"
        )
    }

    #[test]
    fn reads_what_the_server_writes() {
        let text = std::fs::read("tests/golden/keyring/component_keyring_file.json").unwrap();
        let keys = parse(&text).unwrap();
        let names: Vec<_> = keys.iter().map(|key| key.info.key.name.to_string()).collect();
        assert_eq!(
            names,
            [
                "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-1",
                "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-2"
            ]
        );
        assert_eq!(keys[0].info.purpose.to_string(), "keyring:AES:32");
        assert_eq!(keys[0].data.expose()[..4], [0x0C, 0x4F, 0xC2, 0x50]);
        let empty = parse(file(&element("e", "SECRET", "")).as_bytes()).unwrap();
        assert_eq!(empty[0].info.purpose.to_string(), "keyring:SECRET:0");
        assert!(parse(file("").as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn a_name_is_any_bytes() {
        let all: Vec<u8> = (1..=255).collect();
        let mut text = file(&element("ID", "SECRET", "5e")).into_bytes();
        let written = all.iter().flat_map(|byte| match byte {
            b'"' | b'\\' => vec![b'\\', *byte],
            1..=31 => format!("\\u{byte:04X}").into_bytes(),
            _ => vec![*byte],
        });
        let at = text.windows(2).position(|two| two == b"ID").unwrap();
        text.splice(at..at + 2, written);
        let keys = parse(&text).unwrap();
        assert_eq!(keys[0].info.key.name, KeyName::named(all, ""));
    }

    #[test]
    fn says_what_is_wrong_and_shows_no_key() {
        let (long, twice) = ("ab".repeat(16_385), element("k", "AES", "5e"));
        for (text, why) in [
            (String::new(), "not a keyring file, by line 1 column 0"),
            (file("").replace("1.0", "2.0"), "version \"2.0\""),
            (file(&element("k", "AES", "5ec")), "key k: its data is not hex"),
            (file(&element("k", "AES", "5ec_")), "key k: its data is not hex"),
            (file(&element("k", "", "5ec0")), "key k: the type of the key is not a word"),
            (file(&element("", "AES", "5ec0")), "its name is empty"),
            (file(&element("k", "AES", &long)), "key k: a key of 16385 bytes"),
            (file(&(twice.clone() + "," + &twice)), "key k stands in it twice"),
            (file(&element("k", "AES", "\\u0035ec0")), "not a keyring file, by line 1 column"),
        ] {
            let error = parse(text.as_bytes()).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("5ec"), "{error}");
        }
    }
}
