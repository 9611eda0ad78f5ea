//! Restore drills: data directory and keystore put back together and apart, and what the start says.

use std::fs;
use std::path::{Path, PathBuf};

use test_kit::account::give_to_server;
use test_kit::files;
use test_kit::files::copy;
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{Table, check, create, wait_for_version};
use test_mariadb::{Backup, Site};

use crate::text;

const TABLES: &[Table] = &[
    Table { name: "whole", options: "ENCRYPTED=YES", rows: 500 },
    Table { name: "zipped", options: "ENCRYPTED=YES ROW_FORMAT=COMPRESSED", rows: 500 },
];

const MARK: &str = "keyward.mark";

#[test]
fn a_start_is_refused_where_the_keystore_alone_is_older_and_nowhere_else() -> Result<()> {
    let site = site("drill-older")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    ensure!(server.status("Keyward_mark")? == "written", "{}", server.log());
    server.stop()?;
    let older = Copy::of(&site, "older")?;
    let server = site.start()?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(listed(&site)?.contains("\"version\":3"), "the new version is not in the mark");
    wait_for_version(&server, "%", 3)?;
    server.write_pages()?;
    server.stop()?;
    let newer = Copy::of(&site, "newer")?;

    for (what, data, keys) in [
        ("both newer", &newer, &newer),
        ("the data alone older", &older, &newer),
        ("both older", &older, &older),
    ] {
        data.put_data(&site)?;
        keys.put_keys(&site)?;
        quiet(&site).map_err(|error| error.within(what))?;
    }

    newer.put_data(&site)?;
    older.put_keys(&site)?;
    let said = refusal(&site)?;
    ensure!(
        said.contains("needs key 1 version 3, which keystore ")
            && said.contains("keyward.mark lists it as of the same keystore; an older copy took its place: put the newest copy back"),
        "{said}"
    );
    // A state transfer by rsync leaves the joiner's own mark next to the donor's newer data.
    files::write(&site.data().join(MARK), &older.mark()?)?;
    site.only_for_server(&site.data().join(MARK))?;
    let lagging = refusal(&site)?;
    ensure!(
        lagging.contains("needs key 1 version 3, which keystore ")
            && lagging.contains("keyward.mark does not list it; the data came from another server, or an older copy of the keystore took its place: put the newest keystore of these data here"),
        "{lagging}"
    );
    seen!("{lagging}");
    // A restore with mariadb-backup brings no mark.
    fs::remove_file(site.data().join(MARK))?;
    let said = refusal(&site)?;
    ensure!(
        said.contains("needs key 1 version 3")
            && said.contains("no keyward.mark says whose the data are"),
        "{said}"
    );
    // The advice, followed.
    newer.put_keys(&site)?;
    quiet(&site)?;
    seen!("{said}");
    Ok(())
}

#[test]
fn a_keystore_that_was_lost_is_not_made_again_over_its_data() -> Result<()> {
    let site = site("drill-lost")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let backup = site.path("backup");
    Backup::of(&site).make(&server, &backup, None)?;
    server.stop()?;
    let before = Copy::of(&site, "before")?;
    let id = keystore_id(&site)?;

    fs::rename(site.path("keyward"), site.path("lost"))?;
    let said = refusal(&site)?;
    ensure!(
        said.contains(&format!("says that the data there are of keystore {id}"))
            && said.contains("a new keystore does not read them")
            && !said.contains("keyward init"),
        "{said}"
    );
    seen!("{said}");
    let (folder, data) = (text(&site.path("keyward")), text(&site.data()));
    let init = ["init", "--dir", &folder, "--datadir", &data];
    let refused = site.keyward(&init)?;
    ensure!(refused.code == 1 && refused.err.contains(&id), "{}", refused.text());
    ensure!(!site.path("keyward").exists(), "init left something");
    seen!("{}", refused.err.trim());
    site.keyward(&[&init[..], &["--despite-data"]].concat())?.ok()?;

    let said = refusal(&site)?;
    let new = keystore_id(&site)?;
    ensure!(
        said.contains(&format!("is encrypted with key 1 version 1 of another keystore: that of keystore {new} does not open it"))
            && said.contains(&format!("put the configuration and the keys of keystore {id} back")),
        "{said}"
    );
    ensure!(!said.contains("force_recovery"), "{said}");
    let said = site.keyward(&["inspect", &text(&site.data().join("test/whole.ibd"))])?;
    ensure!(
        said.code == 1 && said.out.contains("the keystore's key 1 version 1 does not open page"),
        "{}",
        said.text()
    );
    // Without a mark, and with the data as mariadb-backup gives them back.
    fs::remove_file(site.data().join(MARK))?;
    let said = refusal(&site)?;
    ensure!(
        said.contains("of another keystore")
            && said.contains("no keyward.mark says whose the data are"),
        "{said}"
    );
    seen!("{said}");
    before.put_keys(&site)?;
    Backup::of(&site).restore(&backup, &[])?;
    quiet(&site)
}

#[test]
fn another_servers_mark_next_to_our_data_is_no_alarm() -> Result<()> {
    let joiner = site("drill-joiner")?;
    let server = joiner.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    server.stop()?;
    let donor = site("drill-donor")?;
    let server = donor.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    let (theirs, ours) = (listed(&joiner)?, keystore_id(&donor)?);
    ensure!(theirs.contains("\"version\":3"), "{theirs}");
    // As rsync leaves it.
    files::write(&donor.data().join(MARK), &theirs)?;
    donor.only_for_server(&donor.data().join(MARK))?;
    quiet(&donor)?;
    let after = listed(&donor)?;
    ensure!(after.contains(&ours) && !after.contains("\"version\":3"), "{after}");
    Ok(())
}

#[test]
fn a_mark_that_cannot_be_written_or_read_is_told_and_no_reason_to_fail() -> Result<()> {
    let site = site("drill-mark")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    files::write(&site.data().join(MARK), "{\"format\":\"keyward-mark\",\"version\":9}\n")?;
    site.only_for_server(&site.data().join(MARK))?;
    let server = site.start()?;
    check(&server, TABLES)?;
    ensure!(server.status("Keyward_mark")? == "of a newer keyward", "{}", server.log());
    let log = server.stop()?;
    ensure!(log.contains("has format version 9, this keyward knows 1"), "{log}");
    ensure!(listed(&site)?.contains("\"version\":9"), "a newer mark was written over");

    fs::remove_file(site.data().join(MARK))?;
    fs::create_dir(site.data().join("keyward.mark.tmp"))?;
    let server = site.start()?;
    check(&server, TABLES)?;
    let state = server.status("Keyward_mark")?;
    ensure!(state.starts_with("cannot write "), "{state}");
    seen!("{state}");
    server.stop()?;
    Ok(())
}

#[test]
fn destroy_wants_every_data_directory_of_the_keystore() -> Result<()> {
    let site = site("drill-registered")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    for _ in 0..3 {
        server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    }
    let mark = listed(&site)?;
    let id = mark.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let id = id.ok_or("the mark has no id")?.to_owned();
    // Another data directory of the same keystore, which needs no key.
    let other = Site::new("drill-other")?;
    files::write(&other.data().join(MARK), mark.replace(&id, "other"))?;
    other.only_for_server(&other.data().join(MARK))?;
    let (ours, theirs) = (text(&site.data()), text(&other.data()));
    let destroy = ["keys", "destroy", "1", "1", "--datadir", &theirs];
    let refused = site.keyward(&destroy)?;
    ensure!(
        refused.code == 1
            && refused.err.contains(&ours)
            && refused.err.contains(&format!("mark {id}, last seen 2"))
            && refused.err.contains("uses this keystore and was not looked at"),
        "{}",
        refused.text()
    );
    seen!("{}", refused.err.trim());
    let socket = text(server.socket());
    let both =
        site.keyward(&[&destroy[..], &["--datadir", &ours, "--socket", &socket]].concat())?;
    ensure!(!both.err.contains("was not looked at"), "{}", both.text());
    seen!("with both: {}", both.text().trim());
    server.stop()?;
    fs::remove_dir_all(site.data())?;
    let gone = site.keyward(&[&destroy[..], &["--gone", &id]].concat())?.ok()?;
    ensure!(gone.contains("nothing needs key 1 version 1"), "{gone}");
    ensure!(!site.keyward(&["status"])?.ok()?.contains(&id), "it is registered all the same");
    Ok(())
}

fn site(name: &str) -> Result<Site> {
    let mut site = Site::with_keyward(name)?;
    site.encrypt_everything();
    Ok(site)
}

/// The server starts, reads all rows, and keyward complains of nothing about the data.
fn quiet(site: &Site) -> Result<()> {
    let server = site.start()?;
    check(&server, TABLES)?;
    ensure!(server.status("Keyward_mark")? == "written", "{}", server.log());
    let log = server.stop()?;
    let alarms: Vec<_> = log
        .lines()
        .filter(|line| line.contains("keyward: ") && !line.contains("[Note]"))
        .filter(|line| !line.contains("secret memory"))
        .collect();
    ensure!(alarms.is_empty(), "{alarms:?}");
    Ok(())
}

/// What keyward says as the server refuses to start: one line.
fn refusal(site: &Site) -> Result<String> {
    let log = site.refusal()?;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("keyward cannot start")).collect();
    ensure!(lines.len() == 1 && !lines[0].ends_with("..."), "{log}");
    Ok(lines[0].to_owned())
}

fn listed(site: &Site) -> Result<String> {
    files::text(&site.data().join(MARK))
}

fn keystore_id(site: &Site) -> Result<String> {
    let text = files::text(&site.keystore())?;
    let id = text.split("\"id\":").nth(1).and_then(|rest| rest.split('"').nth(1));
    Ok(id.ok_or("the keystore has no id")?.to_owned())
}

/// A copy of data directory and keystore.
struct Copy(PathBuf);

impl Copy {
    fn of(site: &Site, name: &str) -> Result<Self> {
        let folder = site.path(name);
        fs::create_dir(&folder)?;
        copy(&site.data(), &folder)?;
        copy(&site.path("keyward"), &folder)?;
        Ok(Self(folder))
    }

    fn mark(&self) -> Result<String> {
        files::text(&self.0.join("data").join(MARK))
    }

    fn put_data(&self, site: &Site) -> Result<()> {
        self.put("data", &site.data())
    }

    fn put_keys(&self, site: &Site) -> Result<()> {
        self.put("keyward", &site.path("keyward"))
    }

    fn put(&self, name: &str, to: &Path) -> Result<()> {
        fs::remove_dir_all(to)?;
        copy(&self.0.join(name), to)?;
        if name == "data" { give_to_server(to) } else { Ok(()) }
    }
}
