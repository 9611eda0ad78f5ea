//! Wraps with a key on a token.

#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use cryptoki::slot::Limit;

use super::client::{Access, LoggedInSession};
use super::failure::{TokenError, changed};
use super::kek::{Kek, KeyChoice};
use super::mechanism::{WrapMechanism, choose, judge};
use super::module::{Core, Module, lock};
use super::settings::Settings;
use crate::config::Section;
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result};
use crate::provider::{FreshLogin, KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use crate::secret::DataKey;

/// Begins what a wrapped key is bound by, so that nothing else could be taken for one.
const BINDING_LABEL: &str = "keyward pkcs11 wrap v1";

/// A wrapping key on a token. It never leaves it.
pub struct Pkcs11Wrapper {
    module: Module,
    shared: Arc<Shared>,
}

/// What the module's threads need of it.
pub(super) struct Shared {
    access: Access,
    pub(super) key: KeyChoice,
    wanted: Option<WrapMechanism>,
    /// How a key wraps, by its name, once that was tried.
    chosen: Mutex<Option<(String, WrapMechanism)>>,
    pub(super) rng: Arc<dyn Rng>,
    place: String,
}

impl Pkcs11Wrapper {
    pub(super) fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
        Ok(Self::new(Settings::read(section)?, Arc::clone(rng)))
    }

    /// The wrapper that `settings` describe. Nothing is loaded yet.
    #[must_use]
    pub fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        let place = format!("{} ({})", settings.token, settings.module.display());
        let shared = Shared {
            access: Access { token: settings.token, pin: settings.pin },
            key: settings.key,
            wanted: settings.way,
            chosen: Mutex::default(),
            rng,
            place,
        };
        Self { module: Module::of(&settings.module), shared: Arc::new(shared) }
    }

    /// Does `work` at the token, on a thread of the module.
    pub(super) fn at_token<T: Send + 'static>(
        &self,
        doing: &str,
        by: Deadline,
        work: impl Fn(&Shared, &LoggedInSession<'_>) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let what = format!("{doing} with {}", shared.place);
        self.module.run(&what, by, move |core: &Core| {
            shared.access.work(core, by, |desk| work(&shared, desk))
        })
    }
}

impl KeyWrapper for Pkcs11Wrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        let (data, context) = (DataKey::copy_of(data.expose())?, context.clone());
        self.at_token("wrapping", by, move |shared, desk| shared.wrap(desk, &data, &context))
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        let (wrapped, context) = (wrapped.clone(), context.clone());
        let number = context.store_key;
        self.at_token("unwrapping", by, move |shared, desk| shared.unwrap(desk, &wrapped, &context))
            .map_err(|error| match error.kind() {
                Kind::Corrupt => error
                    .within(format_args!("store key {number}, wrapped by {}", self.shared.place)),
                _ => error,
            })
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        self.wrap(&self.unwrap(wrapped, context, by)?, context, by)
    }

    fn authenticates(&self, wrapped: &WrappedKey) -> bool {
        let of_public_keys = [WrapMechanism::OaepSha256, WrapMechanism::OaepSha1];
        !of_public_keys.iter().any(|mechanism| mechanism.name() == wrapped.algorithm)
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        self.at_token("looking at the key", by, |shared, desk| {
            let kek = shared.key.newest(desk)?;
            let way = shared.way(desk, &kek)?;
            Ok(shared.info(&kek, way))
        })
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        self.at_token("looking at the key", by, Shared::probe)
    }

    /// A log-in counts for the whole process, and a PIN that was refused is not tried again.
    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Needless
    }

    fn credentials_readable(&self) -> Result<()> {
        self.shared.access.pin_is_readable()
    }
}

impl Shared {
    fn wrap(
        &self,
        desk: &LoggedInSession<'_>,
        data: &DataKey,
        context: &WrapContext,
    ) -> Result<WrappedKey, TokenError> {
        let kek = self.key.newest(desk)?;
        let way = self.way(desk, &kek)?;
        let mut wrapped = WrappedKey {
            kek: kek.name.clone(),
            algorithm: way.name().to_owned(),
            parameters: std::collections::BTreeMap::new(),
            blob: Vec::new(),
        };
        let binding = context.associated_data(BINDING_LABEL, &wrapped);
        desk.go_on()?;
        wrapped.blob = way.wrap(desk.session, &kek, data.expose(), &binding, &*self.rng)?;
        Ok(wrapped)
    }

    fn unwrap(
        &self,
        desk: &LoggedInSession<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<DataKey, TokenError> {
        let Ok(way) = wrapped.algorithm.parse::<WrapMechanism>() else {
            return Err(changed("wrapped in a way that no token's key wraps").into());
        };
        let mut keks = self.key.find(desk)?;
        let Some(at) = keks.iter().position(|kek| kek.name == wrapped.kek) else {
            let names: Vec<_> = keks.iter().map(|kek| kek.name.as_str()).collect();
            let (kek, place) = (wrapped.kek.escape_default(), &self.place);
            let what =
                format!("wrapped by KEK {kek}; {} of {place} is {}", self.key, names.join(", "));
            return Err(TokenError::Ours(
                Error::new(Kind::NotMine, what)
                    .advise("it is another key: point `token` and `key` at the right one"),
            ));
        };
        let kek = keks.swap_remove(at);
        if !way.fits(kek.key) || !wrapped.parameters.is_empty() {
            return Err(changed("wrapped in a way that this key does not wrap").into());
        }
        let binding = context.associated_data(BINDING_LABEL, wrapped);
        desk.go_on()?;
        let unwrap = |session: &_| way.unwrap(session, &kek, &wrapped.blob, &binding);
        unwrap(desk.session).or_else(|fault| {
            judge(desk, unwrap, |session| way.trial(session, &kek, &*self.rng), fault)
        })
    }

    /// How `kek` wraps: found out once.
    pub(super) fn way(
        &self,
        desk: &LoggedInSession<'_>,
        kek: &Kek,
    ) -> Result<WrapMechanism, TokenError> {
        if let Some((name, way)) = &*lock(&self.chosen)
            && *name == kek.name
        {
            return Ok(*way);
        }
        let way = choose(desk, kek, self.wanted, &*self.rng)?;
        *lock(&self.chosen) = Some((kek.name.clone(), way));
        Ok(way)
    }

    pub(super) fn info(&self, kek: &Kek, way: WrapMechanism) -> KekInfo {
        KekInfo {
            kek: kek.name.clone(),
            algorithm: way.name().to_owned(),
            place: format!("{} of {}", self.key, self.place),
            created: kek.created(),
            exportable: kek.is_exportable(),
        }
    }

    fn probe(&self, desk: &LoggedInSession<'_>) -> Result<Probe, TokenError> {
        let mut facts = vec![("module", desk.open.description()?)];
        if let Some(info) = desk.info() {
            let firmware = info.firmware_version();
            facts.push(("token", format!("{:?}", info.label())));
            facts.push(("serial", format!("{:?}", info.serial_number())));
            facts.push(("model", format!("{} {}", info.manufacturer_id(), info.model())));
            facts.push(("firmware", format!("{}.{}", firmware.major(), firmware.minor())));
            if let (Some(open), Limit::Max(most)) = (info.session_count(), info.max_session_count())
            {
                facts.push(("sessions", format!("{open} of {most}")));
            }
        }
        let keks = self.key.find(desk)?;
        let count = keks.len();
        let Some(kek) = keks.into_iter().next_back() else { return Ok(Probe::default()) };
        let way = self.way(desk, &kek)?;
        facts.push(("kek", kek.name.clone()));
        facts.push(("keys of that label", count.to_string()));
        facts.push(("algorithm", way.name().to_owned()));
        let told =
            |value: Option<bool>| value.map_or("not told", |yes| if yes { "yes" } else { "no" });
        let names = ["sensitive", "always sensitive", "extractable", "never extractable"];
        for (name, value) in names.into_iter().zip(kek.sensitive) {
            facts.push((name, told(value).to_owned()));
        }
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), plain(value)));
        Ok(Probe { facts: facts.filter(|(_, value)| !value.is_empty()).collect() })
    }
}
