//! `pkcs11`: wraps with a key in a hardware security module, by any PKCS#11 module.
//!
//! All calls into the module are made on threads of its own (`lane`), bounded by the caller's
//! deadline. Nothing is loaded before the first call.

mod failure;
mod kek;
mod lane;
mod mechanism;
mod module;
pub mod payload;
mod token;
pub mod uri;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cryptoki::slot::Limit;

use self::failure::{Fault, changed};
use self::kek::Kek;
pub use self::kek::KeyChoice;
pub use self::mechanism::Way;
use self::mechanism::{choose, judge};
use self::module::{Core, Module, lock};
pub use self::token::TokenChoice;
use self::token::{Access, Desk};
use self::uri::Uri;
use super::Backend;
use crate::config::Section;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::hex;
use crate::provider::{FreshLogin, KekInfo, KeyWrapper, Probe, Provider, WrapContext, WrappedKey};
use crate::secret::DataKey;
use crate::secret::source::SecretSource;

/// `pkcs11` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "pkcs11",
    // Modules of SoftHSM, Kryoptic, Utimaco, Thales, Entrust, Yubico.
    environment: &[
        "SOFTHSM2_CONF",
        "KRYOPTIC_CONF",
        "CS_PKCS11_R2_CFG",
        "CS_PKCS11_R3_CFG",
        "ChrystokiConfigurationPath",
        "NFAST_HOME",
        "YUBIHSM_PKCS11_CONF",
    ],
    groups: &["softhsm", "hsmusers"],
    open: |section, rng| Ok(Provider::Wraps(Box::new(Pkcs11Wrapper::of(section, rng)?))),
    create_key: Some(|section, order| {
        Pkcs11Wrapper::of(section, order.rng)?.create_key(order.now, order.by)
    }),
    set_up: None,
};

/// Begins what a wrapped key is bound by, so that nothing else could be taken for one.
const BINDING_LABEL: &str = "keyward pkcs11 wrap v1";

/// What the configuration says of a token.
pub struct Settings {
    /// The module's file.
    pub module: PathBuf,
    /// Which of its tokens.
    pub token: TokenChoice,
    /// Where the PIN is read from; none where the token wants none, or asks for it itself.
    pub pin: Option<SecretSource>,
    /// Which of the token's keys wraps.
    pub key: KeyChoice,
    /// How it wraps; otherwise the best way that the token has.
    pub way: Option<Way>,
}

impl Settings {
    /// What a `[[provider]]` section says, in words or by a URI (RFC 7512).
    pub fn read(section: &Section) -> Result<Self> {
        let uri: Uri = match section.text("uri")? {
            Some(text) => Uri::parse(&text).map_err(|error| {
                let here = section.wrong("uri", error.what());
                match error.advice() {
                    Some(advice) => here.advise(advice),
                    None => here,
                }
            })?,
            None => Uri::default(),
        };
        let module =
            either(section, "module", section.path("module")?, uri.module.map(Into::into))?;
        let slot = match section.number("slot")? {
            Some(number) => {
                let negative = |_| section.wrong("slot", "is not a slot's number");
                Some(u64::try_from(number).map_err(negative)?)
            }
            None => None,
        };
        let token = TokenChoice {
            label: either(section, "token", section.text("token")?, uri.token)?,
            serial: either(section, "serial", section.text("serial")?, uri.serial)?,
            manufacturer: uri.manufacturer,
            model: uri.model,
            slot: either(section, "slot", slot, uri.slot)?,
        };
        let id = section.text("key_id")?.map(|text| id_from_hex(section, &text)).transpose()?;
        let key = KeyChoice {
            label: either(section, "key", section.text("key")?, uri.object)?,
            id: either(section, "key_id", id, uri.id)?,
        };
        let pin = section.secret("pin", ["pin_file", "pin_env", "pin_credential"])?;
        let from_uri = uri.pin_file.map(|path| SecretSource::File(path.into()));
        let pin = either(section, "uri", pin, from_uri)?;
        let module = module.ok_or_else(|| section.lacks("module"))?;
        if !module.is_absolute() {
            return Err(section.wrong("uri", "module-path is not an absolute path"));
        }
        if token.is_empty() {
            return Err(section.lacks("token"));
        }
        if key == KeyChoice::default() {
            return Err(section.lacks("key"));
        }
        Ok(Self { module, token, pin, key, way: section.parsed("mechanism")? })
    }
}

/// What is said in one place; in both it would be unclear which counts.
fn either<T>(section: &Section, key: &str, one: Option<T>, uri: Option<T>) -> Result<Option<T>> {
    match (one, uri) {
        (Some(_), Some(_)) => Err(section.wrong(key, "the uri says it, too").advise("say it once")),
        (one, uri) => Ok(one.or(uri)),
    }
}

fn id_from_hex(section: &Section, text: &str) -> Result<Vec<u8>> {
    let digits = text.as_bytes();
    let whole = !digits.is_empty() && digits.len().is_multiple_of(2);
    if !whole || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(section
            .wrong("key_id", "is not written in pairs of hex digits")
            .advise("write it as pkcs11-tool shows it: 01af"));
    }
    let mut id = vec![0; digits.len() / 2];
    hex::decode_into(&mut id, digits);
    Ok(id)
}

/// A wrapping key on a token. It never leaves it.
pub struct Pkcs11Wrapper {
    module: Module,
    shared: Arc<Shared>,
}

/// What the module's threads need of it.
struct Shared {
    access: Access,
    key: KeyChoice,
    wanted: Option<Way>,
    /// How a key wraps, by its name, once that was tried.
    chosen: Mutex<Option<(String, Way)>>,
    rng: Arc<dyn Rng>,
    place: String,
}

impl Pkcs11Wrapper {
    fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
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

    /// Makes a new key of the configured label on the token: AES with 256 bits, sensitive, never
    /// extractable. From then on it is the newest. `Conflict` where an id is configured that a key
    /// has; `Unsupported` where the token would make one that can be taken out.
    pub fn create_key(&self, now: Timestamp, by: Deadline) -> Result<KekInfo> {
        self.at_token("making a key", by, move |shared, desk| {
            let kek = shared.key.create(desk, now, &*shared.rng)?;
            let way = shared.way(desk, &kek)?;
            Ok(shared.info(&kek, way))
        })
    }

    /// Does `work` at the token, on a thread of the module.
    fn at_token<T: Send + 'static>(
        &self,
        doing: &str,
        by: Deadline,
        work: impl Fn(&Shared, &Desk<'_>) -> Result<T, Fault> + Send + 'static,
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
        desk: &Desk<'_>,
        data: &DataKey,
        context: &WrapContext,
    ) -> Result<WrappedKey, Fault> {
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
        desk: &Desk<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<DataKey, Fault> {
        let Ok(way) = wrapped.algorithm.parse::<Way>() else {
            return Err(changed("wrapped in a way that no token's key wraps").into());
        };
        let mut keks = self.key.find(desk)?;
        let Some(at) = keks.iter().position(|kek| kek.name == wrapped.kek) else {
            let names: Vec<_> = keks.iter().map(|kek| kek.name.as_str()).collect();
            let (kek, place) = (wrapped.kek.escape_default(), &self.place);
            let what =
                format!("wrapped by KEK {kek}; {} of {place} is {}", self.key, names.join(", "));
            return Err(Fault::Ours(
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
    fn way(&self, desk: &Desk<'_>, kek: &Kek) -> Result<Way, Fault> {
        if let Some((name, way)) = &*lock(&self.chosen)
            && *name == kek.name
        {
            return Ok(*way);
        }
        let way = choose(desk, kek, self.wanted, &*self.rng)?;
        *lock(&self.chosen) = Some((kek.name.clone(), way));
        Ok(way)
    }

    fn info(&self, kek: &Kek, way: Way) -> KekInfo {
        KekInfo {
            kek: kek.name.clone(),
            algorithm: way.name().to_owned(),
            place: format!("{} of {}", self.key, self.place),
            created: kek.created(),
            exportable: kek.is_exportable(),
        }
    }

    fn probe(&self, desk: &Desk<'_>) -> Result<Probe, Fault> {
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

#[cfg(test)]
mod tests;
