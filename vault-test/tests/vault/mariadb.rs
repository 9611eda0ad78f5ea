//! A real MariaDB whose keys are in a real Vault, set up by `keyward init`.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mariadb_test::command::answer;
use mariadb_test::files::{all, holding};
use mariadb_test::launch::give_to_server;
use mariadb_test::rows::{PLAINTEXT, Table, check, create, wait_for_version};
use mariadb_test::{Result, Server, Site, ensure, files, seen};
use vault_test::Vault;

const TABLES: &[Table] = &[];

/// A server's folder, set up for `provider` in a Vault of its own, and what `init` said.
fn site(provider: &str) -> Result<(Vault, Site)> {
    let vault = Vault::start()?;
    let mut site = Site::new(provider)?;
    let token = vault.private("admin-token", vault.root_token())?;
    let ca = site.path("etc/ca.pem");
    files::write(&ca, files::read(&vault.certificates().path("ca.pem"))?)?;
    let at = |path: &std::path::Path| path.display().to_string();
    let folder = at(&site.path("keyward"));
    let said = site.keyward(&[
        "init", "--dir", &folder, "--provider", provider, "--address", &vault.address(),
        "--ca-file", &at(&ca), "--admin-token-file", &at(&token),
    ])?;
    let said = said.ok()?;
    ensure!(!said.contains(vault.root_token()), "the administrator's token shows: {said}");
    site.load_keyward();
    site.encrypt_everything();
    Ok((vault, site))
}
