//! The command, word for word: what it prints where, and how it ends.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that `keyward init --dir` has filled.
pub(crate) struct Shell {
    folder: tempfile::TempDir,
}

/// How one call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self::set_up(&[])
    }

    /// The same with a keystore that has no keys.
    pub(crate) fn empty() -> Self {
        Self::set_up(&["--empty"])
    }

    fn set_up(more: &[&str]) -> Self {
        let shell = Self { folder: tempfile::tempdir().unwrap() };
        let owner = nix_user();
        let dir = shell.path("");
        let words = ["init", "--dir", dir.to_str().unwrap(), "--user", &owner];
        let made = shell.run(&[&words, more].concat());
        assert_eq!(made.code, 0, "{}", made.err);
        shell
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("keyward.toml")
    }

    /// Adds lines to the configuration.
    pub(crate) fn configure(&self, lines: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap() + lines;
        std::fs::write(self.config(), text).unwrap();
    }

    /// Adds lines to the configuration before the first line that begins with `mark`.
    pub(crate) fn configure_before(&self, mark: &str, lines: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), text.replacen(mark, &format!("{lines}{mark}"), 1)).unwrap();
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        self.run_on(&self.config(), words)
    }

    /// The same on another configuration.
    pub(crate) fn run_on(&self, config: &Path, words: &[&str]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .arg("--config")
            .arg(config)
            .args(words)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.replace(self.folder.path().to_str().unwrap(), "DIR")
        };
        let code = output.status.code().unwrap();
        Ended { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// That a call succeeds, and what it prints.
    #[track_caller]
    pub(crate) fn prints(&self, words: &[&str], out: &str) {
        let ended = self.run(words);
        assert_eq!(ended, Ended { code: 0, out: out.into(), err: String::new() });
    }

    /// That a call fails with `code`, and the one line it gives.
    #[track_caller]
    pub(crate) fn fails(&self, words: &[&str], code: i32, err: &str) {
        let ended = self.run(words);
        assert_eq!(ended, Ended { code, out: String::new(), err: format!("{err}\n") });
    }

    /// A wrapping key file for one more provider of type `local`.
    pub(crate) fn key_file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let key: String = (0..64).map(|n| char::from(b"0123456789abcdef"[n % 16])).collect();
        std::fs::write(&path, key).unwrap();
        close(&path);
        path
    }
}

/// Root may give files away; the account that exists everywhere is root itself.
fn nix_user() -> String {
    "root".to_owned()
}

pub(crate) fn close(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn second_provider(shell: &Shell) -> String {
    let path = shell.key_file("second.key");
    format!("[[provider]]\nname = \"second\"\ntype = \"local\"\nkey_file = {path:?}\n")
}

#[test]
fn what_is_there_already_will_not_go_away_by_waiting() {
    let shell = Shell::new();
    let told = "keyward: key 1 already exists; `keyward rotate 1` gives it a new version";
    shell.fails(&["keys", "create", "1"], 1, told);
    let again = shell.run(&["init", "--dir", shell.path("").to_str().unwrap()]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("already exists; nothing was changed"), "{again:?}");
}

#[test]
fn rewrap_adds_prunes_and_says_so() {
    let shell = Shell::new();
    shell.prints(&["keystore", "rewrap"], "provider \"local\": kept\n");
    shell.configure(&second_provider(&shell));
    shell.prints(&["keystore", "rewrap"], "provider \"local\": kept\nprovider \"second\": added\n");
    let only_second = std::fs::read_to_string(shell.config())
        .unwrap()
        .replace("\"local\"\ntype", "\"first\"\ntype");
    std::fs::write(shell.config(), only_second).unwrap();
    shell.prints(
        &["keystore", "rewrap"],
        "provider \"first\": added\nprovider \"second\": kept\n\
         provider \"local\": not configured, kept (--prune drops it)\n",
    );
    shell.fails(
        &["keystore", "rewrap", "--new-store-key"],
        1,
        "keyward: provider \"local\" wraps the store key and is not configured; configure it, or \
         let it go with --prune: it cannot wrap a new one",
    );
    shell.prints(
        &["keystore", "rewrap", "--prune"],
        "provider \"first\": kept\nprovider \"second\": kept\nprovider \"local\": removed\n",
    );
    shell.prints(
        &["keystore", "rewrap", "--to-latest"],
        "provider \"first\": renewed\nprovider \"second\": renewed\n",
    );
    shell.prints(
        &["keystore", "rewrap", "--new-store-key"],
        "provider \"first\": renewed\nprovider \"second\": renewed\n\
         a new store key wraps 2 key versions now\n",
    );
    let status = shell.run(&["status"]);
    let providers = "provider             first\nwrapped by           first, second\n";
    assert!(status.out.contains(providers), "{}", status.out);
}

#[test]
fn rewrap_with_a_provider_whose_key_is_gone_does_the_others_and_fails() {
    let shell = Shell::new();
    shell.configure(&second_provider(&shell));
    shell.run(&["keystore", "rewrap"]);
    std::fs::remove_file(shell.path("second.key")).unwrap();
    let ended = shell.run(&["keystore", "rewrap", "--to-latest"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.starts_with("provider \"local\": renewed\nfailed: provider \"second\": "));
}

#[test]
fn states_change_by_command_and_say_what_they_are() {
    let shell = Shell::new();
    shell.fails(
        &["keys", "retire", "1", "1", "--reason", "old"],
        1,
        "keyward: key 1 version 1 is the only one that encrypts; `keyward rotate 1` makes the \
         next and retires it",
    );
    shell.fails(
        &["keys", "compromise", "1", "9", "--reason", "lost laptop"],
        1,
        "keyward: there is no key 1 version 9; `keyward keys list` shows all versions",
    );
    shell.prints(
        &["keys", "compromise", "1", "1", "--reason", "lost laptop"],
        "key 1 version 3 is active\nkey 1 version 1 is compromised\n\
         data that it encrypted stays readable; re-encrypt it, then destroy the version\n",
    );
    let shown = shell.run(&["keys", "show", "1"]).out;
    assert!(shown.contains("version 1 compromised: lost laptop ("), "{shown}");
    assert!(shown.contains("version 3 active: lost laptop ("), "{shown}");
    assert_eq!(shown.lines().next().unwrap().split_whitespace().next(), Some("VERSION"));
    let json = shell.run(&["keys", "show", "1", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["versions"][0]["state"], "compromised");
    assert_eq!(json["versions"][0]["history"].as_array().unwrap().len(), 3);
    assert!(json["versions"][0].get("wrapped").is_none());
    shell.fails(
        &["keys", "show", "5"],
        1,
        "keyward: the keystore has no key 5; `keyward keys list` shows all",
    );
    assert_eq!(shell.run(&["keys", "retire", "1", "1"]).code, 2, "a reason is wanted");
    assert_eq!(shell.run(&["keys", "retire", "1", "0", "--reason", "x"]).code, 2);
}

#[test]
fn two_phases_by_command() {
    let shell = Shell::new();
    shell.configure_before("[[provider]]", "[policy]\nactivate_after = \"1h\"\n");
    let pending = shell.run(&["rotate", "1"]);
    assert_eq!(pending.code, 0);
    assert!(pending.out.starts_with("key 1 version 3 is pending, active from 20"), "{pending:?}");
    assert_eq!(pending.out.lines().count(), 1);
    shell.prints(&["rotate", "--due"], "nothing is due\n");
    shell.run(&["rotate", "--all"]);
    shell.prints(&["rotate", "--all"], "every key has a pending version\n");
    shell.prints(
        &["rotate", "1", "--now"],
        "key 1 version 3 is active\na running server uses it within a second; pages follow by \
         innodb_encryption_threads\n",
    );
    assert_eq!(shell.run(&["rotate"]).code, 2);
    assert_eq!(shell.run(&["rotate", "--due", "1"]).code, 2);
}

#[test]
fn a_policy_that_cannot_be_is_told_with_line_and_cure() {
    let shell = Shell::new();
    shell.configure_before("[[provider]]", "[policy]\nrotate_after = \"quarterly\"\n");
    let ended = shell.run(&["rotate", "--due"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .err
            .ends_with(":1: rotate_after: is not a length of time; write it as 5s, 30m or 90d\n")
            && ended.err.starts_with("keyward: DIR/keyward.toml:"),
        "{}",
        ended.err
    );
}

#[test]
fn an_older_copy_is_accepted_by_command_only() {
    let shell = Shell::new();
    let datadir = data_directory(&shell);
    shell.fails(
        &["keystore", "accept-rollback", "--reason", "why not"],
        1,
        "keyward: DIR/keystore/keystore.json is not older than its rollback guard; there is nothing \
         to accept",
    );
    let keystore = shell.path("keystore/keystore.json");
    let old = std::fs::read(&keystore).unwrap();
    shell.run(&["rotate", "1"]);
    std::fs::write(&keystore, old).unwrap();
    let told = "DIR/keystore/keystore.json.witness: the keystore is of generation 3, but generation \
                4 was in force";
    let cure = "put the newest copy back; if there is none, stop the servers and run `keyward \
                keystore accept-rollback`";
    shell.fails(&["status"], 1, &format!("keyward: {told}; {cure}"));
    assert_eq!(shell.run(&["keystore", "accept-rollback"]).code, 2, "a reason is wanted");
    let lost = "lost: key 1 version 3, of generation 4\n";
    let words = ["keystore", "accept-rollback", "--datadir", &datadir];
    for _ in 0..2 {
        shell.prints(
            &[&words[..], &["--dry-run"]].concat(),
            &format!("{told}\ngeneration 3 is what is left\n{lost}nothing was changed\n"),
        );
    }
    shell.prints(
        &[&words[..], &["--reason", "the disk burnt"]].concat(),
        &format!(
            "{told}\ngeneration 4 of epoch 2 is in force now\n{lost}\
             start the servers and read every table: what a lost version encrypted is gone\n"
        ),
    );
    assert_eq!(shell.run(&["status"]).code, 0);
}

/// A data directory with the files that every server has.
fn data_directory(shell: &Shell) -> String {
    let data = shell.path("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy("tests/golden/inspect/full-crc32-plain.ibd", data.join("ibdata1")).unwrap();
    std::fs::write(data.join("ib_logfile0"), "").unwrap();
    data.to_str().unwrap().to_owned()
}

#[test]
fn a_rollback_that_loses_data_wants_to_be_told_so() {
    let shell = Shell::new();
    let datadir = data_directory(&shell);
    shell.run(&["keys", "create", "4"]);
    for _ in 0..3 {
        shell.run(&["rotate", "4"]);
    }
    let keystore = shell.path("keystore/keystore.json");
    let old = std::fs::read(&keystore).unwrap();
    shell.run(&["rotate", "4"]);
    shell.run(&["rotate", "4"]);
    std::fs::write(&keystore, old).unwrap();
    // It needs version 9 of key 4.
    std::fs::copy("tests/golden/inspect/full-crc32.ibd", shell.path("data/t.ibd")).unwrap();
    let words = ["keystore", "accept-rollback", "--reason", "no backup", "--datadir", &datadir];
    shell.fails(
        &words,
        1,
        "keyward: data files need versions that are lost: key 4 version 9 by DIR/data/t.ibd; put the \
         newest copy of the keystore back; only if that data may be lost, give --lose-data",
    );
    let listed = "lost: key 4 version 9, of generation 8\n  needed by DIR/data/t.ibd\n\
                  lost: key 4 version 11, of generation 9\n";
    let dry = shell.run(&["keystore", "accept-rollback", "--dry-run", "--datadir", &datadir]);
    assert!(dry.out.contains(listed) && dry.out.ends_with("\nnothing was changed\n"), "{dry:?}");
    // Somebody changes one byte of the audit trail, in the line of version 9.
    let trail = shell.path("keystore/audit.jsonl");
    let text = std::fs::read_to_string(&trail).unwrap();
    let line = text.lines().find(|line| line.contains("rotated") && line.contains(":9}")).unwrap();
    let spoilt = line.replacen("rotated", "rotaded", 1);
    std::fs::write(&trail, text.replace(line, &spoilt)).unwrap();
    let dry = shell.run(&["keystore", "accept-rollback", "--dry-run", "--datadir", &datadir]);
    let damaged = "the audit trail is damaged or missing: more may be lost than it tells\n";
    assert!(dry.out.contains(listed) && dry.out.contains(damaged), "{dry:?}");
    // Without any trail, the data tells.
    std::fs::rename(&trail, shell.path("elsewhere")).unwrap();
    let dry = shell.run(&["keystore", "accept-rollback", "--dry-run", "--datadir", &datadir]);
    assert!(dry.out.contains("lost: key 4 version 9\n  needed by DIR/data/t.ibd\n"), "{dry:?}");
    std::fs::rename(shell.path("elsewhere"), &trail).unwrap();
    let json = shell
        .run(&["keystore", "accept-rollback", "--dry-run", "--json", "--datadir", &datadir])
        .out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["accepted"], &json["lost"][0]["generation"]), (&false.into(), &8.into()));
    let accepted = shell.run(&[&words[..], &["--lose-data"]].concat());
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.out.contains(listed), "{accepted:?}");
}

#[test]
fn a_rotation_is_undone_only_where_somebody_knows_that_it_is_unused() {
    let shell = Shell::new();
    shell.run(&["rotate", "1"]);
    let socket = shell.path("no.sock");
    let socket = socket.to_str().unwrap();
    let refused = shell.run(&["keys", "undo", "1", "--socket", socket]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.starts_with("keyward: cannot ask the server: "), "{refused:?}");
    assert!(refused.err.ends_with("or stop it and give --offline\n"), "{refused:?}");
    if refused.err.contains("ERROR 2002") {
        shell.prints(
            &["keys", "undo", "1", "--offline", "--socket", socket],
            "key 1 version 3 is pending\nkey 1 version 1 is active\n",
        );
        shell.fails(
            &["keys", "undo", "1", "--offline", "--socket", socket],
            1,
            "keyward: key 1 has no rotation to undo",
        );
    }
    let before = shell.run(&["keys", "list", "--json"]);
    for words in [&["rotate", "1"][..], &["rotate", "--all"]] {
        let waits = shell.run(&[words, &["--wait", "--socket", socket]].concat());
        assert_eq!((waits.code, waits.out.as_str()), (1, ""), "{waits:?}");
        let why = "keyward: nothing was rotated: cannot ask the server: ";
        assert!(waits.err.starts_with(why), "{waits:?}");
        assert!(waits.err.ends_with("start it, or name its socket with --socket\n"), "{waits:?}");
    }
    let follows = shell.run(&["keys", "wait", "1", "--socket", socket]);
    assert!(follows.code == 1 && follows.err.starts_with("keyward: cannot ask"), "{follows:?}");
    let none = shell.run(&["keys", "wait", "9", "--socket", socket]);
    assert!(none.err.starts_with("keyward: there is no key 9; "), "{none:?}");
    assert_eq!(shell.run(&["keys", "list", "--json"]).out, before.out, "nothing was rotated");
    shell.prints(&["rotate", "--due", "--wait", "--socket", socket], "nothing is due\n");
    assert_eq!(shell.run(&["rotate", "1", "--offline"]).code, 2);
    assert_eq!(shell.run(&["keys", "undo"]).code, 2);
}
