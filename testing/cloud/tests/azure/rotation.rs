//! New versions of a key, keys that keyward makes, and each algorithm.

use keyward::backend::azure_keyvault::{Algorithm, KeyType, Settings};
use keyward::env::{Clock as _, System};
use keyward::error::Kind;
use keyward::provider::KeyWrapper;
use test_kit::{Result, ensure, seen};

use crate::{Room, Told as _, context, fact, new_key, round_trip, soon, wrapper};

#[test]
fn fake_azure_each_kind_of_key_wraps_by_its_algorithm() -> Result<()> {
    for (kty, algorithm, wraps, len) in [
        ("RSA", None, "RSA-OAEP-256", 256),
        ("RSA-HSM", Some(Algorithm::RsaOaep256), "RSA-OAEP-256", 256),
        ("oct-HSM", None, "A256KW", 72),
        ("oct-HSM", Some(Algorithm::A256Gcm), "A256GCM", 60),
    ] {
        let room = Room::with_key("algorithm", kty)?;
        let vault = wrapper(Settings { algorithm, ..room.with_secret()? });
        let wrapped = round_trip(&vault)?;
        ensure!(wrapped.algorithm == wraps, "{}", wrapped.algorithm);
        ensure!(wrapped.blob.len() == len, "{kty} {wraps}: {} bytes", wrapped.blob.len());
        let kek = format!("{}/{}", room.key, room.newest()?);
        ensure!(wrapped.kek == kek, "{}", wrapped.kek);
        ensure!(fact(&vault, "rights")? == "wraps and unwraps", "{}", fact(&vault, "rights")?);
        let authenticates = fact(&vault, "authenticates").is_err();
        ensure!(authenticates != (wraps == "RSA-OAEP-256"), "{wraps}");
        // What one algorithm wrapped opens when the configuration names another.
        let other = wrapper(Settings { algorithm: Some(Algorithm::A256Kw), ..room.with_secret()? });
        other.unwrap(&wrapped, &context(), soon()).told()?;
    }
    let room = Room::with_key("algorithm", "EC")?;
    let words = ["of the kind EC", "RSA-HSM"];
    room.refused(room.provider()?.probe(soon()), Kind::Config, &words)?;
    let room = Room::new("algorithm")?;
    let algorithm = Some(Algorithm::RsaOaep256);
    let vault = wrapper(Settings { algorithm, ..room.with_secret()? });
    let words = ["is of the kind oct-HSM and has no RSA-OAEP-256"];
    room.refused(vault.wrap(&new_key()?, &context(), soon()), Kind::Config, &words)?;
    Ok(())
}

#[test]
fn fake_azure_a_rewrap_is_by_the_newest_version_and_older_ones_open() -> Result<()> {
    let room = Room::new("rotation")?;
    let vault = room.provider()?;
    let before = round_trip(&vault)?;
    let info = vault.create_key(System.now(), soon()).told()?;
    room.fake.take_actions();
    let after = vault.rewrap(&before, &context(), soon()).told()?;
    let actions = room.fake.take_actions();
    ensure!(after.kek == info.kek && after.kek != before.kek, "{}", after.kek);
    ensure!(actions == ["challenge", "token", "unwrapkey", "get", "wrapkey"], "{actions:?}");
    vault.unwrap(&before, &context(), soon()).told()?;
    vault.unwrap(&after, &context(), soon()).told()?;
    seen!("rewrap to the newest: {actions:?}");

    // A version that is named stays, and both open.
    let old = before.kek.rsplit('/').next().unwrap_or_default();
    let named = format!("{}/{old}", room.key);
    let pinned = wrapper(Settings { key: named.parse().told()?, ..room.with_secret()? });
    ensure!(round_trip(&pinned)?.kek == before.kek, "another version");
    pinned.unwrap(&after, &context(), soon()).told()?;
    ensure!(pinned.describe(soon()).told()?.kek == before.kek, "another version");
    let words = ["names a version", &room.key];
    room.refused(pinned.create_key(System.now(), soon()), Kind::Config, &words)?;
    Ok(())
}

#[test]
fn fake_azure_a_key_is_made_and_then_a_version_of_it() -> Result<()> {
    let room = Room::new("make")?;
    let key = room.key.replace("/store", "/made");
    let settings = Settings { key: key.parse().told()?, ..room.with_secret()? };
    let vault = wrapper(settings.clone());
    let words = ["has no key", "az keyvault key list", "list-deleted"];
    room.refused(vault.describe(soon()), Kind::NotFound, &words)?;
    room.fake.take_actions();
    let info = vault.create_key(System.now(), soon()).told()?;
    let actions = room.fake.take_actions();
    ensure!(actions == ["challenge", "token", "get", "deleted", "create"], "{actions:?}");
    ensure!(info.algorithm == "RSA-OAEP-256" && info.created.is_some(), "{info:?}");
    ensure!(info.place.ends_with("(RSA)") && !info.exportable, "{info:?}");
    ensure!(fact(&vault, "operations")? == "wrapKey, unwrapKey", "others");
    let again = vault.create_key(System.now(), soon()).told()?;
    ensure!(again.kek != info.kek, "no new version");
    ensure!(round_trip(&vault)?.kek == again.kek, "wrapped by another");

    let key = room.key.replace("/store", "/hsm");
    let key_type = Some(KeyType::OctHsm);
    let of_hsm = Settings { key: key.parse().told()?, key_type, ..settings.clone() };
    let vault = wrapper(of_hsm);
    let info = vault.create_key(System.now(), soon()).told()?;
    ensure!(info.algorithm == "A256KW" && info.place.ends_with("(oct-HSM)"), "{info:?}");
    // An existing key keeps its kind.
    let vault = wrapper(Settings { key_type: None, key: key.parse().told()?, ..settings.clone() });
    let info = vault.create_key(System.now(), soon()).told()?;
    ensure!(info.algorithm == "A256KW", "{info:?}");

    room.fake.deny("create");
    let other = room.key.replace("/store", "/other");
    let vault = wrapper(Settings { key: other.parse().told()?, ..settings });
    let words = ["Azure denies create", "Key Vault Crypto Officer"];
    room.refused(vault.create_key(System.now(), soon()), Kind::Denied, &words)?;
    Ok(())
}

#[test]
fn fake_azure_a_version_that_ended_is_replaced_by_a_new_one() -> Result<()> {
    let room = Room::new("ended")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    room.fake.change("store", |version| version.expires = Some(1_700_000_000));
    let words = ["has expired and wraps nothing since 2023-11-14", "keystore rewrap --new-kek"];
    let error = room.refused(vault.rewrap(&wrapped, &context(), soon()), Kind::State, &words)?;
    seen!("expired: {error}");
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    let info = vault.create_key(System.now(), soon()).told()?;
    ensure!(vault.rewrap(&wrapped, &context(), soon()).told()?.kek == info.kek, "another");
    Ok(())
}

#[test]
fn fake_azure_who_may_only_unwrap_is_enough_for_a_server() -> Result<()> {
    let room = Room::new("least")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    room.fake.deny("wrapKey");
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    let rights = fact(&vault, "rights")?;
    ensure!(rights.starts_with("unwraps; may not wrap"), "{rights}");
    room.fake.deny("get");
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    ensure!(fact(&vault, "state")?.starts_with("unknown"), "{}", fact(&vault, "state")?);
    let words = ["Azure denies get on", "Key Vault Crypto Service Encryption User"];
    room.refused(vault.wrap(&new_key()?, &context(), soon()), Kind::Denied, &words)?;
    room.fake.state().denied.remove("get");
    room.fake.deny("unwrapKey");
    let words = ["Azure denies unwrapKey on"];
    room.refused(vault.probe(soon()), Kind::Denied, &words)?;
    Ok(())
}
