//! Moving to an RSA key, by which anybody wraps: the configuration must name the keystore.

use std::sync::Arc;

use keyward::assemble::{self, Target};
use keyward::custodian::Custodian;
use keyward::env::fake::FakeLog;
use keyward::env::{Env, System};
use keyward::error::Kind;
use keyward::source::{Reason, Role};
use test_kit::{Result, ensure, seen};

use crate::{Room, Told as _};

const REASON: Reason<'_> = Reason { actor: "test", text: "test" };

const KEYS: &str = "\
1;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a
2;49c16acc2dffe616710c9ba9a10b94944a737de1beccb52dc1560abfdd67388b
";

fn env() -> Env {
    Env::system(Arc::new(FakeLog::default()))
}

fn pinned(fingerprint: &str) -> String {
    format!("fingerprint = {fingerprint:?}")
}

fn start(room: &Room, lines: &str, more: &str) -> keyward::Result<Custodian> {
    let config = room.config(lines, more).map_err(|error| {
        keyward::Error::new(Kind::Internal, format!("the test's configuration: {error}"))
    })?;
    assemble::start(&config, Role::Reader, env())
}

#[test]
fn fake_azure_keys_move_into_a_new_keystore_which_is_to_be_named() -> Result<()> {
    let room = Room::with_key("moving", "RSA")?;
    let keys = room.file("keys", KEYS)?;
    let old =
        format!("[[provider]]\nname = \"old\"\ntype = \"file\"\nmode = \"ctr\"\npath = {keys:?}\n");
    let move_keys = |lines: &str| -> Result<_> {
        let config = room.config(lines, &old)?;
        Ok(assemble::migrate(&config, "old", Target::Provider("azure"), false, REASON, &env()))
    };
    // A new keystore cannot have the fingerprint of another.
    let words = ["does not exist", "remove `fingerprint` from [keystore]"];
    let refused = room.refused(move_keys(&pinned(&"0".repeat(64)))?, Kind::State, &words)?;
    ensure!(!room.keystore().exists(), "it was made");
    seen!("{refused}");

    let moved = move_keys("")?.told()?;
    ensure!((moved.keys.len(), moved.new.len()) == (2, 2), "{:?}", moved.keys);
    let fingerprint = moved.fingerprint.ok_or("no fingerprint")?;
    let words = ["anybody can have made this keystore", &pinned(&fingerprint)];
    seen!("{}", room.refused(start(&room, "", ""), Kind::State, &words)?);
    let custodian = start(&room, &pinned(&fingerprint), "").told()?;
    ensure!(custodian.status().versions == 2, "{:?}", custodian.status().versions);
    // Again, into what is there now.
    let again = move_keys(&pinned(&fingerprint))?.told()?;
    ensure!(again.new.is_empty() && again.fingerprint.is_none(), "{:?}", again.new);
    Ok(())
}

#[test]
fn fake_azure_a_keystore_moves_to_an_rsa_key_once_it_is_named() -> Result<()> {
    let room = Room::with_key("named", "RSA")?;
    let key_file = room.scratch.path().join("key");
    assemble::create_key_file(&key_file, &System).told()?;
    let local = format!("name = \"local\"\ntype = \"local\"\nkey_file = {key_file:?}\n");
    let path = room.keystore();
    let text = format!("[keystore]\npath = {path:?}\n[[provider]]\n{local}");
    let config =
        keyward::config::Config::parse(&path.with_file_name("local.toml"), &text).told()?;
    assemble::create_keystore(&config, REASON, &env()).told()?;

    let more = format!("[[provider]]\n{local}");
    let move_it = |lines: &str| -> Result<_> {
        let config = room.config(lines, &more)?;
        Ok(assemble::migrate(&config, "local", Target::Provider("azure"), false, REASON, &env()))
    };
    let before = std::fs::read(&path)?;
    let words = ["the configuration must name this keystore first", "nothing was changed"];
    let refused = room.refused(move_it("")?, Kind::State, &words)?.to_string();
    ensure!(std::fs::read(&path)? == before, "it was changed: {refused}");
    seen!("{refused}");
    let line = refused.split("write ").nth(1).and_then(|rest| rest.split(" into").next());
    let line = line.ok_or("no line to write")?;
    let moved = move_it(line)?.told()?;
    ensure!(moved.wrappings.len() == 2, "{:?}", moved.wrappings);
    let custodian = start(&room, line, "").told()?;
    ensure!(custodian.status().provider == "azure", "{}", custodian.status().provider);
    Ok(())
}
