//! A wrapping key in a file: 32 bytes, or 64 hex digits as people can print and type them.

#![forbid(unsafe_code)]

use super::KEK_LEN;
use crate::error::{Error, Kind, Result};
use crate::hex;
use crate::secret::DataKey;
use crate::secret::source::{SecretSource, without_line_end};

/// The longest key file: hex digits and a few line ends.
const MAX_FILE_LEN: usize = 2 * KEK_LEN + 16;

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
        let content = self.source.read(MAX_FILE_LEN).map_err(|error| match error.advice() {
            Some(_) => error,
            None => error.advise(
                "put the copy of it back; without one another provider or a backup opens the keystore: see \
                 `keyward help lost-key`",
            ),
        })?;
        let content = content.expose();
        let text = without_line_end(content);
        let is_hex = text.len() == 2 * KEK_LEN && text.iter().all(u8::is_ascii_hexdigit);
        if !is_hex && content.len() != KEK_LEN {
            return Err(Error::new(
                Kind::Config,
                format!("{} holds no key of 32 bytes or 64 hex digits", self.source),
            )
            .advise(
                "put the copy of it back; `keyward init` makes one for a new keystore; a passphrase belongs into \
                 `passphrase_file`",
            ));
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn key_file(path: &Path, content: &[u8]) -> KeyFile {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        KeyFile::new(SecretSource::File(path.into()))
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
