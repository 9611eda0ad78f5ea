//! The keystore's cryptography: data keys under the store key, and the check over the whole file.

#![forbid(unsafe_code)]

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyName, KeyVersion, Purpose};
use crate::secret::aead::{Gcm, NONCE_LEN, Parts, TAG_LEN};
use crate::secret::{DataKey, SecretBytes};

/// The length of a store key, in bytes.
pub const STORE_KEY_LEN: usize = 32;

/// How many data keys one store key may wrap: with random 96-bit nonces, NIST SP 800-38D section
/// 8.3 allows one key 2^32 of them.
pub const MAX_WRAPS: u64 = 1 << 32;

/// How much longer a wrapped key is than the key.
pub(super) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Bound into every wrapped data key. Written by `Binding::to_bytes`, read by nobody: it only has
/// to differ from every other use of the store key.
const DATA_KEY_LABEL: &[u8] = b"keyward data key v1";

/// Bound into the wrapped keystore secret.
const SECRET_LABEL: &[u8] = b"keyward keystore secret v1";

/// The HKDF label of the key that authenticates a file of format 1.
const MAC_LABEL: &[u8] = b"keyward keystore mac v1";

/// All that a wrapped data key is bound to: moved elsewhere, it does not open.
pub(super) struct Binding<'a> {
    pub(super) keystore: &'a str,
    pub(super) name: &'a KeyName,
    pub(super) version: KeyVersion,
    pub(super) purpose: &'a Purpose,
    pub(super) store_key: u32,
}

impl Binding<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        let mut parts = Parts::default();
        let mut field = |bytes: &[u8]| parts.push(bytes);
        field(DATA_KEY_LABEL);
        field(self.keystore.as_bytes());
        name_fields(self.name, &mut field);
        field(&self.version.get().to_be_bytes());
        field(self.purpose.to_string().as_bytes());
        field(&self.store_key.to_be_bytes());
        parts.into_bytes()
    }
}

/// A key's name as fields, no two names the same.
pub(super) fn name_fields(name: &KeyName, field: &mut impl FnMut(&[u8])) {
    match name {
        KeyName::Id(id) => {
            field(b"id");
            field(&id.get().to_be_bytes());
        }
        KeyName::Named { data_id, auth_id } => {
            field(b"named");
            field(data_id.as_bytes());
            field(auth_id.as_bytes());
        }
    }
}

/// What the wrapped keystore secret is bound to.
fn secret_binding(keystore: &str, store_key: u32) -> Vec<u8> {
    let parts = Parts::default().with(SECRET_LABEL).with(keystore).with(store_key.to_be_bytes());
    parts.into_bytes()
}

/// A store key that is ready to wrap and unwrap. It holds the key on the stack: make and use it
/// within `secret::scrubbed` only.
pub(super) struct Sealer(Gcm);

impl Sealer {
    pub(super) fn new(store_key: &DataKey) -> Result<Self> {
        match store_key.expose().len() {
            STORE_KEY_LEN => Gcm::new(store_key).map(Self),
            len => Err(Error::new(Kind::Corrupt, format!("a store key of {len} bytes"))
                .advise("store keys have 32 bytes")),
        }
    }

    /// Nonce, encrypted key, tag.
    pub(super) fn wrap(&self, data: &DataKey, to: &Binding<'_>, rng: &dyn Rng) -> Result<Vec<u8>> {
        self.wrap_bound(data, &to.to_bytes(), rng)
    }

    /// The key, written straight into locked memory.
    pub(super) fn unwrap(&self, wrapped: &[u8], from: &Binding<'_>) -> Result<DataKey> {
        let may_be_empty = matches!(from.purpose, Purpose::Keyring(_));
        self.unwrap_bound(wrapped, &from.to_bytes(), may_be_empty)
            .ok_or_else(|| Error::new(Kind::Corrupt, "its wrapped key does not open"))
    }

    /// The keystore's secret, wrapped by store key number `store_key`.
    pub(super) fn wrap_secret(
        &self,
        secret: &DataKey,
        keystore: &str,
        store_key: u32,
        rng: &dyn Rng,
    ) -> Result<Vec<u8>> {
        self.wrap_bound(secret, &secret_binding(keystore, store_key), rng)
    }

    /// The keystore's secret again.
    pub(super) fn unwrap_secret(
        &self,
        wrapped: &[u8],
        keystore: &str,
        store_key: u32,
    ) -> Result<DataKey> {
        self.unwrap_bound(wrapped, &secret_binding(keystore, store_key), false)
            .ok_or_else(|| Error::new(Kind::Corrupt, "the keystore's secret does not open"))
    }

    fn wrap_bound(&self, data: &DataKey, to: &[u8], rng: &dyn Rng) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce)?;
        let sealed = self.0.seal(&nonce, to, data.expose())?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn unwrap_bound(&self, wrapped: &[u8], from: &[u8], may_be_empty: bool) -> Option<DataKey> {
        let (nonce, sealed) = wrapped.split_first_chunk()?;
        let data = self.0.open(nonce, from, sealed)?;
        (may_be_empty || !data.expose().is_empty()).then_some(data)
    }
}

/// 32 bytes that HKDF-SHA-256 (RFC 5869) makes of `key`, with the keystore's id as salt and `info`,
/// joined, as info.
pub(super) fn derived(keystore: &str, key: &[u8], info: &[&[u8]]) -> Result<SecretBytes> {
    let failed = |_| Error::new(Kind::Internal, "a key cannot be derived");
    let hkdf = Hkdf::<Sha256>::new(Some(keystore.as_bytes()), key);
    SecretBytes::build(32, |out| hkdf.expand_multi_info(info, out).map_err(failed))
}

/// The HKDF label of the key that authenticates the witness.
const WITNESS_LABEL: &[u8] = b"keyward witness mac v1";

/// The running check over a keystore's contents. As with `Sealer`: within `secret::scrubbed` only.
pub(super) struct FileMac(Hmac<Sha256>);

impl FileMac {
    /// The check over a file of format 1, under a key that derives from the store key.
    pub(super) fn of_format_1(store_key: &DataKey, keystore: &str) -> Result<Self> {
        Self::under(&derived(keystore, store_key.expose(), &[MAC_LABEL])?)
    }

    /// The same for the witness beside the keystore.
    pub(super) fn of_witness(store_key: &DataKey, keystore: &str) -> Result<Self> {
        Self::under(&derived(keystore, store_key.expose(), &[WITNESS_LABEL])?)
    }

    /// The check under `key`.
    pub(super) fn under(key: &SecretBytes) -> Result<Self> {
        <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose())
            .map(Self)
            .map_err(|_| Error::new(Kind::Internal, "the keystore's check cannot be computed"))
    }

    pub(super) fn update(&mut self, text: &[u8]) {
        self.0.update(text);
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }

    /// Whether it comes to `mac`, compared in constant time.
    pub(super) fn verify(self, mac: &[u8; 32]) -> bool {
        self.0.verify_slice(mac).is_ok()
    }
}
