//! Each kind of trouble, and the error that an operator reads.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use keyward::backend::azure_keyvault::Settings;
use keyward::env::{Clock as _, Deadline, System};
use keyward::error::Kind;
use keyward::provider::{KeyWrapper, WrapContext};
use test_cloud::azure::{Answer, CLIENT_ID, action, error, now};
use test_kit::{Result, ensure, seen};

use crate::{Room, Told as _, context, fact, new_key, round_trip, soon, wrapper};

#[test]
fn fake_azure_a_store_key_of_another_keystore_is_refused() -> Result<()> {
    for kty in ["RSA", "oct-HSM"] {
        let room = Room::with_key("context", kty)?;
        let vault = room.provider()?;
        let wrapped = round_trip(&vault)?;
        let other = WrapContext { store_key: 2, ..context() };
        let words = ["store key 2, wrapped by http", "another keystore"];
        let told = room.refused(vault.unwrap(&wrapped, &other, soon()), Kind::Corrupt, &words)?;
        seen!("wrong context: {told}");
        // Another version as the one that made it.
        vault.create_key(System.now(), soon()).told()?;
        let mut changed = wrapped.clone();
        changed.kek = format!("{}/{}", room.key, room.newest()?);
        let words = ["another keystore"];
        room.refused(vault.unwrap(&changed, &context(), soon()), Kind::Corrupt, &words)?;
        let mut settings = room.with_secret()?;
        settings.key = room.fake.new_key("other", kty)?.parse().told()?;
        let words = ["made by http", "/keys/store/", "keyward keystore rewrap"];
        let told = wrapper(settings).unwrap(&wrapped, &context(), soon());
        seen!("another key: {}", room.refused(told, Kind::NotMine, &words)?);
    }
    Ok(())
}

#[test]
fn fake_azure_a_disabled_key_shows_though_it_still_wraps() -> Result<()> {
    let room = Room::new("disabled")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    room.fake.change("store", |version| version.enabled = false);
    let cure = format!(
        "is disabled; az keyvault key set-attributes --vault-name=127 --name=store --version={} \
         --enabled=true",
        room.newest()?
    );
    let words = [cure.as_str(), room.key.as_str()];
    let told = room.refused(vault.unwrap(&wrapped, &context(), soon()), Kind::State, &words)?;
    seen!("{told}");
    room.refused(vault.wrap(&new_key()?, &context(), soon()), Kind::State, &words)?;
    room.refused(vault.rewrap(&wrapped, &context(), soon()), Kind::State, &words)?;
    room.refused(vault.describe(soon()), Kind::State, &words)?;
    room.refused(vault.probe(soon()), Kind::State, &words)?;
    // Where the description is behind, unwrapping tells.
    room.fake.fail(|request| {
        let opens = request.path.contains("/unwrapkey");
        opens.then(|| error(403, "Forbidden", "no", "KeyDisabled"))
    });
    room.fake.change("store", |version| version.enabled = true);
    room.refused(vault.probe(soon()), Kind::State, &words)?;
    room.fake.state().fault = None;
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    Ok(())
}

#[test]
fn fake_azure_a_version_whose_time_has_not_come_opens_and_wraps_nothing() -> Result<()> {
    let room = Room::new("early")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    room.fake.change("store", |version| version.not_before = Some(now() + 3600));
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    let words = ["wraps nothing yet before 20", "--not-before=$(date -u +%FT%TZ)"];
    let told = room.refused(vault.wrap(&new_key()?, &context(), soon()), Kind::State, &words)?;
    seen!("early: {told}");
    Ok(())
}

#[test]
fn fake_azure_the_error_of_a_deleted_key_has_the_way_back() -> Result<()> {
    let room = Room::new("deleted")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    let deleted = room.fake.state().keys.remove("store").ok_or("no key")?;
    room.fake.state().deleted.insert("store".to_owned(), deleted);
    let words = ["was deleted, and can be recovered until 20", "az keyvault key recover"];
    let told = room.refused(vault.unwrap(&wrapped, &context(), soon()), Kind::State, &words)?;
    seen!("deleted: {told}");
    room.refused(vault.describe(soon()), Kind::State, &words)?;
    room.refused(vault.create_key(System.now(), soon()), Kind::State, &words)?;
    // An account that may not look for it reads where to look.
    room.fake.fail(|request| {
        let asked = request.path.starts_with("/deletedkeys/");
        asked.then(|| error(403, "Forbidden", "no", "ForbiddenByRbac"))
    });
    let words = ["has no version", "list-deleted --vault-name=127"];
    room.refused(vault.unwrap(&wrapped, &context(), soon()), Kind::NotMine, &words)?;
    let words = ["was deleted, and can be recovered; at once"];
    room.refused(vault.create_key(System.now(), soon()), Kind::State, &words)?;
    Ok(())
}

#[test]
fn fake_azure_a_key_that_can_be_purged_at_once_is_refused_unless_that_is_put_up_with() -> Result<()>
{
    let room = Room::new("purge")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    ensure!(fact(&vault, "recovery")? == "Recoverable, 90 days", "{}", fact(&vault, "recovery")?);
    room.fake.state().recovery = "Recoverable+Purgeable".to_owned();
    let words =
        ["can be purged for ever", "az keyvault update --name=127 --enable-purge-protection=true"];
    for result in [
        vault.wrap(&new_key()?, &context(), soon()).map(drop),
        vault.rewrap(&wrapped, &context(), soon()).map(drop),
        vault.create_key(System.now(), soon()).map(drop),
        vault.probe(soon()).map(drop),
    ] {
        seen!("purgeable: {}", room.refused(result, Kind::State, &words)?);
    }
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    let vault = wrapper(Settings { allow_purge: true, ..room.with_secret()? });
    round_trip(&vault)?;
    let said = fact(&vault, "recovery")?;
    ensure!(said.contains("a right to purge is enough to destroy the key at once"), "{said}");
    Ok(())
}

#[test]
fn fake_azure_denials_name_the_permission_the_role_and_the_line() -> Result<()> {
    let room = Room::new("denied")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    room.fake.take_actions();
    room.fake.deny("unwrapKey");
    let grant = format!(
        "az role assignment create --role=\"Key Vault Crypto Service Encryption User\" \
         --assignee={CLIENT_ID} --scope=\"$(az keyvault show --name=127"
    );
    let words = ["Azure denies unwrapKey on http", grant.as_str()];
    let told = room.refused(vault.unwrap(&wrapped, &context(), soon()), Kind::Denied, &words)?;
    seen!("denied: {told}");
    let actions = room.fake.take_actions();
    ensure!(actions == ["challenge", "token", "unwrapkey"], "asked for again: {actions:?}");
    for (inner, kind, cure) in [
        ("AccessDenied", Kind::Denied, "az keyvault set-policy --name=127 --spn=0f0c"),
        ("ForbiddenByFirewall", Kind::Denied, "az keyvault network-rule add"),
        ("ForbiddenByConnection", Kind::Denied, "private endpoints"),
        ("KeyOperationForbidden", Kind::State, "--ops wrapKey unwrapKey"),
    ] {
        room.fake.state().denial = inner.to_owned();
        let told = room.refused(vault.unwrap(&wrapped, &context(), soon()), kind, &[cure])?;
        seen!("{inner}: {told}");
    }
    room.fake.fail(|request| {
        let with_token = !request.header("authorization").is_empty();
        with_token.then(|| error(401, "Unauthorized", "AKV10032: Invalid issuer.", ""))
    });
    let words = ["a token of our tenant", "--query=properties.tenantId"];
    room.refused(vault.unwrap(&wrapped, &context(), soon()), Kind::Denied, &words)?;
    Ok(())
}

#[test]
fn fake_azure_a_throttled_vault_is_waited_for_as_long_as_it_says() -> Result<()> {
    let room = Room::new("throttled")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    let busy = |after: &str| error(429, "Throttled", "busy", "").with("Retry-After", after);
    let left = AtomicI32::new(1);
    room.fake.fail(move |_| (left.fetch_sub(1, Ordering::SeqCst) > 0).then(|| busy("1")));
    let began = Instant::now();
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    ensure!(began.elapsed() >= Duration::from_secs(1), "after {:?}", began.elapsed());
    // Longer than there is time: it is not waited for.
    room.fake.fail(move |_| Some(busy("60")));
    let (began, by) = (Instant::now(), Deadline::after(Duration::from_secs(5)));
    let words = ["come back later: too many requests"];
    room.refused(vault.unwrap(&wrapped, &context(), by), Kind::Unavailable, &words)?;
    ensure!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn fake_azure_servers_that_are_no_vault_are_no_trouble_to_us() -> Result<()> {
    let room = Room::new("senseless")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    let by = || Deadline::after(Duration::from_secs(3));
    // Each is asked again until the deadline, so wraps and unwraps take turns.
    for (turn, body) in
        ["<html>hello</html>", "", "{\"kid\": 3", "[]", "{\"value\": 1}", "{\"value\": \"*\"}"]
            .into_iter()
            .enumerate()
    {
        room.fake.fail(move |request| {
            let with_token = !request.header("authorization").is_empty();
            with_token.then(|| Answer::text(200, body))
        });
        let words = ["something else than"];
        let outcome = match turn % 2 {
            0 => vault.unwrap(&wrapped, &context(), by()).map(drop),
            _ => vault.wrap(&new_key()?, &context(), by()).map(drop),
        };
        room.refused(outcome, Kind::Unavailable, &words)?;
    }
    // Another key's answer, and a value that is none.
    for answer in [
        "{\"kid\": \"https://a.vault.azure.net/keys/k/0\", \"value\": \"AAAA\"}",
        "{\"value\": \"\"}",
    ] {
        room.fake
            .fail(move |request| (action(request) == "wrapkey").then(|| Answer::text(200, answer)));
        let words = ["something else than a vault of Azure"];
        room.refused(vault.wrap(&new_key()?, &context(), by()), Kind::Unavailable, &words)?;
    }
    for status in [404, 500, 503] {
        room.fake.fail(move |_| Some(Answer::text(status, "<html>")));
        room.refused(vault.unwrap(&wrapped, &context(), by()), Kind::Unavailable, &["127.0.0.1"])?;
    }
    let Room { fake, .. } = room;
    drop(fake);
    let began = Instant::now();
    let error = vault.unwrap(&wrapped, &context(), soon()).err().ok_or("it went through")?;
    ensure!(error.to_string().contains("connection refused"), "{error}");
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    Ok(())
}
