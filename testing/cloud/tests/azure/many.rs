//! How often a vault is called.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::assemble;
use keyward::config::Config;
use keyward::env::fake::FakeLog;
use keyward::env::{Deadline, Env, System};
use keyward::key::{Cipher, KeyId, KeyRef, KeyState, KeyVersion};
use keyward::manager::Rewrap;
use keyward::provider::KeyWrapper;
use keyward::secret::DataKey;
use keyward::source::{Reason, Role, Which};
use keyward::store::{Change, NewVersion, StoreFile};
use test_kit::{Result, ensure, seen};

use crate::{Room, Told as _, soon};

const KEYS: u32 = 10_000;

/// To open a keystore: what a token must be, a token, and one call with it.
const ONE_CALL: [&str; 3] = ["challenge", "token", "unwrapkey"];

const REASON: Reason<'_> = Reason { actor: "test", text: "test" };

#[test]
fn fake_azure_ten_thousand_keys_cost_one_call() -> Result<()> {
    let room = Room::new("many")?;
    let config = room.config("", "")?;
    let env = Env::system(Arc::new(FakeLog::default()));
    assemble::create_keystore_without_keys(&config, REASON, &env).told()?;
    let of_init = room.fake.take_actions();
    fill(&config, &room)?;

    room.fake.take_actions();
    let began = Instant::now();
    let custodian = assemble::start(&config, Role::Command, env).told()?;
    let took = began.elapsed();
    ensure!(custodian.status().keys == KEYS as usize, "{} keys", custodian.status().keys);
    let of_start = room.fake.take_actions();
    ensure!(of_start == ONE_CALL, "a start called {of_start:?}");
    let began = Instant::now();
    let mut manager = custodian.manager().told()?;
    manager.rewrap(Rewrap::ToLatest, REASON).told()?;
    drop(manager);
    let rewrapped = began.elapsed();
    let of_rewrap = room.fake.take_actions();
    let due = ["challenge", "token", "unwrapkey", "get", "wrapkey"];
    ensure!(of_rewrap == [&due[..], &ONE_CALL].concat(), "a rewrap called {of_rewrap:?}");
    custodian.rotate(Which::One(KeyId::try_from(7).told()?), REASON).told()?;
    let of_rotation = room.fake.take_actions();
    ensure!(of_rotation == ONE_CALL, "a rotation called {of_rotation:?}");
    seen!(
        "{KEYS} data keys, unoptimised: start {} ms with {of_start:?}; rewrap {} ms with {of_rewrap:?}; \
         init {of_init:?}; rotation {of_rotation:?}",
        took.as_millis(),
        rewrapped.as_millis()
    );
    Ok(())
}

/// Puts the keys into the keystore in one commit.
fn fill(config: &Config, room: &Room) -> Result<()> {
    let file = StoreFile::at(&config.keystore.path);
    let (sealed, _) = file.read().told()?;
    let context = sealed.unverified().wrap_context();
    let wrapping = sealed.unverified().wrappings().first().ok_or("no wrapping")?.key.clone();
    let vault = room.provider()?;
    let mut keystore = sealed.open(vault.unwrap(&wrapping, &context, soon()).told()?).told()?;
    let now = keystore.contents().created();
    for id in 1..=KEYS {
        let data = DataKey::generate(32, &System).told()?;
        let new = NewVersion {
            key: KeyRef::new(KeyId::try_from(id).told()?, KeyVersion::FIRST),
            purpose: Cipher::DEFAULT.into(),
            data: &data,
            state: KeyState::Active,
            created: now,
        };
        let change = Change { at: now, actor: "test".to_owned(), reason: String::new() };
        keystore = keystore.with_version(&new, &change, &System).told()?;
    }
    let lock = file.lock(Deadline::after(Duration::from_secs(5))).told()?;
    let (keystore, _) = file.commit(&lock, &keystore, &System).told()?;
    file.write_witness(&keystore, &System).told()?;
    Ok(())
}
