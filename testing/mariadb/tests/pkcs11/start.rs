//! However many data keys there are, the token is asked once.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use keyward::assemble;
use keyward::config::Config;
use keyward::env::fake::FakeLog;
use keyward::env::{Clock as _, Env, System};
use keyward::key::KeyId;
use keyward::source::{Reason, Role, Which};
use test_kit::{Result, ensure, seen};

use crate::{Bench, Told, soon};

const KEYS: u32 = 200;
const VERSIONS: usize = 50;
const REASON: Reason<'_> = Reason { actor: "test", text: "many" };

#[test]
fn ten_thousand_key_versions_are_opened_by_one_call() -> Result<()> {
    let bench = Bench::get()?;
    bench.wrapper("many", "start").create_key(System.now(), soon()).told()?;
    let text = format!(
        "[keystore]\npath = {:?}\n[[provider]]\ntype = \"pkcs11\"\nmodule = {:?}\n\
         token = \"many\"\npin_file = {:?}\nkey = \"start\"\n",
        bench.scratch.path().join("keystore.json"),
        bench.hsm.module(),
        bench.pin_file()
    );
    let config = Config::parse(Path::new("keyward.toml"), &text).told()?;
    let env = Env::system(Arc::new(FakeLog::default()));
    assemble::create_keystore(&config, REASON, &env).told()?;
    let custodian = assemble::start(&config, Role::Command, env.clone()).told()?;
    for id in 3..=KEYS {
        custodian.create(KeyId::try_from(id).told()?, None, REASON).told()?;
    }
    for _ in 1..VERSIONS {
        custodian.rotate(Which::All, REASON).told()?;
    }
    drop(custodian);

    let before = bench.hsm.calls("C_Decrypt");
    let since = Instant::now();
    let custodian = assemble::start(&config, Role::Command, env).told()?;
    let took = since.elapsed();
    let calls = bench.hsm.calls("C_Decrypt") - before;
    let versions = custodian.status().versions;
    seen!("a start with {versions} key versions: {calls} C_Decrypt, {} ms", took.as_millis());
    ensure!(versions == KEYS as usize * VERSIONS, "{versions} versions");
    ensure!(calls == 1, "{calls} calls");
    Ok(())
}
