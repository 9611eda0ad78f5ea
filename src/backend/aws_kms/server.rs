//! The key files of MariaDB's `aws_key_management`: one a key version, `aws-kms-key.<id>.<version>` in
//! the server's data folder. Each is a ciphertext of KMS, made without an encryption context, and
//! serves a data key.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_kms::primitives::Blob;
use zeroize::Zeroizing;

use super::MAX_CIPHERTEXT;
use super::client::{Call, Client};
use super::settings::Settings;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{
    CheckValue, Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, PageMode, Purpose,
};
use crate::provider::{KeyServer, Probe};
use crate::secret::DataKey;
use crate::trust;

/// What the name of every key file begins with.
const PREFIX: &str = "aws-kms-key.";

/// What is named where a ciphertext itself says by which key it opens.
const ITS_KEY: &str = "the key in KMS that made it";

/// Where a key file stands until it is whole.
const PART: &str = ".aws-kms-key.part";

/// Where key files are, and what makes new ones.
pub struct FileSettings {
    /// The folder: an absolute path.
    pub folder: PathBuf,
    /// How long new keys are, in bytes: 16 or 32.
    pub key_len: usize,
    /// The key in KMS that wraps new ones, none where it is empty; old ones name theirs themselves.
    pub kms: Settings,
}

/// The data keys in a folder of key files, opened by KMS.
pub struct KeyFiles {
    client: Client,
    master: String,
    folder: PathBuf,
    key_len: usize,
    opened: Mutex<BTreeMap<KeyRef, Opened>>,
}

/// What is known of a file that KMS opened once. A key is kept until somebody fetches it.
struct Opened {
    key_len: usize,
    check: CheckValue,
    data: Option<DataKey>,
}

impl KeyFiles {
    /// The keys that `settings` describe. Nothing is read and nobody called yet.
    #[must_use]
    pub fn new(settings: FileSettings, rng: Arc<dyn Rng>) -> Self {
        let FileSettings { folder, key_len, kms } = settings;
        let master = kms.key.clone();
        let client = Client::new(kms, rng);
        Self { client, master, folder, key_len, opened: Mutex::default() }
    }

    fn path(&self, id: KeyId, version: KeyVersion) -> PathBuf {
        self.folder.join(format!("{PREFIX}{id}.{version}"))
    }

    /// The path of `key`; `NotFound` for a name that no file can have.
    fn path_of(&self, key: &KeyRef) -> Result<PathBuf> {
        match key.name {
            KeyName::Id(id) => Ok(self.path(id, key.version)),
            KeyName::Named { .. } => Err(self.absent(key)),
        }
    }

    fn absent(&self, key: &KeyRef) -> Error {
        Error::new(Kind::NotFound, format!("{} has no file of {key}", self.folder.display()))
            .advise(format!("restore {PREFIX}<id>.<version> from a backup"))
    }

    /// The key versions that there are files of.
    fn scan(&self) -> Result<Vec<(KeyId, KeyVersion)>> {
        let failed = |cause: std::io::Error| Error::io("cannot list", &self.folder, &cause);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            found.extend(name.to_str().and_then(version_in));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Has KMS open the files that it has not opened yet, all in one operation.
    fn open_new(&self, files: &[(KeyId, KeyVersion)], by: Deadline) -> Result<()> {
        let is_new = |(id, version): &&(KeyId, KeyVersion)| {
            !self.opened().contains_key(&KeyRef::new(*id, *version))
        };
        let new: Vec<_> = files.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.client.run("opening key files with AWS KMS", by, |call| {
            for (id, version) in new {
                let opened = self.open(call, &self.path(*id, *version))?;
                self.opened().insert(KeyRef::new(*id, *version), opened);
            }
            Ok(())
        })
    }

    fn open(&self, call: &Call<'_>, path: &Path) -> Result<Opened> {
        let ciphertext = read(path)?;
        let data = self.decrypt(call, &ciphertext).map_err(|error| within_file(path, error))?;
        Ok(Opened { key_len: data.expose().len(), check: data.check_value(), data: Some(data) })
    }

    fn decrypt(&self, call: &Call<'_>, ciphertext: &[u8]) -> Result<DataKey> {
        let key = if self.master.is_empty() { ITS_KEY } else { &self.master };
        let answer = call.send("kms:Decrypt", key, || {
            // Without the key's name: a file made before `master_key_id` was changed opens as well.
            call.kms().decrypt().ciphertext_blob(Blob::new(ciphertext)).send()
        })?;
        let plain = answer.plaintext.ok_or_else(|| call.foreign())?;
        let plain = Zeroizing::new(plain.into_inner());
        if !matches!(plain.len(), 16 | 24 | 32) {
            let what = format!("it has {} bytes, and no key for pages has", plain.len());
            return Err(Error::new(Kind::Corrupt, what));
        }
        DataKey::copy_of(&plain)
    }

    /// Writes a key file, unless there is one, so that it survives a power cut.
    fn write(&self, path: &Path, ciphertext: &[u8]) -> Result<()> {
        let part = self.folder.join(PART);
        let failed = |cause: std::io::Error| match cause.kind() {
            ErrorKind::AlreadyExists => {
                Error::new(Kind::Conflict, format!("{} already exists", path.display()))
                    .advise("somebody else made that version; rotate again for the next one")
            }
            _ => Error::io("cannot write", path, &cause),
        };
        remove_if_there(&part).map_err(failed)?;
        let written = write_synced(&part, ciphertext)
            // A link takes nobody's place, as a rename would.
            .and_then(|()| fs::hard_link(&part, path))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        let removed = remove_if_there(&part);
        written.and(removed).map_err(failed)
    }

    /// The key in KMS that wraps new ones.
    fn master(&self) -> Result<&str> {
        match self.master.as_str() {
            "" => Err(Error::new(Kind::Config, "aws_key_management_master_key_id is not set")
                .advise("set it to the ARN of a key in AWS KMS, or to alias/NAME")),
            master => Ok(master),
        }
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<KeyRef, Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has KMS make a key, and keeps it once KMS has opened it again.
    fn generate(&self, key: &KeyRef, by: Deadline) -> Result<()> {
        let (path, master) = (self.path_of(key)?, self.master()?);
        let len = i32::try_from(self.key_len).unwrap_or_default();
        let action = "kms:GenerateDataKeyWithoutPlaintext";
        let (blob, data) = self.client.run("making a key with AWS KMS", by, |call| {
            let answer = call.send(action, master, || {
                let request = call.kms().generate_data_key_without_plaintext();
                request.key_id(master).number_of_bytes(len).send()
            })?;
            let blob = answer.ciphertext_blob.ok_or_else(|| call.foreign())?;
            let data = self.decrypt(call, blob.as_ref())?;
            Ok((blob, data))
        })?;
        self.write(&path, blob.as_ref())?;
        let opened =
            Opened { key_len: data.expose().len(), check: data.check_value(), data: Some(data) };
        self.opened().insert(key.clone(), opened);
        Ok(())
    }
}

impl KeyServer for KeyFiles {
    fn list(&self, by: Deadline) -> Result<Vec<KeyInfo>> {
        by.left("listing key files")?;
        let files = self.scan()?;
        self.open_new(&files, by)?;
        let mut opened = self.opened();
        let there = |key: &KeyRef| files.iter().any(|(id, version)| is(key, *id, *version));
        opened.retain(|key, _| there(key));
        let info = |at: usize, &(id, version): &(KeyId, KeyVersion)| {
            let key = KeyRef::new(id, version);
            let known = opened.get(&key)?;
            let newest = files.get(at + 1).is_none_or(|(next, _)| *next != id);
            let cipher = Cipher { mode: PageMode::Cbc, key_len: known.key_len };
            Some(KeyInfo {
                state: if newest { KeyState::Active } else { KeyState::Retired },
                purpose: Purpose::Pages(cipher),
                created: written(&self.path(id, version)),
                check: Some(known.check),
                key,
            })
        };
        Ok(files.iter().enumerate().filter_map(|(at, file)| info(at, file)).collect())
    }

    fn fetch(&self, key: &KeyRef, by: Deadline) -> Result<DataKey> {
        by.left(format_args!("fetching {key}"))?;
        let path = self.path_of(key)?;
        if !path.exists() {
            self.opened().remove(key);
            return Err(self.absent(key));
        }
        if let Some(data) = self.opened().get_mut(key).and_then(|known| known.data.take()) {
            return Ok(data);
        }
        let what = "opening a key file with AWS KMS";
        let opened = self.client.run(what, by, |call| self.open(call, &path))?;
        opened.data.ok_or_else(|| self.absent(key))
    }

    fn put(&self, key: &KeyRef, data: &DataKey, by: Deadline) -> Result<()> {
        by.left(format_args!("storing {key}"))?;
        let (path, master) = (self.path_of(key)?, self.master()?);
        let blob = self.client.run("wrapping with AWS KMS", by, |call| {
            let answer = call.send("kms:Encrypt", master, || {
                let plaintext = Blob::new(data.expose());
                call.kms().encrypt().key_id(master).plaintext(plaintext).send()
            })?;
            answer.ciphertext_blob.ok_or_else(|| call.foreign())
        })?;
        self.write(&path, blob.as_ref())
    }

    fn make(&self, key: &KeyRef, by: Deadline) -> Option<Result<()>> {
        Some(self.generate(key, by))
    }

    fn remove(&self, key: &KeyRef, by: Deadline) -> Result<()> {
        by.left(format_args!("removing {key}"))?;
        let path = self.path_of(key)?;
        self.opened().remove(key);
        match fs::remove_file(&path).and_then(|()| File::open(&self.folder)?.sync_all()) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => Err(self.absent(key)),
            Err(cause) => Err(Error::io("cannot remove", &path, &cause)),
            Ok(()) => Ok(()),
        }
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let infos = self.list(by)?;
        let keys = infos.iter().filter(|info| info.state == KeyState::Active).count();
        let facts = [
            ("folder", self.folder.display().to_string()),
            ("master key", self.master.clone()),
            ("keys", keys.to_string()),
            ("versions", infos.len().to_string()),
        ];
        let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
        Ok(Probe { facts: facts.map(|(name, value)| (name.to_owned(), value)).collect() })
    }
}

fn is(key: &KeyRef, id: KeyId, version: KeyVersion) -> bool {
    key.version == version && key.name == KeyName::Id(id)
}

/// Id and version in a key file's name; nothing for any other file's.
#[must_use]
pub fn version_in(name: &str) -> Option<(KeyId, KeyVersion)> {
    let (id, version) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| n.to_string() == text);
    Some((KeyId::try_from(number(id)?).ok()?, KeyVersion::try_from(number(version)?).ok()?))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |cause: std::io::Error| Error::io("cannot read", path, &cause);
    let mut bytes = Vec::new();
    let limit = MAX_CIPHERTEXT as u64 + 1;
    let file = trust::open_untrusted(path).map_err(failed)?;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.is_empty() || bytes.len() > MAX_CIPHERTEXT {
        let what = format!("{} is no ciphertext of AWS KMS", path.display());
        return Err(Error::new(Kind::Corrupt, what).advise("restore the file from a backup"));
    }
    Ok(bytes)
}

fn within_file(path: &Path, error: Error) -> Error {
    match error.kind() {
        Kind::Corrupt => {
            let what = format!(
                "{} does not open: it was changed, or is none of this account's",
                path.display()
            );
            Error::new(Kind::Corrupt, what).advise("restore the file from a backup")
        }
        _ => error.within(path.display()),
    }
}

fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// When a file was written; nothing where that cannot be told.
fn written(path: &Path) -> Option<Timestamp> {
    let seconds = fs::metadata(path).ok()?.mtime();
    u64::try_from(seconds).ok().map(Timestamp::from_unix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_files_name_is_one() {
        let numbers = |name| version_in(name).map(|(id, version)| (id.get(), version.get()));
        assert_eq!(numbers("aws-kms-key.1.1"), Some((1, 1)));
        assert_eq!(numbers("aws-kms-key.4294967295.12"), Some((u32::MAX, 12)));
        for other in [
            "aws-kms-key.1",
            "aws-kms-key.1.",
            "aws-kms-key..1",
            "aws-kms-key.01.1",
            "aws-kms-key.1.+1",
            "aws-kms-key.1.1.tmp",
            "aws-kms-key.0.1",
            "aws-kms-key.1.0",
            "aws-kms-key.4294967296.1",
            "aws-kms-key.1.4294967295",
            ".aws-kms-key.part",
            "ibdata1",
            "",
        ] {
            assert_eq!(numbers(other), None, "{other}");
        }
    }

    fn files(folder: &Path, master: &str) -> KeyFiles {
        let kms = Settings { key: master.into(), ..Settings::default() };
        let settings = FileSettings { folder: folder.into(), key_len: 16, kms };
        KeyFiles::new(settings, Arc::new(crate::env::System))
    }

    #[test]
    fn without_a_master_key_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), "");
        let key = KeyRef::new(KeyId::try_from(1).unwrap(), KeyVersion::FIRST);
        let by = || Deadline::after(std::time::Duration::from_secs(1));
        let data = DataKey::copy_of(&[7; 16]).unwrap();
        for made in [files.make(&key, by()).unwrap(), files.put(&key, &data, by())] {
            let told = made.unwrap_err().to_string();
            assert!(told.contains("aws_key_management_master_key_id is not set"), "{told}");
        }
        assert_eq!(files.list(by()).unwrap().len(), 0);
    }

    #[test]
    fn a_key_file_takes_nobodys_place() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), "alias/x");
        let path = folder.path().join("aws-kms-key.1.1");
        // What a process that was killed left behind.
        fs::write(folder.path().join(PART), "half").unwrap();
        files.write(&path, b"one").unwrap();
        let error = files.write(&path, b"other").err().unwrap();
        assert_eq!(error.kind(), Kind::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert!(!folder.path().join(PART).exists());
        assert_eq!(files.scan().unwrap().len(), 1);
    }

    #[test]
    fn a_pipe_in_a_key_files_place_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aws-kms-key.1.1");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = read(&path).err().unwrap();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_file_that_can_be_no_ciphertext_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aws-kms-key.1.1");
        for content in [Vec::new(), vec![0; MAX_CIPHERTEXT + 1]] {
            fs::write(&path, content).unwrap();
            let error = read(&path).err().unwrap();
            assert!(error.to_string().contains("aws-kms-key.1.1 is no ciphertext"), "{error}");
        }
    }
}
