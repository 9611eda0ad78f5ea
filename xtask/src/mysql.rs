//! MySQL without touching the machine: Debian sid's packages in root folders of their own, kept in
//! the user's cache. Debian carries one release at a time, so a folder made later may have a newer
//! one; the tests say which they ran on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Uid;
use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts, scratch};

use crate::mtr::{Outcome, results};
use crate::roots::{cache, mirror};
use crate::{job, package, setup};

const LIMIT: Duration = Duration::from_secs(3000);

/// The server and its clients: what our own suite runs, some 26 MB to fetch.
const SERVER: &str = "mysql-server-core,mysql-client-core";

/// What the driver of MySQL's suites needs beside them, installed.
const DRIVER: &str = "perl,libjson-perl,netbase,openssl,procps";

/// The suites, unpacked but not installed: their scripts would set up a server. 340 MB to fetch.
const UNPACK: &str = "mkdir -p \"$1/unpack\" && cd \"$1/unpack\" && \
    APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get download mysql-testsuite mysql-server && \
    for package in *.deb; do dpkg-deb -x \"$package\" \"$1\"; done && rm -r \"$1/unpack\"";

/// Makes the driver find its programs, and the server a manifest and a configuration that send it
/// to those of the instance; copies the stock component's suite for ours, whose version is `$1`, by the
/// script `$2`; makes the folder that our own suite is mounted on.
const PREPARE: &str = r#"
suites=usr/lib/mysql-test plugins=usr/lib/mysql/plugin
echo '127.0.0.1 localhost' > etc/hosts
for program in $suites/bin/*; do
    name=$(basename $program)
    [ -e usr/bin/$name ] || ln -s ../lib/mysql-test/bin/$name usr/bin/$name
done
echo '{"read_local_manifest": true}' > usr/sbin/mysqld.my
for name in file keyward; do
    echo '{"read_local_config": true}' > $plugins/component_keyring_$name.cnf
done
: > $plugins/component_keyring_keyward.so
rm -rf $suites/suite/component_keyring_keyward
sh "$2" $suites "$1"
mkdir -p usr/share/mysql-test/suite/component_keyring_keyward
sed /KEYRING_FILE_COMPONENT/s/component_keyring_file/component_keyring_keyward/g \
    $suites/include/plugin.defs > $suites/include/plugin.defs.keyward
"#;

/// Which suite is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Of the stock component, with it.
    Stock,
    /// Of the stock component, with ours.
    ByOurs,
    /// Of this repository.
    Own,
}

impl Suite {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stock => "component_keyring_file",
            Self::ByOurs => "component_keyring_file_by_keyward",
            Self::Own => "component_keyring_keyward",
        }
    }
}

/// The root folder with the server, made if it is not there.
pub(crate) fn server_root() -> Result<PathBuf> {
    root("mysql-sid", SERVER, None)
}

/// The root folder with MySQL's suites, made if it is not there.
pub(crate) fn suite_root() -> Result<PathBuf> {
    root("mysql-mtr", &format!("{SERVER},{DRIVER}"), Some(UNPACK))
}

/// `mysqld Ver 9.7.4-2 ...`, as the server says.
pub(crate) fn version(root: &Path) -> Result<String> {
    let said = answer(Command::new("chroot").arg(root).args(["/usr/sbin/mysqld", "--version"]))?;
    let version = said.ok()?;
    Ok(version.trim().trim_start_matches("/usr/sbin/").split("  ").collect::<Vec<_>>().join(" "))
}

fn root(name: &str, packages: &str, hook: Option<&str>) -> Result<PathBuf> {
    if !Uid::effective().is_root() {
        return Err("only root can make and enter a root folder: sudo cargo xtask ...".into());
    }
    let root = cache()?.join(name);
    if !root.exists() {
        setup::need(&["mmdebstrap"])?;
        make(&root, packages, hook)?;
    }
    Ok(root)
}

/// Makes it beside its place, so that half of one is never taken for the whole.
fn make(root: &Path, packages: &str, hook: Option<&str>) -> Result<()> {
    let part = root.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    let mut command = Command::new("mmdebstrap");
    command.arg("--variant=essential").arg(format!("--include={packages}"));
    command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    command.args(hook.map(|hook| format!("--customize-hook={hook}")));
    command.arg("sid").arg(&part).arg(mirror()?);
    let log = scratch::root().join("mmdebstrap.log");
    let done = job::logged(&mut command, &log, Duration::from_secs(1200))?;
    if !done.ok {
        return Err(format!("mmdebstrap\n{}", done.text).into());
    }
    Ok(fs::rename(&part, root)?)
}

/// Runs a suite in a mount namespace of its own; the results are by the tests' names alone.
pub(crate) fn measure(root: &Path, suite: Suite, log: &Path) -> Result<Outcome> {
    prepare(root)?;
    let scratch = Scratch::new("mysql-mtr")?;
    let mut command = Command::new("unshare");
    let steps = steps(root, suite, &scratch)?;
    command.args(["--mount", "sh", "-c", &steps.join("; ")]).env("KEYWARD", "/mnt/keyward");
    let done = job::logged(&mut command, log, LIMIT)?;
    if !done.text.contains("seconds executing testcases") {
        return Err(format!("the driver did not come to its end\n{}", done.text).into());
    }
    let text = without_progress(&done.text);
    let results = results(&text)
        .into_iter()
        .map(|(name, end)| (name.replacen(&format!("{}.", suite.name()), "", 1), end))
        .collect();
    Ok(Outcome { results, text })
}

/// The steps of a shell that mounts what `suite` needs over `root` and enters it.
fn steps(root: &Path, suite: Suite, scratch: &Scratch) -> Result<Vec<String>> {
    let (at, mnt) = (root.display(), scratch.path().display());
    let mut steps = vec![
        "set -e".to_owned(),
        format!("mount -t proc proc {at}/proc"),
        format!("mount --rbind /dev {at}/dev"),
        format!("mount --bind {mnt} {at}/mnt"),
    ];
    if suite != Suite::Stock {
        fs::copy(artefacts::library(), scratch.path().join("library.so"))?;
        let plugin = format!("{at}/usr/lib/mysql/plugin/component_keyring_keyward.so");
        steps.push(format!("mount --bind {mnt}/library.so {plugin}"));
    }
    if suite == Suite::ByOurs {
        let defs = format!("{at}/usr/lib/mysql-test/include/plugin.defs");
        steps.push(format!("mount --bind {defs}.keyward {defs}"));
    }
    if suite == Suite::Own {
        fs::copy(artefacts::command(), scratch.path().join("keyward"))?;
        let name = suite.name();
        let ours = artefacts::repository().join("mariadb-test/suite").join(name);
        let place = format!("{at}/usr/share/mysql-test/suite/{name}");
        steps.push(format!("mount --bind -o ro {} {place}", ours.display()));
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // Some tests begin with their server's data and take away its keyring: what an earlier one encrypted there
    // would be lost. Which one came before goes by the worker that was free, so each gets new data.
    steps.push(format!(
        "exec chroot {at} sh -c 'cd /usr/lib/mysql-test && exec perl mysql-test-run.pl \
         --suite={} --big-test --force-restart --parallel={cores} --force --max-test-fail=0 --retry=0 \
         --mysqld=--user=root --vardir=/mnt/var'",
        suite.name()
    ));
    Ok(steps)
}

/// This driver puts the share of tests done so far before each line: `[ 72%] suite.test [ pass ]`.
fn without_progress(text: &str) -> String {
    let line = |line| match str::split_once(line, "%] ") {
        Some((_, rest)) => format!("{rest}\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn prepare(root: &Path) -> Result<()> {
    let script = format!("set -e; cd {}\n{PREPARE}", root.display());
    // The component shows it.
    let version = package::version()?;
    let mut prepare = Command::new("sh");
    prepare.args(["-c", &script, "prepare", &version]);
    answer(prepare.arg(artefacts::repository().join("docker/mtr/stock-suite.sh")))?.ok().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_with_progress() {
        let text = "[ 72%] component_keyring_file.udf_test   w1  [ pass ]  10615\n";
        let found = results(&without_progress(text));
        assert_eq!(found["component_keyring_file.udf_test"], "pass");
    }
}
