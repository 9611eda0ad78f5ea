//! Faults that `doctor` is to find, planted where a Vault serves the keys. Which test plants which is in
//! `src/cli/helpers/examine/catalogue.rs`.

use std::path::PathBuf;
use std::process::Command;

use test_kit::doctor::Said;
use test_kit::{Result, Scratch, artefacts, ensure, files, run};
use test_vault::Shared;

/// A keyward that may do everything in Vault, and keeps a stash.
struct Room {
    scratch: Scratch,
    shared: std::sync::Arc<Shared>,
}

impl Room {
    fn new() -> Result<Self> {
        let (scratch, shared) = (Scratch::new("planted")?, Shared::get()?);
        let room = Self { scratch, shared };
        let prefix = room.shared.new_name();
        let data = format!("data={}", "6e".repeat(32));
        for id in ["1", "2"] {
            let secret = format!("{prefix}/{id}");
            room.shared.vault.vault(&["kv", "put", "-mount=secret", &secret, &data])?;
        }
        let at = |name: &str| room.path(name);
        run("openssl", ["rand", "-hex", "-out", &at("wrapping").display().to_string(), "32"])?;
        files::chmod(&at("wrapping"), 0o600)?;
        let vault = &room.shared.vault;
        let config = format!(
            "[keystore]\npath = {:?}\n[[provider]]\nname = \"v\"\ntype = \"vault-kv\"\nprefix = {prefix:?}\n\
             address = {:?}\nca_file = {:?}\ntoken_file = {:?}\n[stash]\n[[provider]]\nname = \"local\"\n\
             type = \"local\"\nkey_file = {:?}\n",
            at("keystore.json"),
            vault.address(),
            vault.certificates().path("ca.pem"),
            at("token"),
            at("wrapping"),
        );
        files::write(&at("keyward.toml"), config)?;
        Ok(room)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Gives it a token with these properties.
    fn token(&self, properties: &[&str]) -> Result<()> {
        let words = [&["token", "create", "-policy=root", "-field=token"], properties].concat();
        let token = self.shared.vault.vault(&words)?;
        files::write(&self.path("token"), token.trim())?;
        files::chmod(&self.path("token"), 0o600)
    }

    /// What is wrong, besides that there is no server here.
    fn wrong(&self) -> Result<Vec<String>> {
        let mut command = Command::new(artefacts::command());
        command.arg("--config").arg(self.path("keyward.toml")).args(["--json", "doctor"]);
        Ok(Said::by(&mut command)?.complaints())
    }
}

#[test]
fn a_token_that_ends_soon_and_a_stash_that_was_never_taken() -> Result<()> {
    let room = Room::new()?;
    // It ends soon as well, but a running server renews it. The certificates of this Vault do so, too, and the
    // folder is the caller's.
    room.token(&["-ttl=1h"])?;
    let before = room.wrong()?;
    let stash =
        before.iter().filter(|line| line.starts_with("warning stash: stash: there is none at "));
    ensure!(stash.count() == 1, "{before:?}");
    ensure!(before.iter().all(|line| !line.contains("token")), "{before:?}");
    room.token(&["-ttl=1h", "-renewable=false"])?;
    let after = room.wrong()?;
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    let ends = "warning credential-end: provider \"v\": token ends at ";
    ensure!(new.len() == 1 && new[0].starts_with(ends), "{after:?}");
    room.token(&["-ttl=360h", "-renewable=false"])?;
    ensure!(room.wrong()? == before, "{:?}", room.wrong()?);
    // A server renews it, and not beyond its last day.
    room.token(&["-ttl=1h", "-explicit-max-ttl=230h"])?;
    let limited = room.wrong()?;
    ensure!(
        limited.iter().any(|line| line.starts_with(ends) && line.contains("in 9d")),
        "{limited:?}"
    );
    room.token(&["-ttl=1h", "-explicit-max-ttl=360h"])?;
    ensure!(room.wrong()? == before, "{:?}", room.wrong()?);
    Ok(())
}
