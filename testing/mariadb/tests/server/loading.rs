//! Loading, failing to load, unloading.

use std::fs;

use test_kit::{Result, ensure, files, seen};
use test_mariadb::Site;
use test_mariadb::rows::Table;

use crate::{TABLES, site};

const TABLE: Table = Table { name: "t", options: "ENCRYPTED=YES", rows: 100 };

#[test]
fn install_soname_into_a_running_server() -> Result<()> {
    let mut site = Site::with_keyward("install")?;
    site.unset("plugin_load_add");
    site.unset("keyward = FORCE");
    site.unset("keyward_config");
    site.set(&format!("loose_keyward_config = {}", site.config().display()));
    let server = site.start()?;
    let said = TABLE.create(&server).map_or_else(|error| error.to_string(), |()| "made".into());
    ensure!(said.contains("ERROR"), "without a plugin nothing can be encrypted: {said}");
    server.sql("DROP TABLE IF EXISTS test.t; INSTALL SONAME 'keyward'")?;
    TABLE.create(&server)?;
    let said = server.sql("UNINSTALL SONAME 'keyward'; SHOW WARNINGS")?;
    seen!("UNINSTALL SONAME while in use: {}", said.replace('\t', " "));
    ensure!(said.contains("busy"), "{said}");
    TABLE.check(&server)?;
    server.sql("INSTALL SONAME 'keyward'").ok();
    server.stop()?;
    site.load_keyward();
    let server = site.start()?;
    TABLE.check(&server)?;
    server.stop()?;
    Ok(())
}

#[test]
fn maturity_and_version_are_those_of_a_stable_server() -> Result<()> {
    let site = site("maturity")?;
    let server = site.start()?;
    let row = server.sql(
        "SELECT PLUGIN_STATUS, PLUGIN_TYPE, PLUGIN_MATURITY, LOAD_OPTION, PLUGIN_LICENSE
         FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'keyward'",
    )?;
    seen!("information_schema.PLUGINS: {}", row.replace('\t', ", "));
    ensure!(row.starts_with("ACTIVE\tENCRYPTION\t"), "{row}");
    ensure!(row.contains("Gamma") || row.contains("Stable"), "{row}");
    server.stop()?;
    Ok(())
}

/// As an upgrade of a package does it.
#[test]
fn an_upgrade_under_a_running_server_is_told() -> Result<()> {
    let site = site("upgrade")?;
    let server = site.start()?;
    ensure!(server.status("Keyward_library_replaced")? == "0", "nothing was replaced yet");
    let library = site.path("plugin/keyward.so");
    let new = site.path("plugin/keyward.so.dpkg-new");
    fs::copy(&library, &new)?;
    fs::rename(&new, &library)?;
    ensure!(server.status("Keyward_library_replaced")? == "1", "the file was replaced");
    let doctor = || site.keyward(&["doctor", "--socket", &server.socket().to_string_lossy()]);
    let said = doctor()?.out;
    seen!("{}", said.lines().filter(|line| line.contains("library")).collect::<String>());
    ensure!(said.contains("the file of its library was replaced or removed"), "{said}");
    TABLE.create(&server)?;
    TABLE.check(&server)?;
    server.stop()?;
    let server = site.start()?;
    ensure!(server.status("Keyward_library_replaced")? == "0", "it was loaded by the restart");
    TABLE.check(&server)?;
    server.stop()?;
    Ok(())
}

#[test]
fn nothing_secret_is_a_variable() -> Result<()> {
    let site = site("variables")?;
    let server = site.start()?;
    let key = files::text(&site.key_file())?;
    let rows = server.sql("SHOW GLOBAL VARIABLES; SHOW GLOBAL STATUS")?;
    ensure!(!rows.contains(key.trim()), "the wrapping key stands in a variable");
    let ours = server.sql("SHOW GLOBAL VARIABLES LIKE 'keyward%'")?;
    for row in ours.lines() {
        seen!("{}", row.replace('\t', " = "));
    }
    server.stop()?;
    Ok(())
}

#[test]
fn with_force_a_failed_init_stops_the_server() -> Result<()> {
    let site = site("force")?;
    files::write(&site.config(), "[keystore\n")?;
    let log = site.refusal()?;
    ensure!(log.contains("keyward.toml:1"), "the log does not name file and line:\n{log}");
    Ok(())
}

#[test]
fn without_force_the_server_starts_and_recovers_later() -> Result<()> {
    let mut site = Site::with_keyward("no-force")?;
    site.unset("keyward = FORCE");
    let server = site.start()?;
    TABLE.create(&server)?;
    server
        .sql("CREATE TABLE test.clear (id INT) ENCRYPTED=NO; INSERT INTO test.clear VALUES (1)")?;
    server.stop()?;
    let config = files::read(&site.config())?;
    files::write(&site.config(), "[keystore\n")?;
    let server = site.start()?;
    ensure!(server.log().contains("keyward.toml:1"), "no reason in the log:\n{}", server.log());
    ensure!(server.sql("SELECT id FROM test.clear")? == "1", "clear data was to be readable");
    server.sql_refused("SELECT * FROM test.t")?;
    server.stop()?;
    files::write(&site.config(), config)?;
    let server = site.start()?;
    TABLE.check(&server)?;
    server.stop()?;
    Ok(())
}

#[test]
fn no_thread_of_ours_outlives_a_failed_init() -> Result<()> {
    let mut site = Site::with_keyward("threads")?;
    let server = site.start()?;
    let ours = |threads: Vec<(i32, String)>| {
        threads.into_iter().filter(|(_, name)| name.starts_with("keyward")).count()
    };
    ensure!(ours(server.threads()?) == 1, "one thread was expected: {:?}", server.threads()?);
    server.stop()?;
    site.unset("keyward = FORCE");
    files::write(&site.config(), "[keystore\n")?;
    let server = site.start()?;
    ensure!(ours(server.threads()?) == 0, "none was expected: {:?}", server.threads()?);
    server.stop()?;
    Ok(())
}

#[test]
fn one_server_loads_one_of_our_names() -> Result<()> {
    let mut site = site("two-names")?;
    site.load_file_keys(true, "aes_ctr")?;
    site.unset("file_key_management = FORCE");
    site.set("loose_file_key_management = ON");
    let log = match site.launch(&test_mariadb::Launch::default()) {
        Ok(server) => {
            let active = server.sql(
                "SELECT PLUGIN_NAME FROM information_schema.PLUGINS
                 WHERE PLUGIN_TYPE = 'ENCRYPTION' AND PLUGIN_STATUS = 'ACTIVE'",
            )?;
            ensure!(active.lines().count() == 1, "active: {active}");
            let log = server.log();
            server.stop()?;
            log
        }
        Err(refusal) => refusal.log,
    };
    let line =
        log.lines().find(|line| line.contains("file_key_management") && line.contains("ERROR"));
    seen!("a second name of ours: {}", line.unwrap_or("(no line)"));
    ensure!(line.is_some(), "nothing was said of the second name:\n{log}");
    Ok(())
}

#[test]
fn a_restart_reads_everything() -> Result<()> {
    let site = site("restart")?;
    let server = site.start()?;
    test_mariadb::rows::create(&server, TABLES)?;
    server.kill()?;
    let server = site.start()?;
    test_mariadb::rows::check(&server, TABLES)?;
    let log = server.stop()?;
    ensure!(!log.contains("[ERROR]"), "{log}");
    Ok(())
}
