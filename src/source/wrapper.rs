//! A provider that wraps the store key, and the proof that a wrapping opens.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::Maintenance;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::provider::{KeyWrapper, WrapContext};
use crate::secret::DataKey;
use crate::store::Wrapping;

/// A provider that wraps, under the name that the configuration gives it.
pub struct NamedWrapper {
    /// Its name in the configuration and in the keystore's wrappings.
    pub name: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// The key store.
    pub wrapper: Box<dyn KeyWrapper>,
}

impl NamedWrapper {
    /// What the worker must do for it now and then.
    pub(super) fn maintenance(&self) -> Option<Maintenance> {
        Some(Maintenance::new(&self.name, self.timeout, self.wrapper.maintenance()?))
    }

    /// Wraps the store key and proves that the wrapping opens to it again.
    pub fn wrap(&self, store_key: &DataKey, context: &WrapContext) -> Result<Wrapping> {
        let by = Deadline::after(self.timeout);
        let key = self.wrapper.wrap(store_key, context, by).map_err(|e| self.within(e))?;
        self.proven(Wrapping { provider: self.name.clone(), key }, store_key, context)
    }

    /// The same store key wrapped with the newest version of the wrapping key, proven likewise.
    pub fn rewrap(
        &self,
        old: &Wrapping,
        store_key: &DataKey,
        context: &WrapContext,
    ) -> Result<Wrapping> {
        let by = Deadline::after(self.timeout);
        let key = self.wrapper.rewrap(&old.key, context, by).map_err(|e| self.within(e))?;
        self.proven(Wrapping { provider: self.name.clone(), key }, store_key, context)
    }

    fn proven(
        &self,
        made: Wrapping,
        store_key: &DataKey,
        context: &WrapContext,
    ) -> Result<Wrapping> {
        let by = Deadline::after(self.timeout);
        let opened = self.wrapper.unwrap(&made.key, context, by).map_err(|e| self.within(e))?;
        if opened.check_value() == store_key.check_value() {
            return Ok(made);
        }
        Err(self.within(Error::new(Kind::Corrupt, "what it wrapped opens to another key")))
    }

    fn within(&self, error: Error) -> Error {
        error.within(format!("provider {:?}", self.name))
    }
}
