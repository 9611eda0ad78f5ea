//! mariadb-backup beside a server with the stand-in for `aws_key_management`.

use std::fs;

use test_kit::account::give_to_server;
use test_kit::files::{self, Snapshot, all, holding};
use test_kit::{Result, ensure, seen};
use test_mariadb::Backup;
use test_mariadb::rows::{PLAINTEXT, check, create};

use crate::dropin::{Bench, TABLES};

#[test]
fn a_backup_has_its_key_files_and_restores_with_them() -> Result<()> {
    let bench = Bench::new("aws-backup")?;
    let site = &bench.site;
    let tool = || Backup::of(site).with(bench.environment());
    let server = bench.start()?;
    create(&server, &TABLES[..1])?;
    let (full, step) = (site.path("full"), site.path("step"));
    tool().make(&server, &full, None)?;
    // Across a rotation, and with a key that the full backup does not know.
    server.sql("SET GLOBAL aws_key_management_rotate_key = -1")?;
    create(&server, &TABLES[1..])?;
    let before = bench.key_files();
    tool().make(&server, &step, Some(&full))?;
    ensure!(bench.key_files() == before, "the backup made keys: {:?}", bench.key_files());
    let clear = holding(&[all(&full), all(&step)].concat(), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    server.stop()?;

    // As the documentation says: mariadb-backup prepares in the full backup, with the keys in there.
    for file in files::list(&step) {
        let name = file.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with("aws-kms-key.") {
            fs::copy(&file, full.join(name))?;
        }
    }
    tool().restore(&full, &[&step])?;
    let restored = bench.key_files();
    ensure!(restored == before, "the restored data folder has {restored:?} in place of {before:?}");
    let server = bench.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    seen!(
        "mariadb-backup with aws_key_management: full and incremental, {} key files",
        before.len()
    );
    Ok(())
}

#[test]
fn key_files_in_a_folder_of_their_own_are_backed_up_by_it() -> Result<()> {
    let mut bench = Bench::new("aws-keyfile-dir")?;
    let folder = bench.site.path("aws-keys");
    fs::create_dir(&folder)?;
    files::chmod(&folder, 0o700)?;
    give_to_server(&folder)?;
    bench.site.set(&format!("aws_key_management_keyfile_dir = {}", folder.display()));
    let server = bench.start()?;
    create(&server, TABLES)?;
    ensure!(bench.key_files().is_empty(), "key files in the data folder: {:?}", bench.key_files());
    let before = Snapshot::of(&folder)?;
    let target = bench.site.path("full");
    let tool = Backup::of(&bench.site).with(bench.environment());
    tool.make(&server, &target, None)?;
    server.stop()?;
    tool.restore(&target, &[])?;
    ensure!(Snapshot::of(&folder)? == before, "a backup changed the key files");
    let server = bench.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}
