//! What the documents say, held against the code and the files that they name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every key that the code asks a section for stands in the documents, and every documented one is asked
/// for: those of the file's own sections in `docs/configuration.md`, a key store's on its page, a sink's with the audit trail.
#[test]
fn settings_are_documented() {
    let own = [
        "config.rs",
        "config/audit.rs",
        "config/backup.rs",
        "config/policy.rs",
        "config/report.rs",
        "config/sink.rs",
        "config/stash.rs",
    ];
    let own = own.map(|file| Path::new("src").join(file));
    let page = std::fs::read_to_string("docs/configuration.md").unwrap();
    let asked: BTreeSet<String> = own.iter().flat_map(|file| settings_in(file)).collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(asked, documented, "left: the code, right: docs/configuration.md");

    let pages = std::fs::read_dir("docs/providers").unwrap();
    let pages = pages.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let trail = std::fs::read_to_string("docs/audit-trail.md").unwrap();
    let pages = page + &trail + &pages.collect::<String>();
    let stores = ["src/backend", "src/sink"];
    let of_stores = |file: &PathBuf| stores.iter().any(|folder| file.starts_with(folder));
    for file in sources().into_iter().filter(of_stores) {
        for key in settings_in(&file) {
            let has = ["`", " ="].iter().any(|end| pages.contains(&format!("`{key}{end}")));
            assert!(has, "{}: {key} has no words", file.display());
        }
    }
}

/// The keys that a file asks a section of the configuration for, by its calls.
fn settings_in(file: &Path) -> Vec<String> {
    const ASKS: &[&str] =
        &["text", "texts", "table", "path", "number", "boolean", "duration", "parsed", "required"];
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let asks = ASKS.iter().flat_map(|ask| {
        let call = format!("section.{ask}(\"");
        code.match_indices(&call).map(|(at, _)| at + call.len()).collect::<Vec<_>>()
    });
    let counted = code.match_indices("count(&section, \"").map(|(at, call)| at + call.len());
    let in_paths = code.match_indices("path(section, \"").map(|(at, call)| at + call.len());
    let named = asks.chain(counted).chain(in_paths);
    let named = named.map(|at| code[at..].split('"').next().unwrap().to_owned());
    let is_test = file.to_str().unwrap().ends_with("tests.rs");
    named.chain(secrets_in(code)).filter(|_| !is_test).collect()
}

/// The keys by which a secret is asked for: the places where it may be, not the words that name it.
fn secrets_in(code: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for (at, _) in code.match_indices("section.secret(") {
        // The list of places is an argument, or the variable `keys` before the call.
        let call = &code[at..at + code[at..].find(')').unwrap()];
        let list = match call.contains('[') {
            true => call,
            false => &code[code[..at].rfind("let keys = [").unwrap()..at],
        };
        let list = &list[list.find('[').unwrap()..list.find(']').unwrap()];
        keys.extend(list.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    keys
}

/// A record of a decision: its number and name, a word on what replaced it if something did, and three
/// parts.
#[test]
fn decisions_are_recorded_in_one_form() {
    let records = std::fs::read_dir("docs/adr").unwrap().map(|entry| entry.unwrap().path());
    let mut numbers = BTreeSet::new();
    for record in records {
        let text = std::fs::read_to_string(&record).unwrap();
        let name = record.file_name().unwrap().to_str().unwrap();
        let wrong = wrong_form(name, &text);
        assert!(wrong.is_none(), "{name}: {}", wrong.unwrap());
        assert!(numbers.insert(name[..4].to_owned()), "{name}: its number is taken");
    }
}

#[test]
fn a_decision_in_another_form_is_found() {
    let good = "# 7. It is so\n\n## Context\n\na\n\n## Decision\n\nb\n\n## Consequence\n\nc\n";
    assert_eq!(wrong_form("0007-it-is-so.md", good), None);
    assert!(wrong_form("0008-it-is-so.md", good).is_some());
    for (part, other) in [
        ("## Context\n", "**Context.** "),
        ("## Decision\n\nb\n\n", ""),
        ("## Consequence", "## Consequences"),
        ("## Decision\n\n", "## Decision\n"),
        ("\n## Consequence\n\nc", "\n## Consequence\n\nc\n\n## More"),
    ] {
        assert!(
            wrong_form("0007-it-is-so.md", &good.replacen(part, other, 1)).is_some(),
            "{other}"
        );
    }
}

/// How a record's form differs from the others', if it does.
fn wrong_form(name: &str, text: &str) -> Option<String> {
    let title = name.get(..4).unwrap_or_default().trim_start_matches('0');
    if !text.starts_with(&format!("# {title}. ")) {
        return Some(format!("its first line does not begin with {title:?}"));
    }
    let lines: Vec<&str> = text.lines().collect();
    let parts: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("##")).collect();
    if parts != ["## Context", "## Decision", "## Consequence"] {
        return Some(format!("its parts are {parts:?}"));
    }
    let is_close = |pair: &&[&str]| pair[0].starts_with('#') && !pair[1].is_empty();
    let close = lines.windows(2).find(is_close);
    close.map(|pair| format!("no empty line below {:?}", pair[0]))
}

/// Words of a dialect of its own, with what a database engineer would say.
const DIALECT: &[(&str, &str)] = &[
    ("anew", "again, new"),
    ("is there already", "already exists"),
    ("are there already", "already exist"),
    ("mend", "correct, repair, fix"),
    ("mends", "corrects"),
    ("mended", "corrected"),
    ("heeds", "checks"),
    ("doomed", "pending destruction"),
];

#[test]
fn prose_is_what_people_say() {
    for file in sources().into_iter().chain(pages()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            let is_letter = |at: Option<char>| at.is_some_and(char::is_alphanumeric);
            let has = |word: &str| {
                line.match_indices(word).any(|(at, _)| {
                    !is_letter(line[..at].chars().next_back())
                        && !is_letter(line[at + word.len()..].chars().next())
                })
            };
            let found = DIALECT.iter().find(|(word, _)| has(word));
            assert!(found.is_none(), "{}:{}: {:?}", file.display(), n + 1, found.unwrap());
        }
    }
}

/// A comment has a subject or a verb: "Checks that it is so", not "That it is so".
#[test]
fn comments_are_sentences() {
    let begins = ["/// That ", "// That ", "//! That "];
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let found = text
            .lines()
            .position(|line| begins.iter().any(|begin| line.trim_start().starts_with(begin)));
        assert!(found.is_none(), "{}:{}", file.display(), found.unwrap_or_default() + 1);
    }
}

/// The pages that people read, but for the records of decisions, which tell of their own time.
fn pages() -> Vec<PathBuf> {
    let mut files =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from).to_vec();
    for folder in ["docs", "docs/providers"] {
        let pages = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.extend(pages.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    files
}

#[test]
fn files_and_modules_that_documents_name_exist() {
    let mut missing = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for (n, line) in text.lines().enumerate() {
            // What stands between back quotes is every second part.
            for name in line.split('`').skip(1).step_by(2) {
                if is_path(name) && !Path::new(name).exists() || is_module(name) && !module(name) {
                    missing.push(format!("{}:{}: {name}", page.display(), n + 1));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn names_of_files_and_modules_are_told_from_other_words() {
    assert!(is_path("src/store/file.rs") && is_path("tests/golden") && !is_path("tests/golden *"));
    assert!(!is_path("target/release") && !is_path("keyward keys list"));
    assert!(
        is_module("cli::helpers")
            && module("cli::helpers::print")
            && module("cli::helpers::privilege")
    );
    assert!(is_module("cli::nobody") && !module("cli::nobody"));
    assert!(!is_module("Manager::commit") && !is_module("key"));
}

/// Whether `name` is a file's or a folder's of the repository.
fn is_path(name: &str) -> bool {
    const TOP: &[&str] =
        &["src", "tests", "testing", "docs", "benches", "fuzz", "xtask", "mariadb-test", "include"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    name.split_once('/').is_some_and(|(top, _)| TOP.contains(&top)) && name.chars().all(plain)
}

/// Whether `name` is a module's of the library, or a test's in one.
fn is_module(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
    let room = name.split_once("::").map(|(room, _)| room);
    name.chars().all(plain)
        && room.is_some_and(|room| {
            Path::new("src").join(room).is_dir() || Path::new(&format!("src/{room}.rs")).exists()
        })
}

/// Whether there is such a module, or a test of this name below one.
fn module(name: &str) -> bool {
    let parts: Vec<&str> = name.split("::").filter(|part| !part.is_empty()).collect();
    (1..=parts.len()).rev().any(|depth| {
        let path = Path::new("src").join(parts[..depth].join("/"));
        let file =
            [path.with_extension("rs"), path.join("mod.rs")].into_iter().find(|file| file.exists());
        match parts.get(depth) {
            None => file.is_some(),
            Some(part) => file.is_some_and(|file| {
                let text = std::fs::read_to_string(file).unwrap();
                let named = [format!("mod {part}"), format!("fn {part}")];
                depth + 1 >= parts.len() && named.iter().any(|word| text.contains(word))
                    || *part == "tests"
            }),
        }
    })
}

#[test]
fn every_layer_of_the_tests_has_its_row() {
    let code = std::fs::read_to_string("xtask/src/layer/mod.rs").unwrap();
    let page = std::fs::read_to_string("CONTRIBUTING.md").unwrap();
    let layers: Vec<_> =
        code.lines().filter_map(|line| line.trim().strip_prefix("name: \"")).collect();
    assert!(layers.len() > 10, "the layers were not found");
    for layer in layers {
        let row = format!("| `{}` |", layer.split('"').next().unwrap());
        assert!(page.contains(&row), "CONTRIBUTING.md has no row {row}");
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
    assert!(found.len() > 10, "the sources were not found");
    found
}
