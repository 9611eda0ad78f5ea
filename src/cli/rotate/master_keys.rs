//! MySQL's master keys: whoever wants a new one asks the server, which alone can make it.

#![forbid(unsafe_code)]

use crate::cli::helpers::server::{self, Question};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyRef, MasterKeyKind, MasterKeyName};
use crate::policy::{self, DueMasterKey};

/// What the server says of itself.
struct Server {
    uuid: String,
    encrypts_binlog: bool,
}

/// Has the server rotate those of its master keys that the policy wants rotated by now; the new ones.
/// Nothing is asked of it while none is due.
pub(super) fn rotate_due(
    custodian: &Custodian,
    config: &Config,
    options: &server::Options,
) -> Result<Vec<KeyRef>> {
    let entries = custodian.entries();
    let now = System.now();
    let due = config.policy.master_keys_due(now, &custodian.keystore_id(), entries.iter());
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let server = Server::ask(options)?;
    let mut made: Vec<KeyRef> = Vec::new();
    for key in due.iter().filter(|key| server.rotates(key)) {
        let new = rotate(custodian, key, options).map_err(|error| match made.first() {
            Some(first) => error.within(format!("{first} was made, and then")),
            None => error,
        })?;
        made.push(new);
    }
    Ok(made)
}

fn rotate(custodian: &Custodian, key: &DueMasterKey, options: &server::Options) -> Result<KeyRef> {
    let before = newest(custodian, key);
    ask(options, request(key.kind), &format!("the {} master key was not rotated", key.kind))?;
    custodian.refresh()?;
    newest(custodian, key)
        .filter(|after| before.as_ref() != Some(after))
        .ok_or_else(|| elsewhere(key.kind))
}

impl Server {
    fn ask(options: &server::Options) -> Result<Self> {
        let text = ask(options, Question::MasterKeys, "no master key was rotated")?;
        let (uuid, encrypts_binlog) = text.trim_end().split_once('\t').unwrap_or_default();
        Ok(Self { uuid: uuid.to_owned(), encrypts_binlog: encrypts_binlog == "1" })
    }

    /// Whether it rotates `key` when it is asked to: its own, and the binary log's only while that is
    /// encrypted.
    fn rotates(&self, key: &DueMasterKey) -> bool {
        let is_used = key.kind == MasterKeyKind::Innodb || self.encrypts_binlog;
        self.uuid == key.server && is_used
    }
}

fn request(kind: MasterKeyKind) -> Question {
    match kind {
        MasterKeyKind::Innodb => Question::RotateInnodb,
        MasterKeyKind::Binlog => Question::RotateBinlog,
    }
}

fn ask(options: &server::Options, question: Question, so: &str) -> Result<String> {
    server::query(options, question).map_err(|words| {
        Error::new(Kind::State, format!("{so}: {words}")).advise(server::advice(&words))
    })
}

/// The newest master key of the kind and server of `key`.
fn newest(custodian: &Custodian, key: &DueMasterKey) -> Option<KeyRef> {
    let entries = custodian.entries();
    let of_them = |name: MasterKeyName<'_>| name.kind == key.kind && name.server == key.server;
    let rotating = policy::that_rotate(entries.iter());
    let found = rotating.into_iter().find(|one| one.name().master_key().is_some_and(of_them))?;
    Some(KeyRef::new(found.name().clone(), found.active()?.version))
}

fn elsewhere(kind: MasterKeyKind) -> Error {
    let what = format!("the server rotated its {kind} master key, which is not in this keystore");
    Error::new(Kind::State, what).advise("`keyward doctor` shows which keyring the server has")
}
