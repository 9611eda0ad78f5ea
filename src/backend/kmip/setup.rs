//! Has the server make a wrapping key.

#![forbid(unsafe_code)]

use super::client::Exchange;
use super::kek::{Kek, by_name};
use super::requests::NewKey;
use super::settings::{KeyChoice, WrapMechanism};
use super::wrapper::KmipWrapper;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::provider::KekInfo;

impl KmipWrapper {
    /// Has the server make a new key of the configured name, AES with 256 bits, and activates it at
    /// once. From then on it is the newest.
    pub fn create_key(&self, by: Deadline) -> Result<KekInfo> {
        let mut exchange = self.client.exchange("making a key by KMIP", by)?;
        let kek = self.key.create(&mut exchange, self.wanted != Some(WrapMechanism::Get))?;
        let way = self.way(&mut exchange, &kek).inspect_err(|_| {
            // Nothing was wrapped with it, and each further attempt would leave another.
            let _ = exchange.revoke(&kek.id).and_then(|()| exchange.destroy(&kek.id));
        })?;
        Ok(self.info(&kek, way))
    }
}

impl KeyChoice {
    /// Has the server make a new key of this name and activates it; it is the newest from then on. A
    /// sensitive one is never given out, where the server knows of that.
    fn create(&self, exchange: &mut Exchange<'_>, sensitive: bool) -> Result<Kek> {
        let (Self::Name(base) | Self::Either(base)) = self else {
            return Err(Error::new(
                Kind::Unsupported,
                "a KMIP server chooses a new key's id itself",
            )
            .advise("name the key with `key` instead of `key_id`"));
        };
        let newest = by_name(exchange, base)?.iter().map(|kek| kek.number).max();
        // Behind the last number there is the last one again, which the server refuses as taken.
        let number = newest.map_or(1, |number| number.saturating_add(1));
        let name = if number == 1 { base.clone() } else { format!("{base}:{number}") };
        let new = NewKey { name: &name, group: base, note: None };
        let made = match exchange.create(&new, sensitive) {
            // Servers before 1.4 do not know the attribute.
            Err(fault) if sensitive && fault.is_unsupported() => exchange.create(&new, false),
            made => made,
        };
        let place = exchange.place();
        let on = format!("key {name:?}");
        let id = made.map_err(|fault| fault.told(&place, &on))?;
        if let Err(fault) = exchange.activate(&id) {
            // A key that nobody can use is in everybody's way; it is not active, so this is allowed.
            let _ = exchange.destroy(&id);
            return Err(fault.told(&place, &on));
        }
        let told = exchange.attributes(&id).map_err(|fault| fault.told(&place, &on))?;
        let kek = Kek { name: format!("{base}#{id}"), id, number, told };
        kek.usable(place)?;
        Ok(kek)
    }
}
