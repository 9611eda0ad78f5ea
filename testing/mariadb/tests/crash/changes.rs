//! SIGKILL inside every command that changes a keystore, before each system call that changes
//! anything on disk: what comes between two of them leaves the same files. After each, the disk as
//! the kill left it and as a power cut would have; then the same command again, to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use keyward::age::{self, Identity, With};
use keyward::assemble;
use keyward::config::Config;
use keyward::env::Env;
use keyward::env::fake::FakeLog;
use keyward::key::KeyName;
use keyward::source::Role;
use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::files::copy;
use test_kit::strace::{self, Call};
use test_kit::{Result, Trouble, artefacts, ensure, files, seen};
use test_mariadb::{FILE_KEYS, Site, power};

/// How the provider begins that the keys leave.
const OLD: &str = "[[provider]]\nname = \"old\"\n";

#[test]
fn import() -> Result<()> {
    let site = Site::new("crash-import")?;
    let folder = text(&site.path("keyward"));
    site.keyward(&["init", "--empty", "--dir", &folder])?.ok()?;
    let (keys, my_cnf) = (site.path("etc/keys.txt"), site.path("etc/my.cnf"));
    files::write(&keys, FILE_KEYS)?;
    site.only_for_server(&keys)?;
    let options = format!("[mariadb]\nfile_key_management_filename = {}\n", keys.display());
    files::write(&my_cnf, options)?;
    Change::new(&site, &["import", "--from-mycnf", &text(&my_cnf)])?
        .cut_off_everywhere("import from file_key_management")
}

#[test]
fn migrate_to_another_wrapping() -> Result<()> {
    let site = site("crash-rewrap")?;
    let second = site.path("keyward/second.key");
    files::write(&second, "0123456789abcdef".repeat(4))?;
    site.only_for_server(&second)?;
    let more =
        format!("[[provider]]\nname = \"second\"\ntype = \"local\"\nkey_file = {second:?}\n");
    files::write(&site.config(), files::text(&site.config())? + &more)?;
    Change::new(&site, &["migrate", "--from", "local", "--to", "second"])?
        .cut_off_everywhere("migrate to another wrapping")
}

#[test]
fn migrate_into_a_keystore_that_is_yet_to_be_made() -> Result<()> {
    let site = site("crash-into")?;
    let keys = site.path("etc/keys.txt");
    files::write(&keys, FILE_KEYS)?;
    site.only_for_server(&keys)?;
    for file in files::list(&site.keys()) {
        fs::remove_file(file)?;
    }
    let more = format!("{OLD}type = \"file\"\nmode = \"ctr\"\npath = {keys:?}\n");
    files::write(&site.config(), files::text(&site.config())? + &more)?;
    Change::new(&site, &["migrate", "--from", "old", "--to", "local"])?
        .cut_off_everywhere("migrate into a new keystore")
}

#[test]
fn migrate_to_a_key_file() -> Result<()> {
    let site = site("crash-to-file")?;
    let file = text(&site.keys().join("out.txt"));
    Change::new(&site, &["migrate", "--from", "local", "--to-file", &file])?
        .cut_off_everywhere("migrate to a key file")
}

#[test]
fn accept_rollback() -> Result<()> {
    let site = site("crash-rollback")?;
    let old = files::read(&site.keystore())?;
    site.keyward(&["rotate", "3"])?.ok()?;
    fs::write(site.keystore(), old)?;
    let data = text(&site.data());
    Change::new(
        &site,
        &["keystore", "accept-rollback", "--reason", "the disk burnt", "--datadir", &data],
    )?
    .cut_off_everywhere("accept-rollback")
}

#[test]
fn undo() -> Result<()> {
    let site = site("crash-undo")?;
    site.keyward(&["rotate", "3"])?.ok()?;
    let socket = text(&site.path("run/nobody"));
    let words = ["keys", "undo", "3", "--offline", "--socket", &socket];
    Change::new(&site, &words)?.cut_off_everywhere("keys undo")
}

#[test]
fn destroy() -> Result<()> {
    let site = site("crash-destroy")?;
    rotated_twice(&site)?;
    let data = text(&site.data());
    Change::new(&site, &["keys", "destroy", "3", "1", "--datadir", &data])?
        .cut_off_everywhere("destroy")
}

#[test]
fn cancelled() -> Result<()> {
    let site = site("crash-cancel")?;
    rotated_twice(&site)?;
    site.keyward(&["keys", "destroy", "3", "1", "--datadir", &text(&site.data())])?.ok()?;
    Change::new(&site, &["keys", "destroy", "3", "1", "--cancel"])?
        .cut_off_everywhere("destroy --cancel")
}

#[test]
fn backup() -> Result<()> {
    let site = site("crash-backup")?;
    identity(&site)?;
    // Beside the keystore, where the harness looks.
    let section = format!("[backup]\nto = {:?}\n", site.keys());
    files::write(&site.config(), section + &files::text(&site.config())?)?;
    Change::new(&site, &["keystore", "backup", "--due"])?.cut_off_everywhere("backup --due")
}

#[test]
fn restore() -> Result<()> {
    let (lost, site) = (site("crash-lost")?, Site::with_keyward("crash-restore")?);
    let fingerprint = identity(&lost)?;
    let (backup, identity) = (lost.path("etc/keys.age"), lost.path("etc/identity"));
    lost.keyward(&["keystore", "backup", "--to", &text(&backup)])?.ok()?;
    give_to_server(&backup)?;
    let words =
        ["keystore", "restore", &text(&backup), "--identity", &text(&identity)].map(str::to_owned);
    let words = [&words[..], &["--fingerprint".to_owned(), fingerprint, "--replace".to_owned()]];
    let words = words.concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Change::new(&site, &words)?.cut_off_everywhere("restore")
}

#[test]
fn fork() -> Result<()> {
    let site = site("crash-fork")?;
    let data = text(&site.data());
    Change::new(&site, &["keystore", "fork", "--datadir", &data])?.cut_off_everywhere("fork")
}

/// Makes what opens the site's backups; the keystore's fingerprint.
fn identity(site: &Site) -> Result<String> {
    let identity = site.path("etc/identity");
    let said = site.keyward(&["keystore", "backup", "--identity", &text(&identity)])?.err;
    let mut last = said.lines().filter_map(|line| line.rsplit(' ').next());
    let (fingerprint, recipient) = (last.next(), last.next());
    let recipient = recipient.ok_or("no recipient")?;
    site.keyward(&["keystore", "backup", "--add-recipient", recipient])?.ok()?;
    give_to_server(&identity)?;
    Ok(fingerprint.ok_or("no fingerprint")?.to_owned())
}

/// So that version 1 of key 3 is none of the newest two, which stay, and the data are ours.
fn rotated_twice(site: &Site) -> Result<()> {
    site.mark()?;
    for _ in 0..2 {
        site.keyward(&["rotate", "3"])?.ok()?;
    }
    Ok(())
}

/// A site with keys 1, 2 and 3.
fn site(name: &str) -> Result<Site> {
    let site = Site::with_keyward(name)?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    Ok(site)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A command that changes the keystore of a site.
struct Change<'a> {
    site: &'a Site,
    words: Vec<String>,
    /// The keystore's folder before it.
    pristine: PathBuf,
    before: String,
    after: String,
    /// What it does to the disk.
    calls: Vec<Call>,
}

impl<'a> Change<'a> {
    /// Runs it once to its end, to know what it does.
    fn new(site: &'a Site, words: &[&str]) -> Result<Self> {
        let pristine = site.path("pristine");
        copy(&site.keys(), &pristine)?;
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let (before, after, calls) = (state(site, &site.keys())?, String::new(), Vec::new());
        let mut change = Self { site, words, pristine, before, after, calls };
        let calls = change.run(None)?;
        change.after = state(site, &site.keys())?;
        change.calls = changing(&calls, site);
        ensure!(change.before != change.after, "it changed nothing: {}", change.before);
        ensure!(change.calls.len() > 5, "only {} calls change anything", change.calls.len());
        Ok(change)
    }

    fn cut_off_everywhere(&self, what: &str) -> Result<()> {
        let (mut old, mut new, mut cuts) = (0, 0, 0);
        for (place, call) in self.calls.iter().enumerate() {
            let (is_new, states) = self.cut_off(call).map_err(|error| {
                error.within(format!("before call {} of it, {}", place + 1, call.text))
            })?;
            if is_new {
                new += 1
            } else {
                old += 1
            }
            cuts += states;
        }
        ensure!(old > 0, "no kill came before the change");
        seen!(
            "{what}: killed before each of {} calls that change a file: {old} times as before, {new} \
             times done; {cuts} power cuts; each time the same command did the rest",
            self.calls.len()
        );
        Ok(())
    }

    /// Kills it before `call`; whether it was done by then, and how many power cuts were tried.
    fn cut_off(&self, call: &Call) -> Result<(bool, usize)> {
        let keys = self.site.keys();
        fs::remove_dir_all(&keys)?;
        copy(&self.pristine, &keys)?;
        let made = self.run(Some(call))?;
        let cuts = cut(self.site, &made, &self.pristine)?;
        let now = self.known(&keys)?;
        for state in &cuts {
            self.known(state).map_err(|error| error.within(format!("cut {}", state.display())))?;
        }
        let is_new = now == self.after;
        if !is_new {
            self.run(None).map_err(|error| error.within("the same command again"))?;
        }
        ensure!(state(self.site, &keys)? == self.after, "it is not done after all");
        Ok((is_new, cuts.len()))
    }

    /// The state of `folder`, an error unless it is that of before or after.
    fn known(&self, folder: &Path) -> Result<String> {
        let now = state(self.site, folder)?;
        ensure!(
            now == self.before || now == self.after,
            "neither as before nor done:\n{now}\nbefore:\n{}\ndone:\n{}",
            self.before,
            self.after
        );
        Ok(now)
    }

    /// Runs it under strace, up to `kill` if there is one.
    fn run(&self, kill: Option<&Call>) -> Result<Vec<Call>> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        traced(self.site, &words, kill)
    }
}

/// Runs a command under strace, up to `kill` if there is one.
pub(crate) fn traced(site: &Site, words: &[&str], kill: Option<&Call>) -> Result<Vec<Call>> {
    let log = site.path("strace");
    let inner = site.keyward_command(words);
    let mut command = Command::new("strace");
    command.args(strace::options(&log)).args(kill.map(Call::kill_option));
    command.args(strace::as_server()).arg(inner.get_program()).args(inner.get_args());
    let said = answer(&mut command)?;
    ensure!((said.code == 0) == kill.is_none(), "exit code {}: {}", said.code, said.text());
    strace::read(&log)
}

/// The calls that change a file or a folder of the site.
pub(crate) fn changing(calls: &[Call], site: &Site) -> Vec<Call> {
    const NAMES: [&str; 18] = [
        "write",
        "pwrite64",
        "writev",
        "fsync",
        "fdatasync",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "unlink",
        "unlinkat",
        "mkdir",
        "ftruncate",
        "fchmod",
        "fchown",
        "chmod",
        "chown",
    ];
    let root = text(&site.path(""));
    let changes = |call: &&Call| {
        let makes = call.name == "openat" && call.text.contains("O_CREAT");
        (makes || NAMES.contains(&call.name.as_str())) && call.text.contains(&root)
    };
    calls.iter().filter(changes).cloned().collect()
}

/// All that is to be seen of the keystore in `folder`, but for times.
fn state(site: &Site, folder: &Path) -> Result<String> {
    let config = config_for(site, folder)?;
    let ask = |words: &[&str]| {
        let mut command = Command::new(artefacts::command());
        answer(command.arg("--config").arg(&config).args(words))
    };
    let mut state = String::new();
    if let Ok(made) = files::text(&folder.join("out.txt")) {
        state += &made;
    }
    state += &backups_in(site, folder)?;
    if !folder.join("keystore.json").exists() {
        return Ok(state + "no keys");
    }
    let list = ask(&["keys", "list"])?;
    if list.code != 0 && list.err.contains(" was in force;") {
        return Ok(state + "refused: older than its witness");
    }
    let rows: Vec<String> = list.ok()?.lines().skip(1).map(columns).collect();
    if rows.is_empty() {
        return Ok(state + "no keys");
    }
    state += &rows.concat();
    state += &keys_in(&config, folder)?;
    if state.contains("\n3 ") {
        let shown = ask(&["keys", "show", "3"])?.ok()?;
        state += if shown.contains(" to be destroyed") { "doomed\n" } else { "" };
    }
    let keystore: serde_json::Value =
        serde_json::from_slice(&files::read(&folder.join("keystore.json"))?)
            .map_err(|error| error.to_string())?;
    state += if keystore["epoch"].as_u64() > Some(1) { "of a later epoch\n" } else { "" };
    let status = ask(&["status"])?.ok()?;
    let wrapped = status.lines().find(|line| line.starts_with("wrapped by"));
    Ok(state + wrapped.unwrap_or("wrapped by nobody"))
}

/// What a power cut after `calls` may leave of the keystore's folder, which was `before`. To be asked before
/// anything looks at the folder: a command that opens a keystore may write.
pub(crate) fn cut(site: &Site, calls: &[Call], before: &Path) -> Result<Vec<PathBuf>> {
    let states = site.path("states");
    let _ = fs::remove_dir_all(&states);
    fs::create_dir(&states)?;
    power::cut(calls, before, &site.keys(), &states)
}

/// The site's configuration for the keystore in `folder`.
pub(crate) fn config_for(site: &Site, folder: &Path) -> Result<PathBuf> {
    let config = site.path("keyward/copy.toml");
    let (own, there) = (text(&site.keys()), text(folder));
    let own_config = files::text(&site.config())?;
    // A provider that serves may stand beside the keystore only for the move.
    let lasting = own_config.split(OLD).next().unwrap_or_default();
    files::write(&config, lasting.replace(&own, &there))?;
    Ok(config)
}

/// The backups in `folder`, each of which must be whole.
fn backups_in(site: &Site, folder: &Path) -> Result<String> {
    let is_one = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("keyward-") && name.ends_with(".age")
    };
    let mut found = String::new();
    for path in files::list(folder).iter().filter(is_one) {
        let identity = Identity::parse(&files::read(&site.path("etc/identity"))?);
        let opened = identity.and_then(|one| {
            age::decrypt(&files::read(path).unwrap_or_default(), With::Identity(&one))
        });
        let opened = opened.map_err(|error| format!("{}: {error}", path.display()))?;
        let lines = opened.expose().split(|byte| *byte == b'\n').count();
        found += &format!("a backup of {lines} lines\n");
    }
    Ok(found)
}

/// A row of a key list without its age and its check value, which is another in each keystore.
fn columns(row: &str) -> String {
    let words: Vec<_> = row.split_whitespace().collect();
    words[..words.len().saturating_sub(2)].join(" ") + "\n"
}

/// The keys themselves, as a server would have them: what tells each from another in any keystore.
fn keys_in(config: &Path, folder: &Path) -> Result<String> {
    let told = |error: keyward::Error| Trouble::from(error.to_string());
    keyward::trust::work_for_owner_of(folder);
    let env = Env::system(Arc::new(FakeLog::default()));
    let config = Config::load(config).map_err(told)?;
    let custodian = assemble::start(&config, Role::Reader, env).map_err(told)?;
    let keys = custodian.keys().into_iter().filter_map(|info| match info.key.name {
        KeyName::Id(id) => custodian.key(id, info.key.version).map(|key| (info.key, key.check())),
        KeyName::Named { .. } => None,
    });
    Ok(keys.map(|(key, check)| format!("{key}: {check}\n")).collect())
}
