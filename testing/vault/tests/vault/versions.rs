//! Versions of keys in Vault, and their ends.

use std::sync::Arc;
use std::time::Duration;

use keyward::custodian::Custodian;
use keyward::env::fake::FakeLog;
use keyward::env::{Env, System};
use keyward::error::Kind;
use keyward::key::{Cipher, KeyId, KeyInfo, KeyRef, KeyState, KeyVersion};
use keyward::provider::{KeyServer, KeyWrapper, WrappedKey};
use keyward::secret::DataKey;
use keyward::source::{NamedServer, Reason, Role, ServedSource, Which};
use test_kit::{Result, Scratch, ensure, seen};
use test_vault::Shared;

use keyward::backend::vault::{KvServer, KvSettings, Login};
use keyward::key::PageMode;

use crate::{approle, context, kv, secret, settings, soon, transit};

fn key(id: u32, version: u32) -> keyward::Result<KeyRef> {
    Ok(KeyRef::new(KeyId::try_from(id)?, KeyVersion::try_from(version)?))
}

fn data() -> Result<DataKey> {
    DataKey::generate(32, &System).map_err(|error| error.to_string().into())
}

fn said<T>(result: keyward::Result<T>) -> Result<T> {
    result.map_err(|error| error.to_string().into())
}

fn refused<T>(result: keyward::Result<T>, kind: Kind) -> Result<String> {
    match result {
        Ok(_) => Err(format!("it went through, and {kind:?} was due").into()),
        Err(error) => {
            ensure!(error.kind() == kind, "{:?}: {error}", error.kind());
            Ok(error.to_string())
        }
    }
}

fn states(mut infos: Vec<KeyInfo>) -> Vec<(u32, KeyState)> {
    infos.sort_by(|a, b| a.key.cmp(&b.key));
    infos.iter().map(|info| (info.key.version.get(), info.state)).collect()
}

#[test]
fn deleted_and_destroyed_versions_are_told_apart_and_the_newest_live_one_encrypts() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("states")?);
    let prefix = shared.new_name();
    let login = approle(&shared.role_id, secret(&scratch, "id", &shared.secret_id)?);
    let server = kv(&shared, &prefix, login.clone())?;
    for version in 1..=4 {
        said(server.put(&said(key(5, version))?, &data()?, soon()))?;
    }
    let path = format!("{prefix}/5");
    shared.vault.vault(&["kv", "delete", "-mount=secret", "-versions=4", &path])?;
    shared.vault.vault(&["kv", "destroy", "-mount=secret", "-versions=2", &path])?;
    use KeyState::{Active, Destroyed, Retired};
    let wanted = [(1, Retired), (2, Destroyed), (3, Active), (4, Destroyed)];
    let fresh = kv(&shared, &prefix, login)?;
    for server in [&server, &fresh] {
        let found = states(said(server.list(soon()))?);
        ensure!(found == wanted, "{found:?}");
    }
    let deleted = refused(fresh.fetch(&said(key(5, 4))?, soon()), Kind::NotFound)?;
    ensure!(deleted.contains("vault kv undelete -versions=4"), "{deleted}");
    let destroyed = refused(fresh.fetch(&said(key(5, 2))?, soon()), Kind::NotFound)?;
    ensure!(destroyed.contains("it was destroyed"), "{destroyed}");
    let absent = refused(fresh.fetch(&said(key(5, 9))?, soon()), Kind::NotFound)?;
    seen!("deleted: {deleted}");
    seen!("destroyed: {destroyed}");
    seen!("never there: {absent}");
    shared.vault.vault(&["kv", "undelete", "-mount=secret", "-versions=4", &path])?;
    let found = states(said(fresh.list(soon()))?);
    ensure!(found == [(1, Retired), (2, Destroyed), (3, Retired), (4, Active)], "{found:?}");
    Ok(())
}

#[test]
fn a_version_is_not_added_where_vault_would_drop_one_that_is_needed() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("guard")?);
    let prefix = shared.new_name();
    let login = approle(&shared.role_id, secret(&scratch, "id", &shared.secret_id)?);
    let server = kv(&shared, &prefix, login)?;
    said(server.put(&said(key(5, 1))?, &data()?, soon()))?;
    said(server.put(&said(key(5, 2))?, &data()?, soon()))?;
    let path = format!("{prefix}/5");
    let metadata = ["kv", "metadata", "put", "-mount=secret", "-max-versions=2", &path];
    shared.vault.vault(&metadata)?;
    let text = refused(server.put(&said(key(5, 3))?, &data()?, soon()), Kind::State)?;
    ensure!(text.contains("would drop version 1"), "{text}");
    seen!("{text}");
    ensure!(said(server.list(soon()))?.len() == 2, "a version came or went");
    // Once the old one is gone on purpose, nothing is lost.
    said(server.remove(&said(key(5, 1))?, soon()))?;
    said(server.put(&said(key(5, 3))?, &data()?, soon()))?;
    // Keys that others made have the engine's ten.
    let path = format!("{prefix}/6");
    let hex = format!("data={}", "ab".repeat(32));
    for _ in 0..10 {
        shared.vault.vault(&["kv", "put", "-mount=secret", &path, &hex])?;
    }
    let text = refused(server.put(&said(key(6, 11))?, &data()?, soon()), Kind::State)?;
    ensure!(text.contains("Vault keeps 10 versions"), "{text}");
    Ok(())
}

#[test]
fn what_is_no_key_is_named_and_not_shown() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("wrong")?);
    let login = approle(&shared.role_id, secret(&scratch, "id", &shared.secret_id)?);
    for (fields, wanted) in [
        (&["data=correct-horse-battery-staple-xx"][..], "is no AES key in hex"),
        (&["data=abcdef"], "is no AES key in hex"),
        (&["key=00112233445566778899aabbccddeeff"], "has no field `data`"),
        (
            &["data=00112233445566778899aabbccddeeff", "cipher=aes-256-ctr"],
            "names a cipher that does not exist or does not fit the key",
        ),
    ] {
        let prefix = shared.new_name();
        let path = format!("{prefix}/1");
        let mut words = vec!["kv", "put", "-mount=secret", &path];
        words.extend(fields);
        shared.vault.vault(&words)?;
        let text = refused(kv(&shared, &prefix, login.clone())?.list(soon()), Kind::Config)?;
        ensure!(text.contains(wanted) && text.contains("key 1 version 1"), "{text}");
        ensure!(!text.contains("horse") && !text.contains("0011"), "{text}");
    }
    Ok(())
}

#[test]
fn a_rotated_transit_key_opens_what_it_wrapped_and_rewraps_it() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("rotated")?);
    let login = approle(&shared.role_id, secret(&scratch, "id", &shared.secret_id)?);
    let wrapper = transit(&shared, login)?;
    let secret = data()?;
    let old: WrappedKey = said(wrapper.wrap(&secret, &context(), soon()))?;
    let name = old.kek.strip_suffix(":v1").ok_or("the first version was to wrap")?;
    let path = name.replace('/', "/keys/");
    shared.vault.vault(&["write", "-f", &format!("{path}/rotate")])?;
    ensure!(
        said(wrapper.describe(soon()))?.kek == format!("{name}:v2"),
        "version 2 was to be next"
    );
    let new = said(wrapper.rewrap(&old, &context(), soon()))?;
    ensure!(new.kek == format!("{name}:v2"), "{}", new.kek);
    for wrapped in [&old, &new] {
        let opened = said(wrapper.unwrap(wrapped, &context(), soon()))?;
        ensure!(opened.expose() == secret.expose(), "another key came back");
    }
    shared.vault.vault(&["write", &format!("{path}/config"), "min_decryption_version=2"])?;
    let text = refused(wrapper.unwrap(&old, &context(), soon()), Kind::State)?;
    ensure!(text.contains("lower min_decryption_version"), "{text}");
    seen!("{text}");
    said(wrapper.unwrap(&new, &context(), soon())).map(drop)
}

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };

/// A server's keys from `server`, read when it is told to.
fn custodian(server: impl KeyServer + 'static) -> Result<Custodian> {
    let (name, timeout) = ("vault".to_owned(), Duration::from_secs(30));
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
fn a_secret_that_is_deleted_and_put_again_is_another_key_and_memory_serves_on() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("again")?);
    let prefix = shared.new_name();
    let login = approle(&shared.role_id, secret(&scratch, "id", &shared.secret_id)?);
    let server = kv(&shared, &prefix, login)?;
    for (id, versions) in [(1, 3), (5, 1), (6, 1)] {
        for version in 1..=versions {
            said(server.put(&said(key(id, version))?, &data()?, soon()))?;
        }
    }
    let custodian = custodian(server)?;
    let id = |number| said(KeyId::try_from(number));
    let latest = |number| Ok::<_, test_kit::Trouble>(custodian.latest(id(number)?).map(u32::from));
    // Soft, and taken back.
    let (path, hex) = (format!("{prefix}/5"), format!("data={}", "5c".repeat(32)));
    shared.vault.vault(&["kv", "delete", "-mount=secret", &path])?;
    let deleted = cause(&custodian)?;
    ensure!(deleted.contains("key 5 version 1 is deleted"), "{deleted}");
    seen!("kv delete: {deleted}");
    let refused = refused(custodian.rotate(Which::One(id(5)?), REASON), Kind::State)?;
    seen!("its rotation: {refused}");
    said(custodian.rotate(Which::One(id(6)?), REASON))?;
    ensure!(latest(5)? == Some(1) && latest(6)? == Some(2), "another version encrypts");
    shared.vault.vault(&["kv", "undelete", "-mount=secret", "-versions=1", &path])?;
    ensure!(cause(&custodian)?.is_empty(), "it is back, and the state was to be ok");
    // With its metadata, and another in its place: numbers begin again.
    let path = format!("{prefix}/1");
    shared.vault.vault(&["kv", "metadata", "delete", "-mount=secret", &path])?;
    let gone = cause(&custodian)?;
    ensure!(gone.contains("key 1 version 1 is gone, key 1 version 2 is gone"), "{gone}");
    seen!("kv metadata delete: {gone}");
    for _ in 0..2 {
        shared.vault.vault(&["kv", "put", "-mount=secret", &path, &hex])?;
        let other = cause(&custodian)?;
        let words = "key 1 version 1 is another key than the one in use";
        ensure!(other.contains(words), "{other}");
        ensure!(latest(1)? == Some(3), "version {:?} encrypts", latest(1)?);
    }
    ensure!(custodian.rotate(Which::One(id(1)?), REASON).is_err(), "it was rotated");
    Ok(())
}

#[test]
fn an_engine_of_version_1_is_refused_and_the_advice_leads_out() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("engine")?);
    let login = Login::Token(secret(&scratch, "token", shared.vault.root_token())?);
    let of_version_1 = || -> Result<KvSettings> {
        let vault = settings(&shared.vault, login.clone())?;
        let (mount, prefix) = ("first".into(), "keyward".into());
        let (mode, refresh) = (PageMode::Ctr, Duration::from_secs(10));
        Ok(KvSettings { vault, mount, prefix, mode, refresh })
    };
    let server = || Ok::<_, test_kit::Trouble>(KvServer::new(of_version_1()?, Arc::new(System)));
    shared.vault.vault(&["secrets", "enable", "-version=1", "-path=first", "kv"])?;
    let key = said(key(1, 1))?;
    let put = refused(server()?.put(&key, &data()?, soon()), Kind::Config)?;
    ensure!(
        put.ends_with("run vault kv enable-versioning first, or name another `mount`"),
        "{put}"
    );
    seen!("{put}");
    for said in [
        refused(server()?.put(&key, &data()?, soon()), Kind::Config)?,
        refused(server()?.list(soon()), Kind::Config)?,
        refused(server()?.probe(soon()), Kind::Config)?,
    ] {
        ensure!(said.contains("the KV engine at first in Vault at"), "{said}");
    }
    let written = shared.vault.vault(&["kv", "list", "-mount=first", "-format=json", "/"]);
    ensure!(written.is_err(), "something was written there: {written:?}");
    shared.vault.vault(&["kv", "enable-versioning", "first"])?;
    let began = std::time::Instant::now();
    while let Err(error) = server()?.put(&key, &data()?, soon()) {
        // Vault says no for a moment while it upgrades.
        ensure!(began.elapsed() < Duration::from_secs(20), "{error}");
        std::thread::sleep(Duration::from_millis(500));
    }
    ensure!(said(server()?.list(soon()))?.len() == 1, "the key is not there");
    Ok(())
}
