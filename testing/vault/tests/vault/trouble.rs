//! Vault away, sealed, refusing; and a policy that lacks something.

use std::time::{Duration, Instant};

use keyward::backend::http::Url;
use keyward::backend::vault::Login;
use keyward::error::Kind;
use keyward::provider::{KeyServer, KeyWrapper};
use keyward::secret::source::{Given, SecretSource};
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

/// Deleted, and then made again as one might be told to: neither is worth a try, and the lines say so.
#[test]
fn a_transit_key_that_was_deleted_is_not_to_be_made_again() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("deleted")?);
    let vault = &shared.vault;
    let token = secret(&scratch, "token", vault.root_token())?;
    let name = shared.new_name();
    let key = format!("transit/keys/{name}");
    vault.vault(&["write", "-f", &key])?;
    let wrapper = wrapper(settings(vault, Login::Token(token))?, &name);
    let data = keyward::secret::DataKey::copy_of(&[7; 32]).map_err(|error| error.to_string())?;
    let wrapped =
        wrapper.wrap(&data, &crate::context(), soon()).map_err(|error| error.to_string())?;
    vault.vault(&["write", &format!("{key}/config"), "deletion_allowed=true"])?;
    vault.vault(&["delete", &key])?;
    let advice =
        ["restore the old one in Vault from a backup", "rescue", "keyward keystore restore"];
    let lost = |kind, wanted: &[&str]| -> Result<()> {
        for text in [
            refused(wrapper.unwrap(&wrapped, &crate::context(), soon()), kind)?,
            refused(wrapper.rewrap(&wrapped, &crate::context(), soon()), kind)?,
        ] {
            for word in wanted.iter().chain(&advice) {
                ensure!(text.contains(word), "no {word:?}: {text}");
            }
            ensure!(!text.contains("vault write"), "{text}");
        }
        Ok(())
    };
    lost(Kind::NotFound, &["has that key no more", "a new key of that name cannot open it"])?;
    vault.vault(&["write", "-f", &key])?;
    lost(
        Kind::Corrupt,
        &["Vault's key of that name, which was made at 20", "deleted and made again"],
    )?;
    // Of a later version than the new one has, it is certain.
    let mut later = wrapped;
    later.kek = format!("transit/{name}:v3");
    let text = refused(wrapper.unwrap(&later, &crate::context(), soon()), Kind::Corrupt)?;
    ensure!(text.contains("Vault's key of that name has 1 versions only"), "{text}");
    Ok(())
}

/// As the original's options give it: the token may be good for keys and not for asking what it is good for.
#[test]
fn a_revoked_token_of_the_stand_ins_is_no_missing_right() -> Result<()> {
    let shared = Shared::get()?;
    let vault = &shared.vault;
    let prefix = shared.new_name();
    let new_token = |words: &[&str]| -> Result<String> {
        let all = [&["token", "create", "-field=token"], words].concat();
        Ok(vault.vault(&all)?.trim().to_owned())
    };
    let listed = |token: &str| -> Result<String> {
        let source = SecretSource::Option(Given::new("hashicorp_key_management_token", token));
        let list = kv(&shared, &prefix, Login::Token(source))?.list(soon());
        Ok(list.err().map(|error| error.to_string()).unwrap_or_default())
    };
    let (good, poor) = (new_token(&["-policy=root"])?, new_token(&["-policy=nothing"])?);
    ensure!(listed(&good)?.is_empty(), "{}", listed(&good)?);
    vault.vault(&["token", "revoke", &good])?;
    let said = listed(&good)?;
    ensure!(said.contains("does not accept our token; it was revoked, is over"), "{said}");
    ensure!(!said.contains("policy") && !said.contains(&good), "{said}");
    seen!("{said}");
    // One that lacks the right is told that.
    let said = listed(&poor)?;
    ensure!(said.contains("denies") && said.contains("add to the policy: path "), "{said}");
    Ok(())
}
