//! What `keyward inspect` reads in the files, against what the server and innochecksum say.

use std::path::Path;
use std::process::Command;

use keyward::inspect::{self, Report, Use};
use test_kit::command::answer;
use test_kit::{Answer, Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create, wait_for_version};
use test_mariadb::{Server, Site};

use crate::text;

const TABLES: &[Table] = &[
    Table { name: "whole", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 20_000 },
    Table {
        name: "packed",
        options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3 PAGE_COMPRESSED=1",
        rows: 5000,
    },
    Table { name: "zipped", options: "ENCRYPTED=YES ROW_FORMAT=COMPRESSED", rows: 5000 },
    Table { name: "standard", options: "", rows: 2000 },
];

const SPACES: &str = "
    SELECT NAME, CURRENT_KEY_ID, MIN_KEY_VERSION, CURRENT_KEY_VERSION
    FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE NAME LIKE '%/%'";

#[test]
fn agrees_with_the_server_and_with_innochecksum() -> Result<()> {
    let mut site = Site::with_keyward("life-inspect")?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    site.encrypt_everything();
    let server = site.start()?;
    create(&server, TABLES)?;
    // Pages that are given back keep the version they had.
    server
        .sql("DELETE FROM test.whole WHERE id > 10000; SET GLOBAL innodb_max_purge_lag_wait = 0")?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    wait_for_version(&server, "%", 3)?;
    server.write_pages()?;
    let (files, freed) = with_the_server(&site, &server)?;
    server.stop()?;

    let pages = with_innochecksum(&site)?;
    damaged(&site)?;
    let said = site.keyward(&["inspect", &text(&site.data())])?.ok()?;
    ensure!(!said.contains("missing"), "{said}");
    let server = site.start()?;
    check(&server, &TABLES[1..])?;
    server.stop()?;
    seen!(
        "inspect says what the server says of {files} tablespaces, {freed} freed pages with an old \
         version among them, and what innochecksum says of {pages} pages"
    );
    Ok(())
}

/// Key and versions of every tablespace as the server has them; how many, and their freed pages
/// with a version before the oldest that is in use.
fn with_the_server(site: &Site, server: &Server) -> Result<(usize, u64)> {
    let rows = server.sql(SPACES)?;
    let mut freed = 0;
    for row in rows.lines() {
        let cells: Vec<_> = row.split('\t').collect();
        let [name, id, oldest, latest] = cells[..] else { return Err(row.into()) };
        let report = report(&site.data().join(format!("{name}.ibd")))?;
        let header = report.header.as_ref().ok_or_else(|| format!("{name}: no header"))?;
        ensure!(header.key_id == id.parse::<u32>()?, "{name}: the server has {row}: {report:?}");
        ensure!(
            header.min_key_version == oldest.parse::<u32>()?,
            "{name}: the server has {row}: {report:?}"
        );
        for need in &report.needs {
            let version = need.version.get();
            let in_use = need.usage == Use::InUse;
            let possible = header.min_key_version..=latest.parse()?;
            ensure!(!in_use || possible.contains(&version), "{name}: {row}: {need:?}");
            freed += if in_use || possible.contains(&version) { 0 } else { need.count };
        }
        let used = report.needs.iter().any(|need| need.usage == Use::InUse);
        ensure!(used, "{name}: no page is encrypted: {report:?}");
    }
    ensure!(rows.lines().count() >= TABLES.len(), "the server has only\n{rows}");
    Ok((rows.lines().count(), freed))
}

/// Every page of every table is counted as innochecksum counts it; how many there are.
fn with_innochecksum(site: &Site) -> Result<u64> {
    let mut all = 0;
    for file in tablespaces(site) {
        let report = report(&file)?;
        let said = innochecksum(&file)?.ok().map_err(|error| error.within(text(&file)))?;
        let (pages, fresh) = counted(&said)?;
        let carrying: u64 = report.needs.iter().map(|need| need.count).sum();
        let same = report.pages == pages && report.unencrypted + carrying == pages - fresh;
        ensure!(same, "{}: {pages} pages, {fresh} of them fresh: {report:?}", file.display());
        all += pages;
    }
    Ok(all)
}

/// A page that innochecksum refuses is named, and with its number.
fn damaged(site: &Site) -> Result<()> {
    let copy = site.path("damaged.ibd");
    let mut bytes = files::read(&site.data().join("test/whole.ibd"))?;
    bytes[5 * 16384 + 3000] ^= 1;
    files::write(&copy, bytes)?;
    let refused = innochecksum(&copy)?;
    ensure!(refused.code != 0 && refused.text().contains("page::5 invalid"), "{}", refused.text());
    let said = site.keyward(&["inspect", &text(&copy)])?;
    ensure!(said.code == 1 && said.out.contains("page 5 has a wrong checksum"), "{}", said.text());
    Ok(())
}

fn tablespaces(site: &Site) -> Vec<std::path::PathBuf> {
    let mut files = files::all(&site.data());
    files.retain(|file| file.extension().is_some_and(|ending| ending == "ibd"));
    files
}

fn report(file: &Path) -> Result<Report> {
    let report = inspect::file(file);
    ensure!(report.unknown.is_empty(), "{}: {:?}", file.display(), report.unknown);
    Ok(report)
}

fn innochecksum(file: &Path) -> Result<Answer> {
    answer(Command::new("innochecksum").arg("--page-type-summary").arg(file))
}

/// All pages, and the freshly allocated ones, of a summary with a line a type.
fn counted(summary: &str) -> Result<(u64, u64)> {
    let (mut pages, mut fresh) = (0, 0);
    for line in summary.lines() {
        let Some((count, kind)) = line.trim().split_once('\t') else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        // Further down stand other tables.
        if line.starts_with(' ') || kind.contains("page") || kind.contains("Header") {
            pages += count;
            fresh += if kind == "Freshly allocated page" { count } else { 0 };
        }
    }
    ensure!(pages > 0, "no summary:\n{summary}");
    Ok((pages, fresh))
}
