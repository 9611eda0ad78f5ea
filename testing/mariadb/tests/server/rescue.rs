//! The keys of a running server, written into a new keystore after theirs was lost; and whether a
//! restart would succeed.

use std::fs;

use test_kit::files::copy;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::approvers;
use test_mariadb::rows::{check, create};
use test_mariadb::{Server, Site};

use crate::{TABLES, site};

#[test]
fn the_keys_in_memory_outlive_their_keystore() -> Result<()> {
    let site = site("rescue")?;
    let older = site.path("older");
    let server = site.start()?;
    create(&server, TABLES)?;
    copy(&site.keys(), &older)?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    test_mariadb::rows::wait_for_version(&server, "test/key_three", 3)?;
    let before = site.versions()?;

    // Everything in the keystore's folder is gone.
    for file in files::list(&site.keys()) {
        fs::remove_file(file)?;
    }
    rescued(&site, &server, &["audit.jsonl", "keystore.json"])?;
    ensure!(site.versions()? == before, "a version changed");
    let server = restarted(&site, server)?;

    // An older copy of the folder is put back while the server runs.
    let before = site.versions()?;
    fs::remove_dir_all(site.keys())?;
    copy(&older, &site.keys())?;
    rescued(&site, &server, &["audit.jsonl", "keystore.json", "keystore.json.before-rescue-"])?;
    ensure!(site.versions()? == before, "a version changed");
    let server = restarted(&site, server)?;

    // A file that is no keystore.
    fs::remove_file(site.keystore())?;
    files::write(&site.keystore(), "{")?;
    site.only_for_server(&site.keystore())?;
    rescued(&site, &server, &["keystore.json"])?;
    let again = files::read(&site.keystore())?;
    server.sql("SET GLOBAL keyward_rescue = ON")?;
    ensure!(files::read(&site.keystore())? == again, "a whole keystore was rescued again");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("nothing to rescue"));
    ensure!(line.is_some(), "{log}");
    restarted(&site, server)?.stop().map(drop)
}

/// Rescues the keys; afterwards the folder has files whose names begin so, and nobody but the server
/// may read the keystore.
fn rescued(site: &Site, server: &Server, names: &[&str]) -> Result<()> {
    server.sql("SET GLOBAL keyward_rescue = ON")?;
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("rescued into")).unwrap_or_default();
    ensure!(!line.is_empty(), "{log}");
    seen!("{}", within(site, line.split("keyward: ").nth(1).unwrap_or(line)));
    let found = files::list(&site.keys());
    let found: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    for name in names {
        ensure!(found.iter().any(|file| file.starts_with(name)), "no {name}: {found:?}");
    }
    ensure!(server.status("Keyward_state")? == "ok", "{}", server.log());
    check(server, TABLES)
}

#[test]
fn a_rescue_waits_for_the_approvals_that_the_lost_keystore_wants() -> Result<()> {
    let site = site("rescue-approved")?;
    approvers::set(&site.path("tmp"), |words| site.keyward(words))?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let before = site.versions()?;
    for file in files::list(&site.keys()) {
        fs::remove_file(file)?;
    }
    let told = server.sql_refused("SET GLOBAL keyward_rescue = ON")?;
    ensure!(told.contains("2 approvals are needed to rescue the keys in memory"), "{told}");
    ensure!(told.contains("give the same statement again"), "the end is cut off: {told}");
    approvers::sign_beside(&site.path("tmp"), &site.keys(), |n| {
        let left = server.sql_refused("SET GLOBAL keyward_rescue = ON")?;
        ensure!(left.contains(&format!("and there are {n}: request")), "{left}");
        Ok(())
    })?;
    rescued(&site, &server, &["audit.jsonl", "keystore.json"])?;
    ensure!(site.versions()? == before, "a version changed");
    let trail = site.keyward(&["audit", "show"])?.text();
    ensure!(trail.contains("approved by alice (SHA256:"), "{trail}");
    restarted(&site, server)?.stop().map(drop)
}

fn restarted(site: &Site, server: Server) -> Result<Server> {
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    Ok(server)
}

#[test]
fn a_key_file_moved_away_shows_before_the_restart() -> Result<()> {
    let site = site("restart-safe")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    says(&server, "unknown", "ok")?;
    refresh(&server)?;
    says(&server, "yes", "ok")?;
    let away = site.path("keyward/away");
    fs::rename(site.key_file(), &away)?;
    refresh(&server)?;
    says(&server, "no", "restart_unsafe")?;
    seen!("{}", within(&site, &server.status("Keyward_restart_safe_reason")?));
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = -1")?;
    seen!("{}", within(&site, &said));
    ensure!(said.contains("no new key is made"), "{said}");
    let socket = server.socket().display().to_string();
    let doctor = site.keyward(&["doctor", "--socket", &socket])?;
    ensure!(
        doctor.code == 1 && doctor.text().contains("a restart would fail"),
        "{}",
        doctor.text()
    );
    check(&server, TABLES)?;
    fs::rename(&away, site.key_file())?;
    let config = files::text(&site.config())?;
    files::write(&site.config(), format!("{config}\nno = such\n"))?;
    refresh(&server)?;
    says(&server, "no", "restart_unsafe")?;
    seen!("{}", within(&site, &server.status("Keyward_restart_safe_reason")?));
    files::write(&site.config(), config)?;
    refresh(&server)?;
    says(&server, "yes", "ok")?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    let log = server.stop()?;
    for line in ["a restart would fail: ", "a restart would succeed again"] {
        ensure!(log.matches(line).count() == 1, "{line:?}, once:\n{log}");
    }
    Ok(())
}

fn refresh(server: &Server) -> Result<()> {
    server.sql("SET GLOBAL keyward_refresh = ON").map(drop)
}

fn says(server: &Server, safe: &str, state: &str) -> Result<()> {
    let found = (server.status("Keyward_restart_safe")?, server.status("Keyward_state")?);
    ensure!(found == (safe.to_owned(), state.to_owned()), "{found:?}\n{}", server.log());
    Ok(())
}

/// `text` without our temporary folder.
fn within(site: &Site, text: &str) -> String {
    text.replace(&format!("{}/", site.path("").display()).replace("//", "/"), "")
}
