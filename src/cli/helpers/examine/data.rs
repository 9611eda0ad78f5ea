//! The data directory: which key versions its files need, and what in it is not encrypted.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::catalogue::{DATA_DIRECTORY, NEEDED_VERSIONS, PLAIN_FILES};
use super::findings::Findings;
use crate::cli::helpers::confine;
use crate::cli::helpers::print::Mark;
use crate::custodian::Custodian;
use crate::error::Result;
use crate::inspect::{self, Kind, Report};
use crate::key::{KeyId, KeyName, KeyState, KeyVersion};

/// How long a data directory is read that nobody has asked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest file that is read then, in bytes: one that is begun is read to its end.
const LARGEST: u64 = 256 << 20;

/// How many files a line names.
const MAX_NAMED: usize = 5;

/// A key version of MariaDB's.
type Version = (KeyId, KeyVersion);

/// What was read of a data directory.
struct Seen {
    reports: Vec<Report>,
    /// How many files were left out.
    unread: usize,
}

/// Looks at the files in `datadir`; all of them where it was `asked` for, otherwise those that are small, as
/// far as ten seconds go.
pub(super) fn check(
    findings: &mut Findings,
    datadir: &Path,
    asked: bool,
    is_running: bool,
    custodian: Option<&Custodian>,
) {
    let shown = datadir.display();
    if !datadir.is_dir() {
        if asked {
            let what = format!("data directory: there is no folder {shown}");
            findings.fail(&DATA_DIRECTORY, what, "name the server's own with --datadir");
        }
        return;
    }
    let mut seen = match read(datadir, asked) {
        Ok(seen) => seen,
        Err(error) => return findings.error(&DATA_DIRECTORY, "data directory", &error),
    };
    if is_running {
        // Its redo log has records in it, and it is the server that will read them.
        seen.reports.iter_mut().for_each(Report::forgive_unclean);
    }
    understood(findings, datadir, &seen);
    if let Some(custodian) = custodian {
        needed(findings, &seen, custodian);
    }
    in_the_clear(findings, datadir, &seen);
}

fn read(datadir: &Path, asked: bool) -> Result<Seen> {
    let since = Instant::now();
    // A file that cannot be looked at is read all the same, which tells why.
    let is_small = |file: &Path| file.metadata().map_or(true, |found| found.len() <= LARGEST);
    let is_read = |file: &&PathBuf| asked || (since.elapsed() < PATIENCE && is_small(file));
    confine::reading(|| {
        let (files, mut reports) = inspect::walk(&[datadir.to_owned()]);
        let read: Vec<_> = files.iter().filter(is_read).map(|file| inspect::file(file)).collect();
        let unread = files.len() - read.len();
        reports.extend(read);
        Seen { reports, unread }
    })
}

/// Whether all of it could be read and understood.
fn understood(findings: &mut Findings, datadir: &Path, seen: &Seen) {
    let unclear: Vec<_> = seen.reports.iter().filter(|one| !one.unknown.is_empty()).collect();
    if let Some(first) = unclear.first() {
        let why = first.unknown.join(", ");
        let files = named(datadir, unclear.iter().map(|report| &report.file));
        let what = format!("data directory: {files} may need any key ({why})");
        findings.warn(&DATA_DIRECTORY, what, "keyward inspect tells more of each");
    }
    let (shown, read) = (datadir.display(), seen.reports.len());
    match seen.unread {
        0 if unclear.is_empty() => {
            findings
                .ok(&DATA_DIRECTORY, format!("data directory: {read} files in {shown} were read"));
        }
        0 => {}
        unread => {
            let what = format!(
                "data directory: {unread} files in {shown} were not read: they are larger than {} MiB, or \
                 {} s had passed",
                LARGEST >> 20,
                PATIENCE.as_secs()
            );
            let advice = format!("--datadir {shown} has all of them read");
            findings.add(&DATA_DIRECTORY, Mark::Skipped, what, Some(&advice));
        }
    }
}

/// Whether the keystore has each version that the files need.
fn needed(findings: &mut Findings, seen: &Seen, custodian: &Custodian) {
    let mut needs: BTreeMap<Version, u64> = BTreeMap::new();
    for need in seen.reports.iter().flat_map(|report| &report.needs) {
        if need.usage == inspect::Use::InUse {
            *needs.entry((need.id, need.version)).or_default() += need.count;
        }
    }
    let states: BTreeMap<Version, KeyState> = custodian
        .keys()
        .into_iter()
        .filter_map(|info| match info.key.name {
            KeyName::Id(id) => Some(((id, info.key.version), info.state)),
            KeyName::Named { .. } => None,
        })
        .collect();
    let mut good = 0;
    for (version, pages) in &needs {
        match judge(*version, &states) {
            Verdict::There => good += 1,
            Verdict::Compromised => {
                let what =
                    format!("{} is compromised, and {pages} pages or logs need it", key(*version));
                let advice = format!("run keyward rotate {}, then keyward keys wait", version.0);
                findings.warn(&NEEDED_VERSIONS, what, &advice);
            }
            Verdict::Missing(why) => {
                let what = format!("{} {why}, and {pages} pages or logs need it", key(*version));
                let advice =
                    "put the newest copy of the keystore back: see `keyward help the-mark`";
                findings.fail(&NEEDED_VERSIONS, what, advice);
            }
        }
    }
    if good == needs.len() && good > 0 {
        let which = if seen.unread == 0 { "that it needs" } else { "that the files read need" };
        let what = format!("data directory: all {good} key versions {which} are there");
        findings.ok(&NEEDED_VERSIONS, what);
    }
}

/// What is to be said of a version that data need.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    There,
    Compromised,
    Missing(&'static str),
}

fn judge(version: Version, states: &BTreeMap<Version, KeyState>) -> Verdict {
    match states.get(&version) {
        Some(KeyState::Compromised) => Verdict::Compromised,
        Some(KeyState::Destroyed) => Verdict::Missing("was destroyed"),
        Some(_) => Verdict::There,
        None => {
            let newest = states.keys().filter(|(id, _)| *id == version.0).map(|one| one.1).max();
            match newest {
                Some(newest) if newest < version.1 => {
                    Verdict::Missing("is newer than any that the keystore has")
                }
                _ => Verdict::Missing("is not in the keystore"),
            }
        }
    }
}

fn key((id, version): Version) -> String {
    format!("data directory: key {id} version {version}")
}

/// What a server would encrypt, and is not encrypted; a line for each kind, as each goes another way.
fn in_the_clear(findings: &mut Findings, datadir: &Path, seen: &Seen) {
    let mut any = false;
    for (kind, words, advice) in [
        (
            Kind::Tablespace,
            "tablespaces with pages in the clear",
            "InnoDB's threads encrypt them in the background, with innodb_encrypt_tables = ON and \
             innodb_encryption_threads = 4",
        ),
        (
            Kind::AriaIndex,
            "Aria tables in the clear",
            "set aria_encrypt_tables = ON, then run ALTER TABLE t FORCE for each: the server does not do it \
             by itself",
        ),
        (
            Kind::RedoLog,
            "redo log in the clear",
            "set innodb_encrypt_log = ON and restart the server",
        ),
        (
            Kind::BinaryLog,
            "binary or relay logs in the clear",
            "set encrypt_binlog = ON, restart, and purge them once no replica needs them: PURGE BINARY LOGS",
        ),
    ] {
        let plain = seen.reports.iter().filter(|one| one.kind == kind && one.is_in_the_clear());
        let plain: Vec<_> = plain.map(|report| &report.file).collect();
        if !plain.is_empty() {
            any = true;
            let (count, files) = (plain.len(), named(datadir, plain.into_iter()));
            findings.warn(
                &PLAIN_FILES,
                format!("data directory: {words} ({count}): {files}"),
                advice,
            );
        }
    }
    if !any && seen.unread == 0 {
        findings
            .ok(&PLAIN_FILES, "data directory: nothing is in the clear that is to be encrypted");
    }
}

/// Some of the files by their place in the data directory, and how many there are besides.
fn named<'a>(datadir: &Path, files: impl ExactSizeIterator<Item = &'a PathBuf>) -> String {
    let more = files.len().saturating_sub(MAX_NAMED);
    let within = |file: &PathBuf| file.strip_prefix(datadir).unwrap_or(file).display().to_string();
    let names: Vec<_> = files.take(MAX_NAMED).map(within).collect();
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_needed_is_judged_by_its_state() {
        let version = |id: u32, version: u32| {
            (KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
        };
        let states = BTreeMap::from([
            (version(1, 1), KeyState::Retired),
            (version(1, 3), KeyState::Active),
            (version(2, 1), KeyState::Compromised),
            (version(3, 1), KeyState::Destroyed),
        ]);
        for (needed, verdict) in [
            (version(1, 1), Verdict::There),
            (version(1, 3), Verdict::There),
            (version(2, 1), Verdict::Compromised),
            (version(3, 1), Verdict::Missing("was destroyed")),
            (version(1, 2), Verdict::Missing("is not in the keystore")),
            (version(1, 5), Verdict::Missing("is newer than any that the keystore has")),
            (version(9, 1), Verdict::Missing("is not in the keystore")),
        ] {
            assert_eq!(judge(needed, &states), verdict, "{needed:?}");
        }
    }

    #[test]
    fn a_large_file_is_read_only_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let table = std::fs::File::create(folder.path().join("t.ibd")).unwrap();
        table.set_len(LARGEST + 1).unwrap();
        let skipped = |asked| {
            let mut findings = Findings::default();
            check(&mut findings, folder.path(), asked, false, None);
            let skipped = findings.0.iter().find(|one| one.mark == Mark::Skipped);
            skipped.map(|one| one.what.contains("1 files in "))
        };
        assert_eq!((skipped(false), skipped(true)), (Some(true), None));
    }

    #[test]
    fn some_files_stand_for_many() {
        let files: Vec<PathBuf> = (0..7).map(|n| PathBuf::from(format!("/d/t/{n}.ibd"))).collect();
        let folder = Path::new("/d");
        assert_eq!(named(folder, files[..2].iter()), "t/0.ibd, t/1.ibd");
        let all = named(folder, files.iter());
        assert_eq!(all, "t/0.ibd, t/1.ibd, t/2.ibd, t/3.ibd, t/4.ibd and 2 more");
    }
}
