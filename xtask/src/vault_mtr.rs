//! MariaDB's own suite for `hashicorp_key_management`, with the original plugin or with ours under
//! its name, against a real Vault or OpenBao.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Uid, getgid, getuid};
use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts};
use test_vault::DevVault;
use test_vault::dev::ROOT_TOKEN;

use crate::mtr::{Outcome, Whose, results};
use crate::roots::cache;
use crate::{job, setup};

const SUITE: &str = "plugin/hashicorp_key_management/vault";
const PACKAGE: &str = "mariadb-plugin-hashicorp-key-management";
const LIBRARY: &str = "hashicorp_key_management.so";
const LIMIT: Duration = Duration::from_secs(900);

/// The original plugin, unpacked into the cache and not installed.
pub(crate) fn original() -> Result<PathBuf> {
    let folder = cache()?.join(PACKAGE);
    let library = folder.join(LIBRARY);
    if library.exists() {
        return Ok(library);
    }
    fs::create_dir_all(&folder)?;
    let package = setup::unpacked(PACKAGE)?;
    let unpacked = package.path().join(test_mariadb::PLUGINS.trim_start_matches('/'));
    // Under its own name only once it is whole.
    let part = folder.join("part");
    fs::copy(unpacked.join(LIBRARY), &part)?;
    fs::rename(&part, &library)?;
    Ok(library)
}

/// Runs the suite in a mount namespace of its own, so that the machine's plugins stay what they are.
/// Two of its tests start a server themselves, which refuses root. They share their secrets, so that
/// one runs after the other.
pub(crate) fn measure(whose: Whose, program: &Path, log: &Path) -> Result<Outcome> {
    let vault = DevVault::start_program(program)?;
    let scratch = Scratch::new("vault-mtr")?;
    // The user's cache is closed to others, the server's user among them. The tests call a `vault`,
    // whosever it is.
    let bin = scratch.path().join("bin");
    fs::create_dir(&bin)?;
    fs::write(bin.join("vault"), "")?;
    let plugins = scratch.path().join("plugin");
    answer(Command::new("cp").args(["--recursive", test_mariadb::PLUGINS]).arg(&plugins))?.ok()?;
    let library = match whose {
        Whose::Original => original()?,
        Whose::Ours => artefacts::library(),
    };
    fs::copy(library, plugins.join(LIBRARY))?;
    let var = scratch.path().join("var");
    fs::create_dir(&var)?;
    give_to_server(&var)?;
    let script = format!(
        "set -e; mount --bind {} {}; mount --bind {} {}/vault; cd /usr/share/mysql/mysql-test; \
         exec {} perl ./mtr --suite={SUITE} --big-test --parallel=1 --force --max-test-fail=0 \
         --retry=0 --vardir={}",
        plugins.display(),
        test_mariadb::PLUGINS,
        program.display(),
        bin.display(),
        no_root(),
        var.display()
    );
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !Uid::effective().is_root() {
        command.arg("--map-root-user");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(["sh", "-c", &script]).env("PATH", format!("{}:{path}", bin.display()));
    command.env("VAULT_ADDR", vault.address()).env("VAULT_TOKEN", ROOT_TOKEN).env("HOME", &var);
    let done = job::logged(&mut command, log, LIMIT)?;
    let results = results(&done.text);
    if results.is_empty() || !done.text.contains("seconds executing testcases") {
        return Err(format!("the driver did not come to its end\n{}", done.text).into());
    }
    Ok(Outcome { results, text: done.text })
}

/// The words that run what follows as the server's user, or as ourselves again.
fn no_root() -> String {
    match Uid::effective().is_root() {
        true => "setpriv --reuid=mysql --regid=mysql --init-groups".to_owned(),
        false => format!("unshare --user --map-user={} --map-group={}", getuid(), getgid()),
    }
}
