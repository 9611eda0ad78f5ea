//! Backups of the keystore by the command: made, opened by the standard `age` command, restored on an empty
//! machine and beside what is left, refused where they are damaged or anothers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fork;
mod leaks;
mod scheduled;
mod served;
mod trouble;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::geteuid;
use tempfile::TempDir;
use test_kit::files::Snapshot;

/// The account that stands for the server's, where the tests are root's.
const NOBODY: u32 = 65_534;

/// A keystore as `keyward init` makes one.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(site.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        site.ok(&["init", "--dir", &site.text("keyward")]);
        site
    }

    /// The same with keys of several versions, ciphers and states.
    fn with_keys() -> Self {
        let site = Self::new();
        site.ok(&["keys", "create", "3"]);
        site.ok(&["keys", "create", "4", "--cipher", "aes-128-ctr"]);
        site.ok(&["rotate", "--all"]);
        site.ok(&["rotate", "4"]);
        site.ok(&["keys", "compromise", "3", "1", "--reason", "seen"]);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn keystore(&self) -> PathBuf {
        self.path("keyward/keystore/keystore.json")
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_keyward")).args(self.call(words)).output().unwrap()
    }

    /// All words of a call.
    fn call(&self, words: &[&str]) -> Vec<String> {
        let config = self.text("keyward/keyward.toml");
        let user = geteuid().is_root().then_some(["--user", "nobody"]);
        let words = ["--config", &config].into_iter().chain(words.iter().copied());
        words.chain(user.into_iter().flatten()).map(str::to_owned).collect()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    }

    /// The one line that the command refuses with, having changed nothing.
    fn refused(&self, words: &[&str], why: &str) {
        let before = self.seen();
        let output = self.run(words);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {text}");
        assert!(text.contains(why) && text.lines().count() == 1, "{words:?}: {text}");
        assert!(self.seen() == before, "{words:?} changed something");
    }

    /// All that a call could change, but the lock.
    fn seen(&self) -> Snapshot {
        Snapshot::of(&self.path("keyward")).unwrap()
    }

    /// An identity whose recipient is the keystore's, and the fingerprint that goes with it.
    fn identity(&self) -> (String, String) {
        let said = self.ok(&["keystore", "backup", "--identity", &self.text("identity.txt")]);
        let last =
            |line: Option<&str>| line.and_then(|line| line.rsplit(' ').next()).unwrap().to_owned();
        let (fingerprint, recipient) = (last(said.lines().next()), last(said.lines().nth(1)));
        assert!(fingerprint.len() == 64 && recipient.starts_with("age1pq1"), "{said}");
        self.ok(&["keystore", "backup", "--add-recipient", &recipient]);
        (self.readable("identity.txt"), fingerprint)
    }

    fn backup(&self) -> String {
        self.ok(&["keystore", "backup", "--to", &self.text("backup.age")]);
        self.readable("backup.age")
    }

    /// Lets the account read a file of root's, as docs/recovery.md says.
    fn readable(&self, name: &str) -> String {
        let path = self.path(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        if geteuid().is_root() {
            chown(&path, None, Some(NOBODY)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        self.text(name)
    }

    /// Every key in plain, which another way of the command's gives.
    fn keys(&self, name: &str) -> String {
        let folder = self.path("out");
        let _ = fs::create_dir(&folder);
        if geteuid().is_root() {
            chown(&folder, Some(NOBODY), None).unwrap();
        }
        let file = folder.join(name);
        let to = file.display().to_string();
        self.ok(&["migrate", "--from", "local", "--to-file", &to]);
        fs::read_to_string(file).unwrap()
    }

    /// The states of all versions, without when they came to be.
    fn states(&self) -> Vec<(String, String, String)> {
        let list = self.ok(&["--json", "keys", "list"]);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let text = |one: &serde_json::Value, name: &str| one[name].to_string();
        let row =
            |one: &serde_json::Value| (text(one, "key"), text(one, "state"), text(one, "cipher"));
        list.as_array().unwrap().iter().map(row).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The standard command, which `cargo xtask test` builds from its Go module.
fn age() -> PathBuf {
    let found = test_kit::cache::find("KEYWARD_AGE", "age-1.3.1");
    found.expect("`cargo xtask test unit` builds age").join("age")
}

#[test]
fn an_empty_machine_has_the_same_keys_again() {
    let old = Site::with_keys();
    let (identity, fingerprint) = old.identity();
    let backup = old.backup();
    let (keys, states) = (old.keys("keys"), old.states());
    let new = Site::new();
    let call = |more: &[&'static str]| {
        let mut call = vec!["keystore", "restore", &*backup, "--identity", &*identity];
        call.extend(["--fingerprint", &*fingerprint]);
        call.extend(more);
        new.run(&call)
    };
    let refused = said(&call(&[]));
    assert!(refused.contains("and the backup is of"), "{refused}");
    let before = new.seen();
    let dry = call(&["--replace", "--dry-run"]);
    assert!(dry.status.success() && said(&dry).contains("nothing was changed"), "{}", said(&dry));
    assert!(new.seen() == before, "a dry run changed something");
    let done = call(&["--replace"]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("before-rescue"), "{}", said(&done));
    assert_eq!(new.keys("keys"), keys);
    assert_eq!(new.states(), states);
    new.ok(&["audit", "show", "--event", "restored"]);
    // The old trail is not here, and that does not go unnoticed.
    assert!(said(&new.run(&["audit", "verify"])).contains("are missing"));
    let file = |site: &Site| -> serde_json::Value {
        serde_json::from_slice(&fs::read(site.keystore()).unwrap()).unwrap()
    };
    assert_eq!(file(&new)["id"], file(&old)["id"]);
    assert!(file(&new)["epoch"].as_u64() > Some(1), "no new epoch");
    // No number is used again, and the fingerprint that was noted goes on being good.
    new.ok(&["rotate", "3"]);
    let rotated = new.states();
    assert_eq!(rotated.len(), states.len() + 1);
    let (again, other) = (new.backup(), Site::new());
    let words =
        ["keystore", "restore", &again, "--identity", &identity, "--fingerprint", &fingerprint];
    other.ok(&[&words[..], &["--replace"]].concat());
    assert_eq!(other.states(), rotated);
}

#[test]
fn a_damaged_keystore_is_set_aside_and_a_whole_one_stays() {
    let site = Site::with_keys();
    let (identity, fingerprint) = site.identity();
    // As somebody may copy it from paper.
    let fingerprint = fingerprint.to_uppercase();
    let backup = site.backup();
    let keys = site.keys("keys");
    let words =
        ["keystore", "restore", &backup, "--identity", &identity, "--fingerprint", &fingerprint];
    site.refused(&words, "opens, and has all keys of the backup");
    site.ok(&["keys", "create", "9"]);
    site.refused(&words, "which the backup lacks");
    let mut bytes = fs::read(site.keystore()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(site.keystore(), bytes).unwrap();
    let said = site.ok(&words);
    assert!(said.contains("the file that was there is"), "{said}");
    assert_eq!(site.keys("again"), keys);
}

#[test]
fn by_a_passphrase_too() {
    let site = Site::with_keys();
    let keys = site.keys("keys");
    let (_, fingerprint) = site.identity();
    let (short, long) = (site.path("short"), site.path("long"));
    fs::write(&short, "too short\n").unwrap();
    fs::write(&long, "00112233445566778899aabbccddeeff\n").unwrap();
    for path in [&short, &long] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    site.readable("short");
    let words = site.readable("long");
    let to = site.text("by-passphrase.age");
    site.refused(
        &["keystore", "backup", "--to", &to, "--passphrase-file", &site.text("short")],
        "fewer than 16 bytes",
    );
    assert!(!site.path("by-passphrase.age").exists());
    site.ok(&["keystore", "backup", "--to", &to, "--passphrase-file", &words]);
    let to = site.readable("by-passphrase.age");
    let new = Site::new();
    let call =
        ["keystore", "restore", &to, "--passphrase-file", &words, "--fingerprint", &fingerprint];
    new.ok(&[&call[..], &["--replace"]].concat());
    assert_eq!(new.keys("keys"), keys);
}

#[test]
fn three_of_five_shares_open_it() {
    let old = Site::with_keys();
    let made =
        old.ok(&["keystore", "backup", "--identity", &old.text("identity.age"), "--shares", "3/5"]);
    let after = |line: &str| line.rsplit(' ').next().unwrap().to_owned();
    let find = |what: &str| after(made.lines().find(|line| line.contains(what)).unwrap());
    let (fingerprint, recipient) = (find("on paper"), find("--add-recipient"));
    let shares: Vec<&str> = made.lines().filter(|line| line.split(' ').count() == 20).collect();
    assert_eq!(shares.len(), 5, "{made}");
    old.ok(&["keystore", "backup", "--add-recipient", &recipient]);
    let (identity, backup) = (old.readable("identity.age"), old.backup());
    let (keys, states) = (old.keys("keys"), old.states());

    let new = Site::new();
    let written = |text: String| {
        fs::write(old.path("shares"), text).unwrap();
        fs::set_permissions(old.path("shares"), fs::Permissions::from_mode(0o600)).unwrap();
        old.readable("shares")
    };
    let file = written(String::new());
    let words = ["--identity", &identity, "--shares", &file, "--fingerprint", &fingerprint];
    let restore = [&["keystore", "restore", &backup, "--replace"], &words[..]].concat();
    let refuse = |text: String, why: &str| {
        written(text);
        new.refused(&restore, why);
    };
    refuse(String::new(), "1 more shares are needed");
    refuse(shares[..2].join("\n"), "1 more shares are needed");
    refuse([shares[4], shares[4]].join("\n"), "shares, line 2: it is share 1 again");
    let wrong = shares[1].replacen(shares[1].split(' ').nth(9).unwrap(), "academic", 1);
    refuse([shares[0], &wrong].join("\n"), "shares, line 2: a word is wrong");
    let other = Site::new();
    let others =
        other.ok(&["keystore", "backup", "--identity", &other.text("i"), "--shares", "2/2"]);
    let others: Vec<&str> = others.lines().filter(|line| line.split(' ').count() == 20).collect();
    refuse([shares[0], others[0]].join("\n"), "line 2: it is a share of another secret");
    refuse(others.join("\n"), "identity.age: ");

    written(format!("{}\n\n{}\n{}\n", shares[4], shares[0], shares[2].to_uppercase()));
    old.ok(&[&["keystore", "drill", &backup], &words[..]].concat());
    new.ok(&restore);
    assert_eq!((new.keys("keys"), new.states()), (keys, states));
    // What was shown is nowhere.
    for share in &shares {
        let found = Command::new("grep").args(["-rl", share, &old.text("keyward")]).output();
        assert!(found.unwrap().stdout.is_empty(), "a share was kept");
    }
    let taken = ["keystore", "backup", "--identity", &identity, "--shares", "2/3"];
    old.refused(&taken, "nothing is overwritten");
    let wrong = ["keystore", "backup", "--identity", "/nowhere/x", "--shares", "3/2"];
    assert!(said(&old.run(&wrong)).contains("any 3 of 5 shares"));
}

#[test]
fn age_alone_shows_every_key() {
    let site = Site::with_keys();
    let (identity, _) = site.identity();
    let backup = site.backup();
    let keys = site.keys("keys");
    let opened = Command::new(age()).args(["-d", "-i", &identity, &backup]).output().unwrap();
    assert!(opened.status.success(), "{}", said(&opened));
    let text = String::from_utf8(opened.stdout).unwrap();
    assert!(text.contains("plugin_load_add = file_key_management"), "{text}");
    for line in keys.lines() {
        assert!(text.lines().any(|one| one == line), "a key is missing");
    }
    // What somebody else encrypts for the same recipient is no backup of this keystore's.
    let recipient = site.ok(&["keystore", "backup", "--recipients"]);
    let forged = site.path("forged");
    fs::write(&forged, text.replacen("keystore", "Keystore", 1)).unwrap();
    let out = site.text("forged.age");
    let made = Command::new(age())
        .args(["-e", "-r", recipient.trim(), "-o", &out])
        .arg(&forged)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let fingerprint = site.ok(&["--json", "status"]);
    let at = fingerprint.find("\"fingerprint\": \"").unwrap() + 16;
    let words = ["keystore", "restore", &out, "--identity", &identity];
    fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).unwrap();
    site.refused(
        &[&words[..], &["--fingerprint", &fingerprint[at..at + 64]]].concat(),
        "it was changed",
    );
}

#[test]
fn keys_of_mysql_come_back_under_their_names() {
    let old = Site::with_keys();
    fs::copy("tests/golden/keyring/component_keyring_file.json", old.path("keyring")).unwrap();
    fs::set_permissions(old.path("keyring"), fs::Permissions::from_mode(0o600)).unwrap();
    let keyring = old.readable("keyring");
    old.ok(&["import", "--from-keyring-file", &keyring]);
    let (identity, fingerprint) = old.identity();
    let backup = old.backup();
    let new = Site::new();
    let words = ["keystore", "restore", &backup, "--identity", &identity, "--replace"];
    new.ok(&[&words[..], &["--fingerprint", &fingerprint]].concat());
    assert_eq!(new.states(), old.states());
    let keys = |backup: &str| -> Vec<String> {
        let opened = Command::new(age()).args(["-d", "-i", &identity, backup]).output().unwrap();
        let text = String::from_utf8(opened.stdout).unwrap();
        let (_, lines) = text.split_once("\n# MariaDB's keys").unwrap();
        let lines = lines.lines().filter(|line| !line.starts_with("signature "));
        lines.map(str::to_owned).collect()
    };
    let before = keys(&backup);
    let named = before.iter().filter(|line| line.starts_with("{\"data_id\":"));
    assert!(named.count() >= 2, "{} lines", before.len());
    assert_eq!(keys(&new.backup()), before);
}

#[test]
fn a_drill_finds_an_old_backup_and_changes_nothing() {
    let site = Site::with_keys();
    let (identity, fingerprint) = site.identity();
    let backup = site.backup();
    let folder = site.path("backups");
    fs::create_dir(&folder).unwrap();
    let (older, newest) = (folder.join("b.age"), folder.join("a.age"));
    let keep = |to: &Path| {
        fs::copy(&backup, to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o644)).unwrap();
    };
    keep(&older);
    let drill = |path: &Path, more: &[&str]| {
        let path = path.display().to_string();
        site.run(&[&["keystore", "drill", &path, "--identity", &identity], more].concat())
    };
    let keystore = fs::read(site.keystore()).unwrap();
    let passed = drill(&folder, &[]);
    let text = said(&passed);
    assert!(passed.status.success() && text.contains("b.age is of"), "{text}");
    assert!(text.contains("every key read back\n") && text.contains("\npassed in"), "{text}");
    assert!(drill(&older, &["--fingerprint", &fingerprint]).status.success());
    let trail = site.ok(&["audit", "show", "--event", "drilled"]);
    assert_eq!(trail.matches("passed: backup of ").count(), 2, "{trail}");
    assert!(fs::read(site.keystore()).unwrap() == keystore, "a drill changed the keystore");

    site.ok(&["rotate", "3"]);
    let failed = drill(&folder, &["--json"]);
    let done: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{done}");
    assert_eq!((&done["lacks"].as_array().unwrap().len(), &done["passed"]), (&1, &false.into()));
    let text = said(&drill(&folder, &[]));
    assert!(text.contains("it lacks key 3 version ") && text.contains("a new backup"), "{text}");
    // The newest file of the folder counts, not the last name.
    fs::remove_file(site.path("backup.age")).unwrap();
    site.backup();
    keep(&newest);
    let text = said(&drill(&folder, &[]));
    assert!(text.contains("a.age is of") && text.contains("\npassed in"), "{text}");
}

#[test]
fn a_drill_refuses_what_a_restore_would_refuse() {
    let (site, other) = (Site::with_keys(), Site::new());
    let (identity, fingerprint) = site.identity();
    let backup = site.backup();
    let (theirs, _) = other.identity();
    site.refused(&["keystore", "drill", &backup, "--identity", &theirs], "backup.age: ");
    other.refused(&["keystore", "drill", &backup, "--identity", &identity], "another fingerprint");
    other.refused(
        &["keystore", "drill", &backup, "--identity", &identity, "--fingerprint", &fingerprint],
        "it is of keystore ",
    );
    let none = site.text("empty");
    fs::create_dir(&none).unwrap();
    site.refused(&["keystore", "drill", &none, "--identity", &identity], "there is no backup in");
}

#[test]
fn two_hundred_damaged_or_foreign_files_are_refused_in_one_line() {
    let site = Site::with_keys();
    let (identity, fingerprint) = site.identity();
    let backup = fs::read(site.backup()).unwrap();
    let path = site.path("damaged.age");
    let name = site.text("damaged.age");
    let call =
        ["keystore", "restore", &name, "--identity", &identity, "--fingerprint", &fingerprint];
    let mut tried = 0;
    let mut refuse = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        site.refused(&call, "damaged.age: it ");
        tried += 1;
    };
    for n in 0..100 {
        let mut bytes = backup.clone();
        let at = n * (bytes.len() - 1) / 99;
        bytes[at] ^= 1 << (n % 8);
        refuse(&bytes);
    }
    for n in 0..90 {
        refuse(&backup[..n * backup.len() / 90]);
    }
    for golden in ["short", "empty", "chunks", "passphrase", "classical", "armour"] {
        refuse(&fs::read(format!("tests/golden/age/{golden}.age")).unwrap());
    }
    for foreign in [&b"{}"[..], b"age-encryption.org/v1\n", b"\0", &[&backup[..], b"\n"].concat()] {
        refuse(foreign);
    }
    assert_eq!(tried, 200);
    // Another's fingerprint, and none.
    fs::write(&path, &backup).unwrap();
    let other = fingerprint.replace(['0', '1'], "2");
    let words = ["keystore", "restore", &name, "--identity", &identity];
    site.refused(&[&words[..], &["--fingerprint", &other]].concat(), "another fingerprint");
    site.refused(&words, "nothing shows whose backup it is");
    let missing = site.text("none.age");
    site.refused(
        &["keystore", "restore", &missing, "--identity", &identity, "--fingerprint", &other],
        "cannot read",
    );
    assert!(Path::new(&identity).exists());
}
