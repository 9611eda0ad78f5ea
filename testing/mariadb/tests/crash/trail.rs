//! SIGKILL inside a change that closes a file of the audit trail, and inside the removal of files by policy, before
//! each system call that changes anything on disk. After each, the disk as the kill left it and as a power cut would
//! have: the trail is whole. Then the same command again, to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use keyward::assemble;
use keyward::config::Config;
use keyward::env::fake::{FakeClock, FakeLog};
use keyward::env::{Clock as _, Env, System, Timestamp};
use keyward::key::KeyId;
use keyward::source::{Reason, Role, Which};
use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::files::copy;
use test_kit::strace::Call;
use test_kit::{Result, Trouble, artefacts, ensure, files, seen};
use test_mariadb::Site;

use crate::changes::{changing, config_for, cut, traced};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn closing_a_file() -> Result<()> {
    let site = Site::with_keyward("crash-closing")?;
    // Until the next line is to begin another file.
    for _ in 0..8 {
        site.keyward(&["rotate", "1", "--reason", "a long reason, so that a file is full"])?
            .ok()?;
    }
    configure(&site, "segment_size = \"4KiB\"")?;
    Cut::new(&site, &["rotate", "1"])?.everywhere("a change that closes a file of the trail", 1)
}

#[test]
fn setting_a_damaged_file_aside() -> Result<()> {
    let site = Site::with_keyward("crash-aside")?;
    site.keyward(&["rotate", "1"])?.ok()?;
    let trail = site.keys().join("audit.jsonl");
    files::write(&trail, files::text(&trail)? + "spilt\n")?;
    site.only_for_server(&trail)?;
    let mut cut = Cut::new(&site, &["rotate", "1"])?;
    cut.faults = 1;
    cut.everywhere("a change that sets a damaged file of the trail aside", 1)
}

#[test]
fn removing_files_by_policy() -> Result<()> {
    let site = Site::with_keyward("crash-removing")?;
    configure(&site, "segment_age = \"30d\"\nkeep = \"90d\"")?;
    live_most_of_a_year(&site)?;
    Cut::new(&site, &["rotate", "--due"])?.everywhere("a removal of files of the trail", -4)
}

fn configure(site: &Site, lines: &str) -> Result<()> {
    files::write(&site.config(), files::text(&site.config())? + "\n[audit]\n" + lines + "\n")
}

/// The site's keystore made anew, 300 days ago, and a rotation every ten days since.
fn live_most_of_a_year(site: &Site) -> Result<()> {
    for path in files::list(&site.keys()) {
        if path.extension() != Some("key".as_ref()) {
            fs::remove_file(path)?;
        }
    }
    let told = |error: keyward::Error| Trouble::from(error.to_string());
    keyward::trust::work_for_owner_of(&site.keys());
    let begin = Timestamp::from_unix(System.now().as_unix() - (300 * DAY).as_secs());
    let clock = Arc::new(FakeClock::at(begin));
    let env = Env { clock: clock.clone(), ..Env::system(Arc::new(FakeLog::default())) };
    let config = Config::load(&site.config()).map_err(told)?;
    let reason = Reason { actor: "test", text: "because" };
    assemble::create_keystore(&config, reason, &env).map_err(told)?;
    let custodian = assemble::start(&config, Role::Command, env).map_err(told)?;
    for _ in 0..29 {
        clock.advance(10 * DAY);
        custodian.rotate(Which::One(KeyId::SYSTEM), reason).map_err(told)?;
    }
    give_to_server(&site.keys())
}

/// A command, and what it does to the disk.
struct Cut<'a> {
    site: &'a Site,
    words: &'a [&'a str],
    pristine: PathBuf,
    calls: Vec<Call>,
    /// How many files the trail has before it and after it.
    before: usize,
    after: usize,
    /// How much is wrong with the trail from the beginning.
    faults: usize,
}

impl<'a> Cut<'a> {
    /// Runs it once to its end, to know what it does.
    fn new(site: &'a Site, words: &'a [&'a str]) -> Result<Self> {
        let pristine = site.path("pristine");
        copy(&site.keys(), &pristine)?;
        let before = trail_files(&site.keys());
        let calls = changing(&traced(site, words, None)?, site);
        let after = trail_files(&site.keys());
        Ok(Self { site, words, pristine, calls, before, after, faults: 0 })
    }

    /// `more` is by how many files more the trail has in the end, or by how many fewer at least.
    fn everywhere(&self, what: &str, more: isize) -> Result<()> {
        let grown = self.after.cast_signed() - self.before.cast_signed();
        ensure!(if more > 0 { grown == more } else { grown <= more }, "{grown} files more");
        let mut cuts = 0;
        for (place, call) in self.calls.iter().enumerate() {
            cuts += self.at(call).map_err(|error| {
                error.within(format!("before call {} of it, {}", place + 1, call.text))
            })?;
        }
        seen!(
            "{what}: killed before each of {} calls that change a file; {cuts} power cuts; the trail was whole each \
             time, and the same command did the rest",
            self.calls.len()
        );
        Ok(())
    }

    /// Kills it before `call`; how many power cuts were tried.
    fn at(&self, call: &Call) -> Result<usize> {
        let keys = self.site.keys();
        fs::remove_dir_all(&keys)?;
        copy(&self.pristine, &keys)?;
        let made = traced(self.site, self.words, Some(call))?;
        let cuts = cut(self.site, &made, &self.pristine)?;
        self.is_whole(&keys)?;
        for state in &cuts {
            self.is_whole(state)
                .map_err(|error| error.within(format!("cut {}", state.display())))?;
        }
        traced(self.site, self.words, None)
            .and_then(|_| self.is_whole(&keys))
            .map_err(|error| error.within("the same command again"))?;
        // A rotation that was done already is done once more, and needs no other file.
        let files = trail_files(&keys);
        ensure!(files == self.after, "{files} files of the trail, not {}", self.after);
        Ok(cuts.len())
    }

    fn is_whole(&self, folder: &Path) -> Result<()> {
        let config = config_for(self.site, folder)?;
        let mut command = Command::new(artefacts::command());
        let said =
            answer(command.arg("--config").arg(&config).args(["audit", "verify", "--json"]))?;
        let verdict: serde_json::Value =
            serde_json::from_str(&said.out).map_err(|error| format!("{error}: {}", said.text()))?;
        let faults = verdict["faults"].as_array().map_or(usize::MAX, Vec::len);
        ensure!(faults == self.faults, "the trail is not whole: {}", said.text());
        Ok(())
    }
}

fn trail_files(folder: &Path) -> usize {
    let is_one = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("audit.") && name.ends_with(".jsonl")
    };
    files::list(folder).iter().filter(is_one).count()
}
