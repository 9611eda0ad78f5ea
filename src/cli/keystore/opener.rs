//! What opens a backup, for those who restore it and those who try it.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::digest::{noted_as, sha256};
use crate::age::{self, Identity, With};
use crate::backup::{Backup, ServedBackup};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Line, Trail};
use crate::hex::Hex;
use crate::secret::{SecretBytes, read_file, source::without_line_end};
use crate::shares::{self, Collected};
use crate::trust;

/// The longest passphrase, in bytes.
pub(super) const MAX_PASSPHRASE: usize = 1024;
/// What shows that a backup is one that was made here, where the trail does not.
const NOTED: &str = "give the --sha256 that was noted when it was made: anybody who knows a recipient can make such a file";
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
    /// The file's SHA-256, as it was noted when it was made: for a backup of keys that a key store serves, which
    /// nothing signs [default: what the audit trail says]
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
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
        let bytes = read(file)?;
        if let Some(noted) = &self.sha256 {
            is_as_noted(&bytes, noted).map_err(within)?;
        }
        let text = self.decrypted(&bytes).map_err(within)?;
        Backup::parse(text.expose(), fingerprint.trim()).map_err(within)
    }

    /// The backup in `file` of keys that a key store serves: the file that was made once, as its SHA-256 shows,
    /// which was given or which the trail next to `keystore` has; else one by a passphrase, which proves that
    /// who made it knew that.
    pub(super) fn open_served(&self, file: &Path, keystore: &Path) -> Result<ServedBackup> {
        let within = |error: Error| error.within(file.display());
        if self.fingerprint.is_some() {
            let what = "no fingerprint shows whose backup of served keys it is: nothing signs one";
            return Err(within(Error::new(Kind::Config, what).advise("give its --sha256 instead")));
        }
        let bytes = read(file)?;
        match &self.sha256 {
            Some(noted) => is_as_noted(&bytes, noted),
            None if self.passphrase_file.is_some() => Ok(()),
            None => is_in_trail(&bytes, keystore),
        }
        .map_err(within)?;
        let text = self.decrypted(&bytes).map_err(within)?;
        ServedBackup::parse(text.expose()).map_err(within)
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

fn read(file: &Path) -> Result<Vec<u8>> {
    let bytes = trust::read_untrusted(file, age::MAX_LEN);
    bytes.map_err(|refusal| refusal.of("cannot read", file))
}

fn is_as_noted(file: &[u8], noted: &str) -> Result<()> {
    let noted: Hex<32> = noted.trim().to_ascii_lowercase().parse().map_err(|_| {
        Error::new(Kind::Config, "--sha256 is no SHA-256").advise("give its 64 hexadecimal digits")
    })?;
    let found = sha256(file);
    if found == noted {
        return Ok(());
    }
    let what = format!("it is another file than was noted: its SHA-256 is {found}");
    Err(Error::new(Kind::Untrusted, what).advise("take another copy of the backup"))
}

fn is_in_trail(file: &[u8], keystore: &Path) -> Result<()> {
    let words = noted_as(&sha256(file));
    let lines = Trail::beside(keystore).read().map_err(|error| error.advise(NOTED))?;
    let made = |line: &Line| line.event == Event::BackedUp && line.reason.ends_with(&words);
    if lines.iter().any(made) {
        return Ok(());
    }
    let what = "nothing shows that it is a backup that was made here: the audit trail has none of its SHA-256";
    Err(Error::new(Kind::Untrusted, what).advise(NOTED))
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
