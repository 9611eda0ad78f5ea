//! The lines of a backup that are the same whoever kept its keys: states and keys.

#![forbid(unsafe_code)]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{BackupKey, unreadable, unwritable};
use crate::env::Timestamp;
use crate::error::{Result, json_place};
use crate::hex;
use crate::key::{KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use crate::ring::{NamedKey, NamedKeys, Ring, RingKey};
use crate::secret::{DataKey, SecretBytes};

/// The line before MariaDB's keys.
const MARIADBS: &str = "# MariaDB's keys: number;version;key";

/// Takes the parts of a text.
pub(super) type Out<'a> = dyn FnMut(&[u8]) + 'a;

/// What is known of a version besides its key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    key: KeyRef,
    state: KeyState,
    cipher: Purpose,
    created: Option<Timestamp>,
}

/// The text that `put` gives part by part, the same each time.
pub(super) fn text_of(put: impl Fn(&mut Out<'_>) -> Result<()>) -> Result<SecretBytes> {
    let mut len = 0;
    put(&mut |part| len += part.len())?;
    let mut at = 0;
    SecretBytes::build(len, |text| {
        put(&mut |part| {
            text[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        })
    })
}

/// What is known of the versions.
pub(super) fn put_states(keys: &[BackupKey], out: &mut Out<'_>) -> Result<()> {
    for BackupKey { info, .. } in keys {
        let KeyInfo { key, state, purpose, created, .. } = info;
        let (key, cipher) = (key.clone(), purpose.clone());
        let state = State { key, state: *state, cipher, created: *created };
        let state = serde_json::to_string(&state).map_err(|_| unwritable())?;
        out(format!("state {state}\n").as_bytes());
    }
    Ok(())
}

/// MariaDB's keys.
pub(super) fn put_numbered(keys: &[BackupKey], out: &mut Out<'_>) {
    out(format!("{MARIADBS}\n").as_bytes());
    for BackupKey { info, data } in keys {
        if let KeyName::Id(id) = info.key.name {
            out(format!("{id};{};", info.key.version).as_bytes());
            put_hex(data, out);
            out(b"\n");
        }
    }
}

/// A ring with all keys, to try data with; of MySQL's those in use.
pub(super) fn ring_of(keys: &[BackupKey]) -> Result<Ring> {
    let (ring, mut named) = (Ring::new(), NamedKeys::default());
    for BackupKey { info, data } in keys {
        let version = info.key.version;
        let bytes = data.expose();
        let copy = || {
            DataKey::of_keyring(bytes.len(), |to| {
                to.copy_from_slice(bytes);
                Ok(())
            })
        };
        match (&info.key.name, &info.purpose) {
            (KeyName::Id(id), Purpose::Pages(cipher)) => {
                ring.insert(*id, version, RingKey::new(copy()?, *cipher))?;
            }
            (name, Purpose::Keyring(kind)) if info.state == KeyState::Active => {
                let key = NamedKey::new(version, kind.clone(), copy()?, None);
                named.insert(name.clone(), Arc::new(key));
            }
            _ => {}
        }
    }
    ring.set_named(named);
    Ok(ring)
}

/// What the lines after the first say.
#[derive(Default)]
pub(super) struct Read {
    states: Vec<State>,
    pub(super) secret: Option<DataKey>,
    keys: Vec<(KeyRef, DataKey)>,
}

/// A key of MySQL's; what it is for is in its `state`.
#[derive(Deserialize)]
struct Named<'a> {
    data_id: String,
    auth_id: String,
    version: KeyVersion,
    /// Borrowed, so that no copy of it is made.
    key: &'a str,
}

impl Read {
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut read = Self::default();
        for line in lines.filter(|line| !line.starts_with('#')) {
            if let Some(state) = line.strip_prefix("state ") {
                let state = serde_json::from_str(state);
                read.states.push(state.map_err(|cause| unreadable(&json_place(&cause)))?);
            } else if let Some(secret) = line.strip_prefix("secret ") {
                read.secret = Some(key_of(secret)?);
            } else if line.starts_with('{') {
                read.named(line)?;
            } else {
                let mut words = line.splitn(3, ';');
                let mut number = || words.next()?.parse::<u32>().ok();
                let numbers = number().zip(number());
                let (id, version) =
                    numbers.ok_or_else(|| unreadable("a line is none of a backup's"))?;
                let key = key_of(words.next().unwrap_or_default())?;
                let name = KeyRef::new(KeyId::try_from(id)?, KeyVersion::try_from(version)?);
                read.keys.push((name, key));
            }
        }
        Ok(read)
    }

    /// Each key with what is known of it.
    pub(super) fn keys(self) -> Result<Vec<BackupKey>> {
        let mut keys = Vec::with_capacity(self.states.len());
        let mut data = self.keys.into_iter();
        for State { key, state, cipher, created } in self.states {
            let found = data.next().filter(|(name, _)| *name == key);
            let (_, data) = found.ok_or_else(|| unreadable("a key is missing or out of order"))?;
            let info = KeyInfo { key, state, purpose: cipher, created, check: None };
            keys.push(BackupKey { info, data });
        }
        match data.next() {
            Some(_) => Err(unreadable("a key has no state")),
            None => Ok(keys),
        }
    }

    fn named(&mut self, line: &str) -> Result<()> {
        let named: Named<'_> =
            serde_json::from_str(line).map_err(|cause| unreadable(&json_place(&cause)))?;
        let name =
            |text: &str| STANDARD.decode(text).map_err(|_| unreadable("a name is no base64"));
        let name = KeyName::named(name(&named.data_id)?, name(&named.auth_id)?);
        self.keys.push((KeyRef::new(name, named.version), key_of(named.key)?));
        Ok(())
    }
}

pub(super) fn put_hex(key: &DataKey, out: &mut Out<'_>) {
    for byte in key.expose() {
        out(&*Zeroizing::new(hex::digits(*byte)));
    }
}

fn key_of(hex: &str) -> Result<DataKey> {
    let wrong = || unreadable("a key is no hexadecimal digits");
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return Err(wrong()) };
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    DataKey::of_keyring(pairs.len(), |key| {
        for (to, [high, low]) in key.iter_mut().zip(pairs) {
            *to = digit(*high)
                .zip(digit(*low))
                .map(|(high, low)| high << 4 | low)
                .ok_or_else(wrong)?;
        }
        Ok(())
    })
}
