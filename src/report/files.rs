//! What data files need, counted from what was read in them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::model::{Data, DataNeed, PlainFile, Unclear};
use crate::inspect::{Kind, Need, Report, Use};
use crate::key::KeyInfo;

/// The state of a version that the keystore does not have.
pub const MISSING: &str = "missing";

/// The state of a version that a file shows to be another key than the keystore's.
pub const WRONG: &str = "wrong key";

/// Endings of files in which servers keep rows that they never encrypt: MyISAM, CSV, ARCHIVE.
const ROWS: [&str; 3] = ["MYD", "CSV", "ARZ"];

/// Counts `reports`, which are of `directories`, against the versions that the keystore has. `is_another` says
/// whether a file shows that its key is another one than the keystore's: of a need, or of MySQL's master key.
pub fn data(
    directories: &[PathBuf],
    reports: &[Report],
    keys: &[KeyInfo],
    is_another: impl Fn(&Report, Option<&Need>) -> bool,
) -> Data {
    let mut needs = Needs::new();
    let mut unencrypted = Vec::new();
    let mut unclear = Vec::new();
    for report in reports {
        let file = report.file.display().to_string();
        count(report, &mut needs, &is_another);
        if let Some(pages) = in_the_clear(report) {
            unencrypted.push(PlainFile { file: file.clone(), kind: kind(report.kind), pages });
        }
        let why = report.unknown.iter();
        unclear.extend(why.map(|why| Unclear { file: file.clone(), why: why.clone() }));
    }
    for need in needs.values_mut() {
        let same = |info: &&KeyInfo| {
            info.key.name.to_string() == need.key
                && need.version.is_none_or(|version| info.key.version.get() == version)
        };
        if let Some(info) = keys.iter().find(same) {
            need.cipher = Some(info.purpose.to_string());
            if need.state == MISSING {
                need.state = info.state.to_string();
            }
        }
    }
    Data {
        directories: directories.iter().map(|path| path.display().to_string()).collect(),
        files: reports.len() as u64,
        needs: needs.into_values().collect(),
        unencrypted,
        unclear,
    }
}

/// What needs a key version, by key and version.
type Needs = BTreeMap<(String, Option<u32>), DataNeed>;

/// Adds what one file needs. A file that carries a version in freed pages alone does not need it.
fn count(report: &Report, needs: &mut Needs, is_another: &impl Fn(&Report, Option<&Need>) -> bool) {
    if let Some(name) = report.keyring_key() {
        let need = entry(needs, name.to_string(), None);
        if is_another(report, None) {
            WRONG.clone_into(&mut need.state);
        }
        need.in_use += report.pages.max(1);
        count_file(need, report.kind);
        return;
    }
    for found in &report.needs {
        let Need { id, version, usage, count, .. } = found;
        let need = entry(needs, id.to_string(), Some(version.get()));
        if is_another(report, Some(found)) {
            WRONG.clone_into(&mut need.state);
        }
        match usage {
            Use::InUse => {
                need.in_use += count;
                count_file(need, report.kind);
            }
            Use::Freed => need.freed += count,
        }
    }
}

fn entry(needs: &mut Needs, key: String, version: Option<u32>) -> &mut DataNeed {
    needs.entry((key.clone(), version)).or_insert_with(|| DataNeed {
        key,
        version,
        cipher: None,
        state: MISSING.to_owned(),
        tablespaces: 0,
        logs: 0,
        others: 0,
        in_use: 0,
        freed: 0,
    })
}

fn count_file(need: &mut DataNeed, kind: Kind) {
    match kind {
        Kind::Tablespace => need.tablespaces += 1,
        Kind::RedoLog | Kind::BinaryLog => need.logs += 1,
        _ => need.others += 1,
    }
}

/// How many pages of a file hold data in the clear, where it has any; 0 for a file without pages. Of a tablespace that
/// is encrypted the server leaves the pages in the clear that hold no row.
#[must_use]
pub fn in_the_clear(report: &Report) -> Option<u64> {
    let is_whole = report.needs.is_empty() && report.keyring_key().is_none();
    let understood = report.unknown.is_empty();
    match (report.kind, is_whole) {
        (Kind::RedoLog | Kind::BinaryLog, _) => (is_whole && understood).then_some(0),
        (Kind::Plain, _) => {
            let ending = report.file.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| ROWS.contains(&ending)).then_some(0)
        }
        (_, true) => (report.unencrypted > 0).then_some(report.unencrypted),
        (_, false) => {
            report.unencrypted.checked_sub(report.never_encrypted).filter(|pages| *pages > 0)
        }
    }
}

fn kind(kind: Kind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inspect;

    fn of(samples: &[&str]) -> Data {
        let folder = Path::new("tests/golden/inspect");
        let reports: Vec<_> =
            samples.iter().map(|name| inspect::file(&folder.join(name))).collect();
        data(&[folder.to_owned()], &reports, &[], |_, _| false)
    }

    #[test]
    fn what_is_not_encrypted_is_named_and_pages_without_rows_are_not() {
        let found = of(&[
            "full-crc32.ibd",
            "full-crc32-plain.ibd",
            "older-spatial.ibd",
            "mysql.ibd",
            "binlog.000001",
        ]);
        let named: Vec<_> = found
            .unencrypted
            .iter()
            .map(|one| (one.file.rsplit('/').next().unwrap(), one.kind.as_str()))
            .collect();
        // The older format leaves spatial indexes in the clear.
        let expected =
            [("full-crc32-plain.ibd", "tablespace"), ("older-spatial.ibd", "tablespace")];
        assert_eq!(named, expected);
        assert_eq!((found.files, found.unclear.len()), (5, 0));
        let mysqls = found.needs.iter().find(|one| one.version.is_none()).unwrap();
        assert!(mysqls.key.starts_with("INNODBKey-") && mysqls.tablespaces == 1, "{mysqls:?}");
    }

    #[test]
    fn a_version_is_counted_once_a_file() {
        let found = of(&["full-crc32.ibd", "older.ibd", "aria.MAD", "binlog.000001"]);
        let need = |key: &str, version| {
            let mut all = found.needs.iter();
            all.find(|one| one.key == key && one.version == Some(version)).unwrap().clone()
        };
        let used = need("4", 9);
        assert_eq!((used.tablespaces, used.in_use, used.freed), (2, 6, 0));
        assert_eq!((used.state.as_str(), used.cipher), (MISSING, None));
        let freed = need("4", 5);
        assert_eq!((freed.tablespaces, freed.in_use, freed.freed), (0, 0, 10));
        assert!(found.needs.iter().any(|one| one.logs == 1));
    }

    #[test]
    fn another_key_is_told_from_a_missing_one() {
        let report = inspect::file(Path::new("tests/golden/inspect/full-crc32.ibd"));
        let found =
            data(&[], &[report], &[], |_, need| need.is_some_and(|it| it.version.get() == 9));
        let states: Vec<_> = found.needs.iter().map(|one| one.state.as_str()).collect();
        assert_eq!(states, [MISSING, WRONG]);
    }
}
