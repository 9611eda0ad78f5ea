//! Backups of keys that a key file serves: the standard `age` command opens one, nothing but its SHA-256 or a
//! passphrase shows that it is one, and a key file is written by hand.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use test_kit::files;

use super::{Site, age};

const KEYS: &str = "\
1;1;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a
1;3;49c16acc2dffe616710c9ba9a10b94944a737de1beccb52dc1560abfdd67388b
7;1;8db1ee74580e7e93ab8cf157f02656d356c2f437d548d5bf
";

impl Site {
    /// A configuration whose keys are in a key file, and an identity that its file of recipients names.
    fn served() -> (Self, String) {
        let site = Self::new();
        site.write("keyward/keys.txt", KEYS);
        let config = format!(
            "[keystore]\npath = {:?}\n[[provider]]\nname = \"keys\"\ntype = \"file\"\npath = {:?}\n\
             mode = \"ctr\"\n",
            site.keystore(),
            site.path("keyward/keys.txt")
        );
        site.write("keyward/keyward.toml", &config);
        let told = site.ok(&["keystore", "backup", "--identity", &site.text("identity.txt")]);
        let line = told.trim().strip_prefix("keyward: once you have the file: ").unwrap();
        assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
        let identity = site.readable("identity.txt");
        (site, identity)
    }

    /// Writes a file that the account may read.
    fn write(&self, name: &str, text: &str) {
        let _ = fs::remove_file(self.path(name));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
        self.readable(name);
    }

    /// Makes a backup; gives its file and its SHA-256 as it was told.
    fn served_backup(&self) -> (String, String) {
        let told = self.ok(&["keystore", "backup", "--to", &self.text("backup.age")]);
        let sha256 = told.trim().rsplit(' ').next().unwrap().to_owned();
        let sum = test_kit::run("sha256sum", [self.path("backup.age")]).unwrap();
        assert!(sum.starts_with(&sha256) && sha256.len() == 64, "{told}, and {sum}");
        (self.readable("backup.age"), sha256)
    }
}

#[test]
fn the_standard_command_opens_it_and_a_key_file_takes_its_lines() {
    let (site, identity) = Site::served();
    let (backup, _) = site.served_backup();
    let opened = Command::new(age()).args(["-d", "-i", &identity, &backup]).output().unwrap();
    let text = String::from_utf8(opened.stdout).unwrap();
    assert!(
        text.starts_with("keyward backup v1\n") && text.ends_with(KEYS),
        "{} bytes",
        text.len()
    );
    assert!(!text.contains("signature") && !text.contains("secret "));
    let restore = ["keystore", "restore", &backup, "--identity", &identity];
    assert!(site.ok(&restore).contains("has all of them: nothing was changed"));
    assert!(site.ok(&["keystore", "drill", &backup, "--identity", &identity]).contains("passed"));
    site.write("keyward/keys.txt", KEYS.split_inclusive('\n').next().unwrap());
    site.refused(&restore, "put the backup's lines NUMBER;VERSION;KEY there by hand");
    let lines: String = text.split_inclusive('\n').filter(|line| KEYS.contains(line)).collect();
    site.write("keyward/keys.txt", &lines);
    assert!(site.ok(&restore).contains("has all of them: nothing was changed"));
    site.write("keyward/keys.txt", &KEYS.replace("49c1", "49c2"));
    site.refused(&restore, "key 1 version 3 is another key");
    let all = files::all(&site.path("keyward"));
    let found = files::holding(&all, "a7addd9adea9978fda19f21e6be98788").unwrap();
    assert_eq!(found, [site.path("keyward/keys.txt")], "a key is elsewhere, too");
}

#[test]
fn only_a_backup_that_was_made_here_or_noted_is_taken() {
    let (site, identity) = Site::served();
    let (backup, sha256) = site.served_backup();
    let restore = ["keystore", "restore", &backup, "--identity", &identity];
    let with = |more: &[&'static str]| [&restore[..], more].concat();
    site.refused(&with(&["--fingerprint", "00"]), "give its --sha256 instead");
    site.refused(&with(&["--sha256", "00"]), "--sha256 is no SHA-256");
    let zeros = "0000000000000000000000000000000000000000000000000000000000000000";
    site.refused(&with(&["--sha256", zeros]), "it is another file than was noted");
    site.refused(&with(&["--replace"]), "what a key store has is never replaced");
    let trail = site.keystore().with_file_name("audit.jsonl");
    let lines = fs::read_to_string(&trail).unwrap();
    assert!(lines.contains(&format!("(SHA-256 {sha256})")), "{lines}");
    fs::remove_file(&trail).unwrap();
    site.refused(&restore, "nothing shows that it is a backup that was made here");
    site.ok(&[&restore[..], &["--sha256", &sha256]].concat());
    // Anybody can make another for the recipient.
    let forged = site.path("forged.age");
    let recipients = site.text("keyward/backup-recipients");
    let text = site.text("forged.txt");
    fs::write(&text, "keyward backup v1\n---\nserved {}\n").unwrap();
    let forged = forged.display().to_string();
    let made = Command::new(age()).args(["-R", &recipients, "-o", &forged, &text]).status();
    assert!(made.unwrap().success());
    let call = ["keystore", "restore", &forged, "--identity", &identity];
    site.refused(&call, "nothing shows that it is a backup that was made here");
}

#[test]
fn a_backup_is_of_the_kind_that_the_configuration_is_of() {
    let (site, identity) = Site::served();
    let (backup, sha256) = site.served_backup();
    let keystore = Site::with_keys();
    let (own, fingerprint) = keystore.identity();
    let of_keystore = keystore.backup();
    keystore.refused(
        &["keystore", "restore", &backup, "--identity", &identity, "--fingerprint", &fingerprint],
        "it is of keys that a key store serves",
    );
    let sum = test_kit::run("sha256sum", [&of_keystore]).unwrap();
    let sum = sum.split(' ').next().unwrap();
    site.refused(
        &["keystore", "restore", &of_keystore, "--identity", &own, "--sha256", sum],
        "it is the backup of a keystore",
    );
    // A noted SHA-256 is compared for a keystore's, too.
    let call = ["keystore", "drill", &of_keystore, "--identity", &own, "--sha256"];
    keystore.ok(&[&call[..], &[sum]].concat());
    keystore.refused(&[&call[..], &[&*sha256]].concat(), "it is another file than was noted");
    let to = keystore.text("other.age");
    keystore.refused(
        &["keystore", "backup", "--to", &to, "--recipient", "age1pq1x"],
        "--recipient is for keys that a key store serves",
    );
    site.refused(&["keystore", "backup", "--add-recipient", "age1pq1x"], "a recipient a line");
    assert!(site.ok(&["keystore", "backup", "--recipients"]).starts_with("age1pq1"));
    let nobody = site.text("nobody.age");
    fs::remove_file(site.path("keyward/backup-recipients")).unwrap();
    site.refused(&["keystore", "backup", "--to", &nobody], "names no recipient");
    assert!(!site.path("nobody.age").exists());
}
