//! Getting the store key of a keystore from the providers that wrapped it.

#![forbid(unsafe_code)]

use std::path::Path;

use super::{KeystoreReader, NamedWrapper};
use crate::env::{Deadline, Level, Log};
use crate::error::{Error, Kind, Result};
use crate::key::CheckValue;
use crate::provider::WrapContext;
use crate::secret::DataKey;
use crate::store::{Contents, Wrapping};

/// Asks the configured providers, in their order, until one opens its wrapping in the keystore at
/// `path`; the store key, and the provider's name. The log is told of those that could not.
pub(crate) fn unwrap_store_key(
    wrappers: &[NamedWrapper],
    found: &Contents,
    path: &Path,
    log: &dyn Log,
) -> Result<(DataKey, String)> {
    let context = found.wrap_context();
    let mut refusals: Vec<Error> = Vec::new();
    for named in wrappers {
        let Some(wrapping) = found.wrappings().iter().find(|w| w.provider == named.name) else {
            continue;
        };
        let by = Deadline::after(named.timeout);
        match named.wrapper.unwrap(&wrapping.key, &context, by) {
            Ok(store_key) => {
                tell_of_refusals(&named.name, &refusals, log);
                return Ok((store_key, named.name.clone()));
            }
            Err(error) => refusals.push(error.within(format!("provider {:?}", named.name))),
        }
    }
    Err(none_opens(found, refusals, path))
}

impl KeystoreReader {
    /// Reads again, and proves that a provider opens the newest keystore at this moment. A key that is
    /// made while none does may never be read again.
    pub(crate) fn prove_before_new_key(&mut self) -> Result<()> {
        self.load(None)?;
        self.prove_it_opens().map_err(|error| error.within("no new key is made"))
    }

    /// Proves that a configured provider opens the keystore at this moment.
    pub(crate) fn prove_it_opens(&self) -> Result<()> {
        let keystore = self.keystore()?;
        let (path, log) = (self.file.path(), &*self.env.log);
        let (store_key, provider) =
            unwrap_store_key(&self.wrappers, keystore.contents(), path, log)?;
        if store_key.check_value() == keystore.store_key().check_value() {
            return Ok(());
        }
        let what = format!("{}: provider {provider:?} opens it to another key", path.display());
        Err(Error::new(Kind::Corrupt, what))
    }

    /// Proves that the provider called `name`, as it is open, unwraps the store key that is in use.
    pub(crate) fn opens_with(&self, name: &str) -> Result<()> {
        self.unwraps(name, &self.in_use()?)
    }

    /// Proves that the provider called `name`, as it is open here, unwraps the store key in use `elsewhere`.
    pub(crate) fn unwraps(&self, name: &str, elsewhere: &StoreKeyInUse) -> Result<()> {
        let none = || {
            let what = format!("provider {name:?} does not wrap the store key");
            Error::new(Kind::NotFound, what).advise("run `keyward keystore rewrap`")
        };
        let named = self.wrappers.iter().find(|named| named.name == name).ok_or_else(none)?;
        let wrapping = elsewhere.wrappings.iter().find(|one| one.provider == name);
        let wrapping = &wrapping.ok_or_else(none)?.key;
        let by = Deadline::after(named.timeout);
        let store_key = named.wrapper.unwrap(wrapping, &elsewhere.context, by);
        let store_key = store_key.map_err(|error| error.within(format!("provider {name:?}")))?;
        if store_key.check_value() == elsewhere.check {
            return Ok(());
        }
        Err(Error::new(Kind::Corrupt, format!("provider {name:?} gives another store key")))
    }

    /// What tells whether a provider unwraps the store key that is in use here.
    pub(crate) fn in_use(&self) -> Result<StoreKeyInUse> {
        let keystore = self.keystore()?;
        let found = keystore.contents();
        Ok(StoreKeyInUse {
            wrappings: found.wrappings().to_vec(),
            context: found.wrap_context(),
            check: keystore.store_key().check_value(),
        })
    }
}

/// A store key that is in use: how it is wrapped, and its check value.
pub(crate) struct StoreKeyInUse {
    wrappings: Vec<Wrapping>,
    context: WrapContext,
    check: CheckValue,
}

/// The keys are there, but the next start may depend on the last provider that is left.
fn tell_of_refusals(opened_by: &str, refusals: &[Error], log: &dyn Log) {
    if refusals.is_empty() {
        return;
    }
    let all: Vec<_> = refusals.iter().map(Error::what).collect();
    let line =
        format!("the keystore was opened by provider {opened_by:?}, because {}", all.join("; "));
    log.log(Level::Warning, &line);
}

fn none_opens(found: &Contents, mut refusals: Vec<Error>, path: &Path) -> Error {
    let path = path.display();
    match refusals.len() {
        0 => {
            let names: Vec<_> = found.wrappings().iter().map(|w| w.provider.as_str()).collect();
            let wrapped_by = names.join(", ");
            let what = format!("{path} is wrapped by {wrapped_by}; none of them is configured");
            Error::new(Kind::Config, what).advise("add that [[provider]], or correct its `name`")
        }
        1 => refusals.remove(0).within(format!("{path} does not open")),
        _ => {
            let kind =
                refusals.iter().find(|e| e.is_transient()).map_or(Kind::NotMine, Error::kind);
            let all: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            Error::new(kind, format!("{path} does not open: {}", all.join(" | ")))
        }
    }
}
