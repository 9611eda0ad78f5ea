//! Backups that `[backup]` wants: made when something has changed, kept to a number, given to a hook; and what
//! fails is seen and tried again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use nix::unistd::geteuid;

use crate::{NOBODY, Site, said};

const DUE: [&str; 3] = ["keystore", "backup", "--due"];

impl Site {
    /// Has backups go to a folder of the account's, as `more` says.
    pub(crate) fn schedule(&self, more: &str) -> PathBuf {
        let folder = self.path("backups");
        fs::create_dir(&folder).unwrap();
        self.own(&folder);
        let config = self.path("keyward/keyward.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = format!("{text}\n[backup]\nto = \"{}\"\n{more}\n", folder.display());
        fs::write(&config, text).unwrap();
        folder
    }

    pub(crate) fn own(&self, path: &std::path::Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        if geteuid().is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// A program of the account's that writes its argument to `handed`, once it may.
    fn hook(&self) -> (String, PathBuf) {
        let (hook, handed) = (self.path("hook"), self.path("handed"));
        let text = format!("#!/bin/sh\necho taken\necho \"$@\" >> {}\n", handed.display());
        fs::write(&hook, text).unwrap();
        self.own(&hook);
        (format!("hook = \"{}\"", hook.display()), handed)
    }

    /// Makes a change that is a minute old.
    fn changed(&self) {
        self.ok(&["rotate", "1"]);
        let file = fs::File::options().write(true).open(self.keystore()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(61)).unwrap();
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["--json", "status"])).unwrap()
    }

    /// What doctor says of backups.
    fn examined(&self) -> String {
        let all = said(&self.run(&["--json", "doctor"]));
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let all = all.as_array().unwrap();
        let found = all.iter().find(|one| one["id"] == "backup");
        found.map_or(String::new(), |one| format!("{} {}", one["mark"], one["what"]))
    }

    fn fails(&self, why: &str) -> Output {
        let output = self.run(&DUE);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(why), "{text}");
        let status = self.status();
        assert_eq!(status["backup_failing"], true, "{status}");
        assert!(status["backup_error"].as_str().unwrap().contains(why), "{status}");
        output
    }
}

fn names(folder: &PathBuf) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn each_change_is_followed_by_a_backup_and_the_oldest_go() {
    let site = Site::with_keys();
    site.refused(&DUE, "has no section [backup]; add one");
    let (identity, _) = site.identity();
    assert!(site.examined().contains("none since a key was made"), "{}", site.examined());
    let folder = site.schedule("keep = 2");
    let first = site.ok(&DUE);
    assert!(first.contains(".age is made"), "{first}");
    let [name] = &names(&folder)[..] else { panic!("{:?}", names(&folder)) };
    let id = site.status()["keystore_id"].as_str().unwrap().to_owned();
    let generation = site.status()["generation"].to_string();
    assert!(name.starts_with(&format!("keyward-{id}-e1-g{generation}-")), "{name}");
    assert!(site.examined().starts_with("\"ok\" \"backup: the last is of"), "{}", site.examined());
    assert_eq!(site.ok(&DUE), "nothing is due\n");
    fs::write(folder.join("keep-me.age"), "somebody else's").unwrap();
    for _ in 0..3 {
        site.changed();
        assert!(site.ok(&DUE).contains("is made"));
    }
    let left = names(&folder);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(!left.contains(name) && left.contains(&"keep-me.age".to_owned()), "{left:?}");
    fs::remove_file(folder.join("keep-me.age")).unwrap();
    let path = folder.display().to_string();
    site.ok(&["keystore", "drill", &path, "--identity", &identity]);
    let status = site.status();
    assert_eq!(
        (&status["backup_stale"], &status["backup_failing"]),
        (&false.into(), &false.into())
    );
}

#[test]
fn a_hook_gets_each_file_once_and_is_called_again_until_it_takes_it() {
    let site = Site::with_keys();
    site.identity();
    let (line, handed) = site.hook();
    let folder = site.schedule(&line);
    // It may not write there, as root's folder is none of the account's.
    fs::create_dir(&handed).unwrap();
    for _ in 0..2 {
        site.fails("ended with exit status: ");
    }
    assert_eq!(names(&folder).len(), 1, "a backup for each call");
    let failures = site.ok(&["audit", "show", "--event", "backup-failed"]);
    assert_eq!(failures.matches("ended with exit").count(), 1, "{failures}");
    assert!(site.examined().starts_with("\"warning\""), "{}", site.examined());
    fs::remove_dir(&handed).unwrap();
    fs::write(&handed, "").unwrap();
    site.own(&handed);
    let text = site.ok(&DUE);
    assert!(text.contains("the hook has taken it") && text.contains("taken\n"), "{text}");
    let file = folder.join(&names(&folder)[0]);
    assert_eq!(fs::read_to_string(&handed).unwrap(), format!("{}\n", file.display()));
    assert_eq!(site.ok(&DUE), "nothing is due\n");
    assert_eq!(site.status()["backup_failing"], false);
    // It may take it away for good.
    fs::remove_file(&file).unwrap();
    assert_eq!(site.ok(&DUE), "nothing is due\n");
}

#[test]
fn nothing_of_others_is_run_or_written_to() {
    let site = Site::with_keys();
    let (line, handed) = site.hook();
    let folder = site.schedule(&line);
    site.fails("the keystore has no recipient of backups; `keyward keystore backup --identity");
    site.identity();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    site.fails("can be written by others");
    if geteuid().is_root() {
        // Root's own, which the account cannot write.
        chown(&folder, Some(0), Some(0)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        site.fails("Permission denied; let the folder belong to the server's account");
    }
    site.own(&folder);
    let hook = site.path("hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o777)).unwrap();
    site.fails("can be written by others, who could change it");
    assert!(!handed.exists(), "it was run");
    site.own(&hook);
    fs::write(&handed, "").unwrap();
    site.own(&handed);
    site.ok(&DUE);
    assert_eq!(names(&folder).len(), 1);
}

#[test]
fn a_full_disk_is_told_and_tried_again() {
    let site = Site::with_keys();
    site.identity();
    let folder = site.schedule("");
    // What the trail has is longer than a file may be here.
    fs::remove_file(site.keystore().with_file_name("audit.jsonl")).unwrap();
    let limited = "trap '' XFSZ; exec prlimit --fsize=2048 -- \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_keyward")]).args(site.call(&DUE));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("File too large"), "{}", said(&output));
    assert!(names(&folder).is_empty(), "half of one is left: {:?}", names(&folder));
    assert_eq!(site.status()["backup_failing"], true);
    site.ok(&["rotate", "3"]);
    assert!(site.ok(&DUE).contains("is made"));
    assert_eq!(site.status()["backup_failing"], false);
}

#[test]
fn two_calls_at_once_make_one_backup() {
    let site = Site::with_keys();
    site.identity();
    let folder = site.schedule("");
    let calls: Vec<_> = std::iter::repeat_with(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(site.call(&DUE)).spawn().unwrap()
    })
    .take(4)
    .collect();
    for mut call in calls {
        assert!(call.wait().unwrap().success());
    }
    assert_eq!(names(&folder).len(), 1, "{:?}", names(&folder));
}
