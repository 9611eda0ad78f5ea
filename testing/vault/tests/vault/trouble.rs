//! Vault away, sealed, refusing; and a policy that lacks something.

use std::time::{Duration, Instant};

use keyward::backend::http::Url;
use keyward::backend::vault::Login;
use keyward::error::Kind;
use keyward::provider::{KeyServer, KeyWrapper};
use test_kit::{Result, Scratch, ensure, free_port, seen};
use test_vault::{Shared, Vault};

use crate::{approle, kv, secret, settings, shortly, soon, transit, wrapper};

fn refused<T>(result: keyward::Result<T>, kind: Kind) -> Result<String> {
    match result {
        Ok(_) => Err(format!("it went through, and {kind:?} was due").into()),
        Err(error) => {
            ensure!(error.kind() == kind, "{:?}: {error}", error.kind());
            seen!("{error}");
            Ok(error.to_string())
        }
    }
}

#[test]
fn sealed_killed_and_back() -> Result<()> {
    let (mut vault, scratch) = (Vault::start()?, Scratch::new("sealed")?);
    vault.vault(&["secrets", "enable", "transit"])?;
    vault.vault(&["write", "-f", "transit/keys/k"])?;
    let token = secret(&scratch, "token", vault.root_token())?;
    let wrapper = wrapper(settings(&vault, Login::Token(token))?, "k");
    wrapper.describe(soon()).map_err(|error| error.to_string())?;
    vault.seal()?;
    let text = refused(wrapper.describe(shortly()), Kind::Unavailable)?;
    ensure!(text.contains("is sealed; unseal it with `vault operator unseal`"), "{text}");
    vault.kill()?;
    let began = Instant::now();
    let text = refused(wrapper.describe(shortly()), Kind::Unavailable)?;
    ensure!(text.contains("connection refused"), "{text}");
    ensure!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    vault.run()?;
    vault.unseal()?;
    wrapper.describe(soon()).map(drop).map_err(|error| error.to_string().into())
}

#[test]
fn a_node_that_is_away_is_passed_over() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("nodes")?);
    let login = approle(&shared.role_id, secret(&scratch, "id", &shared.secret_id)?);
    let mut with = settings(&shared.vault, login)?;
    // Nobody listens on a port that was just given back.
    let port = free_port()?;
    let away = format!("https://127.0.0.1:{port}");
    with.addresses.insert(0, Url::parse(&away).map_err(|error| error.to_string())?);
    let key = shared.new_name();
    shared.vault.vault(&["write", "-f", &format!("transit/keys/{key}")])?;
    wrapper(with, &key).describe(soon()).map(drop).map_err(|error| error.to_string().into())
}

#[test]
fn whoever_it_is_must_be_the_one_that_is_trusted() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("trust")?);
    let login = approle(&shared.role_id, secret(&scratch, "id", &shared.secret_id)?);
    let other = test_kit::Certificates::make(scratch.path())?;
    let mut with = settings(&shared.vault, login)?;
    with.trust.server_name = Some("vault.example".into());
    let text = refused(wrapper(with.clone(), "k").describe(soon()), Kind::Untrusted)?;
    ensure!(text.contains("its certificate is for another name"), "{text}");
    with.trust.server_name = None;
    with.trust.ca_file = Some(other.path("ca.pem"));
    let text = refused(wrapper(with.clone(), "k").describe(soon()), Kind::Untrusted)?;
    ensure!(text.contains("is from an authority that is not trusted here"), "{text}");
    // The system's authorities, if this machine has any.
    with.trust.ca_file = None;
    let refused = wrapper(with, "k").describe(soon()).err().ok_or("it was trusted")?;
    ensure!(matches!(refused.kind(), Kind::Untrusted | Kind::Config), "{refused}");
    Ok(())
}

#[test]
fn what_a_policy_lacks_is_said_in_its_own_words() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("policy")?);
    let vault = &shared.vault;
    let name = shared.new_name();
    vault.policy(&name, "path \"transit/keys/*\" { capabilities = [\"read\"] }")?;
    let policy = format!("-policy={name}");
    let token = vault.vault(&["token", "create", &policy, "-ttl=1h", "-field=token"])?;
    let login = || secret(&scratch, "token", token.trim()).map(Login::Token);
    let wrapper = transit(&shared, login()?)?;
    let text = refused(wrapper.probe(soon()), Kind::Denied)?;
    for doing in ["encrypt", "decrypt"] {
        ensure!(text.contains(&format!("path \"transit/{doing}/")), "{text}");
    }
    ensure!(!text.contains("path \"transit/keys/"), "that one is there: {text}");
    // What it asks for is what it needs.
    let key = wrapper.describe(soon()).map_err(|error| error.to_string())?.kek;
    let (_, rules) = text.split_once("add to its policy: ").ok_or("no rules")?;
    vault.policy(
        &name,
        &format!("{}\n{rules}", "path \"transit/keys/*\" { capabilities = [\"read\"] }"),
    )?;
    wrapper.probe(soon()).map_err(|error| error.to_string())?;
    seen!("with these rules {key} wraps");
    let server = kv(&shared, &shared.new_name(), login()?)?;
    let text = refused(server.list(soon()), Kind::Denied)?;
    ensure!(text.contains("{ capabilities = [\"list\"] }"), "{text}");
    Ok(())
}

#[test]
fn a_mount_that_is_not_there_is_named() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("mount")?);
    let token = secret(&scratch, "token", shared.vault.root_token())?;
    let with = settings(&shared.vault, Login::Token(token))?;
    let text = refused(wrapper(with, "no-such-key").describe(soon()), Kind::NotFound)?;
    ensure!(text.contains("vault write -f transit/keys/no-such-key"), "{text}");
    Ok(())
}
