//! The plan of the house, held against the code: who may import whom, and where `unsafe` may stand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "architecture/circles.rs"]
mod circles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each room of the library and the rooms it may import. Anything else is a wrong-way import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("hex", &["error"]),
    ("env", &["error"]),
    ("trust", &["error"]),
    ("key", &["env", "error", "hex"]),
    ("secret", &["env", "error", "key", "trust"]),
    ("cipher", &["secret", "error"]),
    ("inspect", &["env", "error", "key", "secret", "trust"]),
    ("age", &["env", "error", "secret"]),
    ("approval", &["env", "error", "hex", "trust"]),
    ("shares", &["env", "error", "hex", "secret"]),
    ("binlog", &["cipher", "error", "inspect", "key", "secret"]),
    ("provider", &["env", "error", "key", "secret"]),
    ("config", &["env", "error", "key", "policy", "secret", "trust"]),
    ("backend", &["config", "env", "error", "hex", "key", "provider", "secret", "trust"]),
    ("ring", &["error", "key", "secret"]),
    ("store", &["env", "error", "hex", "key", "provider", "secret", "trust"]),
    ("backup", &["env", "error", "hex", "key", "ring", "secret", "store", "trust"]),
    ("drill", &["inspect", "key", "ring"]),
    ("mark", &["env", "error", "hex", "inspect", "key", "ring", "secret", "store", "trust"]),
    ("policy", &["env", "error", "key", "store"]),
    ("event", &["cipher", "env", "error", "hex", "key", "secret", "trust"]),
    ("report", &["env", "error", "event", "hex", "inspect", "key", "policy", "store"]),
    ("source", &["env", "error", "event", "key", "provider", "ring", "secret", "store"]),
    (
        "manager",
        &[
            "approval", "backup", "env", "error", "event", "hex", "key", "policy", "provider",
            "ring", "secret", "source", "store",
        ],
    ),
    (
        "custodian",
        &[
            "env", "error", "event", "hex", "key", "manager", "policy", "provider", "ring",
            "secret", "source", "store",
        ],
    ),
    ("sink", &["backend", "config", "env", "error", "event", "key", "secret", "trust"]),
    (
        "assemble",
        &[
            "backend",
            "backup",
            "config",
            "custodian",
            "env",
            "error",
            "event",
            "hex",
            "key",
            "manager",
            "mark",
            "provider",
            "ring",
            "secret",
            "sink",
            "source",
            "store",
            "trust",
        ],
    ),
    (
        "compat",
        &[
            "assemble",
            "backend",
            "config",
            "custodian",
            "env",
            "error",
            "key",
            "manager",
            "secret",
            "source",
            "trust",
        ],
    ),
    (
        "mariadb",
        &[
            "assemble",
            "cipher",
            "compat",
            "custodian",
            "env",
            "error",
            "event",
            "key",
            "manager",
            "ring",
            "secret",
            "source",
        ],
    ),
    (
        "mysql",
        &[
            "assemble",
            "config",
            "custodian",
            "env",
            "error",
            "event",
            "key",
            "ring",
            "secret",
            "source",
            "trust",
        ],
    ),
    ("sql", &["custodian", "env", "error", "event", "key", "mariadb", "mysql", "ring", "store"]),
    (
        "cli",
        &[
            "age",
            "approval",
            "assemble",
            "backup",
            "binlog",
            "cipher",
            "compat",
            "config",
            "custodian",
            "drill",
            "env",
            "error",
            "event",
            "hex",
            "inspect",
            "key",
            "manager",
            "mark",
            "policy",
            "provider",
            "report",
            "secret",
            "shares",
            "source",
            "store",
            "trust",
        ],
    ),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// The helper in `src/backend` that several of them call their key stores with.
const HTTP: &str = "http";

/// Where `unsafe` may stand: locked memory, kernels, each door's ABI, and two system calls by which the
/// command becomes another user.
const UNSAFE_ROOMS: &[&str] = &[
    "src/secret/",
    "src/cipher/",
    "src/mariadb/ffi",
    "src/mysql/ffi",
    "src/sql/ffi.rs",
    "src/cli/helpers/privilege/kernel.rs",
];

#[test]
fn imports_run_downwards() {
    let files = sources().into_iter().map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, text)
    });
    let wrong = wrong_ways(files);
    assert!(wrong.is_empty(), "wrong-way imports:\n{}", wrong.join("\n"));
}

#[test]
fn a_wrong_way_import_is_found() {
    let found = |file: &str, text: &str| wrong_ways([(file.into(), text.to_owned())]).len();
    assert_eq!(found("src/event/metrics.rs", "use crate::custodian::Custodian;"), 1);
    assert_eq!(found("src/event/trail.rs", "let file = crate::store::StoreFile::at(path);"), 1);
    assert_eq!(found("src/backend/vault/server.rs", "use crate::event::{Event, Trail};"), 1);
    assert_eq!(found("src/store/file.rs", "use crate::event::Event;"), 1);
    assert_eq!(found("src/mysql/open.rs", "use crate::event::metrics::{self, Facts};"), 0);
    assert_eq!(found("src/event/metrics.rs", "use crate::{cipher, secret};"), 0);
    assert_eq!(found("src/event/metrics.rs", "use crate::{custodian, secret};"), 1);
}

/// The imports that are not on the plan.
fn wrong_ways(files: impl IntoIterator<Item = (PathBuf, String)>) -> Vec<String> {
    let rules: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, text) in files {
        let room = room_of(&file);
        let Some(allowed) = rules.get(room.as_str()) else {
            panic!("{}: room {room:?} is not on the plan in this test", file.display());
        };
        for (line, target) in imports(&text) {
            if target != room && !allowed.contains(&target.as_str()) {
                wrong.push(format!("{}:{line}: {room} imports {target}", file.display()));
            }
        }
    }
    wrong
}

#[test]
fn backends_do_not_know_each_other() {
    let names: Vec<String> = std::fs::read_dir("src/backend")
        .unwrap()
        .map(|entry| stem(&entry.unwrap().path()))
        .filter(|name| name != "mod" && name != HTTP)
        .collect();
    for file in sources().into_iter().filter(|file| file.starts_with("src/backend")) {
        let own = stem(Path::new(file.components().nth(2).unwrap().as_os_str()));
        if own == "mod" {
            continue;
        }
        if own == HTTP {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(!text.contains("backend::"), "{} knows a key store", file.display());
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for other in names.iter().filter(|name| **name != own) {
            let path = format!("backend::{other}");
            assert!(!text.contains(&path), "{} knows {path}", file.display());
        }
    }
}

/// The files of a key store's folder, by their jobs, and how code shows that it does one. The same job has
/// the same name in all of them.
const JOBS: &[(&str, &[&str])] = &[
    ("mod", &["static BACKEND", ": Backend = Backend"]),
    ("settings", &["fn read(section: &Section)"]),
    ("client", &[]),
    ("wrapper", &["impl KeyWrapper for"]),
    ("server", &["impl KeyServer for"]),
    ("lookup", &["impl KeyLookup for"]),
    ("returning", &["fn return_one(&self"]),
    ("setup", &["fn create_key(&self", "fn create_key_file(", "fn set_up(&self"]),
    ("failure", &[]),
    ("kek", &["struct Kek {"]),
    ("mechanism", &["impl FromStr for WrapMechanism"]),
    ("tests", &[]),
];

/// What else a key store has: its protocol, its formats, its names.
const PARTS: &[(&str, &[&str])] = &[
    ("aws_kms", &["arn", "files"]),
    (
        "azure_keyvault",
        &["challenge", "credentials", "jwt", "line", "login", "name", "payload", "refusal"],
    ),
    ("file", &["encrypted", "keyfile", "resembling"]),
    ("gcp_kms", &["adc", "crc32c", "jwt", "line", "login", "name"]),
    (
        "kmip",
        &[
            "attributes",
            "calls",
            "frame",
            "connection",
            "message",
            "requests",
            "scripted",
            "tags",
            "ttlv",
        ],
    ),
    ("local", &["derive", "keyfile"]),
    ("pkcs11", &["worker_pool", "module", "payload", "uri"]),
    ("vault", &["jwt", "login", "namespace", "nodes", "rights", "secrets", "session"]),
];

#[test]
fn key_stores_have_the_same_files_for_the_same_jobs() {
    let files = sources().into_iter().map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, text)
    });
    let wrong = misplaced_jobs(files);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_job_in_another_file_is_found() {
    let found = |name: &str, text: &str| {
        let file = (PathBuf::from(format!("src/backend/vault/{name}")), text.to_owned());
        misplaced_jobs([file]).len()
    };
    assert_eq!(found("transit.rs", ""), 1, "a name of its own");
    assert_eq!(found("client.rs", "impl KeyWrapper for Transit {"), 1, "a wrapper elsewhere");
    assert_eq!(found("wrapper.rs", "    pub fn create_key(&self) {"), 1, "making keys elsewhere");
    assert_eq!(found("wrapper.rs", "impl KeyWrapper for Transit {"), 0);
    assert_eq!(found("login.rs", "struct Token;"), 0);
}

fn misplaced_jobs(files: impl IntoIterator<Item = (PathBuf, String)>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, text) in files {
        let parts: Vec<_> =
            file.components().map(|part| part.as_os_str().to_str().unwrap()).collect();
        let ["src", "backend", store, name] = parts[..] else { continue };
        if store == HTTP {
            continue;
        }
        let own = PARTS.iter().find(|(known, _)| *known == store).map_or(&[][..], |(_, own)| own);
        let name = name.trim_end_matches(".rs");
        if !JOBS.iter().any(|(job, _)| *job == name) && !own.contains(&name) {
            wrong.push(format!("{}: a name for no job that key stores have", file.display()));
        }
        for (line, code) in code_lines(&text) {
            let job = JOBS.iter().find(|(_, signs)| signs.iter().any(|sign| code.contains(sign)));
            if let Some((job, _)) = job.filter(|(job, _)| *job != name) {
                wrong.push(format!("{}:{line}: this belongs into {job}.rs", file.display()));
            }
        }
    }
    wrong
}

/// A command sees the helpers and those of its own group; a helper sees no command.
#[test]
fn commands_do_not_know_each_other() {
    let commands: Vec<String> = std::fs::read_dir("src/cli")
        .unwrap()
        .map(|entry| stem(&entry.unwrap().path()))
        .filter(|name| name != "mod" && name != "helpers")
        .collect();
    for file in sources().into_iter().filter(|file| file.starts_with("src/cli/")) {
        let own = stem(Path::new(file.components().nth(2).unwrap().as_os_str()));
        if own == "mod" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (line, code) in code_lines(&text) {
            let known = commands
                .iter()
                .find(|name| **name != own && code.contains(&format!("cli::{name}::")));
            assert!(known.is_none(), "{}:{line} knows {}", file.display(), known.unwrap());
            let climbs = code.contains("use super::super");
            assert!(!climbs, "{}:{line} climbs by `super`", file.display());
        }
    }
}

/// Whose key stores there are. Code outside of their folders chooses by the table of backends.
const VENDORS: &[&str] = &["aws", "azure", "gcp", "google", "kmip", "pkcs11", "softhsm", "vault"];

/// Where they are named: their own folders, and the plugins that keyward stands in for.
const VENDORS_ROOMS: &[&str] = &["src/backend", "src/compat"];

#[test]
fn vendors_are_named_in_their_folders() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let named = vendors_named(&file, &text);
        assert!(named.is_empty(), "{}: {named:?}", file.display());
    }
}

#[test]
fn a_vendor_named_elsewhere_is_found() {
    let found = |file: &str, text: &str| vendors_named(Path::new(file), text).len();
    assert_eq!(found("src/assemble/kmip.rs", "use crate::backend::kmip::KmipWrapper;"), 1);
    assert_eq!(found("src/cli/init.rs", "// as Vault does\nlet folder = \"/etc/keyward\";"), 0);
    assert_eq!(found("src/compat/kmip_key_management.rs", "let name = \"kmip\";"), 0);
    assert_eq!(found("src/backend/vault/mod.rs", "kind: \"vault-kv\","), 0);
}

/// Where code outside of the key stores' own rooms, and of the plugins named after them, names one.
fn vendors_named(file: &Path, text: &str) -> Vec<(usize, &'static str)> {
    if VENDORS_ROOMS.iter().any(|room| file.starts_with(room)) {
        return Vec::new();
    }
    let named = |(line, code): (usize, &str)| {
        let code = code.to_lowercase();
        VENDORS.iter().find(|vendor| code.contains(**vendor)).map(|vendor| (line, *vendor))
    };
    code_lines(text).filter_map(named).collect()
}

#[test]
fn no_error_is_known_by_its_text() {
    for file in sources().into_iter().filter(|file| stem(file) != "tests") {
        let text = std::fs::read_to_string(&file).unwrap();
        let found = text_searches(&text);
        assert!(found.is_empty(), "{}:{found:?} searches an error's text", file.display());
    }
}

#[test]
fn a_search_in_an_errors_text_is_found() {
    for code in [
        "if error.what() == NOT_SET {",
        "error.what().starts_with(\"File '\")",
        "let Some(bare) = error\n    .what()\n    .strip_prefix(\"provider\") else {",
        "error.to_string().contains(\"not found\")",
        "error.advice().map(|text| text.replace(ours, theirs))",
    ] {
        assert_eq!(text_searches(code).len(), 1, "{code}");
    }
    let shown = "Error::new(Kind::State, error.what().to_owned())\nprintln!(\"{}\", error.what());";
    assert!(text_searches(shown).is_empty());
}

/// The lines that look for a meaning in the text of an error or of its advice.
fn text_searches(text: &str) -> Vec<usize> {
    const TEXTS: &[&str] =
        &[".what()", "error.to_string()", "error.advice()", "advice().map(|text| text"];
    const SEARCHES: &[&str] = &[
        " ==",
        " !=",
        ".contains(",
        ".ends_with(",
        ".find(",
        ".replace(",
        ".split",
        ".starts_with(",
        ".strip_",
    ];
    let mut found = Vec::new();
    let (mut code, mut lines) = (String::new(), Vec::new());
    for (n, line) in code_lines(text) {
        let line = line.trim();
        // A chain of calls goes on in the next line.
        if !line.starts_with('.') {
            code.push(' ');
        }
        lines.push((code.len(), n));
        code.push_str(line);
    }
    for what in TEXTS {
        for (at, _) in code.match_indices(what) {
            let rest = &code[at + what.len()..];
            if SEARCHES.iter().any(|search| rest.starts_with(search)) {
                found.extend(lines.iter().rev().find(|(start, _)| *start <= at).map(|(_, n)| *n));
            }
        }
    }
    found
}

#[test]
fn unsafe_stays_fenced() {
    for file in sources() {
        let name = file.display().to_string();
        if UNSAFE_ROOMS.iter().any(|room| name.starts_with(room)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (n, line) in code_lines(&text) {
            let loose = line.contains("unsafe ") || line.contains("allow(unsafe_code)");
            assert!(!loose || line.contains("forbid("), "{name}:{n}: unsafe outside its rooms");
        }
    }
}

/// Said in each file, so that its reader need not look for the fence. The modules above a fenced room
/// cannot say it: it would hold in the room, too.
#[test]
fn files_outside_the_fences_forbid_unsafe() {
    let fenced = |name: &str| UNSAFE_ROOMS.iter().any(|room| name.starts_with(room));
    for file in sources() {
        let name = file.display().to_string();
        let within = match name.strip_suffix("mod.rs") {
            _ if name == "src/lib.rs" => "src/".to_owned(),
            Some(folder) => folder.to_owned(),
            None => format!("{}/", name.trim_end_matches(".rs")),
        };
        let is_above = UNSAFE_ROOMS.iter().any(|room| room.starts_with(&within));
        let text = std::fs::read_to_string(&file).unwrap();
        let says = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
        assert!(says || is_above || fenced(&name), "{name} does not forbid unsafe code");
    }
}

/// Why is in the documentation of `src/cipher/x86/mod.rs`.
#[test]
fn kernels_have_no_closures() {
    let rooms = sources().into_iter().filter(|file| file.starts_with("src/cipher/x86"));
    for file in rooms.filter(|file| stem(file) != "twice") {
        let text = std::fs::read_to_string(&file).unwrap();
        for (n, line) in code_lines(&text) {
            let closure = ["(|", ", |", "= |", "move |"].iter().any(|begins| line.contains(begins));
            assert!(!closure, "{}:{n}: a closure in a kernel", file.display());
        }
    }
}

#[test]
fn files_can_be_read_in_a_sitting() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let body = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or(&text);
        let lines = body.lines().count();
        assert!(lines <= 600, "{} has {lines} lines before its tests", file.display());
    }
}

#[test]
fn the_plan_names_only_rooms_that_stand() {
    for (room, _) in MAY_IMPORT {
        let file = PathBuf::from(format!("src/{room}.rs"));
        let folder = PathBuf::from(format!("src/{room}/mod.rs"));
        assert!(file.exists() || folder.exists(), "no room src/{room}");
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 10, "the sources were not found");
    found
}

fn room_of(file: &Path) -> String {
    stem(Path::new(file.components().nth(1).unwrap().as_os_str()))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Every `crate::room` (in `main.rs`: `keyward::room`) named in code, with its line; `crate::{a, b}`
/// names both.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (n, line) in code_lines(text) {
        for prefix in ["crate::", "keyward::"] {
            for rest in line.split(prefix).skip(1) {
                let names = match rest.strip_prefix('{').and_then(|list| list.split_once('}')) {
                    Some((list, _)) => list.split(", ").collect(),
                    None => vec![rest],
                };
                for name in names {
                    let is_part = |c: &char| c.is_ascii_lowercase() || *c == '_';
                    let word: String = name.chars().take_while(is_part).collect();
                    if !word.is_empty() {
                        found.push((n, word));
                    }
                }
            }
        }
    }
    found
}

/// The lines that are code, numbered from 1: comments and inline tests left out.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .enumerate()
        .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("")))
        .filter(|(_, line)| !line.trim().is_empty())
}
