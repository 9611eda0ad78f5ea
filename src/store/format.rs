//! The keystore as JSON text: one line a key version, checked as a whole. docs/keystore-format.md
//! describes it for people.

use std::fmt::{self, Write as _};
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::entry::{KeyEntry, VersionEntry};
use super::seal::{FileMac, OVERHEAD, STORE_KEY_LEN};
use super::{Contents, StoreKeyEntry};
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result, json_place};
use crate::key::{KeyName, KeyRef};
use crate::secret::DataKey;

/// What every keystore file calls itself. Written by `write`; read first of all, to tell a file
/// that is no keystore from a broken one.
const FORMAT: &str = "keyward-keystore";

/// The version of the format that `write` writes and `parse` reads. A newer one is refused, never
/// guessed at.
const VERSION: u32 = 1;

/// The check over the whole file: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct MacText(pub(super) [u8; 32]);

/// The file, member by member in the order it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    id: String,
    generation: u64,
    created: Timestamp,
    store_keys: Vec<StoreKeyEntry>,
    keys: Vec<KeyDocument>,
    mac: MacText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDocument {
    name: KeyName,
    versions: Vec<VersionEntry>,
}

/// The part of a file that every version of the format has.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u64,
    id: String,
    generation: u64,
}

/// The contents of a keystore file and its check, which nobody has verified yet.
pub(super) fn parse(bytes: &[u8]) -> Result<(Contents, MacText)> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|cause| not_this_format(bytes, &cause))?;
    check_header(&document.format, u64::from(document.version))?;
    let store_keys: Vec<_> = document.store_keys.into_iter().map(Arc::new).collect();
    check_store_keys(&store_keys)?;
    let keys = document.keys.into_iter().map(|key| {
        let versions = key.versions.into_iter().map(Arc::new).collect();
        KeyEntry::new(key.name, versions).map(Arc::new)
    });
    let contents = Contents {
        id: document.id.into(),
        generation: document.generation,
        created: document.created,
        store_keys,
        keys: Arc::new(keys.collect::<Result<_>>()?),
    };
    check_contents(&contents)?;
    Ok((contents, document.mac))
}

/// The id and generation of a keystore file, in a fraction of the time that `parse` takes.
pub(super) fn peek(bytes: &[u8]) -> Result<(String, u64)> {
    let header: Header =
        serde_json::from_slice(bytes).map_err(|cause| not_this_format(bytes, &cause))?;
    check_header(&header.format, header.version)?;
    Ok((header.id, header.generation))
}

/// The file, with its check under `store_key`. Within `secret::scrubbed` only.
pub(super) fn write(contents: &Contents, store_key: &DataKey) -> Result<Vec<u8>> {
    let mut out = Writer::new(contents, store_key)?;
    out.contents(contents).map_err(unwritable)?;
    let Writer { mut file, mac } = out;
    let mac = MacText(mac.finish());
    file.extend_from_slice(format!(",\n  \"mac\": \"{mac}\"\n}}\n").as_bytes());
    Ok(file)
}

/// Whether `mac` is the check of `contents` under `store_key`. Within `secret::scrubbed` only.
pub(super) fn verify(contents: &Contents, mac: MacText, store_key: &DataKey) -> Result<bool> {
    let mut out = Writer::new(contents, store_key)?;
    out.contents(contents).map_err(unwritable)?;
    Ok(out.mac.verify(&mac.0))
}

/// Writes everything but the check itself. What goes through `text` is checked, what goes through
/// `space` is only there for people, so that a file laid out anew still opens.
struct Writer {
    file: Vec<u8>,
    mac: FileMac,
}

impl Writer {
    fn new(contents: &Contents, store_key: &DataKey) -> Result<Self> {
        let versions: usize = contents.keys.iter().map(|key| key.versions().len()).sum();
        Ok(Self {
            file: Vec::with_capacity(2048 + 400 * versions),
            mac: FileMac::new(store_key, &contents.id)?,
        })
    }

    fn contents(&mut self, contents: &Contents) -> serde_json::Result<()> {
        self.text("{");
        self.member("format", FORMAT, "")?;
        self.member("version", &VERSION, ",")?;
        self.member("id", &*contents.id, ",")?;
        self.member("generation", &contents.generation, ",")?;
        self.member("created", &contents.created, ",")?;
        self.list("store_keys", &contents.store_keys, |out, entry| out.value(entry.as_ref()))?;
        self.list("keys", &contents.keys, |out, key| out.key(key))?;
        self.mac.update(b"}");
        Ok(())
    }

    fn key(&mut self, key: &KeyEntry) -> serde_json::Result<()> {
        self.text("{\"name\":");
        self.value(key.name())?;
        self.text(",\"versions\":[");
        for (at, entry) in key.versions().enumerate() {
            self.text(if at == 0 { "" } else { "," });
            self.space("\n      ");
            self.value(entry)?;
        }
        self.space("\n    ");
        self.text("]}");
        Ok(())
    }

    fn member(
        &mut self,
        name: &str,
        value: &(impl Serialize + ?Sized),
        before: &str,
    ) -> serde_json::Result<()> {
        self.name(name, before);
        self.value(value)
    }

    fn list<T>(
        &mut self,
        name: &str,
        items: &[T],
        write: impl Fn(&mut Self, &T) -> serde_json::Result<()>,
    ) -> serde_json::Result<()> {
        self.name(name, ",");
        self.text("[");
        for (at, item) in items.iter().enumerate() {
            self.text(if at == 0 { "" } else { "," });
            self.space("\n    ");
            write(self, item)?;
        }
        self.space("\n  ");
        self.text("]");
        Ok(())
    }

    fn name(&mut self, name: &str, before: &str) {
        self.text(before);
        self.space("\n  ");
        self.text("\"");
        self.text(name);
        self.text("\":");
        self.space(" ");
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
        let from = self.file.len();
        serde_json::to_writer(&mut self.file, value)?;
        self.mac.update(&self.file[from..]);
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.file.extend_from_slice(text.as_bytes());
        self.mac.update(text.as_bytes());
    }

    fn space(&mut self, space: &str) {
        self.file.extend_from_slice(space.as_bytes());
    }
}

fn check_header(format: &str, version: u64) -> Result<()> {
    if format != FORMAT {
        return Err(Error::new(Kind::Corrupt, "this file is no keyward keystore"));
    }
    if version > u64::from(VERSION) {
        let what =
            format!("the keystore has format version {version}, this keyward knows {VERSION}");
        return Err(Error::new(Kind::Unsupported, what)
            .advise("it was written by a newer keyward: update this one"));
    }
    if version != u64::from(VERSION) {
        return Err(Error::new(Kind::Corrupt, format!("there is no format version {version}")));
    }
    Ok(())
}

fn check_contents(contents: &Contents) -> Result<()> {
    let broken = |what: String| Err(Error::new(Kind::Corrupt, what));
    check_id(&contents.id)?;
    if contents.generation == 0 {
        return broken("the keystore's generation is 0".to_owned());
    }
    for pair in contents.keys.windows(2) {
        if pair[0].name() >= pair[1].name() {
            return broken(format!("key {} twice or out of order", pair[1].name()));
        }
    }
    let active = contents.active_store_key()?.number;
    for key in contents.keys.iter() {
        for entry in key.versions() {
            let Some(wrapped) = &entry.wrapped else { continue };
            let at = || KeyRef::new(key.name().clone(), entry.version);
            if wrapped.store_key != active {
                let number = wrapped.store_key;
                return broken(format!("{}: wrapped by store key {number}, not {active}", at()));
            }
            if wrapped.data.len() != entry.purpose.key_len() + OVERHEAD {
                return broken(format!("{}: its wrapped key has a wrong length", at()));
            }
        }
    }
    Ok(())
}

/// Store keys are numbered upwards; the last is active and wrapped, the others are neither.
pub(super) fn check_store_keys(entries: &[Arc<StoreKeyEntry>]) -> Result<()> {
    let broken = |what: String| Err(Error::new(Kind::Corrupt, what));
    let Some((active, retired)) = entries.split_last() else {
        return broken("the keystore has no store key".to_owned());
    };
    if entries[0].number == 0 || entries.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return broken("store keys twice or out of order".to_owned());
    }
    if active.retired.is_some() || retired.iter().any(|entry| entry.retired.is_none()) {
        return broken("another store key than the last is active".to_owned());
    }
    if active.wrappings.is_empty() || retired.iter().any(|entry| !entry.wrappings.is_empty()) {
        return broken("the active store key must be wrapped, a retired one must not".to_owned());
    }
    let mut providers: Vec<_> =
        active.wrappings.iter().map(|wrapping| &wrapping.provider).collect();
    providers.sort_unstable();
    match providers.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => broken(format!("the store key is wrapped twice by provider {:?}", pair[0])),
        None => Ok(()),
    }
}

/// A keystore's id is a version 4 UUID (RFC 9562), in lower case.
fn check_id(id: &str) -> Result<()> {
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if is_uuid { Ok(()) } else { Err(Error::new(Kind::Corrupt, "the keystore's id is no UUID")) }
}

/// Why the text could not be read: not ours, a newer one's, or damaged, and where.
fn not_this_format(bytes: &[u8], cause: &serde_json::Error) -> Error {
    if let Ok(header) = serde_json::from_slice::<Header>(bytes)
        && let Err(known) = check_header(&header.format, header.version)
    {
        return known;
    }
    let place = json_place(cause);
    Error::new(Kind::Corrupt, format!("the keystore cannot be read: {place}"))
        .advise("restore it from a backup")
}

fn unwritable(cause: serde_json::Error) -> Error {
    let kind = io::Error::from(cause).kind();
    Error::new(Kind::Internal, format!("the keystore cannot be written as JSON: {kind}"))
}

/// Whether `key` can be a store key.
pub(super) fn check_store_key(key: &DataKey) -> Result<()> {
    match key.expose().len() {
        STORE_KEY_LEN => Ok(()),
        len => Err(Error::new(Kind::Config, format!("a store key of {len} bytes"))
            .advise("store keys have 32 bytes")),
    }
}

impl fmt::Display for MacText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for MacText {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Kind::Corrupt, "the keystore's check is not 64 hex digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut mac = [0; 32];
        for (byte, at) in mac.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(mac))
    }
}

impl Serialize for MacText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// A new keystore id from 16 random bytes.
pub(super) fn uuid(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in random.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
