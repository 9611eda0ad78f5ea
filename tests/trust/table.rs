//! The table of SECURITY.md: each subcommand, and which files it may write.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Site, output, said};

/// What a call that only looks may write next to the keystore.
const LOOKING: [&str; 2] = ["keystore.json.lock", "keystore.json.witness"];
/// What one that changes something may write besides.
const CHANGING: [&str; 2] = ["keystore.json", "audit.jsonl"];

/// The rows: the subcommands in a row's first cell, and its other cells.
fn table() -> Vec<(String, String)> {
    let text = fs::read_to_string("SECURITY.md").unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| subcommand |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let (first, rest) = row.trim_start_matches("| ").split_once(" | ").unwrap();
        (first.to_owned(), rest.to_owned())
    })
    .collect()
}

/// The row of the subcommand `name`.
fn row(name: &str) -> String {
    let has = |first: &str| first.split(", ").any(|one| one == format!("`{name}`"));
    let mut rows = table().into_iter().filter(|(first, _)| has(first)).map(|(_, rest)| rest);
    let row = rows.next().unwrap_or_else(|| panic!("{name} is in no row"));
    assert!(rows.next().is_none(), "{name} is in two rows");
    row
}

/// The subcommands below `words`, as the help lists them.
fn subcommands(site: &Site, words: &[&str]) -> Vec<String> {
    let text = said(&site.keyward(&[words, &["--help"]].concat()));
    let lines = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split(' ').next().filter(|name| *name != "help").map(str::to_owned)
    });
    names.collect()
}

#[test]
fn every_subcommand_is_in_the_table() {
    let site = Site::empty();
    let mut seen = 0;
    for name in subcommands(&site, &[]) {
        let names = match subcommands(&site, &[&name]) {
            below if below.is_empty() => vec![name],
            below => below.iter().map(|one| format!("{name} {one}")).collect(),
        };
        names.iter().for_each(|name| drop(row(name)));
        seen += names.len();
    }
    assert!(seen > 15, "{seen} subcommands are seen");
}

/// Each file below `folder`, and what changes with its contents.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                let is = path.symlink_metadata().unwrap();
                found.insert(path, (is.ino(), is.mtime(), is.mtime_nsec(), is.size()));
            }
        }
    }
    found
}

#[test]
fn no_subcommand_writes_more_than_the_table_says() {
    let site = Site::new();
    let mut written = 0;
    for call in output::calls(&site) {
        let words: Vec<_> = call.iter().map(String::as_str).collect();
        let Some(name) = words.iter().position(|word| !word.starts_with("--")) else { continue };
        let group = ["keys", "keystore", "provider"].contains(&words[name]);
        let called = words[name..].iter().take(if group { 2 } else { 1 }).copied();
        let called = called.collect::<Vec<_>>().join(" ");
        if called.ends_with("--help") {
            continue;
        }
        let may = match row(&called) {
            row if row.ends_with("| none |") => Vec::new(),
            row if row.contains("| rollback guard, lock") => LOOKING.to_vec(),
            row if row.ends_with("| keystore, rollback guard, lock, audit trail |") => {
                [LOOKING, CHANGING].concat()
            }
            row if row
                .ends_with("| rollback guard, lock, audit trail, and the file of `--to` |") =>
            {
                [&LOOKING[..], &["audit.jsonl", "plain"]].concat()
            }
            row if row.contains("| lock, audit trail, and files in the folder `approvals`") => {
                vec!["keystore.json.lock", "audit.jsonl", "approvals"]
            }
            row if row.ends_with("| the same, and the file of `--to-file` |") => {
                [&LOOKING[..], &CHANGING, &["keys"]].concat()
            }
            row => panic!("{called}: {row}"),
        };
        let before = files(site.0.path());
        let output = site.keyward(&words);
        assert!(output.status.code() != Some(2), "{call:?}: {}", said(&output));
        let after = files(site.0.path());
        assert!(before.keys().all(|path| after.contains_key(path)), "{call:?}: a file is gone");
        for path in after.iter().filter(|(path, is)| before.get(*path) != Some(is)) {
            let name = path.0.file_name().unwrap().to_str().unwrap();
            assert!(may.contains(&name), "{call:?} wrote {}", path.0.display());
            written += 1;
        }
    }
    assert!(written > 8, "{written} files written");
}
