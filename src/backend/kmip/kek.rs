//! Finding the wrapping key.
//!
//! A name is a key's own, so a second key for the same use has a number behind it: `kek`, then `kek:2`,
//! `kek:3`. All of them are in the object group `kek`, by which they are found; the highest number is
//! the newest.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;

use super::attributes::{Attributes, State};
use super::client::Exchange;
use super::failure::CallError;
use super::requests::Wanted;
use super::settings::KeyChoice;
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::provider::WITHOUT_ITS_KEY;

/// A wrapping key.
pub(super) struct Kek {
    /// Its unique identifier.
    pub(super) id: String,
    /// `name#id`, or `#id` where it was asked for by that: what a wrapped key says of it.
    pub(super) name: String,
    /// Where it stands among those of its name.
    pub(super) number: u32,
    pub(super) told: Attributes,
}

impl Kek {
    /// The key that a wrapped key calls `name`.
    pub(super) fn of(id: String, name: &str, told: Attributes) -> Self {
        Self { id, name: name.escape_default().to_string(), number: 0, told }
    }

    /// Whether the server, which refused to open something with it, may; otherwise why not.
    pub(super) fn opens(&self, place: impl fmt::Display) -> Result<()> {
        match self.told.state {
            None | Some(State::Active | State::PreActive) => self.usable(place),
            Some(state) => {
                let name = state.name();
                let what = format!("{place}: wrapping key {} is {name}", self.name);
                Err(Error::new(Kind::State, what).advise(format!(
                    "this server opens nothing with a key that is {name}, and a new key cannot open the \
                     keystore: restore the server from a backup where it is Active; {WITHOUT_ITS_KEY}"
                )))
            }
        }
    }

    /// Whether the server may wrap with it now; otherwise why not.
    pub(super) fn usable(&self, place: impl fmt::Display) -> Result<()> {
        let error = |kind, words: &str, advice: &str| {
            let what = format!("{place}: wrapping key {} {words}", self.name);
            Err(Error::new(kind, what).advise(advice))
        };
        if !self.told.is_aes() {
            return error(Kind::Config, "is no AES key", "name a symmetric key for AES");
        }
        match self.told.state {
            None | Some(State::Active) => {}
            Some(State::PreActive) => {
                return error(
                    Kind::State,
                    "is Pre-Active: nobody has activated it",
                    "activate it in the KMIP server",
                );
            }
            Some(state) => {
                let words = format!("is {}", state.name());
                return error(
                    Kind::State,
                    &words,
                    "if it still opens the keystore, or another provider does, have a new one made: \
                     keyward keystore rewrap --new-kek PROVIDER",
                );
            }
        }
        if !self.told.may_wrap() {
            return error(
                Kind::Config,
                "may not encrypt and decrypt",
                "its cryptographic usage mask needs both",
            );
        }
        Ok(())
    }

    pub(super) fn created(&self) -> Option<Timestamp> {
        self.told.created
    }
}

impl KeyChoice {
    /// What is looked for.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Id(text) | Self::Either(text) => text,
        }
    }

    /// The key to wrap with: the newest active one.
    pub(super) fn newest(&self, exchange: &mut Exchange<'_>) -> Result<Kek> {
        let mut keks = self.find(exchange)?;
        let active = keks.iter().rposition(|kek| kek.told.state == Some(State::Active));
        // Where none is, the newest tells why.
        let at = active.unwrap_or(keks.len().saturating_sub(1));
        let kek = keks.swap_remove(at);
        kek.usable(exchange.place())?;
        Ok(kek)
    }

    /// All keys that fit, the newest last; at least one.
    pub(super) fn find(&self, exchange: &mut Exchange<'_>) -> Result<Vec<Kek>> {
        let keks = match self {
            Self::Id(id) => self.by_id(exchange, id)?,
            Self::Name(name) => by_name(exchange, name)?,
            Self::Either(text) => match self.by_id(exchange, text) {
                Ok(keks) if !keks.is_empty() => keks,
                Ok(_) => by_name(exchange, text)?,
                // Some servers refuse what cannot be an id of theirs in words of their own.
                Err(error) => match by_name(exchange, text)? {
                    keks if keks.is_empty() => return Err(error),
                    keks => keks,
                },
            },
        };
        if keks.is_empty() {
            let what = format!("{} has no {self}", exchange.place());
            return Err(Error::new(Kind::NotFound, what).advise(exchange.advice().missing));
        }
        Ok(keks)
    }

    fn by_id(&self, exchange: &mut Exchange<'_>, id: &str) -> Result<Vec<Kek>> {
        match exchange.attributes(id) {
            Ok(told) => {
                let (id, name) = (id.to_owned(), format!("#{id}"));
                Ok(vec![Kek { id, name, number: 0, told }])
            }
            Err(fault) if fault.is_not_found() => Ok(Vec::new()),
            Err(fault) => Err(fault.told(exchange.place(), self)),
        }
    }

    /// Whether a key that calls itself `kek` is one of these, as far as its name says; its id.
    pub(super) fn claims<'a>(&self, kek: &'a str) -> Option<(bool, &'a str)> {
        let (name, id) = kek.rsplit_once('#')?;
        let ours = match self {
            Self::Name(own) => name == own,
            Self::Id(own) => id == own,
            Self::Either(own) => name == own || id == own,
        };
        (!id.is_empty()).then_some((ours, id))
    }
}

/// The keys of that name, or in the group of that name, in order.
pub(super) fn by_name(exchange: &mut Exchange<'_>, base: &str) -> Result<Vec<Kek>> {
    let told = |fault: CallError, exchange: &Exchange<'_>| {
        fault.told(exchange.place(), format!("key {base:?}"))
    };
    let mut ids = BTreeSet::new();
    let named = exchange.locate(&Wanted { name: Some(base), ..Wanted::default() });
    ids.extend(named.map_err(|fault| told(fault, exchange))?);
    match exchange.locate(&Wanted { group: Some(base), ..Wanted::default() }) {
        Ok(grouped) => ids.extend(grouped),
        // A server without groups has keys that others made, one of each name.
        Err(fault) if fault.is_unsupported() => {}
        Err(fault) => return Err(told(fault, exchange)),
    }
    let ids: Vec<String> = ids.into_iter().collect();
    let mut keks = Vec::new();
    for (id, told) in ids.iter().zip(exchange.attributes_of(&ids)?) {
        let Some(told) = told.filter(|told| told.state != Some(State::Destroyed)) else { continue };
        let number = told.names.iter().filter_map(|name| number(base, name)).max().unwrap_or(0);
        keks.push(Kek { id: id.clone(), name: format!("{base}#{id}"), number, told });
    }
    keks.sort_by(|a, b| (a.number, a.created(), &a.id).cmp(&(b.number, b.created(), &b.id)));
    Ok(keks)
}

/// 3 of `kek:3`, 1 of `kek`.
fn number(base: &str, name: &str) -> Option<u32> {
    match name.strip_prefix(base)? {
        "" => Some(1),
        rest => rest.strip_prefix(':')?.parse().ok().filter(|number| *number > 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_name_are_numbered() {
        for (name, wanted) in [
            ("kek", Some(1)),
            ("kek:2", Some(2)),
            ("kek:17", Some(17)),
            ("kek:1", None),
            ("kek:", None),
            ("kek2", None),
            ("other", None),
        ] {
            assert_eq!(number("kek", name), wanted, "{name}");
        }
    }

    #[test]
    fn a_wrapped_key_says_whose_it_is() {
        let name = KeyChoice::Name("a#b".into());
        assert_eq!(name.claims("a#b#7"), Some((true, "7")));
        assert_eq!(name.claims("a#7"), Some((false, "7")));
        assert_eq!(name.claims("a"), None);
        assert_eq!(name.claims("a#b#"), None);
        assert_eq!(KeyChoice::Id("7".into()).claims("x#7"), Some((true, "7")));
        assert_eq!(KeyChoice::Either("7".into()).claims("#7"), Some((true, "7")));
        assert_eq!(KeyChoice::Either("7".into()).claims("8#9"), Some((false, "9")));
    }
}
