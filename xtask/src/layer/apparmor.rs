//! keyward's lines for AppArmor in the profile that MariaDB has in Debian sid, where it is enforced. The
//! profile is compiled; no kernel is asked.

use std::fs;
use std::path::Path;
use std::process::Command;

use test_kit::{Result, Scratch, artefacts, ensure, files};

/// The profile of the Debian in `root`, by its own parser: the lines are in its local part, as
/// `docs/packaging.md` says.
pub(super) fn run(root: &Path) -> Result<()> {
    let scratch = Scratch::new("apparmor")?;
    let base = scratch.path().join("apparmor.d");
    files::copy(&root.join("etc/apparmor.d"), &base)?;
    let ours = artefacts::repository().join("packaging/apparmor/keyward");
    fs::copy(&ours, base.join("abstractions/keyward"))?;
    let without = parsed(root, &scratch, "--stdout")?;
    let local = base.join("local/mariadbd");
    let text = files::text(&local).unwrap_or_default();
    files::write(&local, text + "include <abstractions/keyward>\n")?;
    let with = parsed(root, &scratch, "--stdout")?;
    ensure!(with != without, "the lines change nothing");
    let text = String::from_utf8_lossy(&parsed(root, &scratch, "--preprocess")?).into_owned();
    for line in ["/etc/keyward/** r,", "/var/lib/keyward/** rwkl,"] {
        ensure!(text.contains(line), "{line} is not in the profile\n{text}");
    }
    Ok(())
}

/// What the parser in `root` makes of the profile in `scratch`.
fn parsed(root: &Path, scratch: &Scratch, form: &str) -> Result<Vec<u8>> {
    let enter = "mount -t proc proc \"$1/proc\"; mount --bind \"$2\" \"$1/mnt\"; exec chroot \"$1\" \
                 apparmor_parser --skip-kernel-load --skip-cache \"$3\" --base /mnt/apparmor.d \
                 /mnt/apparmor.d/mariadbd";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", enter, "enter"]).arg(root).arg(scratch.path()).arg(form);
    let done = command.output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(done.stdout)
}
