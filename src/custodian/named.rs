//! MySQL's keys, read from memory.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Custodian;
use crate::error::Result;
use crate::key::KeyName;
use crate::ring::{NamedKey, NamedKeys};

impl Custodian {
    /// The key called `name`; `None` where there is none. An error where it is not in memory and
    /// the key source cannot be read, so that nobody can know.
    pub fn named(&self, name: &KeyName) -> Result<Option<Arc<NamedKey>>> {
        let mut found = self.ring.named().get(name).cloned();
        if found.is_none() {
            self.shared.refresh_changed()?;
            found = self.ring.named().get(name).cloned();
        }
        if let Some(key) = &found {
            key.note_use();
        }
        Ok(found)
    }

    /// All of MySQL's keys that are in memory.
    #[must_use]
    pub fn all_named(&self) -> Arc<NamedKeys> {
        self.ring.named()
    }
}
