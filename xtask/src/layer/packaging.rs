//! What is packed next to library and command, checked by the tools that read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts, ensure, files};

use super::{Report, Run};

/// Makes a module of each `.te` in the folder that it is called in.
const SELINUX: &str = "/usr/share/selinux/devel/Makefile";

type Check = (&'static str, fn() -> Result<()>);

const CHECKS: &[Check] = &[
    ("AppArmor's parser", apparmor),
    ("SELinux's compiler", selinux),
    ("systemd-analyze", units),
    ("ansible-playbook", role),
    ("shellcheck", scripts),
];

pub(super) fn run(_run: &Run) -> Result<Report> {
    let mut report = Report::default();
    for (name, check) in CHECKS {
        report.add(&Report::check(name, check()));
    }
    Ok(report)
}

/// The lines compile in a profile; no kernel is asked.
fn apparmor() -> Result<()> {
    let scratch = Scratch::new("apparmor")?;
    let base = scratch.path().join("apparmor.d");
    files::copy(Path::new("/etc/apparmor.d"), &base)?;
    fs::copy(packaging("apparmor/keyward"), base.join("abstractions/keyward"))?;
    let profile = base.join("mariadbd");
    let text = "include <tunables/global>\nprofile mariadbd /usr/sbin/mariadbd {\n  \
                include <abstractions/base>\n  include <abstractions/keyward>\n}\n";
    files::write(&profile, text)?;
    let mut parser = Command::new("apparmor_parser");
    parser.args(["--skip-kernel-load", "--stdout", "--base"]).arg(&base).arg(profile);
    answer(&mut parser)?.ok().map(drop)
}

/// The module compiles against Debian's reference policy; no kernel is asked.
fn selinux() -> Result<()> {
    let scratch = Scratch::new("selinux")?;
    let folder = scratch.path().join("module");
    files::copy(&packaging("selinux"), &folder)?;
    let mut make = Command::new("make");
    make.args(["--file", SELINUX, "keyward.pp"]).current_dir(&folder);
    answer(&mut make)?.ok()?;
    ensure!(folder.join("keyward.pp").exists(), "no module was made");
    Ok(())
}

/// The units are sound, as `systemd-analyze` sees them with a command that is there.
fn units() -> Result<()> {
    let scratch = Scratch::new("units")?;
    let units = scratch.path().join("units");
    files::copy(&packaging("systemd"), &units)?;
    for file in files::list(&units) {
        if file.extension().is_some_and(|ending| ending == "conf") {
            continue;
        }
        files::write(&file, files::text(&file)?.replace("/usr/bin/keyward", "/bin/true"))?;
        let mut verify = Command::new("systemd-analyze");
        answer(verify.args(["--man=no", "verify"]).arg(file))?.ok()?;
    }
    Ok(())
}

/// Ansible finds the role and understands all of it.
fn role() -> Result<()> {
    let scratch = Scratch::new("role")?;
    let mut play = Command::new("ansible-playbook");
    play.args(["--syntax-check", "--inventory", "localhost,"]);
    play.arg(packaging("test/ansible.yml")).env("LC_ALL", "C.UTF-8");
    play.env("ANSIBLE_ROLES_PATH", packaging("ansible/roles"));
    play.env("ANSIBLE_HOME", scratch.path()).env("ANSIBLE_LOCAL_TEMP", scratch.path());
    answer(&mut play)?.ok().map(drop)
}

fn scripts() -> Result<()> {
    let mut shellcheck = Command::new("shellcheck");
    shellcheck.args(["--external-sources", "../tarball.sh"]).current_dir(packaging("test"));
    for script in files::list(&packaging("test")) {
        if script.extension().is_some_and(|ending| ending == "sh") {
            shellcheck.arg(script);
        }
    }
    answer(&mut shellcheck)?.ok().map(drop)
}

fn packaging(path: &str) -> PathBuf {
    artefacts::repository().join("packaging").join(path)
}
