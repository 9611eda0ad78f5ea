//! Putting versions back on a KMIP server: registered under the name and in the group by which they are found,
//! then brought to the state that they had. A restore that was cut off continues: an object that is there
//! with the right key is taken on from whatever state it is in.

#![forbid(unsafe_code)]

use super::attributes::State;
use super::client::Exchange;
use super::server::{Found, KmipServer};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyName, KeyRef, KeyState};
use crate::provider::{ReturnWay, ReturningKey};

impl KmipServer {
    /// See [`KeyServer::plan_return`](crate::provider::KeyServer::plan_return).
    pub(super) fn plan(
        &self,
        keys: &[ReturningKey<'_>],
        by: Deadline,
    ) -> Result<Vec<(usize, ReturnWay)>> {
        let mut exchange = self.client().exchange("looking for what is missing by KMIP", by)?;
        let found = self.find(&mut exchange)?;
        let way = |(place, back): (usize, &ReturningKey<'_>)| {
            let there = found.iter().find(|one| one.key == *back.key && one.is_live());
            match there {
                None => Some((place, ReturnWay::Written)),
                Some(one) if is_due(one, back.state) => Some((place, ReturnWay::Completed)),
                Some(_) => None,
            }
        };
        Ok(keys.iter().enumerate().filter_map(way).collect())
    }

    /// See [`KeyServer::put_back`](crate::provider::KeyServer::put_back).
    pub(super) fn return_one(&self, back: &ReturningKey<'_>, by: Deadline) -> Result<()> {
        let key = back.key;
        let mut exchange =
            self.client().exchange(format_args!("putting {key} back by KMIP"), by)?;
        let KeyName::Id(id) = key.name else {
            return Err(Error::new(Kind::Unsupported, format!("{key} is no key of MariaDB's")));
        };
        let found = self.find_one(&mut exchange, id, key)?;
        let (object, state) = match found.first().filter(|one| one.is_live()) {
            Some(there) => (there.id.clone(), there.told.state),
            None => {
                let registered = self.register(&mut exchange, id, key, back.data, back.cipher);
                let object = registered.map_err(|error| match error.kind() {
                    Kind::Conflict if !found.is_empty() => name_is_kept(&exchange, key),
                    _ => error,
                })?;
                (object, Some(State::PreActive))
            }
        };
        let there = exchange.get(&object).map_err(|fault| fault.told(exchange.place(), key))?;
        if !there.same_as(back.data) {
            let what = format!("{key} at {} is another key", exchange.place());
            return Err(Error::new(Kind::State, what).advise(
                "is it the right backup? Once no data need the key that is there, have an administrator destroy \
                 it there, then run this again",
            ));
        }
        bring_to(&mut exchange, &object, state, back)?;
        let found = self.find_one(&mut exchange, id, key)?;
        match found.first() {
            Some(one) if one.id == object && !is_due(one, back.state) => Ok(()),
            _ => {
                let what = format!("{} has {key} and does not make it usable", exchange.place());
                Err(Error::new(Kind::State, what)
                    .advise("look at the object's state in the KMIP server, then run this again"))
            }
        }
    }
}

/// Whether an object is not yet in the state that it is to have. What was done to it on purpose since, such as
/// that it was revoked, stays.
fn is_due(one: &Found, wanted: KeyState) -> bool {
    match one.told.state {
        Some(State::PreActive) => wanted != KeyState::Pending,
        Some(State::Active) => matches!(wanted, KeyState::Retired | KeyState::Compromised),
        _ => false,
    }
}

/// Brings `object` from its state to that of the backup.
fn bring_to(
    exchange: &mut Exchange<'_>,
    object: &str,
    state: Option<State>,
    back: &ReturningKey<'_>,
) -> Result<()> {
    let (new, active) = (state == Some(State::PreActive), state == Some(State::Active));
    let done = match back.state {
        KeyState::Compromised if new || active => exchange.compromise(object),
        KeyState::Active | KeyState::Retired if new => exchange.activate(object),
        _ => Ok(()),
    };
    // Only what is active can be revoked so.
    let done = match back.state {
        KeyState::Retired if new || active => done.and_then(|()| exchange.revoke(object)),
        _ => done,
    };
    done.map_err(|fault| {
        let error = fault.told(exchange.place(), back.key);
        error.within("it is there, and not in its state; run this again")
    })
}

fn name_is_kept(exchange: &Exchange<'_>, key: &KeyRef) -> Error {
    let what = format!(
        "{key} cannot be put back: {} keeps the name of the object that was destroyed",
        exchange.place()
    );
    Error::new(Kind::State, what)
        .advise("have an administrator remove or rename that object there, then run this again")
}
