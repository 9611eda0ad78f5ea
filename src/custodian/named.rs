//! The way of MySQL's keys: read from memory, and on disk before a change is reported as done.

use std::sync::Arc;

use super::{Custodian, NewKey, Reason};
use crate::error::{Error, Kind, Result};
use crate::key::KeyName;
use crate::ring::{NamedKey, NamedKeys};
use crate::secret::DataKey;

impl Custodian {
    /// The key called `name`; `None` where there is none. An error where it is not in memory and
    /// the key source cannot be read, so that nobody can know.
    pub fn named(&self, name: &KeyName) -> Result<Option<Arc<NamedKey>>> {
        if let Some(key) = self.shared.ring.named().get(name) {
            return Ok(Some(Arc::clone(key)));
        }
        self.shared.refresh_changed()?;
        Ok(self.shared.ring.named().get(name).cloned())
    }

    /// All of MySQL's keys that are in memory.
    #[must_use]
    pub fn all_named(&self) -> Arc<NamedKeys> {
        self.shared.ring.named()
    }

    /// Stores `data` as the key called `name`, of the type `kind`; `Conflict` where there is one. After
    /// `Unknown` the same call again is no conflict.
    pub fn store_named(
        &self,
        name: &KeyName,
        kind: &str,
        data: &DataKey,
        reason: Reason<'_>,
    ) -> Result<()> {
        self.store(name, kind, NewKey::Given(data), reason)
    }

    /// Makes a random key of `len` bytes and stores it as [`store_named`](Self::store_named) does.
    pub fn generate_named(
        &self,
        name: &KeyName,
        kind: &str,
        len: usize,
        reason: Reason<'_>,
    ) -> Result<()> {
        let data = DataKey::generate(len, &*self.shared.env.rng)?;
        self.store(name, kind, NewKey::Random(&data), reason)
    }

    fn store(
        &self,
        name: &KeyName,
        kind: &str,
        data: NewKey<'_>,
        reason: Reason<'_>,
    ) -> Result<()> {
        self.shared.may_write()?;
        self.shared.source().store_named(&self.shared.ring, name, kind, data, reason)
    }

    /// Removes the key called `name` for ever; `NotFound` where there is none.
    pub fn remove_named(&self, name: &KeyName, reason: Reason<'_>) -> Result<()> {
        self.shared.may_write()?;
        self.shared.source().remove_named(&self.shared.ring, name, reason)
    }
}

/// What only our own keystore can keep was asked of a provider that serves keys.
pub(super) fn no_keyring(name: &KeyName) -> Error {
    let what = format!("key {name}: this provider serves MariaDB's keys only");
    Error::new(Kind::Unsupported, what)
        .advise("for MySQL, configure a provider that wraps, such as `local`")
}
