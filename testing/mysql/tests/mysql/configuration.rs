//! The forms of the component's configuration, and a server that forks.

use test_kit::{Result, ensure, files};
use test_mysql::{Keyring, Site, complaints};

#[test]
fn a_daemon_rotates_and_follows_the_keystore() -> Result<()> {
    let mut site = Site::new("daemon", Keyring::Ours)?;
    // The keystore that the first start makes, from then on with a configuration of keyward's own.
    site.start()?.stop()?;
    let config = site.path("keys/keyward.toml");
    let (keystore, key) = (site.keyring(Keyring::Ours), site.wrapping_key());
    let toml = format!(
        "[keystore]\npath = {keystore:?}\n[[provider]]\ntype = \"local\"\nkey_file = {key:?}\n"
    );
    files::write(&config, toml)?;
    site.configure(Keyring::Ours, &format!("{{\"config\": {config:?}}}"))?;
    site.set("--daemonize");
    let server = site.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (1);
         ALTER INSTANCE ROTATE INNODB MASTER KEY",
    )?;
    ensure!(server.component("Provider")? == "local", "no provider is named");
    ensure!(server.our_threads()? == 1, "{} threads of ours", server.our_threads()?);
    let log = server.stop()?;
    ensure!(complaints(&log).is_empty(), "{log}");
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    server.stop().map(drop)
}

#[test]
fn the_configuration_of_the_instance_counts_where_the_global_says_so() -> Result<()> {
    let site = Site::new("local", Keyring::Ours)?;
    let config = site.configuration(Keyring::Ours);
    std::fs::copy(&config, site.data().join("component_keyring_keyward.cnf"))?;
    site.configure(Keyring::Ours, "{\"read_local_config\": true}")?;
    let server = site.start()?;
    ensure!(server.component("Component_status")? == "Active", "{}", server.log());
    let file = server.component("Data_file")?;
    ensure!(file == site.keyring(Keyring::Ours).display().to_string(), "Data_file is {file}");
    server.stop().map(drop)
}
