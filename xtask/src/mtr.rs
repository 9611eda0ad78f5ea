//! MariaDB's own test driver: runs its suites with the original plugin or with ours in its place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Uid;
use test_kit::{Result, Scratch, artefacts, run};

use crate::{build, job, roots, setup};

const LIMIT: Duration = Duration::from_secs(3000);

/// The suite that the tests run every time.
pub(crate) const SUITE: &str = "encryption";

/// Galera's suite is long; these of its tests transfer a state that is encrypted, on the disk or on its
/// way, or encrypt temporary files. Most are marked as big.
pub(crate) const GALERA: &str = "galera";
const GALERA_TESTS: &str = "--big-test --do-test=sst_encrypted\\|encrypt_tmp_files\\|\
                            sst_mariabackup_encrypt\\|sst_mariabackup_table_options";

/// How the tests of a suite ended: by name and combination, `pass`, `skipped` or `fail`.
pub(crate) type Results = BTreeMap<String, String>;

/// Whose plugin the tests find under the name `file_key_management.so`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Original,
    Ours,
}

/// Which server the suites run on.
pub(crate) enum Place {
    /// The distribution's, on this machine.
    Here,
    /// Another release's, in a root folder of its own; its name for `--NAME`.
    Root(&'static str, PathBuf),
}

/// The names of the other releases.
const ELSEWHERE: [&str; 2] = ["11.8", "sid"];

/// The tests of `mariabackup` that read keys. Elsewhere only they are run: the rest is long.
const BACKUP_TESTS: &str =
    "--do-test=encrypt\\|key_management\\|huge_lsn\\|undo_truncate --mysqld=--user=root";

/// The variable that forces a kernel of the page cipher.
const KERNEL: &str = "KEYWARD_CIPHER";

/// `cargo xtask mtr [SUITE...] [--baseline] [--11.8|--sid] [--kernel=NAME]`: with `--baseline` measures the
/// original and writes down how each test ended.
pub(crate) fn task(words: &[String]) -> Result<()> {
    setup::need(&[setup::SERVER, setup::MTR].concat())?;
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let elsewhere = ELSEWHERE.into_iter().find(|name| has(&format!("--{name}")));
    let place = elsewhere.map_or(Ok(Place::Here), Place::elsewhere)?;
    let mut suites: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    if suites.is_empty() {
        suites.push(SUITE);
    }
    let kernel = words.iter().find_map(|word| word.strip_prefix("--kernel="));
    let whose = if has("--baseline") { Whose::Original } else { Whose::Ours };
    if whose == Whose::Ours {
        build::release()?;
    }
    for suite in suites {
        let log = build::notes()?.join("mtr.log");
        let outcome = measure(suite, whose, &place, kernel, &log)?;
        println!("{suite}: {}", summary(&outcome.results));
        if whose == Whose::Original {
            write_baseline(suite, &place, &outcome.results)?;
        } else {
            let baseline = baseline_of(suite, &place)?;
            worse(&baseline, &outcome.results).iter().for_each(|line| println!("{line}"));
        }
    }
    Ok(())
}

/// A finished run of the driver.
pub(crate) struct Outcome {
    pub(crate) results: Results,
    /// All that the driver said.
    pub(crate) text: String,
}

/// Runs `suite` in a mount namespace of its own, so that the machine's plugin stays what it is.
/// Without `kernel` the page cipher chooses for itself.
pub(crate) fn measure(
    suite: &str,
    whose: Whose,
    place: &Place,
    kernel: Option<&str>,
    log: &Path,
) -> Result<Outcome> {
    let scratch = Scratch::new("mtr")?;
    let mut mounts = Vec::new();
    if whose == Whose::Ours {
        let library = scratch.path().join("keyward.so");
        fs::copy(artefacts::library(), &library)?;
        let original = place.at(&format!("{}/file_key_management.so", test_mariadb::PLUGINS));
        mounts.push(format!("mount --bind {} {}", library.display(), original.display()));
    }
    let environment: Vec<_> = kernel.map(|name| (KERNEL, name.into())).into_iter().collect();
    drive(suite, place, mounts, &environment, &scratch, log)
}

/// Runs the suite `name` of this repository: its folder is laid over the driver's, and a folder with the
/// library over the server's plugins.
pub(crate) fn measure_own(name: &str, place: &Place, log: &Path) -> Result<Outcome> {
    let scratch = Scratch::new("mtr")?;
    let plugins = scratch.path().join("plugin");
    fs::create_dir(&plugins)?;
    fs::copy(artefacts::library(), plugins.join("keyward.so"))?;
    fs::copy(artefacts::command(), scratch.path().join("keyward"))?;
    let overlay = |over: &Path, folder: &str| {
        let (over, folder) = (over.display(), place.at(folder));
        let folder = folder.display();
        format!("mount -t overlay overlay -o lowerdir={over}:{folder} {folder}")
    };
    let mounts = vec![
        overlay(&artefacts::repository().join("mariadb-test"), place.driver()),
        overlay(&plugins, test_mariadb::PLUGINS),
    ];
    let environment = [("KEYWARD", place.inside(scratch.path()).join("keyward").into())];
    drive(name, place, mounts, &environment, &scratch, log)
}

/// Runs the driver after `mounts`, in a mount namespace of its own.
fn drive(
    suite: &str,
    place: &Place,
    mounts: Vec<String>,
    environment: &[(&str, OsString)],
    scratch: &Scratch,
    log: &Path,
) -> Result<Outcome> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // rsync, by which Galera transfers a state, gives up root's rights and then lacks them.
    let (user, words) = match (suite, place) {
        (GALERA, _) => ("mysql", GALERA_TESTS),
        ("mariabackup", Place::Root(..)) => ("root", BACKUP_TESTS),
        _ => ("root", "--mysqld=--user=root"),
    };
    let driver = format!(
        "cd {} && exec perl ./mtr --suite={suite} {words} --parallel={cores} --force \
         --max-test-fail=0 --retry=0 --vardir={}/var",
        place.driver(),
        place.inside(scratch.path()).display()
    );
    let entry = place.entry(&driver, user, scratch.path());
    let steps = [vec!["set -e".to_owned()], mounts, entry].concat();
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !Uid::effective().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", &steps.join("; ")]).env_remove(KERNEL);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let done = job::logged(&mut command, log, LIMIT)?;
    let results = results(&done.text);
    // It says so only at its very end, after failures as well.
    if results.is_empty() || !done.text.contains("seconds executing testcases") {
        return Err(format!("the driver did not come to its end\n{}", done.text).into());
    }
    Ok(Outcome { results, text: done.text })
}

impl Place {
    /// The release `name`; its root folder is made if it is not there.
    pub(crate) fn elsewhere(name: &'static str) -> Result<Self> {
        Ok(Self::Root(name, roots::find(&format!("mariadb-{name}"))?))
    }

    /// A path of that server's machine as this one sees it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        match self {
            Self::Here => path.into(),
            Self::Root(_, root) => root.join(path.trim_start_matches('/')),
        }
    }

    /// Where the package mariadb-test puts the driver: 11 renamed its folder.
    fn driver(&self) -> &'static str {
        match self {
            Self::Here => "/usr/share/mysql/mysql-test",
            Self::Root(..) => "/usr/share/mariadb/mariadb-test",
        }
    }

    /// `scratch` as that server sees it after [`Place::entry`].
    fn inside<'a>(&self, scratch: &'a Path) -> &'a Path {
        match self {
            Self::Here => scratch,
            Self::Root(..) => Path::new("/mnt"),
        }
    }

    /// The steps that run `driver` there; in a root folder as `user`.
    fn entry(&self, driver: &str, user: &str, scratch: &Path) -> Vec<String> {
        match self {
            Self::Here => vec![driver.to_owned()],
            Self::Root(_, root) => {
                let root = root.display();
                vec![
                    format!("mount -t proc proc {root}/proc"),
                    format!("mount --rbind /dev {root}/dev"),
                    format!("mount --bind {} {root}/mnt", scratch.display()),
                    format!("chroot {root} chown {user} /mnt"),
                    format!("exec chroot --userspec={user} {root} sh -c '{driver}'"),
                ]
            }
        }
    }

    /// The server's release: `10.11`.
    fn release(&self) -> Result<String> {
        Ok(self.version()?.split('.').take(2).collect::<Vec<_>>().join("."))
    }

    /// The server's version: `10.11.14-MariaDB-0+deb12u2`.
    pub(crate) fn version(&self) -> Result<String> {
        let server = [test_mariadb::SERVER, "--no-defaults", "--version"];
        let said = match self {
            Self::Here => run(server[0], &server[1..])?,
            Self::Root(_, root) => {
                run("chroot", [&[&*root.to_string_lossy()], &server[..]].concat())?
            }
        };
        let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        Ok(said.split_whitespace().find(is_version).unwrap_or("unknown").to_owned())
    }
}

/// Reads lines such as `encryption.tempfiles 'cbc'   w2 [ pass ]   1234`.
pub(crate) fn results(text: &str) -> Results {
    let entry = |line: &str| {
        let (head, rest) = line.split_once(" [ ")?;
        let (end, _) = rest.split_once(" ]")?;
        let words: Vec<_> = head.split_whitespace().filter(|word| !is_worker(word)).collect();
        words.first()?.contains('.').then(|| (words.join(" "), end.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// All that the driver said of the test `name`, with or without its suite: from its line to the next one's.
pub(crate) fn said_of(text: &str, name: &str) -> String {
    let of = |line: &str| results(line).into_keys().next();
    let is = |full: &str| full == name || full.split_once('.').is_some_and(|(_, is)| is == name);
    let mut lines = text.lines().skip_while(|line| !of(line).is_some_and(|full| is(&full)));
    let first = lines.next().into_iter();
    first
        .chain(lines.take_while(|line| of(line).is_none()))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// `w1`, `w2`, ...: which of the driver's workers ran it.
fn is_worker(word: &str) -> bool {
    word.strip_prefix('w').is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The tests that pass with the original and do not with ours, and those that failed besides.
pub(crate) fn worse(baseline: &Results, ours: &Results) -> Vec<String> {
    let is = |results: &Results, name: &str| {
        results.get(name).cloned().unwrap_or_else(|| "not run".to_owned())
    };
    let mut names: Vec<_> = baseline.keys().chain(ours.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name, is(baseline, name), is(ours, name)))
        .filter(|(_, before, now)| {
            before == "pass" && now != "pass" || now == "fail" && before != "fail"
        })
        .map(|(name, before, now)| format!("{name}: {now}, with the original {before}"))
        .collect()
}

/// `164 passed, 0 failed, 14 skipped`.
pub(crate) fn summary(results: &Results) -> String {
    let count = |end: &str| results.values().filter(|is| *is == end).count();
    format!("{} passed, {} failed, {} skipped", count("pass"), count("fail"), count("skipped"))
}

/// How the tests of `suite` ended with the original, as it was written down.
pub(crate) fn baseline_of(suite: &str, place: &Place) -> Result<Results> {
    let path = baseline_path(suite, place)?;
    let text = test_kit::files::text(&path).map_err(|error| {
        error.within(format!("`{}` measures the original first", baseline_command(suite, place)))
    })?;
    let entry = |line: &str| {
        let (end, name) = line.split_once(' ')?;
        Some((name.to_owned(), end.to_owned()))
    };
    Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect())
}

fn write_baseline(suite: &str, place: &Place, results: &Results) -> Result<()> {
    let path = baseline_path(suite, place)?;
    let head = format!(
        "# How MariaDB's suite {suite} ends with the original plugin; `{}` writes this.\n",
        baseline_command(suite, place)
    );
    let lines = results.iter().map(|(name, end)| format!("{end} {name}\n"));
    fs::write(&path, head + &lines.collect::<String>())?;
    println!("wrote {}", path.display());
    Ok(())
}

/// What measures the original's suite.
fn baseline_command(suite: &str, place: &Place) -> String {
    let release = match place {
        Place::Here => String::new(),
        Place::Root(name, _) => format!("--{name} "),
    };
    format!("cargo xtask mtr {release}--baseline {suite}")
}

/// One file for each suite and release of the server.
fn baseline_path(suite: &str, place: &Place) -> Result<PathBuf> {
    let name = format!("mariadb-test/baseline/mariadb-{}-{suite}.txt", place.release()?);
    Ok(artefacts::repository().join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_combinations_and_ends() {
        let text = "\
encryption.tempfiles 'cbc'               w2 [ pass ]    344
encryption.import_4k                     [ skipped ]  Requires debug build
encryption.filekeys_nofile               w1 [ fail ]  Found warnings
worker[01] Using MTR_BUILD_THREAD 300, with reserved ports 19000..19029
";
        let found = results(text);
        assert_eq!(found["encryption.tempfiles 'cbc'"], "pass");
        assert_eq!(found["encryption.import_4k"], "skipped");
        assert_eq!(found["encryption.filekeys_nofile"], "fail");
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_no_longer_passes_is_worse() {
        let results = |ends: &[(&str, &str)]| -> Results {
            ends.iter().map(|(name, end)| ((*name).to_owned(), (*end).to_owned())).collect()
        };
        let before = results(&[("a", "pass"), ("b", "fail"), ("c", "pass"), ("d", "pass")]);
        let now = results(&[("a", "pass"), ("b", "fail"), ("c", "skipped"), ("e", "fail")]);
        assert_eq!(
            worse(&before, &now),
            [
                "c: skipped, with the original pass",
                "d: not run, with the original pass",
                "e: fail, with the original not run"
            ]
        );
    }
}
