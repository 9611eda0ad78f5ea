//! Key files that must open, and many more that must not, each with what is said to it.
//!
//! Beside each file in `tests/golden/keyfile` lies `<file>.expect`, lines of `name: value`:
//! `password`, `digest` and `pbkdf2` are settings; `ours` is what we say under our own name;
//! `original` is what MariaDB 10.11's plugin said to the same file, and so what we say under its
//! name, unless `drop-in` says where and how we differ on purpose. `FILE` stands for the path.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyward::backend::file::{Dialect, Edition, FileServer, Password, Settings};
use keyward::env::Deadline;
use keyward::error::{Error, Result};
use keyward::key::{KeyInfo, PageMode};
use keyward::provider::KeyServer as _;
use keyward::secret::source::SecretSource;

/// Both editions say the same of what stands in a file.
const ORIGINAL: Dialect = Dialect::Original(Edition::V10);

type Expectation = BTreeMap<String, String>;

#[test]
fn every_key_file_gets_the_answer_that_lies_beside_it() {
    let mut wrong = Vec::new();
    for (file, expected) in all() {
        let name = file.file_name().unwrap().to_str().unwrap();
        for (dialect, line) in [(Dialect::Keyward, "ours"), (ORIGINAL, "original")] {
            let on_purpose = expected.get("drop-in").filter(|_| dialect == ORIGINAL);
            let Some(due) = on_purpose.or_else(|| expected.get(line)) else { continue };
            let (said, _) = said_to(&file, &expected, dialect);
            // The original does not show its keys, so of what it opens only that is compared.
            let said = if due == "ok" { said.split(' ').next().unwrap() } else { &said };
            if said != due {
                wrong.push(format!("{name}\n  {line}: {due}\n  said: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn four_files_must_fail_for_each_that_must_open() {
    let (good, bad): (Vec<_>, Vec<_>) =
        all().into_iter().partition(|(_, expected)| expected["ours"].starts_with("ok"));
    assert!(!good.is_empty() && bad.len() >= 4 * good.len(), "{} to {}", good.len(), bad.len());
}

#[test]
fn no_error_shows_a_digit_of_a_key() {
    for (file, expected) in all() {
        for dialect in [Dialect::Keyward, ORIGINAL] {
            let (said, infos) = said_to(&file, &expected, dialect);
            if infos.is_empty() {
                let said = said.to_lowercase();
                for digits in ["00112233", "ffeeddcc", "ccbbaa99", "beef", "horse"] {
                    assert!(!said.contains(digits), "{}: {said}", file.display());
                }
            }
        }
    }
}

/// Every file of the folder with what is expected of it; none goes without.
fn all() -> Vec<(PathBuf, Expectation)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/keyfile");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (beside, mut files): (Vec<_>, Vec<_>) =
        paths.partition(|path| path.extension().is_some_and(|end| end == "expect"));
    assert_eq!(beside.len(), files.len(), "each file has one .expect");
    files.sort();
    files.into_iter().map(|file| (file.clone(), expectation(&file))).collect()
}

fn expectation(file: &Path) -> Expectation {
    let beside = PathBuf::from(format!("{}.expect", file.display()));
    let text = std::fs::read_to_string(&beside).unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    text.lines().map(pair).collect()
}

/// What we say to a private copy of `file`, and the keys if it opened.
fn said_to(file: &Path, expected: &Expectation, dialect: Dialect) -> (String, Vec<KeyInfo>) {
    let folder = tempfile::tempdir().unwrap();
    let private = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let path = private("keys", &std::fs::read(file).unwrap());
    let password = expected.get("password").map(|password| {
        Password::From(SecretSource::File(private("password", password.as_bytes())))
    });
    let server = FileServer::new(Settings {
        path: path.clone(),
        password,
        digest: expected.get("digest").map_or("sha1", String::as_str).parse().unwrap(),
        pbkdf2_iterations: expected.get("pbkdf2").map_or(0, |rounds| rounds.parse().unwrap()),
        mode: PageMode::Ctr,
        strict_permissions: dialect == Dialect::Keyward,
        dialect,
    });
    let answer = server.unwrap().list(Deadline::after(Duration::from_secs(60)));
    (in_one_line(&answer, &path), answer.unwrap_or_default())
}

/// `ok` and each key's id, version and check value, or the kind and text of the error.
fn in_one_line(answer: &Result<Vec<KeyInfo>, Error>, path: &Path) -> String {
    match answer {
        Ok(infos) => infos.iter().fold("ok".to_owned(), |line, info| {
            let check = info.check.unwrap();
            format!("{line} {}/{}={check}", info.key.name, info.key.version)
        }),
        Err(error) => error.to_string().replace(&path.display().to_string(), "FILE"),
    }
}
