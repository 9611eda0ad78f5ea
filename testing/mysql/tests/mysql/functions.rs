//! The functions for SQL, and who may call them.

use test_kit::{Result, ensure, seen};
use test_mysql::{Keyring, Server, Site};

const FUNCTIONS: &[(&str, &str)] = &[
    ("keyward_keys", "STRING"),
    ("keyward_status", "STRING"),
    ("keyward_verify", "STRING"),
    ("keyward_rescue", "INTEGER"),
];

#[test]
fn functions_answer_those_who_look_after_keys() -> Result<()> {
    let site = Site::new("functions", Keyring::Ours)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'")?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    for (name, kind) in FUNCTIONS {
        let library = "component_keyring_keyward.so";
        server.sql(&format!("CREATE FUNCTION {name} RETURNS {kind} SONAME '{library}'"))?;
    }

    // As docs/sql.md has it.
    let keys = server.sql(
        "SELECT k.* FROM JSON_TABLE(CONVERT(keyward_keys() USING utf8mb4), '$[*]' COLUMNS (
           name VARCHAR(255) PATH '$.key.data_id', state VARCHAR(20) PATH '$.state', age_days INT UNSIGNED PATH '$.age_days')) k",
    )?;
    let known = server.sql("SELECT KEY_ID FROM performance_schema.keyring_keys")?;
    let named = |key: &&str| keys.lines().any(|line| *line == format!("{key}\tactive\t0"));
    ensure!(known.lines().count() == 2 && known.lines().all(|key| named(&key)), "{keys}\n{known}");
    seen!("{keys}");

    let verified = server.sql("SELECT keyward_verify()")?;
    ensure!(verified.contains(r#""ok":true"#), "{verified}");
    let state = server.sql(
        "SELECT JSON_UNQUOTE(JSON_EXTRACT(CONVERT(keyward_status() USING utf8mb4), '$.state'))",
    )?;
    ensure!(state == "ok", "{state}");
    others_are_refused(&server)?;
    server.stop().map(drop)
}

/// Without ENCRYPTION_KEY_ADMIN nobody gets an answer, but by a definer's function.
fn others_are_refused(server: &Server) -> Result<()> {
    server.sql(
        "CREATE USER nobody@localhost, 'keys'@'localhost';
         GRANT ENCRYPTION_KEY_ADMIN ON *.* TO 'keys'@'localhost';
         CREATE DATABASE monitoring;
         CREATE DEFINER = 'keys'@'localhost' FUNCTION monitoring.keyring_state() RETURNS TEXT SQL SECURITY DEFINER READS SQL DATA
         RETURN JSON_UNQUOTE(JSON_EXTRACT(CONVERT(keyward_status() USING utf8mb4), '$.state'));
         GRANT EXECUTE ON monitoring.* TO nobody@localhost, 'keys'@'localhost'",
    )?;
    for (name, _) in FUNCTIONS {
        let call = format!("SELECT {name}()");
        let refused = server.sql_as("nobody", &call)?;
        let says = "it wants ENCRYPTION_KEY_ADMIN";
        ensure!(refused.code != 0 && refused.err.contains(says), "{name}: {}", refused.err);
        seen!("{}", refused.err.trim());
        server.sql_as("keys", &call)?.ok()?;
    }
    let state = server.sql_as("nobody", "SELECT monitoring.keyring_state()")?.ok()?;
    ensure!(state.trim() == "ok", "{state}");
    Ok(())
}
