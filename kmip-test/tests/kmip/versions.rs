//! Each release of the protocol that PyKMIP speaks, and keys that others made.

use keyward::backend::kmip::message::Version;
use keyward::backend::kmip::{KeyChoice, Settings, Way};
use keyward::error::Kind;
use keyward::key::KeyState;
use keyward::provider::{KeyServer, KeyWrapper};
use kmip_test::Shared;
use mariadb_test::{Result, ensure, seen};

use crate::{
    context, data, key, python, refused, said, server, settings, soon, works, wrapper, wrapper_of,
};

#[test]
fn each_release_wraps_as_well_as_it_can() -> Result<()> {
    let shared = Shared::get()?;
    for version in Version::ALL {
        let kmip = Settings { version: Some(version), ..settings(&shared.kmip) };
        let name = shared.new_name();
        // Making a key tries it out, which a server before 1.2 cannot do by itself.
        let can_encrypt = version >= Version::of(2);
        let maker = wrapper(kmip.clone(), &name, (!can_encrypt).then_some(Way::Get));
        said(maker.create_key(soon()))?;
        let wanted = match version.minor {
            4 => "aes-gcm",
            2 | 3 => "aes-cbc",
            _ => "get",
        };
        ensure!(works(&maker)? == wanted, "KMIP {version} was to wrap by {wanted}");
        if !can_encrypt {
            let text = refused(wrapper(kmip, &name, None).describe(soon()), Kind::Unsupported)?;
            ensure!(text.contains("mechanism = \"get\""), "{text}");
            seen!("KMIP {version}: {text}");
        }
    }
    let asked = wrapper(settings(&shared.kmip), &shared.new_name(), None);
    said(asked.create_key(soon()))?;
    let facts = said(asked.probe(soon()))?.facts;
    let fact = |name: &str| facts.iter().find(|(is, _)| is == name).map(|(_, value)| &**value);
    ensure!(fact("version") == Some("1.4"), "{facts:?}");
    ensure!(fact("state") == Some("Active"), "{facts:?}");
    seen!(
        "doctor: {}",
        facts.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

#[test]
fn each_release_serves() -> Result<()> {
    let shared = Shared::get()?;
    for version in Version::ALL {
        let kmip = Settings { version: Some(version), ..settings(&shared.kmip) };
        let served = server(kmip.clone(), &shared.new_name());
        let secret = data()?;
        said(served.put(&key(3, 1)?, &secret, soon()))?;
        said(served.put(&key(3, 2)?, &data()?, soon()))?;
        let mut infos = said(served.list(soon()))?;
        infos.sort_by(|a, b| a.key.cmp(&b.key));
        let states: Vec<KeyState> = infos.iter().map(|info| info.state).collect();
        ensure!(states == [KeyState::Retired, KeyState::Active], "KMIP {version}: {states:?}");
        ensure!(said(served.fetch(&key(3, 1)?, soon()))?.expose() == secret.expose(), "other key");
        said(served.remove(&key(3, 1)?, soon()))?;
        refused(served.fetch(&key(3, 1)?, soon()), Kind::NotFound)?;
        ensure!(said(served.list(soon()))?.len() == 1, "KMIP {version}: it is still listed");
    }
    Ok(())
}

#[test]
fn a_key_that_was_left_pre_active_is_named_and_found_by_id_once_it_is_not() -> Result<()> {
    let shared = Shared::get()?;
    let name = shared.new_name();
    let script = format!(
        "print(client.create(enums.CryptographicAlgorithm.AES, 256, name='{name}',
            cryptographic_usage_mask=usage))"
    );
    let id = python::run(&shared.kmip, &script)?;
    let by_name = wrapper(settings(&shared.kmip), &name, None);
    let text = refused(by_name.describe(soon()), Kind::State)?;
    ensure!(text.contains("is Pre-Active: nobody has activated it"), "{text}");
    seen!("{text}");
    python::run(&shared.kmip, &format!("client.activate('{id}')"))?;
    works(&by_name)?;
    let wrapped = said(by_name.wrap(&data()?, &context(), soon()))?;
    for choice in
        [KeyChoice::Id(id.clone()), KeyChoice::Either(id.clone()), KeyChoice::Either(name.clone())]
    {
        let other = wrapper_of(settings(&shared.kmip), choice, None);
        works(&other)?;
        said(other.unwrap(&wrapped, &context(), soon()))?;
    }
    // Revoked by its owner, it opens nothing any more, and the state is why.
    let revoke =
        format!("client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid='{id}')");
    python::run(&shared.kmip, &revoke)?;
    let text = refused(by_name.unwrap(&wrapped, &context(), soon()), Kind::State)?;
    ensure!(text.contains("is Deactivated"), "{text}");
    seen!("{text}");
    python::run(&shared.kmip, &format!("client.destroy('{id}')"))?;
    let text = refused(by_name.unwrap(&wrapped, &context(), soon()), Kind::NotMine)?;
    seen!("{text}");
    let text = refused(by_name.describe(soon()), Kind::NotFound)?;
    ensure!(text.contains("keyward init --create-key"), "{text}");
    seen!("{text}");
    Ok(())
}

#[test]
fn a_new_wrapping_key_of_the_same_name_is_followed_and_the_old_one_opens() -> Result<()> {
    let shared = Shared::get()?;
    let (name, secret) = (shared.new_name(), data()?);
    let wrapper = wrapper(settings(&shared.kmip), &name, None);
    let first = said(wrapper.create_key(soon()))?;
    let old = said(wrapper.wrap(&secret, &context(), soon()))?;
    ensure!(old.kek == first.kek, "{} wrapped", old.kek);
    for _ in 0..3 {
        let made = said(wrapper.create_key(soon()))?;
        ensure!(said(wrapper.describe(soon()))?.kek == made.kek, "{} was to be next", made.kek);
        let new = said(wrapper.rewrap(&old, &context(), soon()))?;
        ensure!(new.kek == made.kek, "{} wrapped", new.kek);
        for wrapped in [&old, &new] {
            let opened = said(wrapper.unwrap(wrapped, &context(), soon()))?;
            ensure!(opened.expose() == secret.expose(), "another key came back");
        }
    }
    Ok(())
}

#[test]
fn what_keyward_keeps_there_others_can_read_and_what_is_no_key_is_named() -> Result<()> {
    let shared = Shared::get()?;
    let (prefix, secret) = (shared.new_name(), data()?);
    let served = server(settings(&shared.kmip), &prefix);
    said(served.put(&key(1, 1)?, &secret, soon()))?;
    let read = format!(
        "from kmip.core.factories.attributes import AttributeFactory
name = AttributeFactory().create_attribute(enums.AttributeType.NAME, '{prefix}/1/1')
[uid] = client.locate(attributes=[name])
print(client.get(uid).value.hex())"
    );
    let hex: String = secret.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(python::run(&shared.kmip, &read)? == hex, "PyKMIP's client reads another key");
    // Two objects of one name: PyKMIP does not mind. The older one counts, always.
    let twin = format!(
        "key = SymmetricKey(enums.CryptographicAlgorithm.AES, 256, b'x' * 32, masks=usage,
            name='{prefix}/1/1')
from kmip.pie.objects import ObjectGroup
print(client.register(key))"
    );
    python::run(&shared.kmip, &twin)?;
    refused(served.put(&key(1, 1)?, &secret, soon()), Kind::Conflict)?;
    let fresh = server(settings(&shared.kmip), &prefix);
    ensure!(said(fresh.fetch(&key(1, 1)?, soon()))?.expose() == secret.expose(), "the twin");
    ensure!(said(fresh.list(soon()))?.len() == 1, "the twin is listed");
    Ok(())
}
