//! Wraps the store key with a key of a KMIP server.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::way_called;
use super::client::{Client, Desk};
use super::failure::Fault;
use super::kek::{Kek, KeyChoice};
use super::message::Version;
use super::requests::{Mode, TAG_LEN};
use super::seal::{NONCE_LEN, open, seal};
use crate::config::Section;
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result};
use crate::provider::{KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use crate::secret::DataKey;

/// Begins what a wrapped key is bound by, so that nothing else could be taken for one.
const BINDING_LABEL: &str = "keyward kmip wrap v1";

/// The first byte of a blob; any other is refused.
const FORMAT: u8 = 1;

/// The key that a server which has only CBC encrypts in the store key's place, and its IV.
const ONCE_LEN: usize = 32;
const IV_LEN: usize = 16;
/// That key with PKCS#5's padding: a block more.
const ENCRYPTED_ONCE_LEN: usize = ONCE_LEN + 16;

/// What is wrapped for a trial: as long as a store key.
const TRIAL_LEN: usize = 32;

/// What the configuration says of a wrapping key.
pub struct Settings {
    /// The servers.
    pub kmip: super::Settings,
    /// Which of their keys wraps.
    pub key: KeyChoice,
    /// How it wraps; otherwise the best way that the server has.
    pub way: Option<Way>,
}

impl Settings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let kmip = super::Settings::read(section)?;
        let said = [
            section.text("key")?.map(KeyChoice::Name),
            section.text("key_id")?.map(KeyChoice::Id),
            section.text("master_key")?.map(KeyChoice::Either),
        ];
        let mut said = said.into_iter().flatten();
        let key = match (said.next(), said.next()) {
            (Some(key), None) if !key.text().is_empty() => key,
            (Some(_), Some(_)) => {
                return Err(section
                    .wrong("key", "the key is named twice")
                    .advise("keep one of key, key_id and master_key"));
            }
            _ => return Err(section.lacks("key")),
        };
        Ok(Self { kmip, key, way: section.parsed("mechanism")? })
    }
}

/// How a key wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The server encrypts by AES-GCM, with what the wrapped key is bound to as additional data: KMIP 1.4.
    Gcm,
    /// The server encrypts a key of 256 bits that is used once, by AES-CBC; under that one the store key
    /// is sealed here, by AES-GCM. KMIP 1.2.
    Cbc,
    /// The wrapping key is fetched for each use, and AES-GCM done here: for servers that cannot encrypt, and
    /// only where the configuration asks for it, because the key leaves the server.
    Get,
}

impl Way {
    const ALL: [Self; 3] = [Self::Gcm, Self::Cbc, Self::Get];

    /// Its name in a wrapped key and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gcm => "aes-gcm",
            Self::Cbc => "aes-cbc",
            Self::Get => "get",
        }
    }

    const fn since(self) -> Version {
        match self {
            Self::Gcm => Version::new(1, 4),
            Self::Cbc => Version::new(1, 2),
            Self::Get => Version::new(1, 0),
        }
    }

    /// Wraps `data` with `kek`, bound to `binding`.
    fn wrap(
        self,
        desk: &mut Desk<'_>,
        kek: &Kek,
        data: &DataKey,
        binding: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let (mut nonce, mut iv) = ([0; NONCE_LEN], [0; IV_LEN]);
        desk.rng().fill(&mut nonce)?;
        let made = match self {
            Self::Gcm => {
                let mode = Mode::Gcm { nonce: &nonce, aad: binding };
                [&nonce[..], &desk.encrypt(&kek.id, &mode, data.expose())?].concat()
            }
            Self::Cbc => {
                desk.rng().fill(&mut iv)?;
                let once = DataKey::generate(ONCE_LEN, desk.rng())?;
                let encrypted = desk.encrypt(&kek.id, &Mode::Cbc { iv: &iv }, once.expose())?;
                // The key is used once, and so is every nonce with it.
                let sealed = seal(&once, &[0; NONCE_LEN], binding, data.expose())?;
                [&iv[..], &encrypted, &sealed].concat()
            }
            Self::Get => {
                let key = desk.get(&kek.id)?;
                [&nonce[..], &seal(&key, &nonce, binding, data.expose())?].concat()
            }
        };
        Ok([&[FORMAT][..], &made].concat())
    }

    /// Opens what [`wrap`](Self::wrap) made with the key `id`.
    fn unwrap(
        self,
        desk: &mut Desk<'_>,
        id: &str,
        blob: &[u8],
        binding: &[u8],
    ) -> Result<DataKey, Fault> {
        let cut = || Fault::Ours(changed("it was cut short"));
        let Some((&FORMAT, made)) = blob.split_first() else {
            return Err(changed("it has an unknown format").into());
        };
        let opened = match self {
            Self::Gcm => {
                let (nonce, sealed) = made.split_first_chunk::<NONCE_LEN>().ok_or_else(cut)?;
                if sealed.len() <= TAG_LEN {
                    return Err(cut());
                }
                return desk.decrypt(id, &Mode::Gcm { nonce, aad: binding }, sealed);
            }
            Self::Cbc => {
                let (iv, rest) = made.split_first_chunk::<IV_LEN>().ok_or_else(cut)?;
                let (encrypted, sealed) =
                    rest.split_first_chunk::<ENCRYPTED_ONCE_LEN>().ok_or_else(cut)?;
                let once = desk.decrypt(id, &Mode::Cbc { iv }, encrypted)?;
                if once.expose().len() != ONCE_LEN {
                    return Err(changed("what it opens to is none that keyward wraps").into());
                }
                open(&once, &[0; NONCE_LEN], binding, sealed)?
            }
            Self::Get => {
                let (nonce, sealed) = made.split_first_chunk::<NONCE_LEN>().ok_or_else(cut)?;
                open(&desk.get(id)?, nonce, binding, sealed)?
            }
        };
        opened.ok_or_else(|| {
            changed("it was changed, or belongs to another keystore or store key").into()
        })
    }

    /// Wraps and unwraps something that is no key, to see whether server and key can do it.
    fn trial(self, desk: &mut Desk<'_>, kek: &Kek) -> Result<(), Fault> {
        let data = DataKey::generate(TRIAL_LEN, desk.rng())?;
        let blob = self.wrap(desk, kek, &data, b"trial")?;
        let opened = self.unwrap(desk, &kek.id, &blob, b"trial")?;
        match opened.expose() == data.expose() {
            true => Ok(()),
            false => Err(Fault::Ours(
                Error::new(
                    Kind::Internal,
                    format!("{} gives back other bytes by {self}", desk.place()),
                )
                .advise("choose another `mechanism`"),
            )),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        way_called(text, &Self::ALL, Self::name)
    }
}

/// A key of a KMIP server.
pub struct KmipWrapper {
    client: Client,
    key: KeyChoice,
    wanted: Option<Way>,
    /// How a key wraps, by its name, once that was tried.
    chosen: Mutex<Option<(String, Way)>>,
}

impl KmipWrapper {
    /// The one that a `[[provider]]` section describes.
    pub(super) fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
        Ok(Self::new(Settings::read(section)?, Arc::clone(rng)))
    }

    /// The wrapper that `settings` describe. Nobody is called yet.
    #[must_use]
    pub fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        let client = Client::new(settings.kmip, rng);
        Self { client, key: settings.key, wanted: settings.way, chosen: Mutex::default() }
    }

    /// Has the server make a new key of the configured name, AES with 256 bits, and activates it at
    /// once. From then on it is the newest.
    pub fn create_key(&self, by: Deadline) -> Result<KekInfo> {
        let mut desk = self.client.desk("making a key by KMIP", by)?;
        let kek = self.key.create(&mut desk, self.wanted != Some(Way::Get))?;
        let way = self.way(&mut desk, &kek)?;
        Ok(self.info(&kek, way))
    }

    /// How `kek` wraps: found out once.
    fn way(&self, desk: &mut Desk<'_>, kek: &Kek) -> Result<Way> {
        let chosen = || self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, way)) = &*chosen()
            && *name == kek.name
        {
            return Ok(*way);
        }
        let way = self.choose(desk, kek)?;
        *chosen() = Some((kek.name.clone(), way));
        Ok(way)
    }

    fn choose(&self, desk: &mut Desk<'_>, kek: &Kek) -> Result<Way> {
        let (version, _) = desk.versions()?;
        let mut refusals = Vec::new();
        for way in Way::ALL {
            if self.wanted.is_some_and(|wanted| wanted != way) {
                continue;
            }
            if version < way.since() {
                refusals.push(format!("{way}: not in KMIP {version}, which is spoken here"));
                continue;
            }
            // The key leaves the server only where that is asked for.
            if way == Way::Get && self.wanted.is_none() {
                continue;
            }
            match way.trial(desk, kek) {
                Ok(()) => return Ok(way),
                Err(fault) if fault.is_unsupported() => {
                    let error = fault.told(desk.place(), format_args!("key {}", kek.name));
                    refusals.push(format!("{way}: {}", error.what()));
                }
                Err(fault) => {
                    return Err(fault.told(desk.place(), format_args!("key {}", kek.name)));
                }
            }
        }
        let what = format!("key {} cannot wrap: {}", kek.name, refusals.join("; "));
        Err(Error::new(Kind::Unsupported, what).advise(
            "have the key fetched instead (mechanism = \"get\"), or keep the data keys there (use = \
             \"serve\")",
        ))
    }

    fn info(&self, kek: &Kek, way: Way) -> KekInfo {
        KekInfo {
            kek: kek.name.clone(),
            algorithm: way.name().to_owned(),
            place: self.client.place(),
            created: kek.created(),
            exportable: way == Way::Get || kek.told.is_exportable(),
        }
    }

    /// The id of the key that wrapped `wrapped`, if it is one of ours.
    fn id_of(&self, desk: &mut Desk<'_>, wrapped: &WrappedKey) -> Result<String> {
        let Some((ours, id)) = self.key.claims(&wrapped.kek) else {
            return Err(changed("it names no key of a KMIP server"));
        };
        // Configured otherwise than when it was wrapped, it may still be the same key.
        if ours || self.key.find(desk)?.iter().any(|kek| kek.id == id) {
            return Ok(id.to_owned());
        }
        Err(self.not_mine(wrapped))
    }

    fn not_mine(&self, wrapped: &WrappedKey) -> Error {
        let (kek, place) = (wrapped.kek.escape_default(), self.client.place());
        let what = format!("wrapped by KEK {kek}, and this is {} of {place}", self.key);
        Error::new(Kind::NotMine, what)
            .advise("it is another key: point `server` and `key` at the right one")
    }

    /// What it means that the server refused to open something: another key, a key that may not be
    /// used, a changed blob. Many servers have one reason for all; then a trial tells.
    fn judge(&self, desk: &mut Desk<'_>, wrapped: &WrappedKey, fault: Fault) -> Error {
        let (place, on) = (desk.place(), format!("key {}", wrapped.kek.escape_default()));
        let id = match self.key.claims(&wrapped.kek) {
            Some((_, id)) if !matches!(fault, Fault::Ours(_)) => id.to_owned(),
            _ => return fault.told(place, on),
        };
        let told = match desk.attributes(&id) {
            Ok(told) => told,
            Err(gone) if gone.is_not_found() => return self.not_mine(wrapped),
            Err(_) => return fault.told(place, on),
        };
        let kek = Kek::of(id, &wrapped.kek, told);
        if let Err(error) = kek.usable(&place) {
            return error;
        }
        let way = wrapped.algorithm.parse::<Way>();
        match way.map(|way| way.trial(desk, &kek)) {
            Ok(Ok(())) => changed("it was changed, or belongs to another keystore or store key"),
            _ => fault.told(place, on),
        }
    }

    fn open(
        &self,
        desk: &mut Desk<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<DataKey> {
        let Ok(way) = wrapped.algorithm.parse::<Way>() else {
            return Err(changed("wrapped in a way that no key of a KMIP server wraps"));
        };
        if !wrapped.parameters.is_empty() {
            return Err(changed("wrapped in a way that no key of a KMIP server wraps"));
        }
        let id = self.id_of(desk, wrapped)?;
        let binding = context.associated_data(BINDING_LABEL, wrapped);
        way.unwrap(desk, &id, &wrapped.blob, &binding)
            .map_err(|fault| self.judge(desk, wrapped, fault))
            .map_err(|error| match error.kind() {
                Kind::Corrupt => error.within(format_args!(
                    "store key {}, wrapped by {}",
                    context.store_key,
                    wrapped.kek.escape_default()
                )),
                _ => error,
            })
    }

    fn close(
        &self,
        desk: &mut Desk<'_>,
        data: &DataKey,
        context: &WrapContext,
    ) -> Result<WrappedKey> {
        let kek = self.key.newest(desk)?;
        let way = self.way(desk, &kek)?;
        let mut wrapped = WrappedKey {
            kek: kek.name.clone(),
            algorithm: way.name().to_owned(),
            parameters: BTreeMap::new(),
            blob: Vec::new(),
        };
        let binding = context.associated_data(BINDING_LABEL, &wrapped);
        wrapped.blob = way
            .wrap(desk, &kek, data, &binding)
            .map_err(|fault| fault.told(desk.place(), format_args!("key {}", kek.name)))?;
        Ok(wrapped)
    }
}

impl KeyWrapper for KmipWrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        self.close(&mut self.client.desk("wrapping by KMIP", by)?, data, context)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        self.open(&mut self.client.desk("unwrapping by KMIP", by)?, wrapped, context)
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        let mut desk = self.client.desk("rewrapping by KMIP", by)?;
        let data = self.open(&mut desk, wrapped, context)?;
        self.close(&mut desk, &data, context)
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        let mut desk = self.client.desk("describing a key by KMIP", by)?;
        let kek = self.key.newest(&mut desk)?;
        let way = self.way(&mut desk, &kek)?;
        Ok(self.info(&kek, way))
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let mut desk = self.client.desk("asking a KMIP server", by)?;
        let (version, tls) = desk.versions()?;
        let kek = self.key.newest(&mut desk)?;
        let way = self.way(&mut desk, &kek)?;
        let sensitive = if kek.told.is_exportable() { "no: its owner may take it" } else { "yes" };
        let idle = self.key.find(&mut desk)?.iter().filter(|kek| kek.usable("").is_err()).count();
        let mut facts = vec![
            ("kmip", desk.place()),
            ("version", version.to_string()),
            ("TLS", tls.to_owned()),
            ("kek", kek.name.clone()),
            ("state", kek.told.state.map_or("not told", super::attributes::State::name).to_owned()),
            ("algorithm", way.name().to_owned()),
            ("sensitive", sensitive.to_owned()),
        ];
        if idle > 0 {
            facts.push(("keys of that name that cannot wrap", idle.to_string()));
        }
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
        Ok(Probe {
            facts: facts.into_iter().map(|(name, value)| (name.to_owned(), plain(value))).collect(),
        })
    }
}

/// The right key, and something else than it made.
fn changed(what: &str) -> Error {
    Error::new(Kind::Corrupt, what)
        .advise("the right wrapping key, a changed keystore: restore that from a backup")
}
