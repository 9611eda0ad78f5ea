//! The keystore secret: 256 random bits, wrapped like a data key and never rotated. The keys of the
//! check values, of the check over the file and of each epoch's signatures derive from it.

#![forbid(unsafe_code)]

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use super::registers::Epoch;
use super::seal::{FileMac, derived, name_fields};
use crate::env::{Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;
use crate::key::{CheckValue, KeyName, KeyVersion};
use crate::secret::{DataKey, SecretBytes};

/// Its length, in bytes.
const LEN: usize = 32;

/// The HKDF labels of what derives from it.
const CHECK_LABEL: &[u8] = b"keyward check value key v2";
const FILE_LABEL: &[u8] = b"keyward keystore mac v2";
const LINE_LABEL: &[u8] = b"keyward keystore line mac v2";
const SEED_LABEL: &[u8] = b"keyward epoch signing seed v1";

/// What an epoch's signature is over begins with it.
const EPOCH_LABEL: &[u8] = b"keyward epoch v1";

/// A keystore's secret, unwrapped. Compute with it within `secret::scrubbed` only.
pub(super) struct KeystoreSecret {
    key: DataKey,
    check_key: SecretBytes,
    keystore: Arc<str>,
}

impl KeystoreSecret {
    /// A new one for the keystore of that id.
    pub(super) fn generate(keystore: &Arc<str>, rng: &dyn Rng) -> Result<Self> {
        Self::new(DataKey::generate(LEN, rng)?, keystore)
    }

    /// The one that was unwrapped.
    pub(super) fn new(key: DataKey, keystore: &Arc<str>) -> Result<Self> {
        if key.expose().len() != LEN {
            let what = format!("a keystore secret of {} bytes", key.expose().len());
            return Err(Error::new(Kind::Corrupt, what));
        }
        let check_key = derived(keystore, key.expose(), &[CHECK_LABEL])?;
        Ok(Self { key, check_key, keystore: Arc::clone(keystore) })
    }

    /// The secret itself, to be wrapped.
    pub(super) fn key(&self) -> &DataKey {
        &self.key
    }

    /// The check value of a data key: nobody without the secret can compute it, and the same key
    /// elsewhere has another.
    pub(super) fn check_value(
        &self,
        name: &KeyName,
        version: KeyVersion,
        data: &DataKey,
    ) -> Result<CheckValue> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.check_key.expose())
            .map_err(|_| Error::new(Kind::Internal, "a check value cannot be computed"))?;
        let mut field = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        name_fields(name, &mut field);
        field(&version.get().to_be_bytes());
        field(data.expose());
        let mut check = CheckValue([0; 16]);
        check.0.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Ok(check)
    }

    /// The running check over the file's document, under a key that takes secret and store key to know.
    pub(super) fn file_mac(&self, store_key: &DataKey) -> Result<FileMac> {
        self.mac(store_key, FILE_LABEL)
    }

    /// The same for a line behind the document.
    pub(super) fn line_mac(&self, store_key: &DataKey) -> Result<FileMac> {
        self.mac(store_key, LINE_LABEL)
    }

    fn mac(&self, store_key: &DataKey, label: &[u8]) -> Result<FileMac> {
        let (secret, store_key) = (self.key.expose(), store_key.expose());
        let both = SecretBytes::build(secret.len() + store_key.len(), |both| {
            let (first, second) = both.split_at_mut(secret.len());
            first.copy_from_slice(secret);
            second.copy_from_slice(store_key);
            Ok::<_, Error>(())
        })?;
        FileMac::under(&derived(&self.keystore, both.expose(), &[label])?)
    }

    /// The epoch after `former` and above `known`, begun `now` and signed by the former's key.
    pub(super) fn epoch_after(
        &self,
        former: Option<&Epoch>,
        known: u64,
        now: Timestamp,
    ) -> Result<Epoch> {
        let none = || Error::new(Kind::State, "there are no more numbers for an epoch");
        let last = former.map_or(0, |epoch| epoch.number).max(known);
        let number = last.checked_add(1).ok_or_else(none)?;
        let public_key = public_key(&self.signer(number)?)?;
        let mut epoch = Epoch { number, began: now, public_key, signature: None };
        if let Some(former) = former {
            let signature = self.signer(former.number)?.sign(&epoch.signed(former));
            let bytes = signature.as_ref().try_into().map_err(|_| unusable())?;
            epoch.signature = Some(Hex(bytes));
        }
        Ok(epoch)
    }

    /// The key of `epoch`, and its signature over `text`, which begins with the name of what it is: no two
    /// kinds of texts begin alike, nor as an epoch's does.
    pub(super) fn sign(&self, epoch: u64, text: &str) -> Result<(Hex<32>, [u8; 64])> {
        let signer = self.signer(epoch)?;
        let signature = signer.sign(text.as_bytes());
        let signature = signature.as_ref().try_into().map_err(|_| unusable())?;
        Ok((public_key(&signer)?, signature))
    }

    /// Checks that the last of `epochs` has this secret's key, and each was signed by the one before.
    pub(super) fn check_epochs(&self, epochs: &[Epoch]) -> Result<()> {
        let broken = |epoch: &Epoch| {
            let what = format!("the signing key of epoch {} is not this keystore's", epoch.number);
            Err(Error::new(Kind::Corrupt, what).advise("restore it from a backup"))
        };
        let Some(last) = epochs.last() else {
            return Err(Error::new(Kind::Corrupt, "the keystore has no epoch"));
        };
        if public_key(&self.signer(last.number)?)? != last.public_key {
            return broken(last);
        }
        match epochs.windows(2).find(|pair| !pair[1].is_signed_by(&pair[0])) {
            Some(pair) => broken(&pair[1]),
            None => Ok(()),
        }
    }

    fn signer(&self, epoch: u64) -> Result<Ed25519KeyPair> {
        let info = [SEED_LABEL, &epoch.to_be_bytes()[..]];
        let seed = derived(&self.keystore, self.key.expose(), &info)?;
        Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| unusable())
    }
}

impl Epoch {
    /// What names the epoch's key to people and in a configuration: SHA-256 of it.
    #[must_use]
    pub fn fingerprint(&self) -> Hex<32> {
        Hex(Sha256::digest(self.public_key.0).into())
    }

    pub(super) fn is_signed_by(&self, former: &Self) -> bool {
        self.signature.is_some_and(|signature| {
            let key = UnparsedPublicKey::new(&ED25519, former.public_key.0);
            key.verify(&self.signed(former), &signature.0).is_ok()
        })
    }

    /// What its signature is over. All parts have a fixed length.
    fn signed(&self, former: &Self) -> Vec<u8> {
        let began = self.began.as_unix().to_be_bytes();
        let parts: [&[u8]; 5] = [
            EPOCH_LABEL,
            &former.public_key.0,
            &self.number.to_be_bytes(),
            &began,
            &self.public_key.0,
        ];
        parts.concat()
    }
}

fn public_key(of: &Ed25519KeyPair) -> Result<Hex<32>> {
    of.public_key().as_ref().try_into().map(Hex).map_err(|_| unusable())
}

fn unusable() -> Error {
    Error::new(Kind::Internal, "an epoch's signing key cannot be used")
}
