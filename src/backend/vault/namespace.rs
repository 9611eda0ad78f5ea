//! Namespaces (OpenBao, Vault Enterprise): an administrator can lock, seal and delete the one that we
//! work in, and a Vault says so in place of an answer.

#![forbid(unsafe_code)]

use super::super::http::Url;
use super::nodes::{Answer, Exchange};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};

/// What a Vault says of a namespace that is locked, sealed, or not there.
const LOCKED: &str = "has been locked by an administrator";
const SEALED: &str = "namespace is sealed";
const ABSENT: &str = "namespace not found";

/// A path that is in every namespace. Without a token it is denied where nothing worse is to be told.
const ANYWHERE: &str = "auth/token/lookup-self";

impl Exchange<'_> {
    /// The error for an answer that tells of our namespace and of nothing else.
    pub(super) fn check_namespace(&self, base: &Url, answer: &Answer, by: Deadline) -> Result<()> {
        let Some(namespace) = self.namespace() else { return Ok(()) };
        Err(match answer.status {
            503 if answer.says(LOCKED) => locked(&answer.place, locked_one(namespace, answer)),
            503 if answer.says(SEALED) => sealed(&answer.place, namespace),
            404 if answer.says(ABSENT) => self.why_absent(base, namespace, &answer.place, by),
            _ => return Ok(()),
        })
    }

    /// Beneath a sealed namespace OpenBao knows of none. Those above ours are asked, from the top.
    fn why_absent(&self, base: &Url, namespace: &str, place: &str, by: Deadline) -> Error {
        for above in above(namespace) {
            match self.ask_in(above, base, ANYWHERE, by) {
                Ok(answer) if answer.says(SEALED) => return sealed(place, above),
                Ok(answer) if answer.says(ABSENT) => return absent(place, above),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        absent(place, namespace)
    }
}

/// The namespaces that `namespace` is in, but for the root: `a` and `a/b` for `a/b/c`.
fn above(namespace: &str) -> impl DoubleEndedIterator<Item = &str> {
    namespace.match_indices('/').map(|(at, _)| namespace.split_at(at).0)
}

/// Which one is locked: `namespace` or one that it is in, as the answer has it.
fn locked_one<'a>(namespace: &'a str, answer: &Answer) -> &'a str {
    let named = |name: &&str| answer.says(&format!("\"{name}/\" must be unlocked"));
    above(namespace).find(named).unwrap_or(namespace)
}

fn locked(place: &str, name: &str) -> Error {
    let what = format!("Vault at {place}: the namespace {name} is locked");
    Error::new(Kind::Unavailable, what).advise(format!("unlock it: {}", command("unlock", name)))
}

fn sealed(place: &str, name: &str) -> Error {
    let what = format!("Vault at {place}: the namespace {name} is sealed");
    Error::new(Kind::Unavailable, what).advise(format!("unseal it: {}", command("unseal", name)))
}

fn absent(place: &str, name: &str) -> Error {
    let what = format!("Vault at {place} has no namespace {name}");
    let advice = format!("correct `namespace`, or make it: {}", command("create", name));
    Error::new(Kind::Config, what).advise(advice)
}

/// The command for the namespace: OpenBao takes its parent and its own name apart.
fn command(verb: &str, namespace: &str) -> String {
    match namespace.rsplit_once('/') {
        None => format!("bao namespace {verb} {namespace}"),
        Some((parent, name)) => format!("bao namespace {verb} -namespace={parent} {name}"),
    }
}
