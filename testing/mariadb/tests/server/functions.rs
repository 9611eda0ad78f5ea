//! The functions for SQL: what they answer is what the command says, and what the server's own tables say.

use serde_json::Value;
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::create;
use test_mariadb::{Server, Site};

use crate::{TABLES, site};

const FUNCTIONS: &[&str] = &["keyward_keys", "keyward_status", "keyward_verify"];

#[test]
fn functions_tell_what_the_command_tells() -> Result<()> {
    let site = site("functions")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    make(&server)?;

    let of_key = "SELECT GROUP_CONCAT(version, ' ', state, ' ', encrypts ORDER BY version) FROM \
                  JSON_TABLE(keyward_keys(), '$[*]' COLUMNS (id INT PATH '$.key', version INT PATH \
                  '$.version', state VARCHAR(20) PATH '$.state', encrypts INT PATH '$.encrypts')) k \
                  WHERE id = 3";
    ensure!(server.sql(of_key)? == "1 retired 0,3 active 1", "{}", server.sql(of_key)?);
    equals_the_command(&site, &server)?;

    let state = server.sql("SELECT JSON_VALUE(keyward_status(), '$.state')")?;
    ensure!(state == "ok", "{state}");
    let generation = server.sql("SELECT JSON_VALUE(keyward_status(), '$.generation')")?;
    ensure!(generation == server.status("Keyward_generation")?, "generation {generation}");

    view_of_the_docs(&server)?;
    everybody_may_ask_and_learns_no_name(&server)?;
    let refused = server.sql_refused("SELECT keyward_keys(1)")?;
    ensure!(refused.contains("keyward_keys() takes no arguments"), "{refused}");
    server.stop().map(drop)
}

fn make(server: &Server) -> Result<()> {
    for name in FUNCTIONS {
        server.sql(&format!("CREATE FUNCTION {name} RETURNS STRING SONAME 'keyward.so'"))?;
    }
    Ok(())
}

/// Each version of key 3 is in both, with the same state, cipher, date and check value.
fn equals_the_command(site: &Site, server: &Server) -> Result<()> {
    let of_command = parsed(&site.keyward(&["--json", "keys", "show", "3"])?.ok()?)?;
    let of_server = parsed(&server.sql("SELECT keyward_keys()")?)?;
    let of_server = of_server.as_array().ok_or("no list")?;
    let of_server: Vec<_> = of_server.iter().filter(|version| version["key"] == 3).collect();
    let versions = of_command["versions"].as_array().ok_or("no versions")?;
    ensure!(versions.len() == 2 && of_server.len() == 2, "{of_server:?}, {versions:?}");
    for (told, known) in of_server.iter().zip(versions) {
        for member in ["version", "state", "cipher", "created", "check", "retain_until"] {
            ensure!(told[member] == known[member], "{member}: {told}, and the command: {known}");
        }
    }
    Ok(())
}

fn parsed(json: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|error| format!("{error}: {json}").into())
}

/// The view that docs/sql.md shows, word for word.
fn view_of_the_docs(server: &Server) -> Result<()> {
    let page = include_str!("../../../../docs/sql.md");
    let from = page.find("CREATE VIEW").unwrap_or_default();
    let view = page[from..].split("SELECT * FROM").next().unwrap_or_default();
    server.sql(view)?;
    let rows = server
        .sql("SELECT COUNT(DISTINCT tablespace), SUM(id = 3) > 0 FROM mysql.keyward_tables")?;
    let known = server.sql(
        "SELECT COUNT(*), 1 FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE \
         MIN_KEY_VERSION > 0",
    )?;
    ensure!(rows == known, "{rows}, and the server has {known}");
    seen!("tablespaces in the view, and whether key 3 is there: {}", rows.replace('\t', ", "));
    Ok(())
}

fn everybody_may_ask_and_learns_no_name(server: &Server) -> Result<()> {
    server.sql("CREATE USER nobody@localhost")?;
    for name in FUNCTIONS {
        let answer = server.sql_as("nobody", &format!("SELECT {name}()"))?;
        ensure!(answer.starts_with(['[', '{']), "{name}: {answer}");
        ensure!(!answer.contains("actor") && !answer.contains("root@"), "{name}: {answer}");
    }
    Ok(())
}

#[test]
fn verify_finds_a_wrapping_key_that_is_gone() -> Result<()> {
    let site = site("verify")?;
    let server = site.start()?;
    make(&server)?;
    let verify = || server.sql("SELECT keyward_verify()");
    let good = verify()?;
    ensure!(good.contains(r#""ok":true"#) && good.contains(r#""restart_safe":"yes""#), "{good}");
    let key = site.key_file();
    std::fs::rename(&key, key.with_extension("away"))?;
    // For ten seconds the answer is the same.
    ensure!(verify()? == good, "asked again at once");
    std::thread::sleep(std::time::Duration::from_secs(11));
    let bad = verify()?;
    ensure!(bad.contains(r#""ok":false"#) && bad.contains(r#""restart_safe":"no""#), "{bad}");
    seen!("{}", bad.replace(&site.path("").display().to_string(), ""));
    std::fs::rename(key.with_extension("away"), &key)?;
    server.stop().map(drop)
}
