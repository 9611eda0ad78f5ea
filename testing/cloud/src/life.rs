//! What a server on each cloud goes through: its tables are made, its wrapping key is disabled and enabled again,
//! its memory is searched.

use test_kit::files::{all, holding};
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{PLAINTEXT, Table, check, create};
use test_mariadb::{Server, Site, memory};

/// The tables, with two keys.
pub const TABLES: &[Table] = &[
    Table { name: "plain_key", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "key_three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

/// Starts the server, makes the tables, and has `doctor` look at it all, which must say `words`.
pub fn begin(site: &Site, words: &str) -> Result<Server> {
    site.keyward(&["keys", "create", "3"])?.ok()?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.write_pages()?;
    let clear = holding(&all(&site.data()), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    let socket = server.socket().display().to_string();
    let said = site.keyward(&["doctor", "--socket", &socket])?;
    ensure!(said.code == 3 && said.out.contains(words), "{}", said.text());
    let threads = server.threads()?;
    let ours = threads.iter().filter(|(_, name)| name == "keyward").count();
    let tokio = threads.iter().filter(|(_, name)| name.contains("tokio")).count();
    ensure!((ours, tokio) == (1, 0), "{ours} threads of keyward, {tokio} of a runtime");
    Ok(server)
}

/// Somebody disables the key while the server runs, by `enable`: what is in memory serves on, nothing is rotated,
/// no start succeeds, both say the `cure`, and all of it is as before once the key is enabled.
pub fn through_a_disabled_key(
    site: &Site,
    server: Server,
    cure: &str,
    enable: impl Fn(bool) -> Result<()>,
) -> Result<Server> {
    enable(false)?;
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(said.contains("no new key is made"), "{said}");
    ensure!(server.status("Keyward_restart_safe")? == "no", "{}", server.log());
    let degraded = server.status("Keyward_degraded")?;
    let reason = server.status("Keyward_restart_safe_reason")?;
    ensure!(reason.contains(cure), "{reason}");
    check(&server, TABLES)?;
    seen!("disabled: degraded {degraded}, restart not safe: {reason}");
    server.stop()?;
    let log = site.refusal()?;
    let line = log.lines().find(|line| line.contains("ERROR") && line.contains("keyward"));
    let line = line.ok_or_else(|| format!("no line of keyward's:\n{log}"))?;
    ensure!(line.contains(cure), "{line}");
    seen!("a start: {line}");
    enable(true)?;
    let server = site.start()?;
    enable(false)?;
    server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    enable(true)?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(server.status("Keyward_degraded")? == "0", "{}", server.log());
    ensure!(server.status("Keyward_restart_safe")? == "yes", "{}", server.log());
    check(&server, TABLES)?;
    Ok(server)
}

/// What a core file would hold has no `secret`, which is called `name`.
pub fn nothing_in_memory(server: &Server, name: &'static str, secret: Vec<u8>) -> Result<()> {
    let socket = server.socket().display().to_string();
    let searched = memory::keeps_none(server, socket.as_bytes(), &[(name, secret)])?;
    seen!("{} MB of memory: not {name}", searched >> 20);
    Ok(())
}
