//! The section of a key file.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::keyfile::Dialect;
use crate::config::Section;
use crate::error::{Error, Kind, Result};
use crate::key::PageMode;
use crate::secret::SecretBytes;
use crate::secret::source::SecretSource;

/// What the configuration says of one key file.
pub struct Settings {
    /// The key file.
    pub path: PathBuf,
    /// The password, where the file is encrypted.
    pub password: Option<Password>,
    /// The digest by which `openssl enc` made its key from the password (`-md`).
    pub digest: Digest,
    /// The rounds of PBKDF2 (`-iter`); 0 where `openssl enc` ran without `-pbkdf2`.
    pub pbkdf2_iterations: u32,
    /// How the server encrypts pages with these keys. The key's length is the file's affair.
    pub mode: PageMode,
    /// Whether key file and password file must be closed to others.
    pub strict_permissions: bool,
    /// Whose rules and words hold.
    pub dialect: Dialect,
}

impl Settings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let path = section.path("path")?;
        let path = path.ok_or_else(|| section.lacks("path"))?;
        let password =
            section.secret("password", ["password_file", "password_env", "password_credential"])?;
        let iterations = section.number("pbkdf2_iterations")?.unwrap_or(0);
        Ok(Self {
            path,
            password: password.map(Password::From),
            digest: section.parsed("digest")?.unwrap_or_default(),
            pbkdf2_iterations: u32::try_from(iterations)
                .map_err(|_| section.wrong("pbkdf2_iterations", "must be from 0 to 4294967295"))?,
            mode: Self::mode(section)?,
            strict_permissions: true,
            dialect: Dialect::Keyward,
        })
    }

    /// No file says how pages were encrypted with its keys, and with another mode they are read as damaged.
    fn mode(section: &Section) -> Result<PageMode> {
        if section.has("mode") {
            return super::super::page_mode(section);
        }
        let (cbc, ctr) = (section.entry("mode", "cbc"), section.entry("mode", "ctr"));
        Err(section.lacks("mode").advise(format!(
            "give {cbc} if file_key_management has used the file, unless its \
             encryption_algorithm was AES_CTR; for that and for new keys give {ctr}"
        )))
    }
}

/// Where the password of an encrypted key file comes from.
pub enum Password {
    /// From outside the configuration.
    From(SecretSource),
    /// From a server variable, which the original allows and we do not under our own name.
    Given(SecretBytes),
}

impl Password {
    /// The password that the variable `file_key_management_filekey` stands for: none if empty,
    /// that of a file if it begins with `FILE:`, else itself.
    pub fn of_variable(value: &str) -> Result<Option<Self>> {
        if value.is_empty() {
            return Ok(None);
        }
        if let Some(path) = value.strip_prefix("FILE:") {
            return Ok(Some(Self::From(SecretSource::File(path.into()))));
        }
        let bytes = SecretBytes::build(value.len(), |to| {
            to.copy_from_slice(value.as_bytes());
            Result::Ok(())
        })?;
        Ok(Some(Self::Given(bytes)))
    }
}

/// The digests that `openssl enc` may have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// The original's default.
    #[default]
    Sha1,
    /// SHA-2 of 224 bits.
    Sha224,
    /// What `openssl enc` uses unless told otherwise.
    Sha256,
    /// SHA-2 of 384 bits.
    Sha384,
    /// SHA-2 of 512 bits.
    Sha512,
}

impl Digest {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|digest| digest.to_string() == text).ok_or_else(|| {
            Error::new(Kind::Config, format!("{text:?} is not a digest"))
                .advise("use sha1, sha224, sha256, sha384 or sha512")
        })
    }
}
