//! `cargo xtask demo`: the life of a key, told on a server of its own.

use std::path::PathBuf;
use std::time::Instant;

use test_kit::Result;
use test_kit::files::{all, holding};
use test_mariadb::rows::{PLAINTEXT, Table, check, wait_for_version};
use test_mariadb::{Server, Site};

use crate::{build, setup};

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 5000 },
    Table { name: "patients", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 5000 },
    Table { name: "cards", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=4", rows: 5000 },
];

/// The same rows for everybody to read, so that the search is known to find what is there.
const CLEAR: Table = Table { name: "brochure", options: "ENCRYPTED=NO", rows: 100 };

/// `cargo xtask demo`.
pub(crate) fn task(_words: &[String]) -> Result<()> {
    setup::need(&[setup::BUILD, setup::SERVER].concat())?;
    println!("building keyward as it is released ...");
    build::release()?;
    println!("\nThe life of a key, on a throwaway MariaDB\n");
    let mut story = Story { step: 0, since: Instant::now() };
    let mut site = Site::new("demo")?;
    make_keys(&mut story, &mut site)?;
    let server = start(&mut story, &site)?;
    write_rows(&mut story, &server)?;
    let server = search(&mut story, &site, server)?;
    rotate_by_sql(&mut story, &server)?;
    rotate_by_command(&mut story, &site, &server)?;
    restart(&mut story, &site, server)?;
    tell_life(&mut story, &site)?;
    drop(site);
    story.step("Everything is gone again");
    story.saw("server stopped, folder removed");
    println!("\nIt took {:.0} seconds.", story.since.elapsed().as_secs_f64());
    Ok(())
}

fn make_keys(story: &mut Story, site: &mut Site) -> Result<()> {
    story.step("A keystore, and two keys more");
    story.did("keyward init");
    site.init_keyward()?;
    site.encrypt_everything();
    for words in [&["keys", "create", "3"][..], &["keys", "create", "4", "--cipher", "aes-128-cbc"]]
    {
        story.did(&format!("keyward {}", words.join(" ")));
        site.keyward(words)?.ok()?;
    }
    let size = std::fs::metadata(site.keystore())?.len();
    story.saw(&format!(
        "keystore.json, {size} bytes: {} keys, all wrapped",
        site.versions()?.count()
    ));
    Ok(())
}

fn start(story: &mut Story, site: &Site) -> Result<Server> {
    story.step("A server that encrypts all it can");
    story.did("mariadbd   (plugin_load_add = keyward, keyward = FORCE_PLUS_PERMANENT, ...)");
    let server = site.start()?;
    story.saw(&server.sql(
        "SELECT CONCAT('MariaDB ', VERSION(), ', plugin keyward ', PLUGIN_STATUS)
         FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'keyward'",
    )?);
    Ok(server)
}

fn write_rows(story: &mut Story, server: &Server) -> Result<()> {
    story.step("Three tables under three keys, and one in the clear");
    for table in TABLES.iter().chain([&CLEAR]) {
        story.did(&format!("CREATE TABLE {} (...) {};", table.name, table.options));
        table.create(server)?;
    }
    story.saw(&format!("5000 rows each, with the words {PLAINTEXT:?} in every one"));
    Ok(())
}

/// Kills the server first, so that what is on disk is all there is.
fn search(story: &mut Story, site: &Site, server: Server) -> Result<Server> {
    story.step("Are those words on the disk?");
    server.write_pages()?;
    server.kill()?;
    let files = all(&site.data());
    story.did(&format!("kill -9 the server; grep -r {PLAINTEXT:?} its {} files", files.len()));
    let name =
        |path: &PathBuf| path.strip_prefix(site.data()).unwrap_or(path).display().to_string();
    let found: Vec<_> = holding(&files, PLAINTEXT)?.iter().map(name).collect();
    if found != ["test/brochure.ibd"] {
        return Err(format!("plain text stands in {found:?}").into());
    }
    story.saw("in brochure.ibd, the table in the clear: the search works");
    story.saw("in payroll.ibd, patients.ibd, cards.ibd: no");
    story.saw("in the redo log, the system tablespace, the binary logs: no");
    let server = site.start()?;
    check(&server, TABLES)?;
    story.saw("started again, recovered from its encrypted redo log, all rows there");
    Ok(server)
}

fn rotate_by_sql(story: &mut Story, server: &Server) -> Result<()> {
    story.step("A new version of key 3, by SQL");
    story.saw(&before_after(server)?);
    story.did("SET GLOBAL keyward_rotate_key = 3;");
    let since = Instant::now();
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    wait_for_version(server, "test/patients", 3)?;
    story.saw(&before_after(server)?);
    story.saw(&format!(
        "InnoDB wrote every page of patients again, online, in {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    check(server, TABLES)
}

fn rotate_by_command(story: &mut Story, site: &Site, server: &Server) -> Result<()> {
    story.step("New versions of all keys, by the command, beside the running server");
    story.did("keyward rotate --all");
    let generation = server.status("Keyward_generation")?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    let since = Instant::now();
    server.wait_for(
        "SHOW GLOBAL STATUS LIKE 'Keyward_generation'",
        std::time::Duration::from_secs(5),
        |row| !row.ends_with(&format!("\t{generation}")),
    )?;
    story.saw(&format!("the server noticed after {} ms", since.elapsed().as_millis()));
    wait_for_version(server, "test/patients", 5)?;
    wait_for_version(server, "%", 3)?;
    story.saw(&before_after(server)?);
    check(server, TABLES)
}

fn restart(story: &mut Story, site: &Site, server: Server) -> Result<()> {
    story.step("A restart");
    story.did("SHUTDOWN; mariadbd");
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    story.saw("15000 rows read back, every one right");
    server.stop()?;
    Ok(())
}

fn tell_life(story: &mut Story, site: &Site) -> Result<()> {
    story.step("The life of the keys so far");
    story.did("keyward keys list");
    for line in site.keyward(&["keys", "list"])?.ok()?.lines() {
        story.saw(line);
    }
    Ok(())
}

/// Which key version each table's pages have, on one line.
fn before_after(server: &Server) -> Result<String> {
    let rows = server.sql(
        "SELECT CONCAT(SUBSTR(NAME, 6), ' key ', CURRENT_KEY_ID, ' version ', MIN_KEY_VERSION)
         FROM information_schema.INNODB_TABLESPACES_ENCRYPTION
         WHERE NAME IN ('test/payroll', 'test/patients', 'test/cards')
         ORDER BY CURRENT_KEY_ID",
    )?;
    Ok(rows.lines().collect::<Vec<_>>().join("   "))
}

/// Tells what is done and what is seen, in numbered steps.
struct Story {
    step: u32,
    since: Instant,
}

impl Story {
    fn step(&mut self, title: &str) {
        self.step += 1;
        println!("{}{:2}  {title}", if self.step > 1 { "\n" } else { "" }, self.step);
    }

    fn did(&self, what: &str) {
        println!("      > {what}");
    }

    fn saw(&self, what: &str) {
        println!("        {what}");
    }
}
