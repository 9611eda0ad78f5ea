//! Bad input gets one clear line, from the server and from the command, and changes nothing.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use keyward::assemble;
use keyward::config::Config;
use keyward::env::{Env, Level, Log};
use keyward::source::Reason;
use test_kit::account::server_user;
use test_kit::command::answer;
use test_kit::files::{self, Snapshot};
use test_kit::{Result, Trouble, ensure, seen};
use test_mariadb::{FILE_KEYS, Site};

/// A kind of bad input.
struct Case {
    what: &'static str,
    /// Spoils the site's input.
    spoil: fn(&Site) -> Result<()>,
    /// What the line must name: the file, and where in it.
    names: &'static [&'static str],
}

/// A key file, served by provider `file`.
const KEY_FILE: &[Case] = &[
    Case {
        what: "missing file",
        spoil: |site| Ok(fs::remove_file(key_file(site))?),
        names: &["keys.txt"],
    },
    Case {
        what: "bad hex",
        spoil: |site| write_keys(site, &FILE_KEYS.replace("1;a7ad", "1;zzzz")),
        names: &["keys.txt:1:"],
    },
    Case {
        what: "wrong length",
        spoil: |site| write_keys(site, &format!("{FILE_KEYS}7;abcdef\n")),
        names: &["keys.txt:6:"],
    },
    Case {
        what: "id 0",
        spoil: |site| write_keys(site, &format!("0;{}\n{FILE_KEYS}", "ab".repeat(16))),
        names: &["keys.txt:1:"],
    },
    Case {
        what: "duplicate id",
        spoil: |site| write_keys(site, &format!("{FILE_KEYS}3;{}\n", "ab".repeat(16))),
        names: &["keys.txt:6:", "line 3"],
    },
    Case {
        what: "no key 1",
        spoil: |site| write_keys(site, &format!("3;{}\n", "ab".repeat(16))),
        names: &["keys.txt", "1"],
    },
    Case { what: "empty file", spoil: |site| write_keys(site, ""), names: &["keys.txt"] },
    Case {
        what: "world-readable key file",
        spoil: |site| files::chmod(&key_file(site), 0o644),
        names: &["keys.txt", "chmod"],
    },
];

/// A key file encrypted by `openssl enc`.
const ENCRYPTED: &[Case] = &[
    Case {
        what: "wrong passphrase of a key file",
        spoil: |site| files::write(&site.path("keyward/password"), "not this one\n"),
        names: &["keys.txt"],
    },
    Case {
        what: "truncated encrypted key file",
        spoil: |site| {
            let whole = files::read(&key_file(site))?;
            files::write(&key_file(site), &whole[..whole.len() - 20])
        },
        names: &["keys.txt"],
    },
    Case {
        what: "missing passphrase file",
        spoil: |site| Ok(fs::remove_file(site.path("keyward/password"))?),
        names: &["password"],
    },
];

/// A keystore of our own, its wrapping key in a file.
const KEYSTORE: &[Case] = &[
    Case {
        what: "truncated keystore",
        spoil: |site| {
            let whole = files::read(&site.keystore())?;
            files::write(&site.keystore(), &whole[..whole.len() * 2 / 3])
        },
        names: &["keystore.json"],
    },
    Case {
        what: "empty keystore",
        spoil: |site| files::write(&site.keystore(), ""),
        names: &["keystore.json"],
    },
    Case {
        what: "bit-flipped keystore",
        spoil: |site| flip(site, 3, 7),
        names: &["keystore.json"],
    },
    Case {
        what: "world-readable wrapping key",
        spoil: |site| files::chmod(&site.key_file(), 0o644),
        names: &["local.key", "chmod"],
    },
    Case {
        what: "wrapping key of wrong length",
        spoil: |site| files::write(&site.key_file(), "abcdef\n"),
        names: &["local.key"],
    },
    Case {
        what: "keystore folder that others can write",
        spoil: |site| files::chmod(&site.keys(), 0o777),
        names: &["keystore", "chmod"],
    },
    Case {
        what: "unknown config key",
        spoil: |site| edit_config(site, "[keystore]\n", "[keystore]\ncypher = \"aes-256-ctr\"\n"),
        names: &["keyward.toml:", "cypher", "cipher"],
    },
    Case {
        what: "unknown provider type",
        spoil: |site| edit_config(site, "type = \"local\"", "type = \"lokal\""),
        names: &["keyward.toml:", "lokal", "local"],
    },
    Case {
        what: "unknown cipher",
        spoil: |site| edit_config(site, "aes-256-ctr", "aes-512-xyz"),
        names: &["keyward.toml:", "aes-512-xyz"],
    },
    Case {
        what: "a secret in the configuration",
        spoil: |site| edit_config(site, "key_file =", "key = \"0123\" # "),
        names: &["keyward.toml:", "key_file"],
    },
    Case {
        what: "broken TOML",
        spoil: |site| edit_config(site, "[keystore]", "[keystore"),
        names: &["keyward.toml:"],
    },
    Case {
        what: "missing configuration",
        spoil: |site| Ok(fs::remove_file(site.config())?),
        names: &["keyward.toml"],
    },
];

/// A keystore whose wrapping key comes from a passphrase.
const PASSPHRASE: &[Case] = &[
    Case {
        what: "wrong passphrase",
        spoil: |site| files::write(&site.path("keyward/passphrase"), "not this one\n"),
        names: &["passphrase"],
    },
    Case {
        what: "empty passphrase",
        spoil: |site| files::write(&site.path("keyward/passphrase"), "\n"),
        names: &["passphrase"],
    },
];

#[test]
fn a_key_file() -> Result<()> {
    try_all(KEY_FILE, &key_file_site("bad-key-file", "")?)
}

#[test]
fn an_encrypted_key_file() -> Result<()> {
    let site =
        key_file_site("bad-encrypted", "password_file = \"PASSWORD\"\ndigest = \"sha256\"\n")?;
    let password = site.path("keyward/password");
    files::write(&password, "open sesame\n")?;
    protect(&password)?;
    let (plain, at) = (site.path("plain"), key_file(&site));
    fs::rename(&at, &plain)?;
    let mut openssl = Command::new("openssl");
    openssl.args(["enc", "-aes-256-cbc", "-md", "sha256"]);
    openssl.arg("-pass").arg(format!("file:{}", password.display()));
    openssl.arg("-in").arg(&plain).arg("-out").arg(&at);
    answer(&mut openssl)?.ok()?;
    protect(&at)?;
    try_all(ENCRYPTED, &site)
}

#[test]
fn a_keystore() -> Result<()> {
    try_all(KEYSTORE, &Site::with_keyward("bad-keystore")?)
}

#[test]
fn a_passphrase() -> Result<()> {
    let mut site = Site::new("bad-passphrase")?;
    fs::create_dir(site.path("keyward"))?;
    fs::create_dir(site.keys())?;
    files::chmod(&site.keys(), 0o700)?;
    let passphrase = site.path("keyward/passphrase");
    files::write(&passphrase, "open sesame, and then some more words\n")?;
    protect(&passphrase)?;
    files::write(
        &site.config(),
        format!(
            "[keystore]\npath = {:?}\n\n[[provider]]\nname = \"words\"\ntype = \"local\"\n\
             passphrase_file = {passphrase:?}\n",
            site.keystore()
        ),
    )?;
    make_keystore(&site).map_err(|error| Trouble::from(error.to_string()))?;
    test_kit::account::give_to_server(&site.keys())?;
    site.load_keyward();
    try_all(PASSPHRASE, &site)
}

/// Makes the keystore that the site's configuration describes: what `keyward init` does for a key
/// file.
fn make_keystore(site: &Site) -> keyward::Result<()> {
    let config = Config::load(&site.config())?;
    let reason = Reason { actor: "a test", text: "a keystore under a passphrase" };
    assemble::create_keystore(&config, reason, &Env::system(Arc::new(Silent)))
}

/// Hears nothing.
struct Silent;

impl Log for Silent {
    fn log(&self, _level: Level, _text: &str) {}
}

/// One bit in every 64th byte: each of them is found out, by the command. Bit 5 is left alone: of a
/// hex digit it changes the case only.
#[test]
fn any_flipped_bit_of_a_keystore() -> Result<()> {
    let site = Site::with_keyward("bits")?;
    let good = files::read(&site.keystore())?;
    let mut told = 0;
    for at in (0..good.len()).step_by(64) {
        let mut bad = good.clone();
        let bit = at / 64 % 5;
        bad[at] ^= 1 << bit;
        files::write(&site.keystore(), &bad)?;
        let said = site.keyward(&["status"])?;
        let near = String::from_utf8_lossy(&bad[at.saturating_sub(30)..bad.len().min(at + 30)]);
        ensure!(said.code == 1, "bit {bit} of byte {at} went unnoticed: {near}");
        told += 1;
    }
    seen!("{told} keystores with one bit flipped, all refused");
    files::write(&site.keystore(), &good)?;
    site.keyward(&["status"])?.ok().map(drop)
}

/// Spoils, asks command and server, compares, corrects; case by case.
fn try_all(cases: &[Case], site: &Site) -> Result<()> {
    site.keyward(&["status"])?.ok().map_err(|error| error.within("before anything is spoilt"))?;
    let kept = site.path("kept");
    test_kit::files::copy(&site.path("keyward"), &kept)?;
    for case in cases {
        (case.spoil)(site)?;
        case.check(site).map_err(|error| error.within(case.what))?;
        fs::remove_dir_all(site.path("keyward"))?;
        test_kit::files::copy(&kept, &site.path("keyward"))?;
    }
    site.start().map_err(|error| error.within("after all was corrected"))?.stop()?;
    Ok(())
}

impl Case {
    /// Both refuse with one line that names what it must, and leave everything as it is.
    fn check(&self, site: &Site) -> Result<()> {
        let before = Snapshot::of(&site.path("keyward"))?;
        let command = site.keyward(&["status"])?;
        ensure!(command.code == 1, "the command went on: {}", command.text());
        ensure!(command.err.lines().count() == 1, "more than one line: {}", command.text());
        self.names(&command.err)?;
        let log = site.refusal()?;
        let ours: Vec<_> = log
            .lines()
            .filter(|line| line.contains("[ERROR]") && line.contains("keyward cannot start: "))
            .collect();
        ensure!(ours.len() == 1, "one line of ours was to be in the log:\n{log}");
        self.names(ours[0])?;
        ensure!(Snapshot::of(&site.path("keyward"))? == before, "something was changed");
        let (_, line) = ours[0].split_once("[ERROR] ").unwrap_or_default();
        seen!(
            "{}: {}",
            self.what,
            line.replace(&format!("{}/", site.path("keyward").display()), "")
        );
        Ok(())
    }

    fn names(&self, line: &str) -> Result<()> {
        for name in self.names {
            ensure!(line.contains(name), "{name:?} is not named: {line}");
        }
        Ok(())
    }
}

/// A site whose keys are those of a key file.
fn key_file_site(name: &str, more: &str) -> Result<Site> {
    let mut site = Site::new(name)?;
    fs::create_dir(site.path("keyward"))?;
    fs::create_dir(site.keys())?;
    test_kit::account::give_to_server(&site.keys())?;
    let more = more.replace("PASSWORD", &site.path("keyward/password").display().to_string());
    files::write(
        &site.config(),
        format!(
            "[keystore]\npath = {:?}\n\n[[provider]]\nname = \"keys\"\ntype = \"file\"\npath = {:?}\n{more}mode = \"ctr\"\n",
            site.keystore(),
            key_file(&site)
        ),
    )?;
    files::chmod(&site.config(), 0o644)?;
    write_keys(&site, FILE_KEYS)?;
    protect(&key_file(&site))?;
    site.load_keyward();
    Ok(site)
}

fn key_file(site: &Site) -> std::path::PathBuf {
    site.path("keyward/keys.txt")
}

fn write_keys(site: &Site, text: &str) -> Result<()> {
    files::write(&key_file(site), text)
}

/// Root's, readable for the server's group, closed to all others.
fn protect(path: &std::path::Path) -> Result<()> {
    if let Some(user) = server_user() {
        std::os::unix::fs::chown(path, Some(0), Some(user.gid.as_raw()))?;
    }
    files::chmod(path, 0o640)
}

fn edit_config(site: &Site, from: &str, to: &str) -> Result<()> {
    let text = files::text(&site.config())?;
    ensure!(text.contains(from), "{from:?} is not in the configuration:\n{text}");
    files::write(&site.config(), text.replace(from, to))
}

/// Flips one bit, a given part of the way into the keystore.
fn flip(site: &Site, part: usize, of: usize) -> Result<()> {
    let mut bytes = files::read(&site.keystore())?;
    let at = bytes.len() * part / of;
    bytes[at] ^= 1;
    files::write(&site.keystore(), bytes)
}
