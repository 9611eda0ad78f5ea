//! Faults that `doctor` is to find, planted one by one on a server of which there is nothing else to say. Which
//! test plants which is in `src/cli/helpers/examine/catalogue.rs`.

use std::fs;
use std::sync::Arc;

use keyward::config::Config;
use keyward::env::{Env, Level, Log, Timestamp, fake::FakeClock};
use keyward::source::{Reason, Role, Which};
use test_kit::account::give_to_server;
use test_kit::doctor::Said;
use test_kit::{Result, Scratch, ensure, files, free_port};
use test_mariadb::{Launch, Server};

use crate::doctor::Room;

/// A sink of the audit trail that nobody listens at.
fn sink(port: u16) -> String {
    format!("\n[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n")
}

/// Nothing is wrong.
fn healthy(said: &Said) -> Result<()> {
    ensure!(said.code == 0 && said.wrong().is_empty(), "{}: {:?}", said.code, said.wrong());
    Ok(())
}

#[test]
fn in_configuration_key_stores_and_files_beside_a_running_server() -> Result<()> {
    let room = Room::new("planted-up")?;
    let server = room.start_encrypted()?;
    healthy(&room.doctor(Some(&server), &[])?)?;
    let look = || room.look(Some(&server), &[]);
    let config = room.config()?;
    room.configure(&format!("{config}\n[polcy]\n"))?;
    look()?.only("failed", "configuration", "polcy")?;
    room.configure(&config)?;
    let (second, away) = (room.keys.path().join("second"), room.keys.path().join("away"));
    fs::rename(&second, &away)?;
    look()?.only("failed", "provider", "provider \"recovery\": ")?;
    fs::rename(&away, &second)?;
    let strange = room.site.data().join("strange.ibd");
    files::write(&strange, "no tablespace".repeat(4096))?;
    look()?.only("warning", "data-directory", "strange.ibd may need any key")?;
    fs::remove_file(&strange)?;
    let trail = room.site.keys().join("audit.jsonl");
    let whole = files::text(&trail)?;
    files::write(&trail, whole.replacen("\"actor\"", "\"Actor\"", 1))?;
    look()?.only("failed", "audit-trail", "audit trail: ")?;
    files::write(&trail, &whole)?;
    healthy(&room.doctor(Some(&server), &[])?)?;
    server.stop().map(drop)
}

#[test]
fn in_what_follows_a_change_beside_a_running_server() -> Result<()> {
    let room = Room::new("planted-changes")?;
    let server = room.start_encrypted()?;
    let (site, config) = (&room.site, room.config()?);
    // Whether it could start again it tries a minute after its start, or when it is asked.
    healthy(&room.doctor(Some(&server), &[])?)?;
    let look = || room.look(Some(&server), &[]);
    // Lines that a sink does not take.
    room.configure(&(config.clone() + &sink(free_port()?)))?;
    site.keyward(&["rotate", "3"])?.ok()?;
    look()?.only("warning", "audit-sinks", "lines of the audit trail wait")?;
    room.configure(&config)?;
    // The keystore was moved, and the server still has the former one.
    let moved = Scratch::on_disk("moved")?;
    files::chmod(moved.path(), 0o755)?;
    let keys = moved.path().join("keys");
    test_kit::run("cp", ["-a", &site.keys().display().to_string(), &keys.display().to_string()])?;
    let at = |folder: &std::path::Path| format!("{:?}", folder.join("keystore.json"));
    ensure!(config.contains(&at(&site.keys())), "{config}");
    room.configure(&config.replace(&at(&site.keys()), &at(&keys)))?;
    site.keyward(&["rotate", "2"])?.ok()?;
    look()?.only("warning", "generation", "the server has generation ")?;
    room.configure(&config)?;
    // A backup that lacks the newest key.
    let in_keys = |name: &str| room.keys.path().join(name).display().to_string();
    give_to_server(room.keys.path())?;
    let said = site.keyward(&["keystore", "backup", "--identity", &in_keys("identity")])?.text();
    let recipient = said.split_whitespace().find(|word| word.starts_with("age1pq1"));
    let recipient = recipient.ok_or("no recipient")?;
    site.keyward(&["keystore", "backup", "--add-recipient", recipient])?.ok()?;
    site.keyward(&["keystore", "backup", "--to", &in_keys("1.age")])?.ok()?;
    healthy(&look()?)?;
    // Which of two is newer is told by whole seconds.
    std::thread::sleep(std::time::Duration::from_secs(1));
    site.keyward(&["rotate", "2"])?.ok()?;
    look()?.only("warning", "backup", "there is none since a key was made")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    site.keyward(&["keystore", "backup", "--to", &in_keys("2.age")])?.ok()?;
    healthy(&look()?)?;
    server.stop().map(drop)
}

#[test]
fn in_the_keystore_of_a_server_that_is_down() -> Result<()> {
    let room = Room::new("planted-down")?;
    room.start_encrypted()?.stop()?;
    let said = room.look(None, &[])?;
    let away: Vec<_> = said.findings.iter().filter(|one| one[0] == "server").collect();
    ensure!(said.code == 0 && away.len() == 1, "{:?}", said.findings);
    ensure!(
        said.wrong().iter().any(|line| line.starts_with("skipped server: ")),
        "{:?}",
        said.wrong()
    );
    let look = || -> Result<Said> {
        let mut said = room.look(None, &[])?;
        // That it is down, and whose option files this machine has.
        said.findings.retain(|one| one[1] != "skipped");
        Ok(said)
    };
    healthy(&look()?)?;
    let keystore = room.site.keystore();
    let whole = files::text(&keystore)?;
    files::write(&keystore, &whole[..whole.len() / 2])?;
    look()?.only("failed", "keys", "keystore.json")?;
    files::write(&keystore, &whole)?;
    healthy(&look()?)?;
    if test_kit::account::server_user().is_some() {
        let folders = [room.site.keys(), room.keys.path().to_owned()];
        for folder in &folders {
            test_kit::run("chown", ["-R", "0:0", &folder.display().to_string()])?;
        }
        look()?.only("warning", "keystore-folder", "belongs to root")?;
        folders.iter().try_for_each(|folder| give_to_server(folder))?;
        healthy(&look()?)?;
    }
    rotated_by_a_clock_that_is_ahead(&room)?;
    look()?.only("warning", "dates", "dates: key 2 version 3 is of 2096-")?;
    // The advice.
    room.site.keyward(&["rotate", "2"])?.ok()?;
    healthy(&look()?)
}

/// Key 2, in the year 2096.
fn rotated_by_a_clock_that_is_ahead(room: &Room) -> Result<()> {
    let of_keyward = |error: keyward::Error| test_kit::Trouble::from(error.to_string());
    let config = Config::load(&room.site.config()).map_err(of_keyward)?;
    keyward::assemble::trust_owner_of(&config.keystore.path);
    let clock = Arc::new(FakeClock::at(Timestamp::from_unix(4_000_000_000)));
    let env = Env { clock, ..Env::system(Arc::new(Unheard)) };
    let custodian = keyward::assemble::start(&config, Role::Command, env).map_err(of_keyward)?;
    let key = keyward::key::KeyId::try_from(2).map_err(|error| error.to_string())?;
    custodian
        .rotate(Which::One(key), Reason { actor: "test", text: "a test" })
        .map_err(of_keyward)?;
    give_to_server(&room.site.keys())
}

struct Unheard;

impl Log for Unheard {
    fn log(&self, _: Level, _: &str) {}
}

#[test]
fn in_the_server_itself() -> Result<()> {
    let mut room = Room::new("planted-server")?;
    let own = room.site.path("keyward/servers-own.toml");
    fs::copy(room.site.config(), &own)?;
    let like = format!("--reference={}", room.site.config().display());
    test_kit::run("chown", [&like, &own.display().to_string()])?;
    let named = |path: &std::path::Path| format!("keyward_config = {}", path.display());
    room.site.unset("keyward_config");
    room.site.set(&named(&own));
    let server = room.start_encrypted()?;
    healthy(&room.doctor(Some(&server), &[])?)?;
    // The file that it reads has become another than the one that is looked at.
    let text = files::text(&own)?;
    files::write(&own, format!("{text}\n[polcy]\n"))?;
    server.sql("SET GLOBAL keyward_refresh = ON")?;
    wait_until(&server, "Keyward_restart_safe", "no")?;
    room.look(Some(&server), &[])?.only("failed", "restart", "a restart would fail")?;
    files::write(&own, &text)?;
    healthy(&room.doctor(Some(&server), &[])?)?;
    let library = room.site.path("plugin/keyward.so");
    let new = room.site.path("plugin/keyward.so.new");
    fs::copy(&library, &new)?;
    fs::rename(&new, &library)?;
    room.look(Some(&server), &[])?.only("warning", "library", "was replaced or removed")?;
    server.stop()?;
    let under = ["prlimit", "--memlock=0:0"].map(str::to_owned).to_vec();
    let server = room.site.launch(&Launch { under, ..Launch::default() })?;
    room.doctor(Some(&server), &[])?.only("warning", "memory", "is not locked")?;
    server.stop().map(drop)
}

fn wait_until(server: &Server, status: &str, value: &str) -> Result<()> {
    let row = format!("SHOW GLOBAL STATUS LIKE '{status}'");
    let patience = std::time::Duration::from_secs(60);
    server.wait_for(&row, patience, |row| row.ends_with(&format!("\t{value}"))).map(drop)
}

/// A server that has its keys from the original plugin, all else being as it should be.
#[test]
fn in_the_plugin_that_it_loads() -> Result<()> {
    let mut room = Room::new("planted-plugin")?;
    room.site.unset("keyward");
    room.site.load_file_keys(false, "AES_CTR")?;
    room.site.set("innodb_encryption_threads = 4");
    room.site.set("innodb_encryption_rotate_key_age = 1");
    let server = room.start_encrypted()?;
    room.look(Some(&server), &[])?.only("failed", "plugin", "server: plugin ")?;
    server.stop().map(drop)
}

/// MariaDB 12.3 is in no Debian yet, so a client stands in for it: the real one, whose answers have one row more.
#[test]
fn in_a_binary_log_in_innodb_of_which_a_stand_in_for_the_client_tells() -> Result<()> {
    let room = Room::new("planted-binlog")?;
    let server = room.start_encrypted()?;
    healthy(&room.doctor(Some(&server), &[])?)?;
    fs::create_dir(room.site.path("bin"))?;
    let client = room.site.path("bin/mariadb");
    let row = "variable\\tbinlog_storage_engine\\tinnodb\\t\\t\\n";
    files::write(&client, format!("#!/bin/sh\n/usr/bin/mariadb \"$@\" && printf '{row}'\n"))?;
    files::chmod(&client, 0o755)?;
    room.look(Some(&server), &[])?.only("warning", "innodb-binlog", "is kept in InnoDB")?;
    fs::remove_file(&client)?;
    healthy(&room.doctor(Some(&server), &[])?)?;
    server.stop().map(drop)
}
