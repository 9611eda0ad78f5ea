//! However many data keys there are, the server is asked once.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use keyward::assemble;
use keyward::config::Config;
use keyward::env::fake::FakeLog;
use keyward::env::{Env, System};
use keyward::key::KeyId;
use keyward::provider::KeyServer;
use keyward::secret::DataKey;
use keyward::source::{Reason, Role, Which};
use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts, ensure, files, seen};
use test_kmip::Kmip;

use crate::{key, said, server, settings, soon, wrapper};

const KEYS: u32 = 200;
const VERSIONS: usize = 50;
/// How many the KMIP server is given to keep itself.
const SERVED: u32 = 64;
const REASON: Reason<'_> = Reason { actor: "test", text: "many" };

#[test]
fn ten_thousand_key_versions_are_opened_by_one_call() -> Result<()> {
    let (kmip, scratch) = (Kmip::start()?, Scratch::new("many")?);
    said(wrapper(settings(&kmip), "start", None).create_key(soon()))?;
    let file = |name| kmip.certificates().path(name);
    let text = format!(
        "[keystore]\npath = {:?}\n[[provider]]\ntype = \"kmip\"\nserver = \"127.0.0.1\"\nport = {}\n\
         ca_file = {:?}\nclient_certificate_file = {:?}\nclient_key_file = {:?}\nkey = \"start\"\n",
        scratch.path().join("keystore.json"),
        kmip.port(),
        file("ca.pem"),
        file("client.pem"),
        file("client.key"),
    );
    let toml = scratch.path().join("keyward.toml");
    files::write(&toml, &text)?;
    files::chmod(&toml, 0o600)?;
    let config = said(Config::load(&toml))?;
    let env = Env::system(Arc::new(FakeLog::default()));
    said(assemble::create_keystore(&config, REASON, &env))?;
    let custodian = said(assemble::start(&config, Role::Command, env.clone()))?;
    for id in 3..=KEYS {
        said(custodian.create(said(KeyId::try_from(id))?, None, REASON))?;
    }
    for _ in 1..VERSIONS {
        said(custodian.rotate(Which::All, REASON))?;
    }
    drop(custodian);
    let calls = || kmip.log().matches("Processing operation").count();
    let before = calls();
    let since = Instant::now();
    let custodian = said(assemble::start(&config, Role::Command, env))?;
    let took = since.elapsed();
    let (calls, versions) = (calls() - before, custodian.status().versions);
    seen!("a start with {versions} key versions, wrapped: {calls} calls, {} ms", took.as_millis());
    ensure!(versions == KEYS as usize * VERSIONS, "{versions} versions");
    // Which releases of the protocol it speaks, and the store key.
    ensure!(calls == 2, "{calls} calls");
    let mut status = Command::new(artefacts::command());
    let since = Instant::now();
    let told = answer(status.arg("--config").arg(&toml).arg("status"))?.ok()?;
    seen!("`keyward status`, as released, on them: {} ms", since.elapsed().as_millis());
    ensure!(told.contains("10000"), "{told}");
    Ok(())
}

#[test]
fn keys_that_are_served_are_read_many_in_a_message() -> Result<()> {
    let kmip = Kmip::start()?;
    let writer = server(settings(&kmip), "many");
    for id in 1..=SERVED {
        let data = said(DataKey::generate(32, &System))?;
        said(writer.put(&key(id, 1)?, &data, soon()))?;
    }
    let reader = server(settings(&kmip), "many");
    let messages = || kmip.log().matches("Received request at time").count();
    let (before, since) = (messages(), Instant::now());
    ensure!(said(reader.list(soon()))?.len() == SERVED as usize, "some are not listed");
    let (first, took) = (messages() - before, since.elapsed());
    let (before, since) = (messages(), Instant::now());
    said(reader.list(soon()))?;
    seen!(
        "{SERVED} served keys: {first} messages and {} ms at first, {} and {} ms to look again",
        took.as_millis(),
        messages() - before,
        since.elapsed().as_millis()
    );
    ensure!(first <= 6, "{first} messages");
    Ok(())
}
