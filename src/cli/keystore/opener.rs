//! What opens a backup, for those who restore it and those who try it.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::backup::MAX_PASSPHRASE;
use crate::age::{self, Identity, With};
use crate::backup::Backup;
use crate::error::{Error, Kind, Result};
use crate::secret::{SecretBytes, read_file, source::without_line_end};
use crate::shares::{self, Collected};
use crate::trust;

/// The longest identity's file, in bytes.
const MAX_IDENTITY: usize = 1 << 16;
/// The longest file of shares, in bytes.
const MAX_SHARES: usize = 1 << 16;

#[derive(clap::Args)]
pub(super) struct Opener {
    /// The file with the identity that opens it
    #[arg(long, value_name = "FILE", required_unless_present = "passphrase_file")]
    identity: Option<PathBuf>,
    /// A file with enough shares, each a line, where the identity's file is encrypted by them: in memory
    /// (/dev/shm) alone, and gone afterwards
    #[arg(long, value_name = "FILE", requires = "identity")]
    shares: Option<PathBuf>,
    /// The file with the passphrase that opens it
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    passphrase_file: Option<PathBuf>,
    /// The keystore's fingerprint, as it was noted when the identity was made [default: that of the
    /// configuration; for a drill, the keystore's own]
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

impl Opener {
    /// The backup in `file`, proven to be of the keystore with the fingerprint: the one that was given, else
    /// `known`.
    pub(super) fn open(&self, file: &Path, known: Option<&str>) -> Result<Backup> {
        let within = |error: Error| error.within(file.display());
        let fingerprint = self.fingerprint.as_deref().or(known).ok_or_else(|| {
            within(
                Error::new(Kind::Config, "nothing shows whose backup it is")
                    .advise("give the keystore's --fingerprint, which was noted with the identity"),
            )
        })?;
        let bytes = trust::read_untrusted(file, age::MAX_LEN);
        let bytes = bytes.map_err(|refusal| refusal.of("cannot read", file))?;
        let text = self.decrypted(&bytes).map_err(within)?;
        Backup::parse(text.expose(), fingerprint.trim()).map_err(within)
    }

    fn decrypted(&self, file: &[u8]) -> Result<SecretBytes> {
        if let Some(path) = &self.passphrase_file {
            let passphrase = read_file(path, MAX_PASSPHRASE)?;
            return age::decrypt(file, With::Passphrase(without_line_end(passphrase.expose())));
        }
        let none = || Error::new(Kind::Config, "neither an identity nor a passphrase");
        let path = self.identity.as_ref().ok_or_else(none)?;
        let identity = read_file(path, MAX_IDENTITY)?;
        let identity = match &self.shares {
            Some(shares) => {
                let passphrase = passphrase(shares)?;
                let opened = age::decrypt(identity.expose(), With::Passphrase(passphrase.expose()));
                opened.map_err(|error| error.within(path.display()))?
            }
            None => identity,
        };
        let identity =
            Identity::parse(identity.expose()).map_err(|error| error.within(path.display()))?;
        age::decrypt(file, With::Identity(&identity))
    }
}

/// What the shares in `file` give.
fn passphrase(file: &Path) -> Result<SecretBytes> {
    let text = read_file(file, MAX_SHARES)?;
    let none = || Error::new(Kind::Config, format!("{} is no text", file.display()));
    let text = str::from_utf8(text.expose()).map_err(|_| none())?;
    let mut collected = Collected::default();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let added = line.parse().and_then(|share| collected.add(share));
        added.map_err(|error| error.within(format!("{}, line {}", file.display(), n + 1)))?;
    }
    let secret = collected.secret().map_err(|error| error.within(file.display()))?;
    shares::passphrase(&secret)
}
