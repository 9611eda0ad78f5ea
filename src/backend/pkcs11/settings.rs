//! The section of a token.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::client::TokenChoice;
use super::kek::KeyChoice;
use super::mechanism::WrapMechanism;
use super::uri::Uri;
use crate::config::Section;
use crate::error::Result;
use crate::hex;
use crate::secret::source::SecretSource;

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
    pub way: Option<WrapMechanism>,
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
