//! The command, word for word: approvers set, a step asked for, signed and done.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::bench::People;

struct Shell {
    folder: tempfile::TempDir,
    people: People,
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

impl Shell {
    fn new() -> Self {
        let shell = Self { folder: tempfile::tempdir().unwrap(), people: People::new() };
        let dir = shell.folder.path().to_str().unwrap();
        shell.done(&["init", "--dir", dir, "--user", "root"]);
        shell.done(&["rotate", "1"]);
        shell
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.arg("--config").arg(self.path("keyward.toml")).args(words).output().unwrap()
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    }

    #[track_caller]
    fn ends(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
        said(&output)
    }

    /// The file `.pub` of `name`.
    fn public(&self, name: &str) -> String {
        self.people.key(name);
        self.people.path(&format!("{name}.pub")).display().to_string()
    }

    /// Has alice and bob, and dave in a line of his own, be the approvers.
    fn set_approvers(&self) {
        let (alice, bob) = (self.public("alice"), self.public("bob"));
        let dave = self.people.key("dave").to_string();
        let call = ["keystore", "approvers", "--need", "2", &alice, &bob, &dave];
        let proposed = self.done(&call);
        assert!(proposed.contains("nothing was changed"), "{proposed}");
        assert!(proposed.contains(&self.people.key("dave").fingerprint()), "{proposed}");
        assert!(self.done(&["keystore", "approvers"]).contains("no approvers are registered"));
        let word = proposed.trim_end().rsplit(' ').next().unwrap();
        let wrong = self.done(&[&call[..], &["--confirm", "approvers-00000000"]].concat());
        assert!(wrong.contains("nothing was changed"), "{wrong}");
        let set = self.done(&[&call[..], &["--confirm", word]].concat());
        assert!(set.starts_with("2 of these 3 approve what shows or removes keys:\n"), "{set}");
    }

    /// What waits, as machines read it.
    fn waiting(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.done(&["--json", "approve"])).unwrap()
    }

    /// A file with what `name` signs of the only request that waits.
    fn signed_by(&self, name: &str) -> String {
        let waiting = self.waiting();
        let text = fs::read(waiting[0]["file"].as_str().unwrap()).unwrap();
        let file = self.people.path(&format!("{name}.sig"));
        fs::write(&file, self.people.sign(name, &text)).unwrap();
        file.display().to_string()
    }
}

#[test]
fn ask_sign_approve_and_give_the_same_command_again() {
    let shell = Shell::new();
    shell.set_approvers();
    let plain = shell.path("plain").display().to_string();
    let export = ["migrate", "--from", "local", "--to-file", &plain, "--reason", "we leave"];
    let waits = shell.ends(&export, 75);
    assert!(
        waits.contains("2 approvals are needed to take keys out in plain text, and there are 0"),
        "{waits}"
    );
    let id = shell.waiting()[0]["id"].as_str().unwrap().to_owned();
    let short = &id[..8];

    let listed = shell.done(&["approve"]);
    assert!(listed.contains(short) && listed.contains("0 of 2"), "{listed}");
    let status = shell.done(&["status"]);
    let line = status.lines().find(|line| line.starts_with("waits for approval")).unwrap();
    assert!(line.contains(short) && line.contains("export") && line.contains("0 of 2"), "{line}");
    let shown = shell.done(&["approve", short]);
    assert!(shown.starts_with("keyward approval request v1\nrequest: "), "{shown}");
    assert!(shown.contains("\nreason: we leave\n"), "{shown}");

    let alice = shell.signed_by("alice");
    let one = shell.done(&["approve", short, &alice]);
    assert!(one.contains("approved by alice (SHA256:") && one.contains("has 1 of 2"), "{one}");
    assert!(
        shell
            .ends(&export, 75)
            .contains("2 approvals are needed to take keys out in plain text, and there are 1")
    );
    // One of two is none; the other counts.
    let (again, bob) = (alice.clone(), shell.signed_by("bob"));
    let both = shell.ends(&["approve", &id, &again, &bob], 1);
    assert!(both.contains("alice (SHA256:") && both.contains("already"), "{both}");
    assert!(both.contains("has its 2 approvals: give the command that asked again"), "{both}");
    assert!(!shell.path("plain").exists());
    let exported = shell.done(&export);
    assert!(exported.contains("key versions arrived"), "{exported}");
    assert!(shell.path("plain").exists());
    assert_eq!(shell.done(&["approve"]), "nothing waits for approvals\n");
    let trail = shell.done(&["audit", "show"]);
    for event in
        ["approvers-changed", "approval-requested", "approval-given", "approved", "exported"]
    {
        assert!(trail.contains(event), "{event}: {trail}");
    }
    assert!(shell.done(&["audit", "verify"]).contains("as it was written") || trail.len() > 100);
    // What is kept of it can be verified without keyward.
    let kept = shell.path(&format!("keystore/approvals/{id}.done"));
    let signature =
        fs::read_dir(kept.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let signature = signature.into_iter().find(|path| path.extension().unwrap() == "sig").unwrap();
    let mut verify = Command::new("ssh-keygen");
    verify.args(["-Y", "check-novalidate", "-n", "keyward-approval-v1", "-s"]).arg(signature);
    let verified = verify.stdin(fs::File::open(kept).unwrap()).output().unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
}

#[test]
fn requests_that_are_none_and_files_that_are_no_signatures_end_in_one_line() {
    let shell = Shell::new();
    assert!(shell.ends(&["approve", "0123abcd"], 1).contains("no request \"0123abcd\" waits"));
    shell.set_approvers();
    let plain = shell.path("plain").display().to_string();
    shell.ends(&["migrate", "--from", "local", "--to-file", &plain], 75);
    let id = shell.waiting()[0]["id"].as_str().unwrap().to_owned();
    assert!(shell.ends(&["approve", &id[..3]], 1).contains("may be more than one request"));
    let away = shell.path("away.sig").display().to_string();
    assert!(shell.ends(&["approve", &id, &away], 1).contains("cannot read"));
    fs::write(&away, vec![b'x'; 1 << 20]).unwrap();
    let long = shell.ends(&["approve", &id, &away], 1);
    assert!(long.contains("away.sig"), "{long}");
    fs::write(&away, "hello").unwrap();
    assert!(
        shell.ends(&["approve", &id, &away], 1).contains("no file that `ssh-keygen -Y sign` made")
    );
    let rsa = "ssh-rsa AAAAB3NzaC1yc2E= alice";
    let refused = shell.ends(&["keystore", "approvers", "--need", "1", rsa], 1);
    assert!(refused.contains("a key of kind ssh-rsa"), "{refused}");
}

#[test]
fn backups_by_a_passphrase_wait_and_those_for_recipients_do_not() {
    let shell = Shell::new();
    let identity = shell.path("identity.age").display().to_string();
    let made = shell.done(&["keystore", "backup", "--identity", &identity]);
    let recipient = made.split_whitespace().find(|word| word.starts_with("age1pq1")).unwrap();
    shell.done(&["keystore", "backup", "--add-recipient", recipient]);
    shell.set_approvers();
    let to = |name: &str| shell.path(name).display().to_string();
    shell.done(&["keystore", "backup", "--to", &to("b1")]);
    let words = shell.path("words");
    fs::write(&words, "correct horse battery staple\n").unwrap();
    std::fs::set_permissions(&words, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let words = words.display().to_string();
    let b2 = to("b2");
    let by_passphrase = ["keystore", "backup", "--to", &b2, "--passphrase-file", &words];
    shell.ends(&by_passphrase, 75);
    assert!(!shell.path("b2").exists(), "a file is left");
    for name in ["alice", "bob"] {
        let file = shell.signed_by(name);
        let id = shell.waiting()[0]["id"].as_str().unwrap().to_owned();
        shell.done(&["approve", &id, &file]);
    }
    shell.done(&by_passphrase);
    assert!(shell.path("b2").exists());
}
