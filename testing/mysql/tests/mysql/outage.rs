//! The key store out of reach: at the start, and while the server runs.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use test_kit::files::Snapshot;
use test_kit::{Result, ensure, seen};
use test_mysql::{Keyring, Server, Site};

use crate::stores::{Away, KeyStore, keys};

#[test]
fn without_the_key_file() -> Result<()> {
    outages(KeyStore::File)
}

#[test]
fn without_vault() -> Result<()> {
    outages(KeyStore::vault()?)
}

/// Each way in which this key store can go away: under a running server, and before one starts.
fn outages(mut store: KeyStore) -> Result<()> {
    let site = store.site("outage")?;
    let mut server = site.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (0);
         CREATE TABLE d.calm (a INT) ENCRYPTION = 'Y'; INSERT INTO d.calm VALUES (7);
         CREATE TABLE d.asked (a INT) ENCRYPTION = 'Y'; INSERT INTO d.asked VALUES (8)",
    )?;
    for &how in store.ways() {
        while_the_server_runs(&server, &site, &mut store, how)?;
        server.stop()?;
        server = at_the_start(&site, &mut store, how)?;
    }
    server.stop().map(drop)
}

/// Open tables go on, and closed ones open; a rotation fails, changes nothing, and works again
/// without a restart.
fn while_the_server_runs(
    server: &Server,
    site: &Site,
    store: &mut KeyStore,
    how: Away,
) -> Result<()> {
    let (before, rows) = (names(server)?, count(server)?);
    let files = Snapshot::of(&keys(site))?;
    store.leave(site, how)?;
    let (refused, written) =
        under_load(server, || server.sql_refused("ALTER INSTANCE ROTATE INNODB MASTER KEY"))?;
    ensure!(count(server)? == rows + written, "rows are gone");
    server.sql("FLUSH TABLES")?;
    ensure!(server.sql("SELECT a FROM d.calm")? == "7", "a table does not open");
    ensure!(Snapshot::of(&keys(site))? == files, "something changed beside the keystore");
    ensure!(names(server)? == before, "the keys changed");
    let cause = server.component("Last_error")?;
    ensure!(cause.contains(store.cause(how)), "the status tells {cause:?}");
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("keyward: cannot generate key INNODBKey-"));
    let line = line.ok_or_else(|| format!("the log tells nothing of it:\n{log}"))?;
    ensure!(line.contains("[ERROR]") && line.contains(store.cause(how)), "{line}");
    store.come_back(site, how)?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    ensure!(names(server)?.len() == before.len() + 1, "no new key");
    ensure!(server.component("Last_error")?.is_empty(), "the status tells what is over");
    let told = refused.lines().next().unwrap_or_default();
    seen!("{} {how:?}: {written} rows written and read meanwhile; {told}", store.provider());
    Ok(())
}

/// The keyring is disabled and says why; tables stay closed until it is loaded again, which needs no
/// restart. Gives the server, restarted for the one table that InnoDB was asked for meanwhile: of that
/// it remembers that it could not be opened, with any component.
fn at_the_start(site: &Site, store: &mut KeyStore, how: Away) -> Result<Server> {
    store.leave(site, how)?;
    let server = site.start()?;
    ensure!(server.component("Component_status")? == "Disabled", "the keyring is not disabled");
    let cause = server.component("Last_error")?;
    ensure!(cause.contains(store.cause(how)), "the status tells {cause:?}");
    let log = server.log();
    let told = log.lines().any(|line| {
        line.contains("[ERROR]")
            && line.contains("keyward: cannot load: ")
            && line.contains(store.cause(how))
    });
    ensure!(told, "{log}");
    let refused = server.sql_refused("CREATE TABLE d.u (a INT) ENCRYPTION = 'Y'")?;
    ensure!(refused.contains("ERROR 3185"), "{refused}");
    server.sql_refused("SELECT a FROM d.asked")?;
    let refused = server.sql_refused("ALTER INSTANCE RELOAD KEYRING")?;
    ensure!(refused.contains("Keyring reload failed"), "{refused}");
    store.come_back(site, how)?;
    server.sql("ALTER INSTANCE RELOAD KEYRING")?;
    ensure!(server.component("Component_status")? == "Active", "still disabled");
    ensure!(server.component("Last_error")?.is_empty(), "the status tells what is over");
    ensure!(server.sql("SELECT a FROM d.calm")? == "7", "a table does not open after the reload");
    count(&server)?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    seen!("{} {how:?} at the start: disabled, {cause}", store.provider());
    server.stop()?;
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.asked")? == "8", "the row is gone");
    Ok(server)
}

/// Writes and reads a row again and again while `work` is done; how many rows there are more.
fn under_load<T>(server: &Server, work: impl FnOnce() -> Result<T>) -> Result<(T, usize)> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            loop {
                server.sql("INSERT INTO d.t SELECT MAX(a) + 1 FROM d.t")?;
                written += 1;
                if done.load(Ordering::SeqCst) {
                    return Ok::<_, test_kit::Trouble>(written);
                }
            }
        });
        let outcome = work();
        done.store(true, Ordering::SeqCst);
        let written = writer.join().map_err(|_| "the writer panicked")??;
        Ok((outcome?, written))
    })
}

/// What a server can do without its keys depends on what it has encrypted with them.
#[test]
fn with_its_own_tables_encrypted_a_server_does_not_start_without_keys() -> Result<()> {
    let mut store = KeyStore::File;
    let site = store.site("own-tables")?;
    let server = site.start()?;
    server.sql("ALTER TABLESPACE mysql ENCRYPTION = 'Y'")?;
    server.stop()?;
    store.leave(&site, Away::Gone)?;
    let refused = match site.start() {
        Ok(_) => return Err("it started".into()),
        Err(error) => error.to_string(),
    };
    let told = |line: &str| line.contains("keyward: cannot load") && line.contains("local.key");
    ensure!(refused.lines().any(told), "{refused}");
    store.come_back(&site, Away::Gone)?;
    site.start()?.stop().map(drop)
}

/// The keystore itself away, of a keyring that is configured by its path alone.
#[test]
fn a_rotation_that_cannot_be_kept_fails_and_changes_nothing() -> Result<()> {
    let site = Site::new("unkept", Keyring::Ours)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'")?;
    server.sql("INSERT INTO d.t VALUES (1)")?;
    let before = names(&server)?;
    let (folder, away) = (site.path("keys"), site.path("keys-away"));
    fs::rename(&folder, &away)?;
    server.sql_refused("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    let log = server.log();
    ensure!(log.contains("keyward: cannot generate key INNODBKey-"), "{log}");
    server.sql("INSERT INTO d.t VALUES (2)")?;
    ensure!(server.sql("SELECT SUM(a) FROM d.t")? == "3", "reads do not go on");
    ensure!(names(&server)? == before, "the keys changed");
    fs::rename(&away, &folder)?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    ensure!(names(&server)?.len() == before.len() + 1, "no new key");
    server.stop()?;
    let server = site.start()?;
    ensure!(server.sql("SELECT SUM(a) FROM d.t")? == "3", "the rows are gone");
    server.stop().map(drop)
}

fn names(server: &Server) -> Result<Vec<String>> {
    let sql = "SELECT KEY_ID FROM performance_schema.keyring_keys ORDER BY KEY_ID";
    Ok(server.sql(sql)?.lines().map(str::to_owned).collect())
}

fn count(server: &Server) -> Result<usize> {
    Ok(server.sql("SELECT COUNT(*) FROM d.t")?.parse()?)
}
