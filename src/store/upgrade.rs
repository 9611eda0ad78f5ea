//! From format 1 to format 2: the keystore secret, and check values that say nothing without it.
//! What older copies of the file say stays in them; docs/keystore-format.md tells what follows.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Keystore;
use super::entry::Wrapped;
use super::seal::Sealer;
use super::secret::KeystoreSecret;
use super::store_key::count_wraps;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;
use crate::secret::scrubbed;

impl Keystore {
    /// The keystore in the present format: itself, or with a new secret, the first epoch, new check
    /// values for its keys and none for those that were destroyed. Every commit begins with it.
    pub(super) fn upgraded(&self, rng: &dyn Rng) -> Result<Self> {
        if self.secret.is_some() {
            return Ok(self.clone());
        }
        let mut next = self.clone();
        next.contents = self.contents.with_active(|active| count_wraps(active, 1))?;
        let number = next.contents.active_store_key()?.number;
        scrubbed(|| {
            let sealer = Sealer::new(&self.store_key)?;
            let secret = KeystoreSecret::generate(&self.contents.id, rng)?;
            let mut keys = Vec::with_capacity(self.contents.keys.len());
            for key in self.contents.keys.iter() {
                keys.push(Arc::new(key.rechecked(|entry, wrapped| {
                    let data = self.unwrapped(&sealer, key.name(), entry, wrapped)?;
                    secret.check_value(key.name(), entry.version, &data)
                })?));
            }
            let data = sealer.wrap_secret(secret.key(), &self.contents.id, number, rng)?;
            let mut registers = self.contents.registers().clone();
            registers.epochs = vec![secret.epoch_after(None, 0, self.contents.created)?];
            next.contents.secret = Some(Wrapped { store_key: number, data });
            next.contents.registers = registers.into();
            next.contents.keys = Arc::new(keys);
            next.secret = Some(Arc::new(secret));
            Ok::<_, Error>(())
        })?;
        Ok(next)
    }

    /// The key of the present epoch, and its signature over `text`. `State` in a keystore of format 1.
    pub fn sign(&self, text: &str) -> Result<(Hex<32>, [u8; 64])> {
        let secret = self.secret.as_deref().ok_or_else(|| {
            Error::new(Kind::State, "a keystore of format 1 has no key to sign with")
                .advise("the next change brings it to format 2")
        })?;
        scrubbed(|| secret.sign(self.contents.epoch(), text).map(Box::new)).map(|signed| *signed)
    }

    /// Its secret; a keystore of format 1 has none before it is upgraded.
    pub(super) fn secret(&self) -> Result<&KeystoreSecret> {
        let none = || Error::new(Kind::Internal, "the keystore is still of format 1");
        self.secret.as_deref().ok_or_else(none)
    }
}
