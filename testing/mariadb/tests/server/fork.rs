//! A clone that goes its own way, as docs/replicas-and-galera.md has it: data from mariadb-backup, a copy of the
//! keystore, forked.

use std::fs;

use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{check, create, wait_for_version};
use test_mariadb::{Backup, Site};

use crate::{TABLES, site};

/// What the number of no version of the clone's own is below.
const JUMPED: u32 = 1 << 16;

#[test]
fn a_clone_goes_its_own_way() -> Result<()> {
    let original = site("fork")?;
    let server = original.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    let base = original.path("base");
    Backup::of(&original).make(&server, &base, None)?;

    let mut clone = Site::with_keyward("fork-clone")?;
    clone.encrypt_everything();
    clone.write_my_cnf()?;
    fs::remove_dir_all(clone.keys())?;
    files::copy(&original.keys(), &clone.keys())?;
    give_to_server(&clone.keys())?;
    fs::copy(original.key_file(), clone.key_file())?;
    let data = clone.data().display().to_string();
    let fork = |data: &str| clone.keyward(&["keystore", "fork", "--datadir", data]);
    let running = fork(&original.data().display().to_string())?;
    ensure!(running.code == 1 && running.err.contains("a server runs on"), "{}", running.text());
    let said = fork(&data)?.ok()?;
    ensure!(said.contains("is keystore ") && said.contains("its backups are its own"), "{said}");
    seen!("{}", said.lines().next().unwrap_or_default());
    Backup::of(&clone).restore(&base, &[])?;
    let cloned = clone.start()?;
    check(&cloned, TABLES)?;
    // Each key of the clone's jumps by another number.
    for (server, of, least) in [(&server, &original, 5), (&cloned, &clone, JUMPED)] {
        server.sql("SET GLOBAL keyward_rotate_key = -1")?;
        wait_for_version(server, "test/%", least)?;
        seen!("after a rotation of its own: version {}", newest(of)?);
        check(server, TABLES)?;
    }
    let [was, is] = [newest(&original)?, newest(&clone)?];
    ensure!(was == 5 && is > JUMPED, "one number may be two keys: {was}, {is}");
    let status = cloned.status("Keyward_degraded")?;
    ensure!(status == "0", "{}", cloned.log());
    cloned.stop()?;
    let cloned = clone.start()?;
    check(&cloned, TABLES)?;
    cloned.stop()?;
    server.stop()?;
    let server = original.start()?;
    check(&server, TABLES)?;
    server.stop().map(drop)
}

/// The newest version of key 1.
fn newest(site: &Site) -> Result<u32> {
    let list = site.keyward(&["--json", "keys", "list"])?.ok()?;
    let list: serde_json::Value =
        serde_json::from_str(&list).map_err(|error| format!("{error}: {list}"))?;
    let versions = list.as_array().ok_or("no list")?.iter().filter(|one| {
        let name = &one["key"]["name"];
        *name == 1 || name["id"] == 1
    });
    let newest = versions.filter_map(|one| one["key"]["version"].as_u64()).max();
    newest.and_then(|newest| newest.try_into().ok()).ok_or_else(|| "no key 1".into())
}
