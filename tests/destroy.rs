//! The end of a version: what the keystore refuses, and what the command does with a server's files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use keyward::assemble;
use keyward::config::Config;
use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Env, System, Timestamp};
use keyward::event::{Event, Trail};
use keyward::key::{KeyId, KeyRef, KeyState, KeyVersion};
use keyward::manager::{DataBackup, Destruction, Home, Judged, StateChange};
use keyward::mark::{self, Mark};
use keyward::source::{Reason, Role, Which};
use keyward::{Error, Kind};

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A keystore with key 1 in versions 1, 3 (retired) and 5 (active), and a clock to move.
struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<FakeClock>,
    config: Config,
    env: Env,
    custodian: Custodian,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::at(Timestamp::from_unix(1_700_000_000)));
        let rng = Arc::new(FakeRng::new(3));
        let env = Env { clock: clock.clone(), rng: rng.clone(), log: Arc::<FakeLog>::default() };
        let key_file = folder.path().join("local.key");
        assemble::create_key_file(&key_file, &*rng).unwrap();
        let keystore = folder.path().join("keystore.json");
        let text = format!(
            "[keystore]\npath = {keystore:?}\n[[provider]]\ntype = \"local\"\nkey_file = {key_file:?}\n"
        );
        let config = Config::parse(Path::new("k.toml"), &text).unwrap();
        assert_eq!(config.policy.destroy_wait, WEEK);
        assemble::create_keystore(&config, REASON, &env).unwrap();
        let custodian = assemble::start(&config, Role::Command, env.clone()).unwrap();
        for _ in 0..2 {
            custodian.rotate(Which::One(KeyId::SYSTEM), REASON).unwrap();
        }
        Self { folder, clock, config, env, custodian }
    }

    fn state(&self, key: &KeyRef) -> KeyState {
        self.custodian.keys().into_iter().find(|info| info.key == *key).unwrap().state
    }

    fn take(&self, step: Destruction) -> Result<(), Error> {
        self.custodian.manager().unwrap().destroy(&step, &Judged::default(), REASON)
    }
}

#[test]
fn a_version_is_destroyed_after_its_waiting_time_and_leaves_a_tombstone() {
    let bench = Bench::new();
    let old = key(1, 1);
    bench.take(Destruction::Plan(old.clone(), WEEK)).unwrap();
    let at = Timestamp::from_unix(1_700_000_000 + WEEK.as_secs());
    assert_eq!(bench.custodian.manager().unwrap().pending_destructions(), [(old.clone(), at)]);
    bench.clock.advance(WEEK - Duration::from_secs(1));
    let early = bench.take(Destruction::CarryOut(old.clone())).unwrap_err();
    assert_eq!(early.what(), format!("key 1 version 1 is not to be destroyed before {at}"));
    assert_eq!(bench.state(&old), KeyState::Retired);
    bench.clock.advance(Duration::from_secs(1));
    bench.take(Destruction::CarryOut(old.clone())).unwrap();
    assert_eq!(bench.state(&old), KeyState::Destroyed);
    assert!(bench.custodian.manager().unwrap().pending_destructions().is_empty());
    // The next rotation goes on from the highest version there ever was.
    assert_eq!(bench.custodian.rotate(Which::One(KeyId::SYSTEM), REASON).unwrap(), [key(1, 7)]);
    let trail = Trail::beside(&bench.folder.path().join("keystore.json")).read().unwrap();
    let events: Vec<_> = trail.iter().map(|line| line.event).collect();
    assert!(events.contains(&Event::DestructionPlanned) && events.contains(&Event::Destroyed));
}

#[test]
fn what_is_called_off_stays() {
    let bench = Bench::new();
    let old = key(1, 1);
    bench.take(Destruction::Plan(old.clone(), WEEK)).unwrap();
    let twice = bench.take(Destruction::Plan(old.clone(), WEEK)).unwrap_err();
    assert_eq!(twice.kind(), Kind::State);
    bench.take(Destruction::Cancel(old.clone())).unwrap();
    bench.clock.advance(WEEK * 5);
    for step in [Destruction::CarryOut(old.clone()), Destruction::Cancel(old.clone())] {
        let refused = bench.take(step).unwrap_err();
        assert_eq!(refused.what(), "key 1 version 1 is not to be destroyed");
    }
    assert_eq!(bench.state(&old), KeyState::Retired);
}

#[test]
fn what_encrypts_or_is_not_there_is_refused() {
    let bench = Bench::new();
    let active = bench.take(Destruction::Plan(key(1, 5), WEEK)).unwrap_err();
    let text = "key 1 version 5 is active; `keyward rotate 1` puts another in its place";
    assert_eq!(active.to_string(), text);
    let missing = bench.take(Destruction::Plan(key(1, 2), WEEK)).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    bench.take(Destruction::Plan(key(1, 1), WEEK)).unwrap();
    bench.clock.advance(WEEK);
    bench.take(Destruction::CarryOut(key(1, 1))).unwrap();
    let gone = bench.take(Destruction::Plan(key(1, 1), WEEK)).unwrap_err();
    assert_eq!(gone.to_string(), "key 1 version 1 is destroyed");
}

/// The command, a keystore with key 4 in versions 1 to 13, the odd ones, and a data directory.
struct Installation {
    folder: tempfile::TempDir,
}

impl Installation {
    fn new() -> Self {
        let new = Self { folder: tempfile::tempdir().unwrap() };
        let dir = new.folder.path().to_str().unwrap();
        new.succeed(&["init", "--dir", dir, "--user", "root"]);
        new.succeed(&["keys", "create", "4"]);
        for _ in 0..6 {
            new.succeed(&["rotate", "4"]);
        }
        fs::create_dir_all(new.path("data/t")).unwrap();
        new.sample("full-crc32-plain.ibd", "data/ibdata1");
        // So a prepared backup, and a server that was never started, have it.
        fs::write(new.path("data/ib_logfile0"), "").unwrap();
        new.mark(&new.keystore_id());
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keystore_id(&self) -> String {
        let text = fs::read(self.path("keystore/keystore.json")).unwrap();
        let keystore: serde_json::Value = serde_json::from_slice(&text).unwrap();
        keystore["id"].as_str().unwrap().to_owned()
    }

    /// Has the data directory say that it is that keystore's.
    fn mark(&self, keystore: &str) {
        let mark = Mark::new("the mark's id", keystore, &FakeRng::new(1)).unwrap();
        fs::write(self.path("data/keyward.mark"), mark.to_bytes().unwrap()).unwrap();
    }

    /// A server changes a key: so its data directory is registered.
    fn serve(&self, host: &str, path: &Path, mark: &'static str) {
        let config = Config::load(&self.path("keyward.toml")).unwrap();
        let log = Arc::<FakeLog>::default();
        let env = Env { clock: Arc::new(System), rng: Arc::new(System), log };
        serve(&config, env, host, path, mark, 4);
    }

    fn sample(&self, sample: &str, name: &str) {
        fs::copy(Path::new("tests/golden/inspect").join(sample), self.path(name)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let config = self.path("keyward.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.current_dir(self.folder.path()).arg("--config").arg(config);
        command.args(arguments).output().unwrap()
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn refuse(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }
}

#[test]
fn a_copied_file_that_needs_a_version_blocks_its_destruction() {
    let server = Installation::new();
    server.sample("full-crc32.ibd", "data/t/copied.ibd");
    let refused = server.refuse(&["keys", "destroy", "4", "9", "--datadir", "data"]);
    let text = "1 file needs key 4 version 9: data/t/copied.ibd;";
    assert!(refused.contains(text), "{refused}");
    // Only freed pages of the same file have version 5.
    let planned = server.succeed(&["keys", "destroy", "4", "5", "--datadir", "data"]);
    assert!(planned.contains("nothing needs key 4 version 5"), "{planned}");
    assert!(planned.contains("5 freed pages carry it still"), "{planned}");
    assert_eq!(
        server.succeed(&["keys", "destroy", "--due", "--datadir", "data"]),
        "nothing is due\n"
    );
    assert_eq!(
        server.succeed(&["keys", "destroy", "4", "5", "--cancel"]),
        "key 4 version 5 stays\n"
    );
    fs::rename(server.path("data/t/copied.ibd"), server.path("kept.ibd")).unwrap();
    let refused =
        server.refuse(&["keys", "destroy", "4", "9", "--datadir", "data", "--backup", "kept.ibd"]);
    assert!(refused.contains("needs key 4 version 9: kept.ibd"), "{refused}");
    server.succeed(&["keys", "destroy", "4", "9", "--datadir", "data", "--wait", "30d"]);
}

#[test]
fn what_cannot_be_judged_blocks_until_somebody_vouches_for_it() {
    let server = Installation::new();
    fs::write(server.path("data/what.is"), "this").unwrap();
    let refused = server.refuse(&["keys", "destroy", "4", "1", "--datadir", "data"]);
    let text = "key 4 version 1 may be needed by data/what.is (is of no format known here)";
    assert!(refused.contains(text), "{refused}");
    let vouched = server.succeed(&[
        "keys",
        "destroy",
        "4",
        "1",
        "--datadir",
        "data",
        "--ignore",
        "data/what.is",
    ]);
    assert!(vouched.contains("nothing needs key 4 version 1"), "{vouched}");
}

#[test]
fn a_folder_without_a_servers_files_proves_nothing() {
    let server = Installation::new();
    let refused = server.refuse(&["keys", "destroy", "4", "1", "--datadir", "data/t"]);
    assert!(refused.contains("there is no ibdata1 in data/t"), "{refused}");
    let refused =
        server.refuse(&["keys", "destroy", "4", "1", "--datadir", "data", "--backup", "data/t"]);
    assert!(refused.contains("there is nothing in the backup data/t"), "{refused}");
    let refused = server.refuse(&["keys", "destroy", "4", "13", "--datadir", "data"]);
    assert!(refused.contains("key 4 version 13 is active"), "{refused}");
    for wait in ["6d", "31d", "soon"] {
        let output =
            server.run(&["keys", "destroy", "4", "1", "--datadir", "data", "--wait", wait]);
        assert_eq!(output.status.code(), Some(2), "--wait {wait}");
    }
}

fn key(id: u32, version: u32) -> KeyRef {
    KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_newest_versions_stay_unless_one_is_compromised() {
    let bench = Bench::new();
    let newest = key(1, 3);
    let kept = "key 1 version 3 is one of the newest 2 versions, which stay; keep_versions in \
                [policy] is how many; a further rotation adds a newer one";
    assert_eq!(
        bench.custodian.manager().unwrap().may_destroy(&newest).unwrap_err().to_string(),
        kept
    );
    let refused = bench.take(Destruction::Plan(newest.clone(), WEEK)).unwrap_err();
    assert_eq!(refused.to_string(), kept);
    bench
        .custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::Compromised(newest.clone()), REASON)
        .unwrap();
    bench.take(Destruction::Plan(newest.clone(), WEEK)).unwrap();
    bench.clock.advance(WEEK);
    bench.take(Destruction::CarryOut(newest.clone())).unwrap();
    assert_eq!(bench.state(&newest), KeyState::Destroyed);
}

#[test]
fn what_has_become_one_of_the_newest_since_is_not_carried_out() {
    let bench = Bench::new();
    let old = key(1, 1);
    bench.take(Destruction::Plan(old.clone(), WEEK)).unwrap();
    bench.clock.advance(WEEK);
    bench
        .custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::Compromised(key(1, 3)), REASON)
        .unwrap();
    bench.take(Destruction::Plan(key(1, 3), WEEK)).unwrap();
    bench.clock.advance(WEEK);
    bench.take(Destruction::CarryOut(key(1, 3))).unwrap();
    let refused = bench.take(Destruction::CarryOut(old.clone())).unwrap_err();
    assert!(refused.what().ends_with("one of the newest 2 versions, which stay"), "{refused}");
    assert_eq!(bench.state(&old), KeyState::Retired);
}

#[test]
fn another_servers_data_directory_proves_nothing() {
    let here = Installation::new();
    let data = here.path("data");
    let destroy = ["keys", "destroy", "4", "1", "--datadir", data.to_str().unwrap()];
    let refused = |wanted: &str| {
        let said = here.refuse(&destroy);
        assert!(said.contains(wanted), "{said}");
        assert!(
            said.contains("name the data directory of the server that uses this keystore"),
            "{said}"
        );
    };
    // Encrypted, and by another's keys.
    here.sample("full-crc32.ibd", "data/t/t1.ibd");
    here.mark("11111111-2222-4333-8444-555555555555");
    refused(
        "belongs to keystore 11111111-2222-4333-8444-555555555555: t/t1.ibd in it is encrypted with another key 4 version 9",
    );
    fs::remove_file(data.join("keyward.mark")).unwrap();
    refused("belongs to another keystore than keystore ");
    // Not encrypted at all.
    fs::remove_file(data.join("t/t1.ibd")).unwrap();
    refused("shows that its server uses keystore ");
}

/// A server with its data in `path` rotates key `id` and ends.
fn serve(config: &Config, env: Env, host: &str, path: &Path, mark: &'static str, id: u32) {
    let server = assemble::start(config, Role::Daemon, env).unwrap();
    let (host, path) = (host.to_owned(), path.to_str().unwrap().to_owned());
    server.register(Home { host, path, mark: Box::new(move || Some(mark.to_owned())) });
    server.rotate(Which::One(KeyId::try_from(id).unwrap()), REASON).unwrap();
}

#[test]
fn every_registered_data_directory_is_looked_at_or_gone() {
    let here = Installation::new();
    here.serve("db2", Path::new("/srv/other"), "mark-2");
    here.serve(&mark::host(), &here.path("data"), "the mark's id");
    let destroy = ["keys", "destroy", "4", "1", "--datadir", "data"];
    let refused = here.refuse(&destroy);
    for part in [
        "/srv/other on db2, mark mark-2, last seen 2",
        "Z, uses this keystore and was not looked at; name it with --datadir, or say --gone mark-2 \
         if that data directory no longer exists",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(refused.lines().count(), 1, "{refused}");
    let listed = here.succeed(&["status", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let marks = listed["data_directories"].as_array().unwrap().iter();
    assert_eq!(marks.map(|one| &one["mark"]).collect::<Vec<_>>(), ["mark-2", "the mark's id"]);
    let used_by = "used by              /srv/other on db2, mark mark-2,";
    assert!(here.succeed(&["status"]).contains(used_by));

    let with = |more: &[&'static str]| [&destroy[..], more].concat();
    let refused = here.refuse(&with(&["--gone", "mark-2", "--gone", "mark-9"]));
    assert!(refused.contains("no data directory with mark \"mark-9\" is registered"), "{refused}");
    let refused = here.refuse(&with(&["--gone", "mark-2", "--gone", "the mark's id"]));
    assert!(refused.contains("data has mark the mark's id, so it is not gone"), "{refused}");
    let planned = here.succeed(&with(&["--gone", "mark-2", "--reason", "sold"]));
    assert!(planned.contains("nothing needs key 4 version 1"), "{planned}");
    assert!(!here.succeed(&["status"]).contains("mark-2"));
    let trail = Trail::beside(&here.path("keystore/keystore.json")).read().unwrap();
    let gone = trail.iter().find(|line| line.event == Event::DataDirectoryGone).unwrap();
    assert_eq!(gone.reason, "sold; gone: /srv/other on db2, mark mark-2");
    here.succeed(&["keys", "destroy", "4", "3", "--datadir", "data"]);
}

#[test]
fn a_key_is_erased_once_each_registered_data_directory_was_looked_at_or_is_gone() {
    let here = Installation::new();
    here.serve("db2", Path::new("/srv/other"), "mark-2");
    here.serve(&mark::host(), &here.path("data"), "the mark's id");
    let erase = ["keys", "erase", "4", "--reason", "sold"];
    let with = |more: &[&'static str]| [&erase[..], more].concat();
    let shown = here.succeed(&with(&["--gone", "mark-2"]));
    let confirm = shown.trim_end().rsplit(' ').next().unwrap();
    // The other machine's is not looked at here: it must be said to be gone.
    let refused = here.refuse(&[&erase[..], &["--confirm", confirm]].concat());
    assert!(refused.contains("say --gone mark-2 if that data directory no longer"), "{refused}");
    let refused = here.refuse(&with(&["--gone", "the mark's id", "--datadir", "data"]));
    assert!(refused.contains("data has mark the mark's id, so it is not gone"), "{refused}");
    here.succeed(&[&erase[..], &["--gone", "mark-2", "--confirm", confirm]].concat());
    assert!(!here.succeed(&["status"]).contains("mark-2"));
    let trail = Trail::beside(&here.path("keystore/keystore.json")).read().unwrap();
    let gone = trail.iter().find(|line| line.event == Event::DataDirectoryGone).unwrap();
    assert!(gone.reason.ends_with("gone: /srv/other on db2, mark mark-2"), "{}", gone.reason);
    assert!(trail.iter().any(|line| line.event == Event::Destroyed));
}

#[test]
fn a_copy_of_a_registered_data_directory_does_not_speak_for_it() {
    let here = Installation::new();
    here.serve(&mark::host(), &here.path("data"), "the mark's id");
    fs::create_dir(here.path("copy")).unwrap();
    for name in ["ibdata1", "ib_logfile0", "keyward.mark"] {
        fs::copy(here.path("data").join(name), here.path("copy").join(name)).unwrap();
    }
    let refused = here.refuse(&["keys", "destroy", "4", "1", "--datadir", "copy"]);
    assert!(refused.contains("uses this keystore and was not looked at"), "{refused}");
    here.succeed(&["keys", "destroy", "4", "1", "--datadir", "data"]);
    // It moved, and no server has started there yet.
    fs::rename(here.path("data"), here.path("moved")).unwrap();
    here.succeed(&["keys", "destroy", "4", "3", "--datadir", "moved"]);
}

#[test]
fn a_data_directory_of_mysqls_is_named_and_needs_no_number() {
    let here = Installation::new();
    let theirs = here.path("mysql");
    fs::create_dir_all(theirs.join("#innodb_redo")).unwrap();
    fs::write(theirs.join("#innodb_redo/#ib_redo10"), "of no format known here").unwrap();
    here.sample("mysql.ibd", "mysql/mysql.ibd");
    here.sample("full-crc32-plain.ibd", "mysql/ibdata1");
    here.serve(&mark::host(), &theirs, "of MySQL");
    let destroy = ["keys", "destroy", "4", "1", "--datadir", "data"];
    let both = [&destroy[..], &["--datadir", "mysql"]].concat();
    for words in [&destroy[..], &both] {
        let refused = here.refuse(words);
        assert!(refused.contains("mark of MySQL, last seen 2"), "{refused}");
    }
    let mark = Mark::new("of MySQL", &here.keystore_id(), &FakeRng::new(1)).unwrap();
    fs::write(theirs.join("keyward.mark"), mark.to_bytes().unwrap()).unwrap();
    let planned = here.succeed(&both);
    assert!(planned.contains("nothing needs key 4 version 1"), "{planned}");
    here.succeed(&["keys", "destroy", "4", "3", "--datadir", "mysql"]);
    // The files of a server of MariaDB's are read, whatever else is there: its Aria log may be elsewhere.
    fs::write(theirs.join("ib_logfile0"), "").unwrap();
    here.refuse(&["keys", "destroy", "4", "5", "--datadir", "mysql"]);
    fs::remove_file(theirs.join("ib_logfile0")).unwrap();
    fs::write(theirs.join("aria_log_control"), "").unwrap();
    let refused = here.refuse(&["keys", "destroy", "4", "5", "--datadir", "mysql"]);
    assert!(refused.contains("there is no ib_logfile0 in mysql"), "{refused}");
}

#[test]
fn a_server_that_came_since_is_asked_for_when_a_destruction_is_carried_out() {
    let bench = Bench::new();
    let old = key(1, 1);
    bench.take(Destruction::Plan(old.clone(), WEEK)).unwrap();
    serve(&bench.config, bench.env.clone(), "db2", Path::new("/srv/other"), "mark-2", 1);
    bench.clock.advance(WEEK);
    let refused = bench.take(Destruction::CarryOut(old.clone())).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "/srv/other on db2, mark mark-2, last seen 2023-11-14T22:13:20Z, uses this keystore and was \
         not looked at; name it with --datadir, or say --gone mark-2 if that data directory no \
         longer exists"
    );
    assert_eq!((refused.kind(), bench.state(&old)), (Kind::State, KeyState::Retired));
    // To call it off needs nobody.
    bench.take(Destruction::Cancel(old.clone())).unwrap();
    let judged = Judged { seen: vec!["mark-2".to_owned()], gone: Vec::new() };
    let step =
        |step, judged: &Judged| bench.custodian.manager().unwrap().destroy(&step, judged, REASON);
    step(Destruction::Plan(old.clone(), WEEK), &judged).unwrap();
    assert_eq!(bench.custodian.data_directories().len(), 1);
    bench.clock.advance(WEEK);
    let judged = Judged { seen: Vec::new(), gone: vec!["mark-2".to_owned()] };
    step(Destruction::CarryOut(old.clone()), &judged).unwrap();
    assert_eq!(bench.state(&old), KeyState::Destroyed);
    assert!(bench.custodian.data_directories().is_empty());
}

#[test]
fn a_registered_backup_keeps_the_versions_that_it_needs() {
    let bench = Bench::new();
    let day = |days: u64| Some(Timestamp::from_unix(1_700_000_000 + days * 86_400));
    let register = |name: &str, until, needs| {
        let new = DataBackup { name: name.to_owned(), host: "db1".to_owned(), until, needs };
        bench.custodian.manager().unwrap().register_backup(new, REASON)
    };
    let lacks = register("/b/other", None, Some(vec![key(1, 2)])).unwrap_err();
    let told = "/b/other needs key 1 version 2, which the keystore does not have";
    assert_eq!(lacks.what(), told);
    // What is planned already is not carried out.
    bench.take(Destruction::Plan(key(1, 1), WEEK)).unwrap();
    register("/b/monday", day(10), Some(vec![key(1, 1)])).unwrap();
    bench.clock.advance(WEEK);
    let refused = bench.take(Destruction::CarryOut(key(1, 1))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the backup /b/monday on db1 needs key 1 version 1, until 2023-11-24T22:13:20Z; \
         `keyward keystore backups remove /b/monday` once that backup is gone"
    );
    bench.custodian.manager().unwrap().may_destroy(&key(1, 1)).unwrap_err();
    // Its day has passed.
    bench.clock.advance(WEEK);
    bench.take(Destruction::CarryOut(key(1, 1))).unwrap();
    // One that nobody read keeps all that were there, and none that was made since.
    register("tape 7", None, None).unwrap();
    bench.clock.advance(WEEK);
    for _ in 0..4 {
        bench.custodian.rotate(Which::One(KeyId::SYSTEM), REASON).unwrap();
    }
    let refused = bench.take(Destruction::Plan(key(1, 3), WEEK)).unwrap_err();
    assert!(refused.to_string().contains("tape 7 on db1 needs key 1 version 3, until it is taken"));
    bench.take(Destruction::Plan(key(1, 7), WEEK)).unwrap();
    let mut manager = bench.custodian.manager().unwrap();
    assert_eq!(
        manager.unregister_backup("db2", "tape 7", REASON).unwrap_err().kind(),
        Kind::NotFound
    );
    manager.unregister_backup("db1", "tape 7", REASON).unwrap();
    drop(manager);
    bench.take(Destruction::Plan(key(1, 3), WEEK)).unwrap();
}

#[test]
fn a_backup_is_read_registered_listed_and_removed() {
    let server = Installation::new();
    let backups = |words: &[&'static str]| [&["keystore", "backups"], words].concat();
    assert_eq!(server.succeed(&backups(&["list"])), "no backup is registered\n");
    fs::create_dir(server.path("tape")).unwrap();
    let refused = server.refuse(&backups(&["add", "tape"]));
    assert!(refused.contains("there is nothing in the backup tape"), "{refused}");
    fs::write(server.path("tape/all.xbstream"), "XBSTCK01").unwrap();
    let refused = server.refuse(&backups(&["add", "tape"]));
    assert!(refused.contains("no format known here; prepare the backup first, or"), "{refused}");
    fs::remove_file(server.path("tape/all.xbstream")).unwrap();
    server.sample("full-crc32.ibd", "tape/t1.ibd");
    let refused = server.refuse(&backups(&["add", "tape"]));
    assert!(refused.contains("tape/t1.ibd is encrypted with another key than the"), "{refused}");
    let refused = server.refuse(&backups(&["add", "tape", "--until", "2001-01-01"]));
    assert!(refused.contains("2001-01-01T23:59:59Z has passed"), "{refused}");
    let wrong = server.run(&backups(&["add", "tape", "--until", "soon"]));
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));

    let listed = server.succeed(&backups(&["add", "tape 7", "--unread", "--until", "2999-12-31"]));
    assert!(listed.contains("tape 7") && listed.contains("2999-12-31T23:59:59Z  all"), "{listed}");
    let refused = server.refuse(&["keys", "destroy", "4", "9", "--datadir", "data"]);
    assert!(refused.contains("the backup tape 7 on "), "{refused}");
    let erase = server.succeed(&["keys", "erase", "4", "--datadir", "data"]);
    let lost = erase.split("and with it:\n  backup tape 7 on ").nth(1).unwrap_or_default();
    assert!(lost.contains(", registered until 2999-12-31T23:59:59Z\n"), "{erase}");
    server.sample("full-crc32-plain.ibd", "tape/t1.ibd");
    let listed = server.succeed(&backups(&["add", "tape"]));
    let path = server.path("tape").canonicalize().unwrap().display().to_string();
    assert!(
        listed.contains(&path) && listed.ends_with("removed               0 versions\n"),
        "{listed}"
    );
    fs::remove_dir_all(server.path("tape")).unwrap();
    server.succeed(&backups(&["remove", "tape"]));
    let refused = server.refuse(&backups(&["remove", "tape"]));
    assert!(refused.contains("is registered; `keyward keystore backups list`"), "{refused}");
    assert_eq!(
        server.succeed(&backups(&["remove", "tape 7", "--reason", "overwritten"])),
        "no backup is registered\n"
    );
    server.succeed(&["keys", "destroy", "4", "9", "--datadir", "data"]);
    let trail = Trail::beside(&server.path("keystore/keystore.json")).read().unwrap();
    let reasons = |event| -> Vec<_> {
        let lines = trail.iter().filter(|line| line.event == event);
        lines.map(|line| line.reason.clone()).collect()
    };
    assert_eq!(reasons(Event::DataBackupRegistered).len(), 2);
    assert_eq!(reasons(Event::DataBackupGone)[1], "overwritten");
}
