//! `keyward inspect` for people: a row for each key version that a file needs, what is wrong, and the sums.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Seen;
use crate::cli::helpers::print::{plain, table};
use crate::drill::Unwraps;
use crate::inspect::{Need, Report, Use};
use crate::report::{self, Data, DataNeed, MISSING, WRONG};

const HEAD: [&str; 6] = ["FILE", "KEY", "VERSION", "STATE", "IN USE", "FREED"];
const SUMS: [&str; 9] =
    ["KEY", "VERSION", "CIPHER", "STATE", "TABLESPACES", "LOGS", "OTHERS", "IN USE", "FREED"];

/// What was `seen` below `paths`, and its sums in `data`; whether there is a keystore to know the keys by.
pub(super) fn of(paths: &[PathBuf], seen: &[Seen<'_>], data: &Data, by_keystore: bool) -> String {
    // Names below the one folder that was asked for need not repeat it.
    let folder = match paths {
        [folder] => folder.as_path(),
        _ => Path::new(""),
    };
    let rows: Vec<_> = seen.iter().flat_map(|seen| rows(seen, folder)).collect();
    let mut text = table(&HEAD, &rows);
    for seen in seen {
        faults(&mut text, seen, folder);
    }
    text += &sums(data, by_keystore);
    text += &formats(seen);
    let clear = data.unencrypted.len();
    if clear > 0 {
        let _ = writeln!(text, "{} data in the clear", files(clear, "has", "have"));
    }
    let without = usize::try_from(data.files).unwrap_or(usize::MAX).saturating_sub(seen.len());
    if without > 0 {
        let _ = writeln!(text, "{} no key", files(without, "needs", "need"));
    }
    text
}

fn files(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 file {one}"),
        _ => format!("{count} files {many}"),
    }
}

fn name(file: &Path, folder: &Path) -> String {
    let within = file.strip_prefix(folder).ok().filter(|within| *within != Path::new(""));
    within.unwrap_or(file).display().to_string()
}

/// A row for each version in it, and one for what is in the clear.
fn rows(seen: &Seen<'_>, folder: &Path) -> Vec<Vec<String>> {
    let report = seen.report;
    let file = name(&report.file, folder);
    let row = |key: &str, version: &str, state: &str, in_use: u64, freed: u64| {
        let count = |pages: u64| if pages == 0 { dash() } else { pages.to_string() };
        vec![file.clone(), key.into(), version.into(), state.into(), count(in_use), count(freed)]
    };
    let mut rows = Vec::new();
    if let Some(name) = report.keyring_key() {
        rows.push(row(&name.to_string(), "-", of_mysql(seen), report.pages.max(1), 0));
    }
    for (need, state, in_use, freed) in versions(seen) {
        let (key, version) = (need.id.to_string(), need.version.to_string());
        rows.push(row(&key, &version, &state, in_use, freed));
    }
    if let Some(pages) = report::in_the_clear(report) {
        rows.push(row("-", "-", "plain", pages, 0));
    }
    if rows.is_empty() {
        let state = if report.unknown.is_empty() { "-" } else { "unclear" };
        rows.push(row("-", "-", state, 0, 0));
    }
    rows
}

/// The versions in a file, each with its state, its pages in use and those that were freed.
fn versions<'a>(seen: &'a Seen<'_>) -> Vec<(&'a Need, String, u64, u64)> {
    let mut versions: Vec<(&Need, String, u64, u64)> = Vec::new();
    for (n, need) in seen.report.needs.iter().enumerate() {
        let state = seen.states.as_ref().and_then(|states| states.get(n)).cloned();
        let state = state.unwrap_or_else(dash);
        let (in_use, freed) = match need.usage {
            Use::InUse => (need.count, 0),
            Use::Freed => (0, need.count),
        };
        match versions.last_mut() {
            Some((last, _, pages, old)) if (last.id, last.version) == (need.id, need.version) => {
                *pages += in_use;
                *old += freed;
            }
            _ => versions.push((need, state, in_use, freed)),
        }
    }
    versions
}

fn of_mysql(seen: &Seen<'_>) -> &'static str {
    match seen.opens {
        Some(Unwraps::Opens) => "opens",
        Some(Unwraps::Held) => "held",
        Some(Unwraps::WrongKey) => WRONG,
        Some(Unwraps::Missing) => MISSING,
        None => "-",
    }
}

/// A line for each thing that is wrong with a file, or not understood.
fn faults(text: &mut String, seen: &Seen<'_>, folder: &Path) {
    let file = plain(&name(&seen.report.file, folder));
    for why in &seen.report.unknown {
        let _ = writeln!(text, "unclear: {file}: {}", plain(why));
    }
    if let Some(name) = seen.report.keyring_key() {
        let _ = match seen.opens {
            Some(Unwraps::WrongKey) => {
                writeln!(text, "wrong key: {file}: the keystore's {name} does not open it")
            }
            Some(Unwraps::Missing) => {
                writeln!(text, "missing: {file}: the keystore has no {name}")
            }
            Some(Unwraps::Opens | Unwraps::Held) | None => Ok(()),
        };
    }
    for Need { id, version, first, .. } in seen.numbered(WRONG) {
        let key = format!("key {id} version {version}");
        let _ =
            writeln!(text, "wrong key: {file}: the keystore's {key} does not open page {first}");
    }
    for Need { id, version, .. } in seen.lacks() {
        let _ = writeln!(text, "missing: {file}: the keystore has no key {id} version {version}");
    }
}

/// A row for each key version: is a cipher, or an old version, still in use?
fn sums(data: &Data, by_keystore: bool) -> String {
    if data.needs.is_empty() {
        return String::new();
    }
    let row = |need: &DataNeed| {
        vec![
            need.key.clone(),
            need.version.map_or_else(dash, |version| version.to_string()),
            need.cipher.clone().unwrap_or_else(dash),
            if by_keystore { need.state.clone() } else { dash() },
            need.tablespaces.to_string(),
            need.logs.to_string(),
            need.others.to_string(),
            need.in_use.to_string(),
            need.freed.to_string(),
        ]
    };
    let rows: Vec<_> = data.needs.iter().map(row).collect();
    format!("\n{}\n", table(&SUMS, &rows).trim_end())
}

/// How many files there are of each format.
fn formats(seen: &[Seen<'_>]) -> String {
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    for Seen { report: Report { format, .. }, .. } in seen {
        if !format.is_empty() {
            *formats.entry(format).or_default() += 1;
        }
    }
    let line = |(format, count): (&str, usize)| match count {
        1 => format!("1 file is {}\n", plain(format)),
        _ => format!("{count} files are {}\n", plain(format)),
    };
    formats.into_iter().map(line).collect()
}

fn dash() -> String {
    "-".to_owned()
}
