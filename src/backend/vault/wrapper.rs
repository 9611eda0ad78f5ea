//! `vault-transit`: wraps with a key of the transit engine, which never gives it out.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Call, Client, PathParts};
use super::nodes::Answer;
use super::rights::Right;
use super::settings::TransitSettings;
use crate::config::Section;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::{
    End, FreshLogin, KekInfo, KeyWrapper, Maintain, Probe, WITHOUT_ITS_KEY, WrapContext, WrappedKey,
};
use crate::secret::DataKey;
use crate::secret::aead::Parts;

/// The types of key that take associated data, by which a wrapped key is bound to its keystore.
const TYPES: &[&str] = &["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"];

/// A key of a transit engine. A wrapped key's `kek` is `transit/keyward:v3`: the engine, the key and
/// its version; the blob is Vault's ciphertext without the `vault:v3:` that repeats it.
pub struct TransitWrapper {
    client: Arc<Client>,
    mount: String,
    key: String,
}

/// The answer of `keys/<name>`.
#[derive(Deserialize)]
struct Described {
    data: Description,
}

#[derive(Deserialize)]
pub(super) struct Description {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u32,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    exportable: bool,
    /// By version: seconds since 1970, or a fuller description for kinds of keys that we refuse.
    keys: BTreeMap<u32, Value>,
}

#[derive(Deserialize)]
struct Encrypted {
    data: Ciphertext,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    data: Plaintext,
}

#[derive(Deserialize)]
struct Plaintext {
    plaintext: String,
}

impl TransitWrapper {
    /// The one that a `[[provider]]` section describes.
    pub(super) fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
        Ok(Self::new(TransitSettings::read(section)?, Arc::clone(rng)))
    }

    /// The wrapper that `settings` describe. Nobody is called yet.
    pub fn new(settings: TransitSettings, rng: Arc<dyn Rng>) -> Self {
        Self { client: settings.vault.client(rng), mount: settings.mount, key: settings.key }
    }

    /// `transit/keyward`, for people and for the names of wrapped keys.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.mount, self.key)
    }

    pub(super) fn path(&self, doing: &str) -> String {
        format!("{}/{doing}/{}", self.mount, self.key)
    }

    pub(super) fn describe_key(&self, call: &Call<'_>) -> Result<Description> {
        let answer = call.get(&self.path("keys"))?;
        if answer.status == 404 {
            let what = format!("{} has no transit key {}", self.client.place(), self.name());
            return Err(Error::new(Kind::NotFound, what).advise(format!(
                "correct `mount` and `key`; for a new keystore make it: {} {}",
                self.client.command("write -f"),
                self.path("keys")
            )));
        }
        if !answer.is_ok() {
            return Err(answer.unexpected(&format!("to describe {}", self.name())));
        }
        let described = answer.json::<Described>()?.data;
        if TYPES.contains(&described.kind.as_str()) {
            return Ok(described);
        }
        let what = format!("transit key {} cannot bind what it wraps to a keystore", self.name());
        Err(Error::new(Kind::Config, what)
            .advise(format!("use a key of the type {}", TYPES.join(", "))))
    }

    /// What is sent beside a key: what it is bound to, as the context of a key that is derived, else
    /// as associated data. Vault's own rewrapping knows of the former alone.
    fn bound(described: &Description, context: &WrapContext, mut body: Value) -> Value {
        let name = if described.derived { "context" } else { "associated_data" };
        body[name] = json!(STANDARD.encode(associated_data(&described.kind, context)));
        body
    }

    /// Vault's ciphertext of `wrapped`, if it is of our key.
    fn ciphertext(&self, wrapped: &WrappedKey, described: &Description) -> Result<String> {
        let (name, version) = wrapped.kek.rsplit_once(":v").unwrap_or((&wrapped.kek, ""));
        if name != self.name() {
            let what = format!("wrapped by {name:?}, and this is transit key {}", self.name());
            return Err(
                Error::new(Kind::NotMine, what).advise("use the provider that has that key")
            );
        }
        // Vault would take 0 for 1.
        let is_it = |number: &u32| *number > 0 && number.to_string() == version;
        let number = version.parse().ok().filter(is_it);
        let whole = wrapped.algorithm == described.kind && wrapped.parameters.is_empty();
        match number {
            Some(number) if whole && !wrapped.blob.is_empty() => {
                Ok(format!("vault:v{number}:{}", STANDARD.encode(&wrapped.blob)))
            }
            _ => Err(Error::new(Kind::Corrupt, "wrapped in a way that no transit key wraps")
                .advise("restore the keystore from a backup, or use the keyward that wrote it")),
        }
    }

    fn wrapped(&self, described: &Description, ciphertext: &str) -> Result<WrappedKey> {
        let foreign = || {
            let what = format!("{} answers with no ciphertext of its own", self.client.place());
            Error::new(Kind::Unavailable, what).advise("is it the right address?")
        };
        let rest = ciphertext.strip_prefix("vault:v").ok_or_else(foreign)?;
        let (version, text) = rest.split_once(':').ok_or_else(foreign)?;
        let version: u32 = version.parse().map_err(|_| foreign())?;
        Ok(WrappedKey {
            kek: format!("{}:v{version}", self.name()),
            algorithm: described.kind.clone(),
            parameters: BTreeMap::new(),
            blob: STANDARD.decode(text).map_err(|_| foreign())?,
        })
    }

    pub(super) fn info(&self, described: Description) -> KekInfo {
        let made = described.keys.get(&described.latest_version).and_then(Value::as_u64);
        KekInfo {
            kek: format!("{}:v{}", self.name(), described.latest_version),
            algorithm: described.kind,
            place: self.client.place(),
            created: made.map(Timestamp::from_unix),
            exportable: described.exportable,
        }
    }

    fn encrypt(
        &self,
        call: &Call<'_>,
        described: &Description,
        data: &DataKey,
        context: &WrapContext,
    ) -> Result<WrappedKey> {
        let plaintext = Zeroizing::new(STANDARD.encode(data.expose()));
        let body = Self::bound(described, context, json!({ "plaintext": *plaintext }));
        let answer = call.post(&self.path("encrypt"), &body)?;
        if !answer.is_ok() {
            return Err(answer.unexpected(&format!("to encrypt with {}", self.name())));
        }
        self.wrapped(described, &answer.json::<Encrypted>()?.data.ciphertext)
    }

    fn decrypt(
        &self,
        call: &Call<'_>,
        described: &Description,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<DataKey> {
        let ciphertext = self.ciphertext(wrapped, described)?;
        let body = Self::bound(described, context, json!({ "ciphertext": ciphertext }));
        let answer = call.post(&self.path("decrypt"), &body)?;
        if !answer.is_ok() {
            return Err(self.refused(&answer, described, wrapped, context));
        }
        let text = Zeroizing::new(answer.json::<Decrypted>()?.data.plaintext);
        let plain = STANDARD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| {
            Error::new(Kind::Unavailable, format!("{} answers with no key", self.client.place()))
                .advise("is it the right address?")
        })?;
        DataKey::copy_of(&plain)
    }

    /// The key that wrapped `wrapped`: one that is missing now is gone, and no other can take its place.
    fn describe_key_of(
        &self,
        call: &Call<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<Description> {
        let described = self.describe_key(call);
        let is_ours = wrapped.kek.rsplit_once(":v").is_some_and(|(name, _)| name == self.name());
        described.map_err(|error| match error.kind() {
            Kind::NotFound if is_ours => self.gone(wrapped, context),
            _ => error,
        })
    }

    fn gone(&self, wrapped: &WrappedKey, context: &WrapContext) -> Error {
        let place = self.client.place();
        let what = format!("{}: {place} has that key no more", Self::unopened(wrapped, context));
        Error::new(Kind::NotFound, what)
            .advise(format!("a new key of that name cannot open it; {}", Self::restore()))
    }

    fn restore() -> String {
        format!("restore the old one in Vault from a backup; {WITHOUT_ITS_KEY}")
    }

    fn unopened(wrapped: &WrappedKey, context: &WrapContext) -> String {
        format!("store key {}, wrapped by transit key {}", context.store_key, wrapped.kek)
    }

    /// What it means that Vault did not open a ciphertext.
    fn refused(
        &self,
        answer: &Answer,
        described: &Description,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Error {
        let what = |words: &str| format!("{}: {words}", Self::unopened(wrapped, context));
        if answer.says("encryption key not found") {
            return self.gone(wrapped, context);
        }
        if answer.says("too new") {
            let latest = described.latest_version;
            let words = format!("Vault's key of that name has {latest} versions only");
            return Error::new(Kind::Corrupt, what(&words)).advise(format!(
                "it was made again, or is from an old backup; {}",
                Self::restore()
            ));
        }
        if answer.says("too old") {
            return Error::new(Kind::State, what("Vault no longer decrypts with that version"))
                .advise(format!(
                    "lower min_decryption_version: {} {}/config min_decryption_version=1; \
                     then run `keyward keystore rewrap --to-latest`",
                    self.client.command("write"),
                    self.path("keys")
                ));
        }
        if answer.status == 400 {
            let version =
                wrapped.kek.rsplit_once(":v").and_then(|(_, version)| version.parse().ok());
            let made = version.and_then(|version: u32| described.keys.get(&version)?.as_u64());
            let made = made.map_or(String::new(), |made| {
                format!(", which was made at {}", Timestamp::from_unix(made))
            });
            let words = format!("Vault's key of that name{made}, does not open it");
            return Error::new(Kind::Corrupt, what(&words)).advise(format!(
                "if that is later than the keystore, the key was deleted and made again: {}; if not, the \
                 keystore was changed, or belongs to another key: restore it from a backup",
                Self::restore()
            ));
        }
        answer.unexpected("to unwrap")
    }

    /// The client, the mount and the key's name.
    pub(super) fn parts(&self) -> PathParts<'_> {
        (&self.client, &self.mount, &self.key)
    }

    /// What the policy must allow, for a key that is derived or not.
    pub(super) fn rights(&self, derived: bool) -> Vec<Right> {
        let mut rights = vec![
            Right::new(self.path("encrypt"), &["update"]),
            Right::new(self.path("decrypt"), &["update"]),
            Right::new(self.path("keys"), &["read"]),
        ];
        if derived {
            rights.push(Right::new(self.path("rewrap"), &["update"]));
        }
        rights
    }
}

impl KeyWrapper for TransitWrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        let call = self.client.call("wrapping with Vault", by)?;
        let described = self.describe_key(&call)?;
        self.encrypt(&call, &described, data, context)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        let call = self.client.call("unwrapping with Vault", by)?;
        let described = self.describe_key_of(&call, wrapped, context)?;
        self.decrypt(&call, &described, wrapped, context)
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        let call = self.client.call("rewrapping with Vault", by)?;
        let described = self.describe_key_of(&call, wrapped, context)?;
        if !described.derived {
            let data = self.decrypt(&call, &described, wrapped, context)?;
            return self.encrypt(&call, &described, &data, context);
        }
        let ciphertext = self.ciphertext(wrapped, &described)?;
        let body = Self::bound(&described, context, json!({ "ciphertext": ciphertext }));
        let answer = call.post(&self.path("rewrap"), &body)?;
        if !answer.is_ok() {
            return Err(self.refused(&answer, &described, wrapped, context));
        }
        self.wrapped(&described, &answer.json::<Encrypted>()?.data.ciphertext)
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        let call = self.client.call("describing a key in Vault", by)?;
        Ok(self.info(self.describe_key(&call)?))
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let call = self.client.call("asking Vault", by)?;
        let described = self.describe_key(&call)?;
        let rights = call.prove(&self.rights(described.derived))?;
        let info = self.info(described);
        let mut facts = vec![
            ("vault".to_owned(), info.place),
            ("kek".to_owned(), info.kek),
            ("algorithm".to_owned(), info.algorithm),
        ];
        if info.exportable {
            facts.push(("exportable".to_owned(), "yes: who has the right may take it".to_owned()));
        }
        facts.extend(rights);
        Ok(Probe { facts })
    }

    fn ends(&self, now: Timestamp) -> Vec<End> {
        self.client.ends(now)
    }

    fn fresh_login(&self) -> FreshLogin {
        self.client.session.fresh_login()
    }

    fn credentials_readable(&self) -> Result<()> {
        self.client.session.credentials_readable()
    }

    fn maintenance(&self) -> Option<Arc<dyn Maintain>> {
        Some(self.client.clone())
    }
}

/// What a wrapped key is bound to.
fn associated_data(kind: &str, context: &WrapContext) -> Vec<u8> {
    Parts::default()
        .with("keyward transit wrap v1")
        .with(kind)
        .with(context.to_bytes())
        .into_bytes()
}
