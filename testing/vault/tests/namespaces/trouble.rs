//! A namespace that is locked, sealed, not there, or deleted; each error leads out.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use keyward::Kind;
use keyward::custodian::Custodian;
use keyward::env::fake::FakeLog;
use keyward::env::{Env, System};
use keyward::key::{Cipher, KeyId, KeyRef, KeyVersion};
use keyward::provider::{KeyServer, KeyWrapper};
use keyward::secret::DataKey;
use keyward::source::{NamedServer, Role, ServedSource};
use serde_json::Value;
use test_kit::{Result, ensure};

use crate::{Team, bao, refused, said, shortly, soon, wrapper};

#[test]
fn a_locked_one_is_unlocked_by_the_line_that_is_printed() -> Result<()> {
    let team = Team::new()?;
    let wrapper = team.transit()?;
    said(wrapper.describe(soon()))?;
    for locked in [team.path.as_str(), team.parent()] {
        team.vault.vault(&["namespace", "lock", locked])?;
        // Both by a log-in that is open and by one that is to be made.
        let text = refused(wrapper.describe(shortly()), Kind::Unavailable)?;
        ensure!(text.contains(&format!("the namespace {locked} is locked; unlock it: ")), "{text}");
        ensure!(text.contains("bao namespace unlock"), "{text}");
        team.show(&text);
        team.follow(&text, &[])?;
        said(wrapper.describe(soon()))?;
    }
    let new = team.transit()?;
    team.vault.vault(&["namespace", "lock", team.parent()])?;
    let text = refused(new.describe(shortly()), Kind::Unavailable)?;
    ensure!(text.contains(&format!("the namespace {} is locked", team.parent())), "{text}");
    team.follow(&text, &[])?;
    said(new.describe(soon())).map(drop)
}

#[test]
fn a_sealed_one_is_unsealed_by_the_line_that_is_printed_and_its_key() -> Result<()> {
    let vault = bao()?;
    let parent = format!("sealed-{}", test_kit::shared::new_name());
    vault.vault(&["namespace", "create", &parent])?;
    let words = ["namespace", "create", "-key-shares=1", "-key-threshold=1", "-format=json", "own"];
    let made = vault.vault_in(&parent, &words)?;
    let made: Value = serde_json::from_str(&made).map_err(|error| error.to_string())?;
    let share = made["key_shares"][0].as_str().ok_or("it has no key share")?.to_owned();
    vault.vault_in(&parent, &["namespace", "unseal", "own", &share])?;
    let sealed = format!("{parent}/own");
    let own = Team::furnished(vault.clone(), sealed.clone())?;
    vault.vault_in(&sealed, &["namespace", "create", "db"])?;
    let beneath = Team::furnished(vault.clone(), format!("{sealed}/db"))?;
    for team in [&own, &beneath] {
        let wrapper = team.transit()?;
        said(wrapper.describe(soon()))?;
        vault.vault_in(&parent, &["namespace", "seal", "own"])?;
        let text = refused(wrapper.describe(shortly()), Kind::Unavailable)?;
        let line = format!("unseal it: bao namespace unseal -namespace={parent} own");
        ensure!(text.contains(&format!("the namespace {sealed} is sealed; {line}")), "{text}");
        own.show(&text);
        team.follow(&text, &[&share])?;
        said(wrapper.describe(soon()))?;
    }
    Ok(())
}

#[test]
fn one_that_is_not_there_is_made_by_the_line_that_is_printed() -> Result<()> {
    let team = Team::new()?;
    let wanted = format!("{}/more/deep", team.path);
    let wrapper = wrapper(team.settings(&wanted, team.login()?)?, "transit");
    for absent in ["more", "more/deep"] {
        let text = refused(wrapper.describe(soon()), Kind::Config)?;
        let words = format!("has no namespace {}/{absent}; correct `namespace`", team.path);
        ensure!(text.contains(&words), "{text}");
        team.show(&text);
        team.follow(&text, &[])?;
    }
    // It is there, and empty: nobody can log in.
    let text = refused(wrapper.describe(soon()), Kind::Denied)?;
    let words = format!("where no method is mounted at auth/approle in the namespace {wanted}");
    ensure!(text.contains(&words), "{text}");
    team.show(&text);
    Ok(())
}

/// A namespace that goes while a server lives on its keys is no engine that became empty.
#[test]
fn one_that_is_locked_or_deleted_takes_no_key_from_memory() -> Result<()> {
    let team = Team::new()?;
    let server = team.kv()?;
    let id = said(KeyId::try_from(1))?;
    let data = said(DataKey::generate(32, &System))?;
    said(server.put(&KeyRef::new(id, KeyVersion::FIRST), &data, soon()))?;
    let timeout = Duration::from_secs(3);
    let refresh = Duration::from_secs(600);
    let named = NamedServer { name: "bao".to_owned(), timeout, refresh, server: Box::new(server) };
    let env = Env::system(Arc::new(FakeLog::default()));
    let source = ServedSource::new(named, Cipher::DEFAULT, env.clone());
    let custodian = said(Custodian::start(source, Role::Daemon, env))?;
    let cause = || {
        // Its outcome is in the status, too.
        let _ = custodian.refresh();
        custodian.status().degraded.map_or_else(String::new, |degraded| degraded.cause)
    };
    team.vault.vault(&["namespace", "lock", &team.path])?;
    let locked = cause();
    ensure!(locked.contains(&format!("the namespace {} is locked", team.path)), "{locked}");
    ensure!(custodian.latest(id).map(u32::from) == Some(1), "the key went");
    team.vault.vault(&["namespace", "unlock", &team.path])?;
    ensure!(cause().is_empty(), "it is unlocked, and the state was to be ok");
    team.vault.vault_in(team.parent(), &["namespace", "delete", "db"])?;
    // What it held is deleted first.
    let began = Instant::now();
    while team.run(&["token", "lookup"]).is_ok() {
        ensure!(began.elapsed() < Duration::from_secs(30), "it is not deleted after 30 s");
        sleep(Duration::from_millis(100));
    }
    let deleted = cause();
    ensure!(deleted.contains(&format!("has no namespace {}", team.path)), "{deleted}");
    ensure!(custodian.latest(id).map(u32::from) == Some(1), "the key went");
    team.show(&deleted);
    Ok(())
}
