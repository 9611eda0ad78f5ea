//! Restore drills: data directory and keystore put back together and apart, and what the start says.

use std::fs;
use std::path::Path;

use test_kit::command::answer;
use test_kit::files::copy;
use test_kit::{Result, ensure, files, seen};
use test_mysql::{Keyring, Server, Site, complaints};

const MARK: &str = "keyward.mark";

#[test]
fn a_start_is_refused_where_the_keystore_alone_is_older_and_nowhere_else() -> Result<()> {
    let site = Site::new("drill", Keyring::Ours)?;
    initialized_without_a_mark(&site)?;
    let server = site.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (7)",
    )?;
    ensure!(mark(&site)?.contains("INNODBKey-"), "{}", mark(&site)?);
    server.stop()?;
    keep(&site, "older")?;
    let server = site.start()?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    ensure!(mark(&site)?.matches("INNODBKey-").count() == 2, "{}", mark(&site)?);
    let name = server.sql(
        "SELECT KEY_ID FROM performance_schema.keyring_keys WHERE KEY_ID LIKE 'INNODBKey%-2'",
    )?;
    server.stop()?;
    keep(&site, "newer")?;

    put(&site, "older", "data")?;
    quiet(&site).map_err(|error| error.within("the data alone older"))?;
    put(&site, "older", "data")?;
    put(&site, "older", "keys")?;
    quiet(&site).map_err(|error| error.within("both older"))?;

    put(&site, "newer", "data")?;
    put(&site, "older", "keys")?;
    let server = site.start()?;
    says(
        &server,
        &[
            "d/t.ibd needs key INNODBKey-",
            "-2 version 1, which keystore ",
            "keyward.mark lists it as of the same keystore; an older copy took its place: put the \
             newest copy back",
        ],
    )?;
    others_are_refused(&site, &server, &name)?;
    // The advice, followed.
    put(&site, "newer", "keys")?;
    server.sql("ALTER INSTANCE RELOAD KEYRING")?;
    ensure!(server.sql("SELECT a FROM d.t")? == "7", "the row is gone");
    registered(&site, server)
}

/// The server loads us before it looks whether the folder is empty.
fn initialized_without_a_mark(site: &Site) -> Result<()> {
    fs::remove_dir_all(site.data())?;
    answer(site.mysqld().arg("--initialize-insecure"))?.ok()?;
    ensure!(site.keyring(Keyring::Ours).exists(), "it did not load the component");
    ensure!(!site.data().join(MARK).exists(), "it wrote a mark");
    Ok(())
}

/// The running server, whose keyring is disabled, is shown a foreign keystore and then none.
fn others_are_refused(site: &Site, server: &Server, name: &str) -> Result<()> {
    let theirs = id(&site.path("newer/keys"))?;
    foreign_keystore(site, name)?;
    let ours = id(&site.path("keys"))?;
    reload_refused(server)?;
    says(
        server,
        &[
            &format!(
                "{name} version 1 of another keystore: that of keystore {ours} does not open it"
            ),
            &format!(
                "keyward.mark says that the data are of keystore {theirs}; put the configuration \
                 and the keys of keystore {theirs} back"
            ),
        ],
    )?;
    let mark_file = site.data().join(MARK);
    let mark = files::read(&mark_file)?;
    fs::remove_file(&mark_file)?;
    reload_refused(server)?;
    says(server, &["of another keystore", "no keyward.mark says whose the data are"])?;
    files::write(&mark_file, mark)?;

    fs::remove_file(site.keyring(Keyring::Ours))?;
    reload_refused(server)?;
    says(
        server,
        &[
            "there is no keystore at ",
            "left of the one before: ",
            "keystore.json.key",
            "put the keystore back from a backup, next to its key file; a new one does not read \
             these data",
        ],
    )?;
    ensure!(!site.keyring(Keyring::Ours).exists(), "another keystore was made");
    Ok(())
}

/// Puts a keystore with another key of the same name in the place of the right one.
fn foreign_keystore(site: &Site, name: &str) -> Result<()> {
    for file in files::list(&site.path("keys")) {
        fs::remove_file(file)?;
    }
    let file = site.path("keys/other");
    let data = "5E".repeat(32);
    files::write(
        &file,
        format!(
            "{{\"version\":\"1.0\",\"elements\":[{{\"user\":\"\",\"data_id\":\"{name}\",\
             \"data_type\":\"AES\",\"data\":\"{data}\",\"extension\":[]}}]}}"
        ),
    )?;
    files::chmod(&file, 0o600)?;
    site.keyward(&["import", "--from-keyring-file", &text(&file)])?.ok().map(drop)
}

/// `destroy` asks for the data directory of this server, as for MariaDB's.
fn registered(site: &Site, server: Server) -> Result<()> {
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    let (data, copy) = (text(&site.data()), text(&site.path("newer/data")));
    ensure!(site.keyward(&["status"])?.ok()?.contains(&data), "it is not registered");
    // A MariaDB may share the keystore: its keys are imported.
    let (keys, cnf) = (site.path("mariadb-keys"), site.path("mariadb.cnf"));
    files::write(&keys, format!("1;{0}\n7;{0}\n", "a1".repeat(32)))?;
    files::chmod(&keys, 0o600)?;
    files::write(&cnf, format!("[mariadb]\nfile_key_management_filename = {}\n", text(&keys)))?;
    site.keyward(&["import", "--from-mycnf", &text(&cnf)])?.ok()?;
    for _ in 0..2 {
        site.keyward(&["rotate", "7"])?.ok()?;
    }
    let destroy = ["keys", "destroy", "7", "1", "--datadir"];
    // A copy does not speak for it.
    let refused = site.keyward(&[&destroy[..], &[&copy]].concat())?;
    let told = format!("{data} on ");
    ensure!(
        refused.code == 1
            && refused.err.contains(&told)
            && refused.err.contains("was not looked at"),
        "{}",
        refused.text()
    );
    let planned = site.keyward(&[&destroy[..], &[&data]].concat())?.ok()?;
    ensure!(planned.contains("nothing needs key 7 version 1"), "{planned}");
    server.stop().map(drop)
}

/// The server starts, reads the row, and keyward complains of nothing.
fn quiet(site: &Site) -> Result<()> {
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "7", "the row is gone");
    let log = server.stop()?;
    ensure!(complaints(&log).is_empty(), "{log}");
    Ok(())
}

/// The keyring is disabled, and its status and the log say why in these words.
fn says(server: &Server, words: &[&str]) -> Result<()> {
    ensure!(server.component("Component_status")? == "Disabled", "the keyring is not disabled");
    let (cause, log) = (server.component("Last_error")?, server.log());
    let told = |line: &str| line.contains("[ERROR]") && line.contains(&cause);
    ensure!(log.lines().any(told), "{cause} is not in the log:\n{log}");
    for word in words {
        ensure!(cause.contains(word), "{word:?} was to be in: {cause}");
    }
    seen!("{}", cause);
    Ok(())
}

fn reload_refused(server: &Server) -> Result<()> {
    let refused = server.sql_refused("ALTER INSTANCE RELOAD KEYRING")?;
    ensure!(refused.contains("Keyring reload failed"), "{refused}");
    Ok(())
}

fn mark(site: &Site) -> Result<String> {
    files::text(&site.data().join(MARK))
}

/// The id of the keystore in `folder`.
fn id(folder: &Path) -> Result<String> {
    let keystore = files::text(&folder.join("keystore.json"))?;
    let id = keystore.split("\"id\":").nth(1).and_then(|rest| rest.split('"').nth(1));
    Ok(id.ok_or("the keystore has no id")?.to_owned())
}

/// Keeps a copy of data directory and keystore.
fn keep(site: &Site, name: &str) -> Result<()> {
    let folder = site.path(name);
    fs::create_dir(&folder)?;
    copy(&site.data(), &folder)?;
    copy(&site.path("keys"), &folder)
}

/// Puts `what` of the copy called `name` back.
fn put(site: &Site, name: &str, what: &str) -> Result<()> {
    fs::remove_dir_all(site.path(what))?;
    copy(&site.path(name).join(what), &site.path(what))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
