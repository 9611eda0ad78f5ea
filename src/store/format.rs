//! The keystore as JSON text: one line a key version, checked as a whole. docs/keystore-format.md
//! describes it for people.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entry::{KeyEntry, VersionEntry, Wrapped};
use super::numbers::Revision;
use super::registers::Registers;
use super::seal::{FileMac, OVERHEAD, STORE_KEY_LEN};
use super::{Contents, StoreKeyEntry};
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result, json_place};
use crate::key::{KeyName, KeyRef, KeyVersion};
use crate::secret::DataKey;

/// What every keystore file calls itself. Written by `write`; read first of all, to tell a file
/// that is no keystore from a broken one.
const FORMAT: &str = "keyward-keystore";

/// The version of the format that commits write. `parse` reads the former, 1, as well; a newer one
/// is refused, never guessed at.
const VERSION: u32 = 2;

/// What follows the header's members in a file as commits write it.
const AFTER_HEADER: &[u8] = b",\n  \"created\": ";

/// The check over the whole file: 64 hex digits.
pub(super) use crate::hex::Hex as MacText;

/// The file, member by member in the order it is written. `epoch`, `secret` and `registers` came
/// with version 2, as did what is optional in a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    id: String,
    #[serde(default)]
    epoch: Option<u64>,
    generation: u64,
    created: Timestamp,
    #[serde(default)]
    secret: Option<Wrapped>,
    #[serde(default)]
    registers: Option<Registers>,
    store_keys: Vec<StoreKeyEntry>,
    keys: Vec<KeyDocument>,
    mac: MacText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyDocument {
    name: KeyName,
    #[serde(default)]
    next_from: Option<KeyVersion>,
    #[serde(default)]
    pruned_through: Option<KeyVersion>,
    versions: Vec<VersionEntry>,
}

/// The part of a file that every version of the format has.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u64,
    id: String,
    #[serde(default)]
    epoch: Option<u64>,
    generation: u64,
}

/// The contents of a keystore file's document and its check, which nobody has verified yet, and where
/// the document ends.
pub(super) fn parse(bytes: &[u8]) -> Result<(Contents, MacText, usize)> {
    let (document, end) =
        first::<Document>(bytes).map_err(|cause| not_this_format(bytes, &cause))?;
    check_header(&document.format, u64::from(document.version))?;
    document.check_members()?;
    let store_keys: Vec<_> = document.store_keys.into_iter().map(Arc::new).collect();
    check_store_keys(&store_keys)?;
    let keys = document.keys.into_iter().map(|key| key.entry().map(Arc::new));
    let contents = Contents {
        id: document.id.into(),
        generation: document.generation,
        created: document.created,
        secret: document.secret,
        registers: Arc::new(document.registers.unwrap_or_default()),
        store_keys,
        keys: Arc::new(keys.collect::<Result<_>>()?),
    };
    check_contents(&contents, document.epoch)?;
    Ok((contents, document.mac, end))
}

/// The first JSON value of a text, and where it ends.
pub(super) fn first<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<(T, usize)> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter();
    match values.next() {
        Some(value) => value.map(|value| (value, values.byte_offset())),
        None => Err(serde::de::Error::custom("nothing")),
    }
}

/// The id and revision of a document as commits write it, of its beginning: the members that every version
/// has are its first lines, and no line breaks within a value. Nothing where it was laid out otherwise.
pub(super) fn peek_beginning(bytes: &[u8]) -> Option<Result<(String, Revision)>> {
    let end = bytes.windows(AFTER_HEADER.len()).position(|part| part == AFTER_HEADER)?;
    let header = [bytes.get(..end)?, b"}"].concat();
    serde_json::from_slice(&header).ok().map(revision)
}

fn revision(header: Header) -> Result<(String, Revision)> {
    check_header(&header.format, header.version)?;
    let Header { id, epoch, generation, .. } = header;
    Ok((id, Revision { epoch: epoch.unwrap_or(1), generation }))
}

/// The document, with the check that `mac` makes. Within `secret::scrubbed` only.
pub(super) fn write(contents: &Contents, mac: FileMac) -> Result<(Vec<u8>, MacText)> {
    let mut out = Writer::new(contents, mac);
    out.contents(contents).map_err(unwritable)?;
    let (mut file, mac) = out.finish();
    file.extend_from_slice(format!(",\n  \"mac\": \"{mac}\"\n}}\n").as_bytes());
    Ok((file, mac))
}

/// Keeps the text of `entry` for the next file.
pub(super) fn keep_text(entry: &VersionEntry) -> Result<()> {
    if entry.text().is_none() {
        entry.text.keep(serde_json::to_vec(entry).map_err(unwritable)?);
    }
    Ok(())
}

/// Whether `text` is the check that `mac` makes of `contents`. Within `secret::scrubbed` only.
pub(super) fn verify(contents: &Contents, text: MacText, mac: FileMac) -> Result<bool> {
    let mut out = Writer::new(contents, mac);
    out.contents(contents).map_err(unwritable)?;
    Ok(out.verify(&text))
}

impl Document {
    /// Checks that it has what its version has, and nothing of another.
    fn check_members(&self) -> Result<()> {
        let broken = |what: &str| Err(Error::new(Kind::Corrupt, what));
        let added = [self.epoch.is_some(), self.secret.is_some(), self.registers.is_some()];
        if self.version >= 2 {
            return match added {
                [true, true, true] => Ok(()),
                _ => broken("the keystore's epoch, secret or registers are missing"),
            };
        }
        let keys = || self.keys.iter();
        let versions = keys().flat_map(|key| &key.versions);
        if added.contains(&true)
            || keys().any(|key| key.next_from.is_some() || key.pruned_through.is_some())
        {
            return broken("the keystore has members that its format version does not have");
        }
        match versions.clone().all(|entry| entry.check.is_some()) {
            true => Ok(()),
            false => broken("a version without check value"),
        }
    }
}

impl KeyDocument {
    pub(super) fn entry(self) -> Result<KeyEntry> {
        let versions = self.versions.into_iter().map(Arc::new).collect();
        let mut entry = KeyEntry::new(self.name, versions)?;
        entry.next_from = self.next_from;
        entry.pruned_through = self.pruned_through;
        Ok(entry)
    }
}

/// Writes everything but the check itself. What goes through `text` is checked, what goes through
/// `space` is only there for people, so that a file laid out again still opens.
pub(super) struct Writer {
    file: Vec<u8>,
    mac: FileMac,
    is_laid_out: bool,
}

impl Writer {
    fn new(contents: &Contents, mac: FileMac) -> Self {
        let versions: usize = contents.keys.iter().map(|key| key.versions().len()).sum();
        Self { file: Vec::with_capacity(2048 + 400 * versions), mac, is_laid_out: true }
    }

    pub(super) fn in_one_line(mac: FileMac) -> Self {
        Self { file: Vec::new(), mac, is_laid_out: false }
    }

    /// What was written, and the check over it.
    pub(super) fn finish(self) -> (Vec<u8>, MacText) {
        (self.file, MacText(self.mac.finish()))
    }

    /// Whether `mac` is the check over what was written.
    pub(super) fn verify(self, mac: &MacText) -> bool {
        self.mac.verify(&mac.0)
    }

    fn contents(&mut self, contents: &Contents) -> serde_json::Result<()> {
        self.text("{");
        self.member("format", FORMAT, "")?;
        self.member("version", &contents.secret.as_ref().map_or(1, |_| VERSION), ",")?;
        self.member("id", &*contents.id, ",")?;
        if contents.secret.is_some() {
            self.member("epoch", &contents.epoch(), ",")?;
        }
        self.member("generation", &contents.generation, ",")?;
        self.member("created", &contents.created, ",")?;
        if let Some(secret) = &contents.secret {
            self.member("secret", secret, ",")?;
            self.member("registers", contents.registers(), ",")?;
        }
        self.list("store_keys", &contents.store_keys, |out, entry| out.value(entry.as_ref()))?;
        self.list("keys", &contents.keys, |out, key| out.key(key))?;
        self.closed();
        Ok(())
    }

    /// The end, which the check covers; the check itself comes before it.
    pub(super) fn closed(&mut self) {
        self.mac.update(b"}");
    }

    pub(super) fn key(&mut self, key: &KeyEntry) -> serde_json::Result<()> {
        self.text("{\"name\":");
        self.value(key.name())?;
        let numbers = [("next_from", key.next_from), ("pruned_through", key.pruned_through)];
        for (name, number) in numbers {
            if let Some(number) = number {
                self.text(&format!(",\"{name}\":{number}"));
            }
        }
        self.text(",\"versions\":[");
        for (at, entry) in key.versions().enumerate() {
            self.text(if at == 0 { "" } else { "," });
            self.space("\n      ");
            match entry.text() {
                Some(text) => self.bytes(text),
                None => self.value(entry)?,
            }
        }
        self.space("\n    ");
        self.text("]}");
        Ok(())
    }

    pub(super) fn member(
        &mut self,
        name: &str,
        value: &(impl Serialize + ?Sized),
        before: &str,
    ) -> serde_json::Result<()> {
        self.name(name, before);
        self.value(value)
    }

    pub(super) fn list<T>(
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

    pub(super) fn value(&mut self, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
        let from = self.file.len();
        serde_json::to_writer(&mut self.file, value)?;
        self.mac.update(&self.file[from..]);
        Ok(())
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, text: &[u8]) {
        self.file.extend_from_slice(text);
        self.mac.update(text);
    }

    fn space(&mut self, space: &str) {
        if self.is_laid_out {
            self.file.extend_from_slice(space.as_bytes());
        }
    }
}

fn check_header(format: &str, version: u64) -> Result<()> {
    if format != FORMAT {
        return Err(Error::new(Kind::Corrupt, "this file is no keyward keystore"));
    }
    if version > u64::from(VERSION) {
        let what = format!(
            "the keystore has format version {version}, this keyward knows up to {VERSION}"
        );
        return Err(Error::new(Kind::Unsupported, what).advise(
            "a newer release of keyward wrote it, and only such a release opens it: update",
        ));
    }
    if version == 0 {
        return Err(Error::new(Kind::Corrupt, format!("there is no format version {version}")));
    }
    Ok(())
}

/// Checks what has to hold between the entries of a keystore, as `parse` does.
pub(super) fn check(contents: &Contents) -> Result<()> {
    check_contents(contents, None)
}

fn check_contents(contents: &Contents, epoch: Option<u64>) -> Result<()> {
    let broken = |what: String| Err(Error::new(Kind::Corrupt, what));
    check_id(&contents.id)?;
    if contents.generation == 0 {
        return broken("the keystore's generation is 0".to_owned());
    }
    if epoch.is_some_and(|epoch| Some(epoch) != contents.registers.last_epoch()) {
        return broken("the keystore's epoch is not the last of its epochs".to_owned());
    }
    contents.registers.check().or_else(|bad| broken(bad.what().to_owned()))?;
    for pair in contents.keys.windows(2) {
        if pair[0].name() >= pair[1].name() {
            return broken(format!("key {} twice or out of order", pair[1].name()));
        }
    }
    let active = contents.active_store_key()?.number;
    if let Some(secret) = contents.secret.as_ref().filter(|one| one.store_key != active) {
        let number = secret.store_key;
        return broken(format!("its secret is wrapped by store key {number}, not {active}"));
    }
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
    if let Ok((header, _)) = first::<Header>(bytes)
        && let Err(known) = check_header(&header.format, header.version)
    {
        return known;
    }
    let place = json_place(cause);
    Error::new(Kind::Corrupt, format!("the keystore cannot be read: {place}"))
        .advise("restore it from a backup")
}

pub(super) fn unwritable(cause: serde_json::Error) -> Error {
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
