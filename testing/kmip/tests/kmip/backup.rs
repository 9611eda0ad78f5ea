//! mariadb-backup beside a server with `kmip_key_management`.

use std::fs;
use std::os::unix::fs::chown;

use test_kit::account::{give_to_server, server_user};
use test_kit::files::{self, Snapshot, all, holding};
use test_kit::{Result, ensure, run, seen};
use test_mariadb::rows::{PLAINTEXT, Table, check, create};
use test_mariadb::{Backup, Server, Site};

use crate::life::Room;
use crate::{said, settings, soon, wrapper};

/// Neither root nor the server's account.
const NOBODY: u32 = 65_534;

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 1000 },
    Table { name: "patients", options: "ENCRYPTED=YES", rows: 1000 },
];

#[test]
fn a_backup_restores_by_the_variables_of_the_stand_in() -> Result<()> {
    let mut room = Room::new("kmip-backup")?;
    let var = room.site.path("var");
    fs::create_dir(&var)?;
    files::chmod(&var, 0o700)?;
    give_to_server(&var)?;
    said(wrapper(settings(&room.kmip), "mariadb-master", None).create_key(soon()))?;
    room.follow_guide("mariadb-master")?;
    room.site.encrypt_everything();
    let site = &room.site;
    let server = site.start()?;
    create(&server, &TABLES[..1])?;
    let before = Snapshot::of(&var)?;
    let (full, step) = (site.path("full"), site.path("step"));
    if server_user().is_some() {
        a_strangers_file_is_none_for_root(site, &server)?;
    }
    Backup::of(site).make(&server, &full, None)?;
    create(&server, &TABLES[1..])?;
    Backup::of(site).make(&server, &step, Some(&full))?;
    ensure!(Snapshot::of(&var)? == before, "the backup changed the keystore");
    let clear = holding(&[all(&full), all(&step)].concat(), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    server.stop()?;
    Backup::of(site).restore(&full, &[&step])?;
    ensure!(Snapshot::of(&var)? == before, "the restore changed the keystore");
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    seen!("mariadb-backup with kmip_key_management: full and incremental, prepared and restored");
    a_backup_without_its_kmip_server_says_so(room)
}

/// mariadb-backup is run by root mostly, who trusts no file that somebody else than the server's account
/// could change; the line has the cure, and the server is fine with it.
fn a_strangers_file_is_none_for_root(site: &Site, server: &Server) -> Result<()> {
    let key = site.path("etc/kmip/client.key");
    chown(&key, Some(NOBODY), None)?;
    let error = Backup::of(site).make(server, &site.path("refused"), None);
    let text = error.err().ok_or("the file was trusted")?.to_string();
    let line = text.lines().find(|line| line.contains("keyward cannot start"));
    let line = line.ok_or_else(|| format!("no line of the plugin's:\n{text}"))?;
    let cure = line.split_once("run ").and_then(|(_, rest)| rest.split_once(", or"));
    let cure = cure.ok_or_else(|| format!("no cure in: {line}"))?.0;
    ensure!(cure.starts_with("chown root "), "{line}");
    run("sh", ["-c", cure]).map(drop)
}

fn a_backup_without_its_kmip_server_says_so(mut room: Room) -> Result<()> {
    let server = room.site.start()?;
    room.kmip.kill()?;
    let target = room.site.path("none");
    let error =
        Backup::of(&room.site).make(&server, &target, None).err().ok_or("it went through")?;
    let text = error.to_string();
    let line = text.lines().find(|line| line.contains("keyward cannot start"));
    let line = line.ok_or_else(|| format!("no line of the plugin's:\n{text}"))?;
    ensure!(line.contains("connection refused"), "{line}");
    server.stop()?;
    Ok(())
}
