//! A wrapping key in a file: 32 bytes, or 64 hex digits as people can print and type them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::KEK_LEN;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::hex;
use crate::key::CheckValue;
use crate::secret::source::{SecretSource, without_line_end};
use crate::secret::{DataKey, SecretBytes};
use crate::trust;

/// The longest key file: hex digits and a few line ends.
const MAX_FILE_LEN: usize = 2 * KEK_LEN + 16;

/// Only the owner reads it, until he says otherwise.
const MODE: u32 = 0o600;

/// Writes a new random wrapping key as a line of hex to the new file `path`, which must not exist,
/// and returns the key's check value. When it returns, file and name are on the disk.
pub fn create(path: &Path, rng: &dyn Rng) -> Result<CheckValue> {
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

/// A key file that exists.
pub(super) struct KeyFile {
    source: SecretSource,
}

impl KeyFile {
    pub(super) fn new(source: SecretSource) -> Self {
        Self { source }
    }

    pub(super) fn source(&self) -> &SecretSource {
        &self.source
    }

    pub(super) fn read(&self) -> Result<DataKey> {
        let content = self.source.read(MAX_FILE_LEN)?;
        let content = content.expose();
        let text = without_line_end(content);
        let is_hex = text.len() == 2 * KEK_LEN && text.iter().all(u8::is_ascii_hexdigit);
        if !is_hex && content.len() != KEK_LEN {
            return Err(Error::new(
                Kind::Config,
                format!("{} holds no key of 32 bytes or 64 hex digits", self.source),
            )
            .advise("keyward init makes one; a passphrase belongs into `passphrase_file`"));
        }
        DataKey::build(KEK_LEN, |key| {
            match is_hex {
                true => hex::decode_into(key, text),
                false => key.copy_from_slice(content),
            }
            Ok(())
        })
    }
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::env::System;
    use crate::env::fake::FakeRng;

    fn key_file(path: &Path, content: &[u8]) -> KeyFile {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        KeyFile::new(SecretSource::File(path.into()))
    }

    #[test]
    fn what_is_created_is_closed_to_others_and_reads_back() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let check = create(&path, &System)?;
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
        create(&path, &System)?;
        let before = std::fs::read(&path).unwrap();
        let error = create(&path, &System).unwrap_err();
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
        assert!(create(&path, &rng).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn bytes_and_hex_of_either_case_are_the_same_key() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let hex = "00ff".repeat(16);
        let bytes = [0, 0xff].repeat(16);
        for content in [bytes.clone(), hex.clone().into(), (hex.to_uppercase() + "\r\n").into()] {
            assert_eq!(key_file(&path, &content).read()?.expose(), bytes);
        }
        Ok(())
    }

    #[test]
    fn anything_else_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let hex = "0f".repeat(32);
        for content in
            ["", "\n", "hunter2", &hex[1..], &format!("{hex}0"), &format!("g{}", &hex[1..])]
        {
            let error = key_file(&path, content.as_bytes()).read().err().unwrap();
            assert_eq!(error.kind(), Kind::Config, "{content:?}");
            assert!(error.to_string().contains("no key of 32 bytes or 64 hex digits"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
