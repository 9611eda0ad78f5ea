//! `rotate_after` on MySQL: the command has the server rotate its master keys, by an account that may do
//! that and nothing else.

use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Answer, Result, ensure, files};
use test_mysql::{Keyring, Server, Site};

use crate::command::{client, says};

#[test]
fn the_policy_rotates_the_master_keys_through_the_server() -> Result<()> {
    let site = Site::new("policy", Keyring::Ours)?;
    client(&site, "")?;
    // The keystore that the first start makes, from then on with a policy.
    site.start()?.stop()?;
    let config = site.path("keys/keyward.toml");
    policy(&site, "2s")?;
    site.configure(Keyring::Ours, &format!("{{\"config\": {config:?}}}"))?;
    let server = site.start()?;
    server.sql(
        "SET GLOBAL binlog_encryption = ON;
         CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (1);
         CREATE USER keyward@localhost IDENTIFIED BY 'pa55word'",
    )?;
    let before = master_keys(&server)?;
    std::thread::sleep(Duration::from_secs(3));
    let (next, due) = (server.component("Next_rotation")?, server.component("Rotation_due")?);
    ensure!(next.parse().is_ok_and(|at: u64| at > 0) && due == "1", "{next:?}, {due:?}");
    let refused = rotate(&site)?;
    says(
        &refused,
        1,
        &["the InnoDB master key was not rotated: ERROR 1227", "--defaults-extra-file"],
    )?;
    ensure!(master_keys(&server)? == before, "a refused rotation made a key");
    server
        .sql("GRANT ENCRYPTION_KEY_ADMIN, BINLOG_ENCRYPTION_ADMIN ON *.* TO keyward@localhost")?;
    let rotated = rotate(&site)?;
    let after = master_keys(&server)?;
    let new: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
    ensure!(new.len() == 2, "not one new key of each kind: {new:?}");
    for name in &new {
        says(&rotated, 0, &[&format!("key {name} version 1 is active")])?;
    }
    policy(&site, "90d")?;
    says(&rotate(&site)?, 0, &["nothing is due"])?;
    says(&site.keyward(&["status"])?, 0, &["\nnext rotation ", "d)\nrotation due         no\n"])?;
    ensure!(master_keys(&server)? == after, "a key was made that was not due");
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    server.stop()?;
    policy(&site, "2s")?;
    std::thread::sleep(Duration::from_secs(3));
    says(&rotate(&site)?, 1, &["no master key was rotated: ERROR 2002", "--socket"])
}

fn policy(site: &Site, rotate_after: &str) -> Result<()> {
    let toml = format!(
        "[keystore]\npath = {:?}\n[policy]\nrotate_after = {rotate_after:?}\nnotify_before = \"1s\"\n\
         [[provider]]\ntype = \"local\"\nkey_file = {:?}\n",
        site.keyring(Keyring::Ours),
        site.wrapping_key()
    );
    files::write(&site.path("keys/keyward.toml"), toml)
}

/// `rotate --due`, as the account for which the server has rights.
fn rotate(site: &Site) -> Result<Answer> {
    let account = site.path("client.cnf");
    files::write(&account, "[client]\nuser = keyward\npassword = pa55word\n")?;
    files::chmod(&account, 0o600)?;
    let socket = site.path("sock").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let account = account.display().to_string();
    let words = ["rotate", "--due", "--socket", &socket, "--defaults-extra-file", &account];
    let mut command = site.keyward_command(&words);
    command.env("PATH", format!("{}:{path}", site.path("bin").display()));
    answer(&mut command)
}

fn master_keys(server: &Server) -> Result<Vec<String>> {
    let names = server.sql(
        "SELECT KEY_ID FROM performance_schema.keyring_keys
         WHERE KEY_ID REGEXP '^(INNODBKey-.*-|MySQLReplicationKey_.*_)[0-9]+$' ORDER BY KEY_ID",
    )?;
    Ok(names.lines().map(str::to_owned).collect())
}
