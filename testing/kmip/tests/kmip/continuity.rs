//! Keys in use that somebody destroys at the KMIP server.

use std::sync::Arc;
use std::time::Duration;

use keyward::custodian::Custodian;
use keyward::env::Env;
use keyward::env::fake::FakeLog;
use keyward::error::Kind;
use keyward::key::{Cipher, KeyId};
use keyward::provider::KeyServer;
use keyward::source::{NamedServer, Reason, Role, ServedSource, Which};
use test_kit::{Result, ensure, seen};
use test_kmip::Shared;

use crate::{data, key, refused, said, server, settings, soon};

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };

/// A server's keys from `server`, read when it is told to.
fn custodian(server: impl KeyServer + 'static) -> Result<Custodian> {
    let (name, timeout) = ("kmip".to_owned(), Duration::from_secs(30));
    let refresh = Duration::from_secs(600);
    let named = NamedServer { name, timeout, refresh, server: Box::new(server) };
    let env = Env::system(Arc::new(FakeLog::default()));
    let source = ServedSource::new(named, Cipher::DEFAULT, env.clone());
    said(Custodian::start(source, Role::Daemon, env))
}

fn cause(custodian: &Custodian) -> Result<String> {
    said(custodian.refresh())?;
    Ok(custodian.status().degraded.map_or_else(String::new, |degraded| degraded.cause))
}

#[test]
fn a_key_that_is_destroyed_there_serves_on_from_memory() -> Result<()> {
    let shared = Shared::get()?;
    let prefix = shared.new_name();
    let other = server(settings(&shared.kmip), &prefix);
    for (id, versions) in [(1, 2), (6, 1)] {
        for version in 1..=versions {
            said(other.put(&key(id, version)?, &data()?, soon()))?;
        }
    }
    let custodian = custodian(server(settings(&shared.kmip), &prefix))?;
    let (id, id_6) = (said(KeyId::try_from(1))?, said(KeyId::try_from(6))?);
    let latest = |id| custodian.latest(id).map(u32::from);
    let newest = key(1, 2)?;
    said(other.remove(&newest, soon()))?;
    let lost = cause(&custodian)?;
    let words = ["key 1 version 2 is gone", "key 1 version 2 is deleted"];
    ensure!(words.iter().any(|words| lost.contains(words)), "{lost}");
    seen!("destroyed there: {lost}");
    ensure!(latest(id) == Some(2), "it went back to an older version: {:?}", latest(id));
    let text = refused(custodian.rotate(Which::One(id), REASON), Kind::State)?;
    seen!("its rotation: {text}");
    said(custodian.rotate(Which::One(id_6), REASON))?;
    ensure!(latest(id_6) == Some(2), "the others were to go on");
    Ok(())
}
