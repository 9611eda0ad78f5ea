//! Log-ins that last seconds, are revoked, and lose their secret, under load.

use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::{Result, ensure, files, seen};
use test_mariadb::Server;
use test_vault::Vault;

use crate::{extended, lines, rotated, secrets, site};
use test_mariadb::load::MIXED;

/// A token this young is not taken for the cause of a denial.
const FRESH: Duration = Duration::from_millis(1100);

const ROLE: &str = "auth/approle/role/keyward";

#[test]
fn tokens_of_20_seconds_fail_no_call_and_lost_ones_are_replaced() -> Result<()> {
    let vault = Vault::start()?;
    let site = site("outage-lease", &vault, &vault.address())?;
    vault.vault(&["write", ROLE, "token_ttl=20s", "token_max_ttl=45s"])?;
    let server = site.start()?;
    MIXED.prepare(&server)?;
    let seconds = if extended() { 600 } else { 60 };
    let load = MIXED.start(&server, seconds)?;
    let (began, mut rotations) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        rotated(&server, Duration::ZERO)?;
        rotations += 1;
        sleep(Duration::from_secs(3));
    }
    let figures = load.finish()?;
    ensure!(lines(&server.log()).is_empty(), "{}", lines(&server.log()).join("\n"));
    seen!(
        "{seconds} s with leases of 20 s, 45 s at most: {rotations} rotations and {} transactions, 0 \
         failed; no warning in the log",
        figures.transactions
    );
    revoked(&vault, &server)?;
    let said = secret_replaced(&vault, &site, &server)?;
    seen!("while there was no good secret id: {said}");
    MIXED.complete(&server)?;
    secrets::not_in_memory(&vault, &site, &server)?;
    server.stop()?;
    secrets::not_in_logs(&vault, &site)
}

/// Every token of the role is taken away: the next call logs in again.
fn revoked(vault: &Vault, server: &Server) -> Result<()> {
    for _ in 0..3 {
        sleep(FRESH);
        vault.vault(&["lease", "revoke", "-f", "-prefix", "auth/approle/login"])?;
        rotated(server, Duration::ZERO)?;
    }
    seen!("three times a revoked token: logged in again, no call failed");
    Ok(())
}

/// The secret id is destroyed with its tokens, and another one put into the file.
fn secret_replaced(vault: &Vault, site: &test_mariadb::Site, server: &Server) -> Result<String> {
    let file = site.path("keyward/vault-secret-id");
    let old = files::text(&file)?;
    let path = format!("{ROLE}/secret-id");
    let body = format!("secret_id={}", old.trim());
    vault.vault(&["write", &format!("{path}/destroy"), &body])?;
    vault.vault(&["lease", "revoke", "-f", "-prefix", "auth/approle/login"])?;
    sleep(FRESH);
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 3")?;
    ensure!(said.contains("secret id is wrong, over or used up"), "{said}");
    let new = vault.field("secret_id", &["write", "-f", &path])?;
    files::write(&file, &new)?;
    rotated(server, Duration::ZERO)?;
    ensure!(!said.contains(old.trim()) && !said.contains(&new), "it shows: {said}");
    Ok(said)
}
