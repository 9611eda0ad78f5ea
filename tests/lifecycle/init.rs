//! `keyward init` that fails at any step, and several at once: all that opens a keystore is there, or
//! nothing is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const KEYWARD: &str = env!("CARGO_BIN_EXE_keyward");

/// More calls than an `init` makes.
const MOST_CALLS: usize = 400;

fn keyward(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(KEYWARD);
    command.arg("--config").arg(config).args(words);
    command
}

fn init(dir: &Path) -> Command {
    let mut command = Command::new(KEYWARD);
    command.arg("init").arg("--dir").arg(dir).args(["--user", "root"]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// That what opens the keystore is there, or that neither is.
#[track_caller]
fn all_or_nothing(dir: &Path, ended: &Output) {
    let config = dir.join("keyward.toml");
    let told = said(ended);
    if dir.join("keystore/keystore.json").exists() {
        let status = keyward(&config, &["status"]).output().unwrap();
        assert!(status.status.success(), "{told}{}", said(&status));
        assert!(ended.status.success() || told.contains("was made, with all that opens it, but: "));
        return;
    }
    assert!(!ended.status.success(), "{told}");
    for left in [config, dir.join("local.key")] {
        assert!(!left.exists(), "{} is left: {told}", left.display());
    }
    let again = init(dir).output().unwrap();
    assert!(again.status.success(), "{told}{}", said(&again));
}

#[test]
fn a_trail_that_cannot_be_written_is_noticed_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("keystore/audit.jsonl");
    std::fs::create_dir_all(&trail).unwrap();
    let ended = init(folder.path()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(said(&ended).starts_with("keyward: cannot open the audit trail "), "{}", said(&ended));
    assert!(!folder.path().join("keystore/keystore.json").exists());
    std::fs::remove_dir(&trail).unwrap();
    all_or_nothing(folder.path(), &ended);
}

#[test]
fn what_fails_after_the_keystore_was_made_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("keystore/keystore.json.witness");
    std::fs::create_dir_all(&witness).unwrap();
    let ended = init(folder.path()).output().unwrap();
    assert!(folder.path().join("keystore/keystore.json").exists());
    assert!(
        folder.path().join("local.key").exists() && folder.path().join("keyward.toml").exists()
    );
    std::fs::remove_dir(&witness).unwrap();
    all_or_nothing(folder.path(), &ended);
}

#[test]
fn a_failure_at_any_call_leaves_all_or_nothing() {
    let shim = tempfile::tempdir().unwrap();
    let shim = Shim::build(shim.path());
    for on in [false, true] {
        let (mut made, mut in_part) = (0, 0);
        for nth in 1..MOST_CALLS {
            let folder = tempfile::tempdir().unwrap();
            let mut command = init(folder.path());
            command.env("LD_PRELOAD", &shim.0).env("NTH", nth.to_string());
            let command = if on { command.env("NTH_ON", "1") } else { &mut command };
            let ended = command.output().unwrap();
            all_or_nothing(folder.path(), &ended);
            let told = said(&ended);
            in_part += usize::from(told.contains("was made, with all that opens it"));
            made += usize::from(ended.status.success());
            if ended.status.success() && told.is_empty() {
                assert!(nth > 20, "the calls were counted");
                break;
            }
        }
        assert!(made > 0 && in_part > 0, "both kinds were met: {made}, {in_part}");
    }
}

/// The library that fails a call.
struct Shim(PathBuf);

impl Shim {
    fn build(folder: &Path) -> Self {
        let (source, library) = (folder.join("nth.c"), folder.join("nth.so"));
        std::fs::write(&source, include_str!("../common/nth.c")).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", said(&built));
        Self(library)
    }
}

/// Runs them all at once; who made a keystore.
fn race(commands: Vec<Command>) -> Vec<Output> {
    let started: Vec<_> = commands
        .into_iter()
        .map(|mut command| {
            use std::process::Stdio;
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    started.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

#[test]
fn of_several_at_once_one_makes_everything() {
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new");
        let key = folder.path().join("own.key");
        std::fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
        crate::command::close(&key);
        let command = |_| {
            let mut command = init(&dir);
            // With a wrapping key of its own or, every other time, without.
            if round % 2 == 0 {
                command.arg("--set").arg(format!("key_file={}", key.display()));
            }
            command
        };
        let ended = race((0..3).map(command).collect());
        let won: Vec<_> = ended.iter().filter(|one| one.status.success()).collect();
        assert_eq!(won.len(), 1, "{ended:?}");
        for lost in ended.iter().filter(|one| !one.status.success()) {
            assert_eq!(lost.status.code(), Some(1), "{}", said(lost));
            assert!(said(lost).contains("already exists; nothing was changed"), "{}", said(lost));
        }
        all_or_nothing(&dir, won[0]);
        let list = keyward(&dir.join("keyward.toml"), &["keys", "list"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), 3, "{list:?}");
    }
}

#[test]
fn of_several_with_one_keystore_the_losers_take_only_their_own_away() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let keystore = folder.path().join("keystore/keystore.json");
        let config = |n: usize| folder.path().join(n.to_string()).join("keyward.toml");
        let command = |n| {
            let mut command = keyward(&config(n), &["init", "--user", "root", "--keystore"]);
            command.arg(&keystore);
            command
        };
        let ended = race((0..3).map(command).collect());
        let won: Vec<_> = (0..3).filter(|n| ended[*n].status.success()).collect();
        assert_eq!(won.len(), 1, "{ended:?}");
        for n in 0..3 {
            let status = keyward(&config(n), &["status"]).output().unwrap();
            assert_eq!(status.status.success(), n == won[0], "{ended:?} {status:?}");
            assert_eq!(config(n).exists(), n == won[0], "{ended:?}");
        }
    }
}
