//! Each release of the protocol that PyKMIP speaks, and keys that others made.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyward::backend::kmip::message::Version;
use keyward::backend::kmip::{KeyChoice, KmipWrapper, Settings, WrapMechanism};
use keyward::error::Kind;
use keyward::key::KeyState;
use keyward::provider::{KeyServer, KeyWrapper};
use test_kit::{Result, ensure, seen};
use test_kmip::{Kmip, Shared};

use crate::{
    context, data, key, python, refused, said, server, settings, soon, works, wrapper, wrapper_of,
};

/// The newest release that PyKMIP speaks.
const NEWEST: Version = Version::new(2, 0);

/// All that it speaks.
pub(crate) fn spoken() -> impl Iterator<Item = Version> {
    Version::ALL.into_iter().filter(|version| *version <= NEWEST)
}

/// How PyKMIP is best wrapped by in a release.
pub(crate) fn best_way(version: Version) -> WrapMechanism {
    match (version.major, version.minor) {
        (1, 0 | 1) => WrapMechanism::Get,
        (1, 2 | 3) => WrapMechanism::Cbc,
        _ => WrapMechanism::Gcm,
    }
}

#[test]
fn each_release_wraps_as_well_as_it_can() -> Result<()> {
    let shared = Shared::get()?;
    for version in spoken() {
        let kmip = Settings { version: Some(version), ..settings(&shared.kmip) };
        let name = shared.new_name();
        // Making a key tries it out, which a server before 1.2 cannot do by itself.
        let can_encrypt = best_way(version) != WrapMechanism::Get;
        let maker = wrapper(kmip.clone(), &name, (!can_encrypt).then_some(WrapMechanism::Get));
        said(maker.create_key(soon()))?;
        let wanted = best_way(version);
        ensure!(works(&maker)? == wanted.name(), "KMIP {version} was to wrap by {wanted}");
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
    ensure!(fact("version") == Some(&NEWEST.to_string()), "{facts:?}");
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
    for version in spoken() {
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
fn what_was_made_in_one_release_is_at_home_in_every_other() -> Result<()> {
    let shared = Shared::get()?;
    let (name, secret) = (shared.new_name(), data()?);
    let of = |version| Settings { version: Some(version), ..settings(&shared.kmip) };
    let first = wrapper(of(NEWEST), &name, None);
    said(first.create_key(soon()))?;
    let wrapped = said(first.wrap(&secret, &context(), soon()))?;
    for version in spoken().filter(|version| best_way(*version) == WrapMechanism::Gcm) {
        let opened = said(wrapper(of(version), &name, None).unwrap(&wrapped, &context(), soon()))?;
        ensure!(opened.expose() == secret.expose(), "KMIP {version} opens another key");
    }
    // A version stored in each release, all of them listed alike in each.
    let prefix = shared.new_name();
    for (n, version) in (1..).zip(spoken()) {
        said(server(of(version), &prefix).put(&key(1, n)?, &secret, soon()))?;
    }
    let list = |version| said(server(of(version), &prefix).list(soon()));
    let expected = list(NEWEST)?;
    ensure!(expected.len() == spoken().count(), "{} versions", expected.len());
    for version in spoken() {
        let infos = list(version)?;
        ensure!(infos == expected, "KMIP {version} lists {infos:?}, and {NEWEST} {expected:?}");
    }
    Ok(())
}

#[test]
fn a_release_that_it_does_not_speak_is_named() -> Result<()> {
    let shared = Shared::get()?;
    let newer = Settings { version: Some(Version::new(2, 1)), ..settings(&shared.kmip) };
    let text = refused(wrapper(newer, "k", None).describe(soon()), Kind::Unsupported)?;
    ensure!(text.contains("set `version` to a KMIP release that it speaks"), "{text}");
    seen!("{text}");
    Ok(())
}

#[test]
fn killed_and_restarted_under_load_in_each_release() -> Result<()> {
    let mut kmip = Kmip::start()?;
    for version in spoken() {
        let with = Settings { version: Some(version), ..settings(&kmip) };
        let wrapper = wrapper(with, &format!("load {version}"), Some(best_way(version)));
        said(wrapper.create_key(soon()))?;
        let load = Load::default();
        let outcome = thread::scope(|scope| {
            let threads =
                load.rounds.each_ref().map(|mine| scope.spawn(|| load.run(&wrapper, mine)));
            let killed = (0..2).try_for_each(|_| {
                load.wait_for_more()?;
                kmip.kill()?;
                thread::sleep(Duration::from_millis(300));
                kmip.run("server")
            });
            let killed = killed.and_then(|()| load.wait_for_more());
            load.is_over.store(true, Ordering::Relaxed);
            let ends = threads.map(|thread| thread.join().unwrap_or(Err("it panicked".into())));
            ends.into_iter().collect::<Result<()>>().and(killed)
        });
        outcome.map_err(|error| format!("KMIP {version}: {error}"))?;
        seen!(
            "KMIP {version}, killed twice under load: {} wrapped and opened, none failed",
            load.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).sum::<u32>()
        );
    }
    Ok(())
}

/// Threads that wrap and unwrap all the time.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    /// How often each of them has.
    rounds: [AtomicU32; 2],
}

impl Load {
    fn run(&self, wrapper: &KmipWrapper, mine: &AtomicU32) -> Result<()> {
        while !self.is_over.load(Ordering::Relaxed) {
            works(wrapper)?;
            mine.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Until each thread has begun a round again and ended it: what broke off is corrected by then.
    fn wait_for_more(&self) -> Result<()> {
        let (since, seen) =
            (Instant::now(), self.rounds.each_ref().map(|n| n.load(Ordering::Relaxed)));
        let lacks = |(now, seen): (&AtomicU32, u32)| now.load(Ordering::Relaxed) < seen + 2;
        while self.rounds.iter().zip(seen).any(lacks) {
            ensure!(since.elapsed() < Duration::from_secs(60), "the load does not go on");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
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
