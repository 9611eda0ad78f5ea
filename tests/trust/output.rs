//! What the command prints arrives, or it says that it did not.

use std::fs;
use std::io::Read;
use std::os::unix::fs::chown;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::{NOBODY, Site, chmod, said};

/// Each way to print: calls that look, that change something and that explain, for people and machines.
const CALLS: [&[&str]; 23] = [
    &["--help"],
    &["--version"],
    &["keys", "--help"],
    &["status"],
    &["--json", "status"],
    &["doctor"],
    &["metrics"],
    &["keys", "list"],
    &["--json", "keys", "list"],
    &["keys", "show", "1"],
    &["rotate", "1"],
    &["keys", "create", "7"],
    &["keys", "compromise", "1", "1", "--reason", "r"],
    &["keystore", "rewrap"],
    &["keystore", "approvers"],
    &["provider", "list"],
    &["provider", "test"],
    &["approve"],
    &["migrate", "--from", "local", "--to-file", "KEYS"],
    &["import", "--from-keyring-file", "KEYRING", "--dry-run"],
    &["inspect", "DATA"],
    &["binlog", "LOG"],
    &["binlog", "LOG", "LOG", "--progress"],
];

/// The account's part alone, and root's in front of it.
fn accounts() -> &'static [&'static str] {
    if geteuid().is_root() { &["root", "nobody"] } else { &["nobody"] }
}

/// The files that these calls name, made at `site`, and the calls with their names in them.
pub(crate) fn calls(site: &Site) -> Vec<Vec<String>> {
    let owner = (site.1 == "nobody" && geteuid().is_root()).then_some(NOBODY);
    fs::create_dir(site.path("out")).unwrap();
    chown(site.path("out"), owner, None).unwrap();
    fs::create_dir(site.path("data")).unwrap();
    fs::copy("tests/golden/inspect/aria.MAD", site.path("data/t.MAD")).unwrap();
    fs::copy("tests/golden/binlog/mysql.plain", site.path("data/log.000001")).unwrap();
    fs::copy("tests/golden/keyring/component_keyring_file.json", site.path("keyring")).unwrap();
    chmod(&site.path("keyring"), 0o600);
    chown(site.path("keyring"), owner, None).unwrap();
    let named = |word: &&str| match *word {
        "KEYS" => site.text("out/keys"),
        "KEYRING" => site.text("keyring"),
        "DATA" => site.text("data"),
        "LOG" => site.text("data/log.000001"),
        word => word.to_owned(),
    };
    CALLS.iter().map(|call| call.iter().map(named).collect()).collect()
}

#[test]
fn output_that_is_lost_is_told_of() {
    for account in accounts() {
        let site = Site::of(account);
        for call in calls(&site) {
            let call: Vec<_> = call.iter().map(String::as_str).collect();
            let full = fs::File::create("/dev/full").unwrap();
            let output = site.command(&call).stdout(full).output().unwrap();
            let text = said(&output);
            assert_eq!(output.status.code(), Some(74), "{account} {call:?}: {text}");
            let told = "cannot write to standard output: No space left on device";
            assert!(text.contains(told), "{account} {call:?}: {text}");
            // A reader who has enough is another matter.
            if call.contains(&"list") {
                let (read, write) = std::io::pipe().unwrap();
                drop(read);
                let output = site.command(&call).stdout(write).output().unwrap();
                assert!(output.status.success(), "{account} {call:?}: {}", said(&output));
            }
        }
        // What was asked for is done.
        let shown = said(&site.keyward(&["keys", "show", "1"]));
        assert!(shown.contains("compromised"), "{shown}");
        assert!(site.path("out/keys").exists());
    }
}

#[test]
fn a_slow_reader_gets_all_of_it() {
    let site = Site::new();
    let keys: String = (1..=560).map(|id| format!("{id};{id:032x}\n")).collect();
    fs::write(site.path("keys"), keys).unwrap();
    chmod(&site.path("keys"), 0o640);
    let served = site.path("served.toml");
    let lines =
        format!("[[provider]]\ntype = \"file\"\nmode = \"ctr\"\npath = {:?}\n", site.path("keys"));
    fs::write(&served, lines).unwrap();
    if geteuid().is_root() {
        chown(site.path("keys"), None, Some(NOBODY)).unwrap();
    }
    let call = ["--config", served.to_str().unwrap(), "--json", "keys", "list"];
    let whole = site.keyward(&call);
    assert!(whole.status.success(), "{}", said(&whole));
    // More than our pipe holds, and what is left fits into the other: so the account's part has ended.
    let len = whole.stdout.len();
    assert!((80_000..120_000).contains(&len), "{len} bytes");
    let mut slow = site.command(&call).stdout(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_secs(4));
    let mut bytes = Vec::new();
    slow.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(slow.wait().unwrap().success());
    assert_eq!(bytes.len(), len);
}
