//! Changing how the store key is wrapped, and the store key itself. No page is touched.

#![forbid(unsafe_code)]

use super::{Changed, Manager};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::KeyRef;
use crate::secret::{DataKey, scrubbed};
use crate::source::Reason;
use crate::store::{Contents, Keystore, STORE_KEY_LEN, Wrapping};

/// How the wrappings of the store key are to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrap<'a> {
    /// One more for each configured provider that has none; with `prune`, none any more for those
    /// that are not configured.
    Missing {
        /// Whether wrappings of providers that are not configured go.
        prune: bool,
    },
    /// One more for this configured provider, and for no other.
    Add(&'a str),
    /// Each configured provider wraps again, with its wrapping key's newest version.
    ToLatest,
    /// A new store key, wrapped by each provider that wraps the present one, wraps all data keys
    /// again. A provider that is configured and does not wrap may be one that keys have left.
    NewStoreKey {
        /// Whether wrappings of providers that are not configured may go; else they stop it.
        prune: bool,
    },
    /// One provider wraps instead of another, which need not answer.
    Move {
        /// The provider whose wrapping goes.
        from: &'a str,
        /// The provider that wraps from now on.
        to: &'a str,
    },
}

/// What happened to the wrapping of one provider.
#[derive(Debug)]
pub struct Rewrapped {
    /// The provider's name.
    pub provider: String,
    /// What was, or was to be, done.
    pub change: WrapChange,
    /// Why it was not done; the others were all the same.
    pub failure: Option<Error>,
}

/// What can happen to a wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapChange {
    /// It stays as it was.
    Kept,
    /// It is new.
    Added,
    /// It was made again.
    Renewed,
    /// It is gone.
    Removed,
    /// It stays, though its provider is not configured.
    Unconfigured,
    /// There is none, though the provider is configured: nobody asked for one.
    NotAsked,
}

impl Manager {
    /// Changes how the store key is wrapped, in one commit. A provider that fails keeps the others
    /// from nothing, except with a new store key, which all of them must wrap.
    pub fn rewrap(&mut self, how: Rewrap<'_>, reason: Reason<'_>) -> Result<Vec<Rewrapped>> {
        let mut report = Vec::new();
        self.commit(reason, |manager, before| {
            let after = match how {
                Rewrap::Missing { prune } => manager.with_missing(before, prune, &mut report)?,
                Rewrap::Add(name) => manager.with_added(before, name, &mut report)?,
                Rewrap::ToLatest => manager.with_latest(before, &mut report)?,
                Rewrap::NewStoreKey { prune } => {
                    manager.with_next_store_key(before, prune, &mut report)?
                }
                Rewrap::Move { from, to } => {
                    report = manager.plan_move(from, to)?;
                    manager.moved(before, from, to)?
                }
            };
            manager.reader.refuse_to_need_a_pin(&after)?;
            let events = events(how, &report);
            Ok((!events.is_empty()).then_some(Changed { after, events }))
        })?;
        Ok(report)
    }

    fn with_missing(
        &self,
        before: &Keystore,
        prune: bool,
        report: &mut Vec<Rewrapped>,
    ) -> Result<Keystore> {
        let context = before.contents().wrap_context();
        let mut after = before.clone();
        for named in &self.reader.wrappers {
            if wrapping_of(before.contents(), &named.name).is_some() {
                report.push(Rewrapped::done(&named.name, WrapChange::Kept));
                continue;
            }
            match named.wrap(before.store_key(), &context) {
                Ok(wrapping) => {
                    after = after.with_wrapping(wrapping)?;
                    report.push(Rewrapped::done(&named.name, WrapChange::Added));
                }
                // The wrappings to be pruned may be what is needed until this one works.
                Err(error) if prune => return Err(error),
                Err(error) => {
                    report.push(Rewrapped::failed(&named.name, WrapChange::Added, error));
                }
            }
        }
        for wrapping in self.unconfigured(before.contents()) {
            if !prune {
                report.push(Rewrapped::done(&wrapping.provider, WrapChange::Unconfigured));
                continue;
            }
            after = after.without_wrapping(&wrapping.provider)?;
            report.push(Rewrapped::done(&wrapping.provider, WrapChange::Removed));
        }
        Ok(after)
    }

    fn with_added(
        &self,
        before: &Keystore,
        name: &str,
        report: &mut Vec<Rewrapped>,
    ) -> Result<Keystore> {
        let none = || {
            let names: Vec<_> = self.reader.wrappers.iter().map(|one| one.name.as_str()).collect();
            let what = format!("there is no provider {name:?} in the configuration");
            Error::new(Kind::Config, what).advise(format!("it has {}", names.join(", ")))
        };
        let named = self.reader.wrappers.iter().find(|one| one.name == name).ok_or_else(none)?;
        if wrapping_of(before.contents(), name).is_some() {
            report.push(Rewrapped::done(name, WrapChange::Kept));
            return Ok(before.clone());
        }
        let wrapping = named.wrap(before.store_key(), &before.contents().wrap_context())?;
        report.push(Rewrapped::done(name, WrapChange::Added));
        before.with_wrapping(wrapping)
    }

    fn with_latest(&self, before: &Keystore, report: &mut Vec<Rewrapped>) -> Result<Keystore> {
        let context = before.contents().wrap_context();
        let mut after = before.clone();
        for named in &self.reader.wrappers {
            let Some(old) = wrapping_of(before.contents(), &named.name) else {
                let what = format!("provider {:?}: it does not wrap the store key yet", named.name);
                let name = &named.name;
                let none = Error::new(Kind::NotFound, what).advise(format!(
                    "if it is to, `keyward keystore rewrap --add {name}` lets it; to let all that are \
                     configured, run `keyward keystore rewrap` without --to-latest"
                ));
                report.push(Rewrapped::failed(&named.name, WrapChange::Renewed, none));
                continue;
            };
            match named.rewrap(old, before.store_key(), &context) {
                Ok(wrapping) => {
                    after = after.with_wrapping(wrapping)?;
                    report.push(Rewrapped::done(&named.name, WrapChange::Renewed));
                }
                Err(error) => {
                    report.push(Rewrapped::failed(&named.name, WrapChange::Renewed, error));
                }
            }
        }
        for wrapping in self.unconfigured(before.contents()) {
            report.push(Rewrapped::done(&wrapping.provider, WrapChange::Unconfigured));
        }
        Ok(after)
    }

    fn with_next_store_key(
        &self,
        before: &Keystore,
        prune: bool,
        report: &mut Vec<Rewrapped>,
    ) -> Result<Keystore> {
        for wrapping in self.unconfigured(before.contents()) {
            if !prune {
                let name = &wrapping.provider;
                let what = format!("provider {name:?} wraps the store key and is not configured");
                return Err(Error::new(Kind::Config, what)
                    .advise("configure it, or let it go with --prune: it cannot wrap a new one"));
            }
            report.push(Rewrapped::done(&wrapping.provider, WrapChange::Removed));
        }
        let rng = &*self.reader.env.rng;
        let store_key = DataKey::generate(STORE_KEY_LEN, rng)?;
        let context = before.next_context()?;
        let mut wrappings = Vec::new();
        for named in &self.reader.wrappers {
            if wrapping_of(before.contents(), &named.name).is_none() {
                report.push(Rewrapped::done(&named.name, WrapChange::NotAsked));
                continue;
            }
            wrappings.push(named.wrap(&store_key, &context)?);
            report.push(Rewrapped::done(&named.name, WrapChange::Renewed));
        }
        let after =
            before.with_store_key(store_key, wrappings, self.reader.env.clock.now(), rng)?;
        prove_all(&after)?;
        Ok(after)
    }

    /// What [`Rewrap::Move`] would change, of the keystore as it was read last.
    pub fn plan_move(&self, from: &str, to: &str) -> Result<Vec<Rewrapped>> {
        if from == to {
            return Err(Error::new(Kind::Config, "a move needs two different providers"));
        }
        let contents = self.reader.keystore()?.contents();
        let (leaves, there) = (wrapping_of(contents, from), wrapping_of(contents, to));
        let mut report = Vec::new();
        match (leaves, there) {
            (None, None) => {
                let what = format!("provider {from:?} does not wrap the store key");
                return Err(
                    Error::new(Kind::NotFound, what).advise("`keyward status` shows who does")
                );
            }
            (_, Some(_)) => report.push(Rewrapped::done(to, WrapChange::Kept)),
            (_, None) => report.push(Rewrapped::done(to, WrapChange::Added)),
        }
        if leaves.is_some() {
            report.push(Rewrapped::done(from, WrapChange::Removed));
        }
        Ok(report)
    }

    fn moved(&self, before: &Keystore, from: &str, to: &str) -> Result<Keystore> {
        let none = || Error::new(Kind::Config, format!("provider {to:?} does not wrap keys"));
        let named = self.reader.wrappers.iter().find(|named| named.name == to).ok_or_else(none)?;
        // Made again even where there is one: this is the proof that it opens.
        let wrapping = named.wrap(before.store_key(), &before.contents().wrap_context())?;
        let after = before.with_wrapping(wrapping)?;
        match wrapping_of(after.contents(), from) {
            Some(_) => after.without_wrapping(from),
            None => Ok(after),
        }
    }

    /// The wrappings of providers that are not configured.
    fn unconfigured<'a>(&self, contents: &'a Contents) -> impl Iterator<Item = &'a Wrapping> {
        let names: Vec<String> =
            self.reader.wrappers.iter().map(|named| named.name.clone()).collect();
        contents.wrappings().iter().filter(move |wrapping| !names.contains(&wrapping.provider))
    }
}

impl Rewrapped {
    fn done(provider: &str, change: WrapChange) -> Self {
        Self { provider: provider.to_owned(), change, failure: None }
    }

    fn failed(provider: &str, change: WrapChange, failure: Error) -> Self {
        Self { provider: provider.to_owned(), change, failure: Some(failure) }
    }
}

fn wrapping_of<'a>(contents: &'a Contents, provider: &str) -> Option<&'a Wrapping> {
    contents.wrappings().iter().find(|wrapping| wrapping.provider == provider)
}

/// What the audit trail tells of a change of wrappings: nothing where there was none.
fn events(how: Rewrap<'_>, report: &[Rewrapped]) -> Vec<(Event, Vec<KeyRef>)> {
    if matches!(how, Rewrap::NewStoreKey { .. }) {
        return vec![(Event::StoreKeyRotated, Vec::new())];
    }
    let done = report.iter().filter(|one| one.failure.is_none());
    let event = |one: &Rewrapped| match one.change {
        WrapChange::Added => Some((Event::WrappingAdded, Vec::new())),
        WrapChange::Renewed => Some((Event::Rewrapped, Vec::new())),
        WrapChange::Removed => Some((Event::WrappingRemoved, Vec::new())),
        WrapChange::Kept | WrapChange::Unconfigured | WrapChange::NotAsked => None,
    };
    done.filter_map(event).collect()
}

/// Opens every data key under the new store key before the old one is given up.
fn prove_all(keystore: &Keystore) -> Result<()> {
    scrubbed(|| {
        for key in keystore.contents().keys() {
            for version in key.versions().filter(|version| version.state.decrypts()) {
                keystore.data_key(&version.info(key.name()).key)?;
            }
        }
        Ok(())
    })
}
