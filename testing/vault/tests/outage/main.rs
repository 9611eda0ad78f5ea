//! keyward and a real MariaDB under load while their Vault fails, moves, and gives short leases.

mod cluster;
mod faults;
mod gateways;
mod lease;
mod rights;
mod secrets;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::{Result, files};
use test_mariadb::{Server, Site};
use test_vault::Vault;

/// How long a server waits for a Vault here.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Whether there is time for the long campaign.
fn extended() -> bool {
    std::env::var_os("KEYWARD_EXTENDED").is_some()
}

/// A server's folder, its keys 1, 2, 3 and 7 in `vault`, which it reaches at `address`; with a stash.
fn site(name: &str, vault: &Vault, address: &str) -> Result<Site> {
    let mut site = Site::new(name)?;
    let token = text(&vault.private("admin-token", vault.root_token())?);
    let ca = site.path("etc/ca.pem");
    files::write(&ca, files::read(&vault.certificates().path("ca.pem"))?)?;
    let folder = text(&site.path("keyward"));
    let (address, ca) = (format!("address={address}"), format!("ca_file={}", text(&ca)));
    let timeout = format!("timeout={}s", TIMEOUT.as_secs());
    let mut words = vec!["init", "--dir", &folder, "--provider", "vault-kv", "--stash"];
    words.extend(["--set", &address, "--set", &ca, "--set", &timeout, "--set", "refresh=500ms"]);
    words.extend(["--admin-token-file", &token]);
    site.keyward(&words)?.ok()?;
    for id in ["3", "7"] {
        site.keyward(&["keys", "create", id])?.ok()?;
    }
    site.load_keyward();
    site.set("innodb_encrypt_log = ON");
    site.set("innodb_encrypt_tables = ON");
    Ok(site)
}

/// Rotates key 3 until that goes well; how long it took, all attempts together.
fn rotated(server: &Server, patience: Duration) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let attempt = Instant::now();
        let answer = server.try_sql("SET GLOBAL keyward_rotate_key = 3")?;
        // An attempt reads, writes and reads again, each within the provider's time.
        test_kit::ensure!(
            attempt.elapsed() < TIMEOUT * 4,
            "one attempt took {:?}: {}",
            attempt.elapsed(),
            answer.text()
        );
        match answer.ok() {
            Ok(_) => return Ok(began.elapsed()),
            Err(error) if began.elapsed() > patience => return Err(error),
            Err(_) => sleep(Duration::from_millis(200)),
        }
    }
}

/// The warnings and errors in the log that keyward wrote, without time and thread.
fn lines(log: &str) -> Vec<String> {
    let worse = |line: &&str| line.contains("keyward: ") && !line.contains("[Note]");
    let of_keyward = log.lines().filter(worse);
    let told = of_keyward.filter_map(|line| Some(line.split_once("keyward: ")?.1.to_owned()));
    told.collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
