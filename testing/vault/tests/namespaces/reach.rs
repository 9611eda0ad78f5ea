//! Engines and log-ins in namespaces, and what reaches from one into another.

use keyward::Kind;
use keyward::backend::vault::Login;
use keyward::env::System;
use keyward::key::{Cipher, KeyId, KeyRef, KeyVersion};
use keyward::provider::{KeyServer, KeyWrapper, WrapContext};
use keyward::secret::DataKey;
use keyward::secret::source::SecretSource;
use test_kit::{Result, ensure};

use crate::{Team, refused, said, soon, wrapper};

fn context() -> WrapContext {
    WrapContext { keystore: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(), store_key: 1 }
}

#[test]
fn a_transit_key_wraps_in_its_namespace_and_opens_nothing_of_anothers() -> Result<()> {
    let (ours, theirs) = (Team::new()?, Team::new()?);
    let (wrapper, other) = (ours.transit()?, theirs.transit()?);
    let data = said(DataKey::generate(32, &System))?;
    let wrapped = said(wrapper.wrap(&data, &context(), soon()))?;
    let opened = said(wrapper.unwrap(&wrapped, &context(), soon()))?;
    ensure!(opened.expose() == data.expose(), "another key came back");
    let probe = said(wrapper.probe(soon()))?;
    ensure!(probe.facts.iter().any(|(_, fact)| fact == "all that are needed"), "{:?}", probe.facts);
    // The same engine, key and version by their names.
    refused(other.unwrap(&wrapped, &context(), soon()), Kind::Corrupt)?;
    Ok(())
}

#[test]
fn keys_of_a_kv_engine_are_those_of_the_namespace() -> Result<()> {
    let (ours, theirs) = (Team::new()?, Team::new()?);
    let (server, other) = (ours.kv()?, theirs.kv()?);
    let key = KeyRef::new(said(KeyId::try_from(1))?, KeyVersion::FIRST);
    let data = said(DataKey::generate(32, &System))?;
    said(server.put_for(&key, &data, Cipher::DEFAULT, soon()))?;
    let found = said(ours.kv()?.fetch(&key, soon()))?;
    ensure!(found.expose() == data.expose(), "another key came back");
    ensure!(said(server.list(soon()))?.len() == 1, "the key is not listed");
    ensure!(said(other.list(soon()))?.is_empty(), "the other namespace has it, too");
    ensure!(server.identity() != other.identity(), "both are called {}", server.identity());
    Ok(())
}

#[test]
fn what_is_to_be_run_names_the_namespace() -> Result<()> {
    let team = Team::new()?;
    team.run(&["write", "transit/keys/keyward/config", "deletion_allowed=true"])?;
    team.run(&["delete", "transit/keys/keyward"])?;
    let said = refused(team.transit()?.describe(soon()), Kind::NotFound)?;
    let line = format!("vault write -f -namespace={} transit/keys/keyward", team.path);
    ensure!(said.contains(&line), "{said}");
    team.show(&said);
    Ok(())
}

#[test]
fn a_role_of_the_namespace_above_reaches_down_by_the_mount() -> Result<()> {
    let team = Team::new()?;
    let (parent, vault) = (team.parent(), &team.vault);
    vault.vault_in(parent, &["auth", "enable", "approle"])?;
    let rules = "path \"db/transit/*\" { capabilities = [\"read\", \"update\"] }";
    let rules = team.file("above.hcl", rules)?.display().to_string();
    vault.vault_in(parent, &["policy", "write", "above", &rules])?;
    let above = Team {
        vault: vault.clone(),
        path: parent.to_owned(),
        scratch: test_kit::Scratch::new("above")?,
    };
    above.run(&["write", crate::ROLE, "token_policies=above"])?;
    let wrapper = wrapper(team.settings(parent, above.login()?)?, "db/transit");
    let data = said(DataKey::generate(32, &System))?;
    let wrapped = said(wrapper.wrap(&data, &context(), soon()))?;
    let opened = said(wrapper.unwrap(&wrapped, &context(), soon()))?;
    ensure!(opened.expose() == data.expose(), "another key came back");
    ensure!(wrapped.kek == "db/transit/keyward:v1", "{}", wrapped.kek);
    Ok(())
}

#[test]
fn credentials_of_another_namespace_are_refused_by_name() -> Result<()> {
    let (ours, theirs) = (Team::new()?, Team::new()?);
    let role = wrapper(ours.settings(&ours.path, theirs.login()?)?, "transit");
    let said = refused(role.describe(soon()), Kind::Denied)?;
    let words = format!("refuses our log-in at auth/approle in the namespace {}", ours.path);
    ensure!(said.contains(&words), "{said}");
    ours.show(&said);
    let token = theirs.run(&["token", "create", "-policy=keyward", "-field=token"])?;
    let login = || -> Result<Login> {
        Ok(Login::Token(SecretSource::File(ours.file("token", token.trim())?)))
    };
    let by_token = wrapper(ours.settings(&ours.path, login()?)?, "transit");
    let said = refused(by_token.describe(soon()), Kind::Denied)?;
    ensure!(said.contains("is of another namespace than"), "{said}");
    ours.show(&said);
    // A right that is missing is missing in a namespace.
    let rules = ours.file("other.hcl", "path \"other\" { capabilities = [\"read\"] }")?;
    ours.run(&["policy", "write", "keyward", &rules.display().to_string()])?;
    let said = refused(ours.transit()?.describe(soon()), Kind::Denied)?;
    let words = format!("denies read on transit/keys/keyward in the namespace {}", ours.path);
    ensure!(said.contains(&words), "{said}");
    ours.show(&said);
    Ok(())
}
