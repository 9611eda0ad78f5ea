//! How often KMS is called.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::assemble;
use keyward::config::Config;
use keyward::env::fake::FakeLog;
use keyward::env::{Deadline, Env, System};
use keyward::key::{Cipher, KeyId, KeyRef, KeyState, KeyVersion};
use keyward::manager::Rewrap;
use keyward::secret::DataKey;
use keyward::source::{Reason, Role};
use keyward::store::{Change, NewVersion, StoreFile};
use test_cloud::{FakeAws, REGION, Shared, shared};
use test_kit::{Result, Scratch, ensure, files, seen};

use crate::{Told as _, soon};

const KEYS: u32 = 10_000;

const REASON: Reason<'_> = Reason { actor: "test", text: "test" };

#[test]
fn ten_thousand_keys_cost_one_call() -> Result<()> {
    let shared = Shared::get()?;
    let scratch = Scratch::new("aws-many")?;
    let key = shared.localstack.new_key(REGION)?;
    let kms = FakeAws::before(shared.localstack.address())?;
    let config = config(&scratch, &key, &kms.url())?;
    let env = Env::system(Arc::new(FakeLog::default()));
    assemble::create_keystore_without_keys(&config, REASON, &env).told()?;
    let made = kms.take_actions();
    fill(&config, &key, &kms.url(), &shared)?;

    kms.take_actions();
    let began = Instant::now();
    let custodian = assemble::start(&config, Role::Command, env).told()?;
    let took = began.elapsed();
    ensure!(custodian.status().keys == KEYS as usize, "{} keys", custodian.status().keys);
    let calls = kms.take_actions();
    ensure!(calls == ["Decrypt"], "a start called {calls:?}");
    let began = Instant::now();
    custodian.manager().unwrap().rewrap(Rewrap::ToLatest, REASON).told()?;
    let rewrapped = began.elapsed();
    let of_rewrap = kms.take_actions();
    ensure!(of_rewrap == ["ReEncrypt", "Decrypt"], "a rewrap called {of_rewrap:?}");
    custodian.rotate(keyward::source::Which::One(KeyId::try_from(7).told()?), REASON).told()?;
    let of_rotation = kms.take_actions();
    ensure!(of_rotation == ["Decrypt"], "a rotation called {of_rotation:?}");
    seen!(
        "{KEYS} data keys, unoptimised: start {} ms with {calls:?}; rewrap {} ms with {of_rewrap:?}; init {made:?}; \
         rotation {of_rotation:?}",
        took.as_millis(),
        rewrapped.as_millis()
    );
    Ok(())
}

fn config(scratch: &Scratch, key: &str, endpoint: &str) -> Result<Config> {
    let at = |name: &str| scratch.path().join(name);
    files::write(&at("credentials"), shared::credentials())?;
    let text = format!(
        "[keystore]\npath = {:?}\n[[provider]]\nname = \"aws-kms\"\ntype = \"aws-kms\"\nkey = {key:?}\n\
         endpoint = {endpoint:?}\ncredentials_file = {:?}\n",
        at("keystore.json"),
        at("credentials")
    );
    Config::parse(&at("keyward.toml"), &text).told()
}

/// Puts the keys into the keystore in one commit.
fn fill(config: &Config, key: &str, endpoint: &str, shared: &Shared) -> Result<()> {
    use keyward::provider::KeyWrapper;
    let file = StoreFile::at(&config.keystore.path);
    let (sealed, _) = file.read().told()?;
    let context = sealed.unverified().wrap_context();
    let wrapping = sealed.unverified().wrappings().first().ok_or("no wrapping")?.key.clone();
    let kms = crate::wrapper(crate::settings(shared, key, endpoint)?);
    let mut keystore = sealed.open(kms.unwrap(&wrapping, &context, soon()).told()?).told()?;
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
