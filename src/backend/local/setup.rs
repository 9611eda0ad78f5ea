//! Makes key files.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::KEK_LEN;
use crate::env::Rng;
use crate::error::{Error, Result};
use crate::key::CheckValue;
use crate::secret::{DataKey, SecretBytes};
use crate::trust;

/// Only the owner reads it, until he says otherwise.
const MODE: u32 = 0o600;

/// Writes a new random wrapping key as a line of hex to the new file `path`, which must not exist,
/// and returns the key's check value. When it returns, file and name are on the disk.
pub fn create_key_file(path: &Path, rng: &dyn Rng) -> Result<CheckValue> {
    let key = DataKey::generate(KEK_LEN, rng)?;
    let text = SecretBytes::build(2 * KEK_LEN + 1, |text| {
        for (pair, byte) in text.chunks_exact_mut(2).zip(key.expose()) {
            pair[0] = hex_digit(byte >> 4);
            pair[1] = hex_digit(byte & 0xf);
        }
        text[2 * KEK_LEN] = b'\n';
        Result::Ok(())
    })?;
    let mut file = trust::create(path, MODE).map_err(|cause| cannot_create(path, &cause))?;
    let written = file
        .write_all(text.expose())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path))
        .map_err(|cause| Error::io("cannot write key file", path, &cause));
    if written.is_err() {
        // Ours alone, and no key that anything was wrapped with: better none than half of one.
        let _ = std::fs::remove_file(path);
    }
    written.map(|()| key.check_value())
}

fn cannot_create(path: &Path, cause: &std::io::Error) -> Error {
    let error = Error::io("cannot create key file", path, cause);
    if cause.kind() == std::io::ErrorKind::AlreadyExists {
        return error.advise("a key is never overwritten: choose another name, or keep this one");
    }
    error
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::keyfile::KeyFile;
    use super::*;
    use crate::env::System;
    use crate::env::fake::FakeRng;
    use crate::secret::source::SecretSource;

    #[test]
    fn what_is_created_is_closed_to_others_and_reads_back() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let check = create_key_file(&path, &System)?;
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.len()), (0o600, 65));
        let key = KeyFile::new(SecretSource::File(path)).read()?;
        assert_eq!(key.check_value(), check);
        Ok(())
    }

    #[test]
    fn a_key_file_is_never_overwritten() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        create_key_file(&path, &System)?;
        let before = std::fs::read(&path).unwrap();
        let error = create_key_file(&path, &System).unwrap_err();
        assert!(error.to_string().contains("a key is never overwritten"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        Ok(())
    }

    #[test]
    fn without_randomness_no_file_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let rng = FakeRng::new(1);
        rng.fail_after(0);
        assert!(create_key_file(&path, &rng).is_err());
        assert!(!path.exists());
    }
}
