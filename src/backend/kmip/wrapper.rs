//! Wraps the store key with a key of a KMIP server.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::client::{Client, Exchange};
use super::failure::{CallError, KeyAdvice, changed};
use super::kek::Kek;
use super::mechanism::choose;
use super::settings::{KeyChoice, WrapMechanism, WrapperSettings};
use crate::config::Section;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::{End, KekInfo, KeyWrapper, Probe, WITHOUT_ITS_KEY, WrapContext, WrappedKey};
use crate::secret::DataKey;

/// Begins what a wrapped key is bound by, so that nothing else could be taken for one.
const BINDING_LABEL: &str = "keyward kmip wrap v1";

/// A key of a KMIP server.
pub struct KmipWrapper {
    pub(super) client: Client,
    pub(super) key: KeyChoice,
    pub(super) wanted: Option<WrapMechanism>,
    /// How a key wraps, by its name, once that was tried.
    chosen: Mutex<Option<(String, WrapMechanism)>>,
}

impl KmipWrapper {
    /// The one that a `[[provider]]` section describes.
    pub(super) fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
        Ok(Self::new(WrapperSettings::read(section)?, Arc::clone(rng)))
    }

    /// The wrapper that `settings` describe. Nobody is called yet.
    #[must_use]
    pub fn new(settings: WrapperSettings, rng: Arc<dyn Rng>) -> Self {
        let client = Client::new(settings.kmip, rng);
        Self { client, key: settings.key, wanted: settings.way, chosen: Mutex::default() }
    }

    /// The same, with other words for what to do where the wrapping key is not as it must be.
    #[must_use]
    pub fn advising(mut self, advice: &'static KeyAdvice) -> Self {
        self.client.advice = advice;
        self
    }

    /// How `kek` wraps: found out once.
    pub(super) fn way(&self, exchange: &mut Exchange<'_>, kek: &Kek) -> Result<WrapMechanism> {
        let chosen = || self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, way)) = &*chosen()
            && *name == kek.name
        {
            return Ok(*way);
        }
        let way = choose(exchange, kek, self.wanted)?;
        *chosen() = Some((kek.name.clone(), way));
        Ok(way)
    }

    pub(super) fn info(&self, kek: &Kek, way: WrapMechanism) -> KekInfo {
        KekInfo {
            kek: kek.name.clone(),
            algorithm: way.name().to_owned(),
            place: self.client.place(),
            created: kek.created(),
            exportable: way == WrapMechanism::Get || kek.told.is_exportable(),
        }
    }

    /// The id of the key that wrapped `wrapped`, if it is one of ours.
    fn id_of(&self, exchange: &mut Exchange<'_>, wrapped: &WrappedKey) -> Result<String> {
        let Some((ours, id)) = self.key.claims(&wrapped.kek) else {
            return Err(changed("it names no key of a KMIP server"));
        };
        // Configured otherwise than when it was wrapped, it may still be the same key.
        if ours || self.key.find(exchange)?.iter().any(|kek| kek.id == id) {
            return Ok(id.to_owned());
        }
        Err(self.not_mine(wrapped))
    }

    fn not_mine(&self, wrapped: &WrappedKey) -> Error {
        let (kek, place) = (wrapped.kek.escape_default(), self.client.place());
        let what = format!("wrapped by KEK {kek}, and this is {} of {place}", self.key);
        Error::new(Kind::NotMine, what).advise(self.client.advice.other)
    }

    /// The error where the server has no key of the id that the wrapped key names.
    fn gone(&self, wrapped: &WrappedKey) -> Error {
        let (kek, place) = (wrapped.kek.escape_default(), self.client.place());
        let what = format!("{place} has no key {kek}, which wrapped the keystore");
        let advice = format!("{} {WITHOUT_ITS_KEY}", self.client.advice.gone);
        Error::new(Kind::NotMine, what).advise(advice)
    }

    /// What it means that the server refused to open something: another key, a key that may not be
    /// used, a changed blob. Many servers have one reason for all; then a trial tells.
    fn judge(&self, exchange: &mut Exchange<'_>, wrapped: &WrappedKey, fault: CallError) -> Error {
        let (place, on) = (exchange.place(), format!("key {}", wrapped.kek.escape_default()));
        let id = match self.key.claims(&wrapped.kek) {
            Some((_, id)) if !matches!(fault, CallError::Ours(_)) => id.to_owned(),
            _ => return fault.told(place, on),
        };
        let told = match exchange.attributes(&id) {
            Ok(told) => told,
            Err(gone) if gone.is_not_found() => return self.gone(wrapped),
            Err(_) => return fault.told(place, on),
        };
        let kek = Kek::of(id, &wrapped.kek, told);
        if let Err(error) = kek.opens(&place) {
            return error;
        }
        let way = wrapped.algorithm.parse::<WrapMechanism>();
        match way.map(|way| way.trial(exchange, &kek)) {
            Ok(Ok(())) => changed("it was changed, or belongs to another keystore or store key"),
            _ => fault.told(place, on),
        }
    }

    fn open(
        &self,
        exchange: &mut Exchange<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<DataKey> {
        let Ok(way) = wrapped.algorithm.parse::<WrapMechanism>() else {
            return Err(changed("wrapped in a way that no key of a KMIP server wraps"));
        };
        if !wrapped.parameters.is_empty() {
            return Err(changed("wrapped in a way that no key of a KMIP server wraps"));
        }
        let id = self.id_of(exchange, wrapped)?;
        let binding = context.associated_data(BINDING_LABEL, wrapped);
        way.unwrap(exchange, &id, &wrapped.blob, &binding)
            .map_err(|fault| self.judge(exchange, wrapped, fault))
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
        exchange: &mut Exchange<'_>,
        data: &DataKey,
        context: &WrapContext,
    ) -> Result<WrappedKey> {
        let kek = self.key.newest(exchange)?;
        let way = self.way(exchange, &kek)?;
        let mut wrapped = WrappedKey {
            kek: kek.name.clone(),
            algorithm: way.name().to_owned(),
            parameters: BTreeMap::new(),
            blob: Vec::new(),
        };
        let binding = context.associated_data(BINDING_LABEL, &wrapped);
        wrapped.blob = way
            .wrap(exchange, &kek, data, &binding)
            .map_err(|fault| fault.told(exchange.place(), format_args!("key {}", kek.name)))?;
        Ok(wrapped)
    }
}

impl KeyWrapper for KmipWrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        self.close(&mut self.client.exchange("wrapping by KMIP", by)?, data, context)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        self.open(&mut self.client.exchange("unwrapping by KMIP", by)?, wrapped, context)
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        let mut exchange = self.client.exchange("rewrapping by KMIP", by)?;
        let data = self.open(&mut exchange, wrapped, context)?;
        self.close(&mut exchange, &data, context)
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        let mut exchange = self.client.exchange("describing a key by KMIP", by)?;
        let kek = self.key.newest(&mut exchange)?;
        let way = self.way(&mut exchange, &kek)?;
        Ok(self.info(&kek, way))
    }

    fn ends(&self, _: Timestamp) -> Vec<End> {
        self.client.ends()
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let mut exchange = self.client.exchange("asking a KMIP server", by)?;
        let (version, tls) = exchange.versions()?;
        let kek = self.key.newest(&mut exchange)?;
        let way = self.way(&mut exchange, &kek)?;
        let sensitive = if kek.told.is_exportable() { "no: its owner may take it" } else { "yes" };
        let idle =
            self.key.find(&mut exchange)?.iter().filter(|kek| kek.usable("").is_err()).count();
        let mut facts = vec![
            ("kmip", exchange.place()),
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
