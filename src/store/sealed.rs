//! A keystore file that was read, until its active store key opens and verifies it.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::entry::Wrapped;
use super::lines::{self, FileText};
use super::seal::Sealer;
use super::secret::KeystoreSecret;
use super::{Contents, Keystore, Written, format};
use crate::error::{Error, Kind, Result};
use crate::secret::{DataKey, scrubbed};

/// A keystore that was read and nobody has verified.
pub struct Sealed {
    /// The document's with all that the lines change.
    contents: Contents,
    text: FileText,
}

impl Sealed {
    /// Reads the text of a keystore file. `Corrupt` where it breaks a rule, `Unsupported` where a
    /// newer keyward wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = lines::parse(bytes)?;
        let mut contents = text.document.clone();
        text.lines.iter().try_for_each(|line| line.apply(&mut contents))?;
        if !text.lines.is_empty() {
            format::check(&contents)?;
        }
        Ok(Self { contents, text })
    }

    /// Whether it is of more than one commit, the last of which may still have to be synced.
    pub(super) fn has_lines(&self) -> bool {
        !self.text.lines.is_empty()
    }

    /// What it says it holds: enough to find a provider and to tell people, never to act upon.
    #[must_use]
    pub fn unverified(&self) -> &Contents {
        &self.contents
    }

    /// Opens it with its active store key, and verifies all of it.
    pub fn open(self, store_key: DataKey) -> Result<Keystore> {
        let place = format!("keystore {} {}", self.contents.id, self.contents.revision());
        let at = |bad: Error| bad.within(&place);
        let entry = self.contents.active_store_key().map_err(at)?;
        if store_key.check_value() != entry.check {
            let what = format!("another key than its store key {} came back", entry.number);
            return Err(at(Error::new(Kind::Corrupt, what)
                .advise("its wrapping belongs to another keystore, or the file was changed")));
        }
        scrubbed(|| self.verified(store_key)).map(|opened| *opened).map_err(at)
    }

    fn verified(self, store_key: DataKey) -> Result<Box<Keystore>> {
        let Self { contents, text } = self;
        let secret = match &contents.secret {
            Some(Wrapped { store_key: number, data }) => {
                let sealer = Sealer::new(&store_key)?;
                let secret = sealer.unwrap_secret(data, &contents.id, *number)?;
                Some(Arc::new(KeystoreSecret::new(secret, &contents.id)?))
            }
            None => None,
        };
        let (base, document) = (contents.revision(), text.document);
        let store_key = Arc::new(store_key);
        let mut keystore =
            Box::new(Keystore { contents: document, store_key, secret, base, file: None });
        let changed = || {
            let what = "its contents were changed by something else than keyward, or are damaged";
            Error::new(Kind::Corrupt, what).advise("restore it from a backup")
        };
        if !format::verify(&keystore.contents, text.mac, keystore.file_mac()?)? {
            return Err(changed());
        }
        let mut mac = text.mac;
        for line in &text.lines {
            let verified = line.verified(&mac, keystore.line_mac()?)?;
            mac = verified.ok_or_else(changed)?;
        }
        keystore.contents = contents;
        if let Some(secret) = &keystore.secret {
            secret.check_epochs(keystore.contents.registers.epochs())?;
        }
        let written = |layout| Written { contents: keystore.contents.clone(), mac, layout };
        keystore.file = text.layout.map(written).map(Arc::new);
        Ok(keystore)
    }
}
