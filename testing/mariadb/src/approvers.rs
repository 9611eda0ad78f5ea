//! People who approve what shows or removes keys, with SSH keys made by `ssh-keygen`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_kit::account::give_to_server;
use test_kit::command::{Answer, answer};
use test_kit::{Result, ensure, files};

/// Who must approve: both of them.
pub const APPROVERS: [&str; 2] = ["alice", "bob"];

/// Makes their keys in `folder` and has the keystore that `keyward` works on want both approvals.
pub fn set(folder: &Path, keyward: impl Fn(&[&str]) -> Result<Answer>) -> Result<()> {
    let mut call = vec!["keystore".to_owned(), "approvers".into(), "--need".into(), "2".into()];
    for name in APPROVERS {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(folder.join(name));
        answer(&mut keygen)?.ok()?;
        let public = folder.join(name).with_extension("pub");
        call.push(files::text(&public)?.trim().to_owned());
    }
    let run = |call: &[String]| {
        let words: Vec<_> = call.iter().map(String::as_str).collect();
        keyward(&words)?.ok()
    };
    let proposed = run(&call)?;
    let word = proposed.trim_end().rsplit(' ').next().unwrap_or_default();
    call.extend(["--confirm".to_owned(), word.to_owned()]);
    let set = run(&call)?;
    ensure!(set.starts_with("2 of these 2 approve"), "{set}");
    Ok(())
}

/// Has `name`, whose key lies in `folder`, sign the request in `file`; the signature as a file for the server's
/// account.
pub fn sign(folder: &Path, name: &str, file: &Path) -> Result<PathBuf> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "sign", "-n", "keyward-approval-v1", "-f"]).arg(folder.join(name));
    let signed = keygen.stdin(File::open(file)?).stderr(Stdio::null()).output()?;
    ensure!(signed.status.success(), "{name} cannot sign {}", file.display());
    let signature = folder.join(name).with_extension("sig");
    files::write(&signature, signed.stdout)?;
    files::chmod(&signature, 0o600)?;
    give_to_server(&signature)?;
    Ok(signature)
}

/// Has both sign the one request that waits beside the keystore, and puts the signatures next to it; `told` is how
/// many there are before each.
pub fn sign_beside(
    folder: &Path,
    keystore: &Path,
    mut told: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let requests = files::list(&keystore.join("approvals"));
    let request = requests.iter().find(|file| file.extension().is_some_and(|is| is == "request"));
    let request = request.ok_or("no request")?;
    for (n, name) in APPROVERS.iter().enumerate() {
        told(n)?;
        let signature = sign(folder, name, request)?;
        std::fs::rename(signature, request.with_extension(format!("{name}.sig")))?;
    }
    Ok(())
}
