//! Lays out what Debian's tools pack: a folder with all files in their places, and `debian/`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use test_kit::{Result, artefacts, files};

use super::{Job, STAND_INS, date};

const PLUGINS: &str = "usr/lib/mysql/plugin";
const DOCS: &str = "usr/share/doc/keyward";

/// The suites for the servers' test drivers, which `debian/keyward-test.install` puts in their place.
const SUITES: &str = "mariadb-test";

/// From the repository, and where to.
const FILES: &[(&str, &str)] = &[
    ("packaging/mariadb.cnf", "usr/share/keyward/mariadb.cnf"),
    ("packaging/apparmor/keyward", "etc/apparmor.d/abstractions/keyward"),
    ("packaging/systemd/keyward-rotate.service", "lib/systemd/system/keyward-rotate.service"),
    ("packaging/systemd/keyward-rotate.timer", "lib/systemd/system/keyward-rotate.timer"),
    ("packaging/systemd/keyward-backup.service", "lib/systemd/system/keyward-backup.service"),
    ("packaging/systemd/keyward-backup.timer", "lib/systemd/system/keyward-backup.timer"),
    ("packaging/systemd/keyward-backup.path", "lib/systemd/system/keyward-backup.path"),
    ("packaging/systemd/keyward-metrics.service", "lib/systemd/system/keyward-metrics.service"),
    ("packaging/systemd/keyward-metrics.timer", "lib/systemd/system/keyward-metrics.timer"),
    ("packaging/selinux/keyward.te", "usr/share/doc/keyward/examples/selinux/keyward.te"),
    ("packaging/selinux/keyward.fc", "usr/share/doc/keyward/examples/selinux/keyward.fc"),
    (
        "packaging/systemd/keyward-credential.conf",
        "usr/share/doc/keyward/examples/keyward-credential.conf",
    ),
    ("README.md", "usr/share/doc/keyward/README.md"),
    ("SECURITY.md", "usr/share/doc/keyward/SECURITY.md"),
    ("CONTRIBUTING.md", "usr/share/doc/keyward/CONTRIBUTING.md"),
    ("LICENSE-APACHE", "usr/share/doc/keyward/LICENSE-APACHE"),
    ("LICENSE-MIT", "usr/share/doc/keyward/LICENSE-MIT"),
];

pub(super) fn lay_out(job: &Job) -> Result<()> {
    let source = job.source();
    let tree = source.join("tree");
    let repository = artefacts::repository();
    for folder in [PLUGINS, "usr/bin", DOCS] {
        fs::create_dir_all(tree.join(folder))?;
    }
    for (from, to) in FILES {
        copy(&repository.join(from), &tree.join(to))?;
    }
    copy(&job.built.command(), &tree.join("usr/bin/keyward"))?;
    copy(&job.built.library(), &tree.join(PLUGINS).join("keyward.so"))?;
    symlink("keyward.so", tree.join(PLUGINS).join("component_keyring_keyward.so"))?;
    files::copy(&repository.join("docs"), &tree.join(DOCS).join("docs"))?;
    let examples = tree.join(DOCS).join("examples");
    files::copy(&repository.join("packaging/monitoring"), &examples.join("monitoring"))?;
    files::copy(&repository.join(SUITES), &source.join(SUITES))?;
    files::write(&tree.join(DOCS).join("third-party-licenses.txt"), job.linked.licences()?)?;
    let mut pages = Command::new(job.built.pages());
    job.run("pages", pages.arg(tree.join("usr")))?;
    copy(&repository.join("CHANGELOG.md"), &source.join("CHANGELOG.md"))?;
    debian(job, &source.join("debian"))?;
    // Debian's tools bring later times back to this one, and leave earlier ones as they are.
    let touch = format!("find . -exec touch --no-dereference --date=@{} {{}} +", job.epoch);
    job.shell(&touch, &source)
}

/// `debian/`, with a package for each plugin that keyward can be in the place of.
fn debian(job: &Job, folder: &Path) -> Result<()> {
    let kept = artefacts::repository().join("packaging/debian");
    files::copy(&kept, folder)?;
    let mut control = files::text(&kept.join("control"))?;
    for plugin in STAND_INS {
        let package = package_of(plugin);
        let filled = |name: &str| -> Result<String> {
            let text = files::text(&kept.join(format!("stand-in.{name}")))?;
            Ok(text.replace("@PACKAGE@", &package).replace("@PLUGIN@", plugin))
        };
        control += &filled("control")?;
        for script in ["preinst", "postrm", "links"] {
            files::write(&folder.join(format!("{package}.{script}")), filled(script)?)?;
        }
    }
    files::write(&folder.join("control"), control)?;
    let entry = format!(
        "keyward ({}-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {}  {}\n",
        job.version,
        maintainer(&kept)?,
        date(&job.epoch, "--rfc-email")?
    );
    files::write(&folder.join("changelog"), entry)
}

/// The deb that puts keyward in the place of `plugin`.
pub(super) fn package_of(plugin: &str) -> String {
    format!("keyward-{}", plugin.replace('_', "-"))
}

fn maintainer(kept: &Path) -> Result<String> {
    let control = files::text(&kept.join("control"))?;
    let line = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    Ok(line.ok_or("control names no maintainer")?.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).map_err(|error| format!("{}: {error}", from.display()))?;
    Ok(())
}
