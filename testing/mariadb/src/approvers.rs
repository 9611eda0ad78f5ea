//! People who approve what shows or removes keys, with SSH keys made by `ssh-keygen`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_kit::command::answer;
use test_kit::{Result, ensure, files};

use crate::Site;

/// Who must approve: both of them.
pub const APPROVERS: [&str; 2] = ["alice", "bob"];

/// Has the keystore of `site` want both approvals.
pub fn set(site: &Site) -> Result<()> {
    let mut call = vec!["keystore".to_owned(), "approvers".into(), "--need".into(), "2".into()];
    for name in APPROVERS {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(key(site, name));
        answer(&mut keygen)?.ok()?;
        call.push(files::text(&key(site, name).with_extension("pub"))?.trim().to_owned());
    }
    let run = |call: &[String]| {
        let words: Vec<_> = call.iter().map(String::as_str).collect();
        site.keyward(&words)?.ok()
    };
    let proposed = run(&call)?;
    let word = proposed.trim_end().rsplit(' ').next().unwrap_or_default();
    call.extend(["--confirm".to_owned(), word.to_owned()]);
    let set = run(&call)?;
    ensure!(set.starts_with("2 of these 2 approve"), "{set}");
    Ok(())
}

/// Has `name` sign the request in `file`; the signature as a file for the server's account.
pub fn sign(site: &Site, name: &str, file: &Path) -> Result<PathBuf> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "sign", "-n", "keyward-approval-v1", "-f"]).arg(key(site, name));
    let signed = keygen.stdin(File::open(file)?).stderr(Stdio::null()).output()?;
    ensure!(signed.status.success(), "{name} cannot sign {}", file.display());
    let signature = key(site, name).with_extension("sig");
    files::write(&signature, signed.stdout)?;
    site.only_for_server(&signature)?;
    Ok(signature)
}

fn key(site: &Site, name: &str) -> PathBuf {
    site.path("tmp").join(name)
}
