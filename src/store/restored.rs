//! A keystore made again from what a backup has of it.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::entry::Wrapped;
use super::seal::Sealer;
use super::secret::KeystoreSecret;
use super::store_key::count_wraps;
use super::{Contents, Keystore, Registers, Revision, Wrapping};
use crate::env::{Rng, Timestamp};
use crate::error::{Error, Result};
use crate::secret::{DataKey, scrubbed};

/// What a keystore is besides its keys.
pub struct Identity {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it was last.
    pub revision: Revision,
    /// Its registers.
    pub registers: Registers,
}

impl Keystore {
    /// What check values and signing keys derive from, for a backup. `State` in a keystore of format 1.
    pub(crate) fn secret_for_backup(&self) -> Result<DataKey> {
        DataKey::copy_of(self.secret()?.key().expose())
    }

    /// The keystore `of` without its keys, with another store key, which `wrappings` are of. `Corrupt` where
    /// its epochs are not those of `secret`.
    pub fn made_again(
        of: Identity,
        secret: DataKey,
        store_key: DataKey,
        wrappings: Vec<Wrapping>,
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Self> {
        of.registers.check()?;
        let contents = Contents {
            id: of.id.as_str().into(),
            generation: of.revision.generation,
            created: of.created,
            secret: None,
            registers: of.registers.into(),
            store_keys: Vec::new(),
            keys: Arc::default(),
        };
        let mut contents = contents.with_store_key(&store_key, wrappings, now, 0)?;
        contents = contents.with_active(|active| count_wraps(active, 1))?;
        let number = contents.active_store_key()?.number;
        let secret = scrubbed(|| {
            let secret = KeystoreSecret::new(secret, &contents.id)?;
            secret.check_epochs(contents.registers.epochs())?;
            let sealer = Sealer::new(&store_key)?;
            let data = sealer.wrap_secret(secret.key(), &contents.id, number, rng)?;
            contents.secret = Some(Wrapped { store_key: number, data });
            Ok::<_, Error>(secret)
        })?;
        let base = contents.revision();
        let (store_key, secret) = (Arc::new(store_key), Some(Arc::new(secret)));
        Ok(Self { contents, store_key, secret, base, file: None })
    }
}

impl Registers {
    /// Whether one of the epochs has this fingerprint (hexadecimal digits, in either case), and each after it
    /// was signed by the one before.
    #[must_use]
    pub fn descends_from(&self, fingerprint: &str) -> bool {
        let named = |epoch: &super::Epoch| {
            epoch.fingerprint().to_string().eq_ignore_ascii_case(fingerprint)
        };
        let from = self.epochs().iter().position(named);
        let signed =
            |from: usize| self.epochs()[from..].windows(2).all(|two| two[1].is_signed_by(&two[0]));
        from.is_some_and(signed)
    }
}
