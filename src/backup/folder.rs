//! The folder that backups go to by themselves. Each file is written beside its place and renamed; which ones
//! are a keystore's own backups, their names, owner and first line say, and no other file is touched.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::unistd::geteuid;

use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::store::Revision;
use crate::trust;

/// How each file begins.
const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
/// How a file is called while it is written: drills pass over what begins with a dot.
const PART: (&str, &str) = (".", ".part");

/// What a backup is called: `keyward-KEYSTORE-e1-g7-20261201T091240Z.age`. Ordered by what the keystore was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// What the keystore was.
    pub revision: Revision,
    /// When the backup was made.
    pub made: Timestamp,
    /// The keystore's id.
    pub keystore: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision: Revision { epoch, generation }, made, keystore } = self;
        let made = made.to_string().replace(['-', ':'], "");
        write!(f, "keyward-{keystore}-e{epoch}-g{generation}-{made}.age")
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let inner = text.strip_prefix("keyward-").and_then(|text| text.strip_suffix(".age"));
        let mut parts = inner.ok_or(())?.rsplitn(4, '-');
        let mut next = || parts.next().ok_or(());
        let (made, generation, epoch) = (moment(next()?).ok_or(())?, next()?, next()?);
        let number = |text: &str, mark| text.strip_prefix(mark)?.parse().ok();
        let revision = Revision {
            epoch: number(epoch, 'e').ok_or(())?,
            generation: number(generation, 'g').ok_or(())?,
        };
        let name = Self { revision, made, keystore: next()?.to_owned() };
        // No other spelling of it is ours.
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

/// A moment as `20261201T091240Z`.
fn moment(text: &str) -> Option<Timestamp> {
    let [year, month, day] = [0..4, 4..6, 6..8].map(|at| text.get(at));
    let [hour, minute, second] = [9..11, 11..13, 13..15].map(|at| text.get(at));
    let (date, time) = ((year?, month?, day?), (hour?, minute?, second?));
    let text = format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, time.0, time.1, time.2);
    text.parse().ok()
}

/// The folder, of one keystore's backups.
pub struct Folder {
    path: PathBuf,
    keystore: String,
}

impl Folder {
    /// The folder at `path`, which nobody but root and we may write, for the backups of `keystore`.
    pub fn open(path: &Path, keystore: &str) -> Result<Self> {
        let opened = trust::Folder::open(path);
        opened.map_err(|refusal| {
            let missing = refusal.is_missing();
            let error = refusal.of("cannot open the folder for backups", path);
            if missing { error.advise("make it, for the server's account alone") } else { error }
        })?;
        Ok(Self { path: path.to_owned(), keystore: keystore.to_owned() })
    }

    /// Makes the file called `name` of what `bytes` gives, which is asked once there is a place for it. It is
    /// there as a whole, or not at all.
    pub fn put<B: AsRef<[u8]>>(
        &self,
        name: &Name,
        bytes: impl FnOnce() -> Result<B>,
    ) -> Result<PathBuf> {
        let path = self.path.join(name.to_string());
        let part = self.path.join(format!("{}{name}{}", PART.0, PART.1));
        // Of a call that was killed. What hinders this is told by the next line.
        let _ = fs::remove_file(&part);
        let mut file = trust::create(&part, 0o600).map_err(|cause| {
            let error = Error::io("cannot make", &part, &cause);
            match cause.kind() {
                io::ErrorKind::PermissionDenied => {
                    error.advise("let the folder belong to the server's account")
                }
                _ => error,
            }
        })?;
        let placed = bytes().and_then(|bytes| {
            let written = file.write_all(bytes.as_ref()).and_then(|()| file.sync_all());
            written.map_err(|cause| Error::io("cannot write", &part, &cause))?;
            fs::rename(&part, &path)
                .map_err(|cause| Error::io("cannot put the backup at", &path, &cause))?;
            self.sync()
        });
        if placed.is_err() {
            // Half of it is of no use.
            let _ = fs::remove_file(&part);
        }
        placed.map(|()| path)
    }

    /// Removes the oldest but `keep`, and what killed calls left; says how many backups were removed.
    pub fn prune(&self, keep: usize) -> Result<usize> {
        let (mut all, parts) = self.list()?;
        for part in parts {
            remove(&self.path.join(part))?;
        }
        all.sort();
        let surplus = all.len().saturating_sub(keep);
        for name in &all[..surplus] {
            remove(&self.path.join(name.to_string()))?;
        }
        if surplus > 0 {
            self.sync()?;
        }
        Ok(surplus)
    }

    /// Our backups of the keystore, and files that were to become some.
    fn list(&self) -> Result<(Vec<Name>, Vec<String>)> {
        let failed = |cause: &io::Error| Error::io("cannot list", &self.path, cause);
        let (mut all, mut parts) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.path).map_err(|cause| failed(&cause))? {
            let entry = entry.map_err(|cause| failed(&cause))?;
            let Some(text) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let inner = text.strip_prefix(PART.0).and_then(|text| text.strip_suffix(PART.1));
            let name: Result<Name, ()> = inner.unwrap_or(&text).parse();
            let ours = name.is_ok_and(|name| name.keystore == self.keystore);
            if !ours || !is_own(&entry.path(), inner.is_some()) {
                continue;
            }
            match (inner, text.parse()) {
                (None, Ok(name)) => all.push(name),
                _ => parts.push(text),
            }
        }
        Ok((all, parts))
    }

    fn sync(&self) -> Result<()> {
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(|cause| Error::io("cannot sync", &self.path, &cause))
    }
}

/// Whether a file is one of ours: of our account, and encrypted by age unless it is a part of one.
fn is_own(path: &Path, is_part: bool) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    if !found.is_file() || found.uid() != geteuid().as_raw() {
        return false;
    }
    let mut first = [0; FIRST_LINE.len()];
    let read = trust::open_untrusted(path).and_then(|mut file| file.read_exact(&mut first));
    is_part || (read.is_ok() && first == FIRST_LINE)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path, &cause))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::error::Kind;

    const ID: &str = "93b70be3-69e8-4419-b653-c00df5aab100";

    fn name(epoch: u64, generation: u64) -> Name {
        let revision = Revision { epoch, generation };
        let made = Timestamp::from_unix(1_796_116_360);
        Name { revision, made, keystore: ID.to_owned() }
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let here = tempfile::tempdir().unwrap();
        fs::set_permissions(here.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = Folder::open(here.path(), ID).unwrap();
        (here, folder)
    }

    #[test]
    fn a_name_says_whose_what_and_when() {
        let text = "keyward-93b70be3-69e8-4419-b653-c00df5aab100-e1-g7-20261201T091240Z.age";
        assert_eq!(name(1, 7).to_string(), text);
        assert_eq!(text.parse(), Ok(name(1, 7)));
        assert!(name(1, 9) < name(1, 10) && name(1, 10) < name(2, 11));
        for other in [
            "keyward.age",
            "keyward-x-e1-g7-20261301T091240Z.age",
            "keyward-x-e1-g07-20261201T091240Z.age",
            "keyward-x-e1-g7-20261201T091240Z.age.bak",
            "keyward-x-e1-g7-2026-12-01.age",
            "keyward-x-e1-g7-20261201Täöü40Z.age",
            "Keyward-x-e1-g7-20261201T091240Z.age",
        ] {
            assert_eq!(other.parse::<Name>(), Err(()), "{other}");
        }
    }

    #[test]
    fn the_oldest_of_ours_go_and_nobody_elses() {
        let (here, folder) = folder();
        let age = || Ok([FIRST_LINE, b"..."].concat());
        for generation in [2, 10, 9] {
            folder.put(&name(1, generation), age).unwrap();
        }
        let others = [
            "keyward-other-e1-g1-20261201T091240Z.age".to_owned(),
            "notes.txt".to_owned(),
            name(1, 1).to_string(),
        ];
        for other in &others {
            fs::write(here.path().join(other), "no backup").unwrap();
        }
        let link = here.path().join(name(1, 3).to_string());
        std::os::unix::fs::symlink(here.path().join("notes.txt"), &link).unwrap();
        let left = here.path().join(format!(".{}.part", name(1, 4)));
        fs::write(&left, "").unwrap();
        assert_eq!(folder.prune(2).unwrap(), 1);
        assert_eq!(folder.prune(2).unwrap(), 0);
        assert!(!left.exists() && link.symlink_metadata().is_ok());
        assert!(others.iter().all(|other| here.path().join(other).exists()));
        let is = |generation| here.path().join(name(1, generation).to_string()).exists();
        assert!(is(9) && is(10) && !is(2));
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let (here, folder) = folder();
        let fails = || Err::<Vec<u8>, _>(Error::new(Kind::State, "no"));
        folder.put(&name(1, 2), fails).unwrap_err();
        fs::create_dir(here.path().join(name(1, 2).to_string())).unwrap();
        folder.put(&name(1, 2), || Ok(b"...")).unwrap_err();
        assert_eq!(fs::read_dir(here.path()).unwrap().count(), 1);
        let none = here.path().join("none");
        let refused = Folder::open(&none, ID).map(drop).unwrap_err().to_string();
        assert!(refused.contains("make it"), "{refused}");
        fs::set_permissions(here.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(here.path(), ID).is_err(), "others may write it");
    }
}
