//! What must stand nowhere: in no log, and in nothing that a core file would hold.

use test_kit::{Result, ensure, files, seen};
use test_mariadb::{Server, Site, memory};
use test_vault::{Secret, Vault};

/// The secrets of `site`, each with its name.
fn secrets(vault: &Vault, site: &Site) -> Result<Vec<(&'static str, Secret)>> {
    let line =
        |name: &str| Ok::<_, test_kit::Trouble>(files::text(&site.path(name))?.trim().to_owned());
    let secret_id = line("keyward/vault-secret-id")?;
    let stash_key = line("keyward/local.key")?;
    // No table uses it, so the server has no business with it.
    let words = ["kv", "get", "-mount=secret", "-field=data", "keyward/7"];
    let unused = vault.vault(&words)?.trim().to_owned();
    Ok(vec![
        ("a token", Secret::AnyToken(vault.product()?)),
        ("the secret id", Secret::bytes(secret_id)),
        ("the key of the stash", Secret::bytes(unhex(&stash_key)?)),
        ("the key of the stash in hex", Secret::bytes(stash_key)),
        ("key 7", Secret::bytes(unhex(&unused)?)),
        ("key 7 in hex", Secret::bytes(unused)),
    ])
}

/// What a core file of `server` would hold has none of them.
pub(crate) fn not_in_memory(vault: &Vault, site: &Site, server: &Server) -> Result<()> {
    let config = files::text(&site.config())?;
    let role_id = config.split("role_id = \"").nth(1).and_then(|rest| rest.split('"').next());
    let role_id = role_id.ok_or("the configuration names no role")?;
    let all = secrets(vault, site)?;
    let searched = memory::keeps_none(server, role_id.as_bytes(), &all)?;
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    seen!("{} MB of dumpable memory hold none of: {}", searched >> 20, names.join(", "));
    Ok(())
}

/// No log of the server's has one.
pub(crate) fn not_in_logs(vault: &Vault, site: &Site) -> Result<()> {
    let log = files::read(&site.log_file())?;
    let all = secrets(vault, site)?;
    ensure!(files::count(&log, b"keyward") > 0, "the search is blind");
    for (name, secret) in all.iter().chain([&("the root token", Secret::bytes(vault.root_token()))])
    {
        ensure!(secret.times(&log) == 0, "the server's log has {name}");
    }
    seen!(
        "{} lines of the server's logs hold none of them either",
        log.split(|b| *b == b'\n').count()
    );
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let byte = |at| Ok(u8::from_str_radix(text.get(at..at + 2).ok_or("odd hex")?, 16)?);
    (0..text.len()).step_by(2).map(byte).collect()
}
