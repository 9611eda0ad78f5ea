//! A secret in shares, so many of which are needed to have it again: SLIP-39 (SatoshiLabs), in words that
//! people write down.
//!
//! The secret is encrypted (with no passphrase, which changes nothing but its looks), then shared by
//! Shamir's scheme over GF(256). Shares in groups are read, not made.

#![forbid(unsafe_code)]

mod field;
mod secret;
mod share;
mod words;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::hex;
use crate::secret::{SecretBytes, scrubbed};
use share::Common;
pub use share::Share;

/// The length of a secret that is shared here, in bytes: a share of it has 20 words.
pub const SECRET: usize = 16;
/// How many shares there may be.
pub const MOST: u8 = 16;
/// The work of encrypting the secret, as the reference has it: 2 times 10,000 rounds. Who has the shares
/// needed has the secret, so it protects nothing here.
const EXPONENT: u8 = 1;

/// `secret` in `of` shares, any `needed` of which give it again.
///
/// # Errors
/// `Config` unless `needed` is from 2 to `of`, and that at most [`MOST`].
pub fn split(
    secret: &SecretBytes,
    needed: u8,
    of: u8,
    rng: &dyn Rng,
) -> Result<Vec<Zeroizing<String>>> {
    if needed < 2 || needed > of || of > MOST {
        let what = format!("{needed} of {of} shares");
        return Err(Error::new(Kind::Config, what)
            .advise(format!("2 or more are needed, of at most {MOST}, such as 3/5")));
    }
    scrubbed(|| {
        let mut id = [0; 2];
        rng.fill(&mut id)?;
        let common = Common {
            id: u16::from_be_bytes(id) & 0x7FFF,
            extendable: true,
            exponent: EXPONENT,
            group_threshold: 1,
            groups: 1,
        };
        let encrypted = secret::encrypted(secret, b"", &common)?;
        let values = secret::split(&encrypted, needed, of, rng)?;
        let share = |(member, value)| Share { common, group: 0, member, needed, value };
        Ok((0..).zip(values).map(share).map(|share| share.to_words()).collect())
    })
}

/// The secret in hexadecimal digits, as tools for shares show it: a passphrase that can be typed.
pub fn passphrase(secret: &SecretBytes) -> Result<SecretBytes> {
    let secret = secret.expose();
    SecretBytes::build(2 * secret.len(), |digits| {
        for (two, byte) in digits.chunks_exact_mut(2).zip(secret) {
            two.copy_from_slice(&hex::digits(*byte));
        }
        Ok(())
    })
}

/// Shares as they come in, until there are enough.
#[derive(Default)]
pub struct Collected {
    shares: Vec<Share>,
}

impl Collected {
    /// Takes one more.
    ///
    /// # Errors
    /// `Config` where it is of another secret, or is here already; those before it stay.
    pub fn add(&mut self, share: Share) -> Result<()> {
        let refused = |what: String| Err(Error::new(Kind::Config, what));
        for (n, before) in self.shares.iter().enumerate() {
            let alike = before.common == share.common
                && before.value.expose().len() == share.value.expose().len()
                && (before.group != share.group || before.needed == share.needed);
            if !alike {
                return refused("it is a share of another secret than the first".to_owned());
            }
            if (before.group, before.member) == (share.group, share.member) {
                return refused(format!("it is share {} again", n + 1));
            }
        }
        self.shares.push(share);
        Ok(())
    }

    /// How many more are needed; of groups, at least that many.
    #[must_use]
    pub fn missing(&self) -> usize {
        let Some(first) = self.shares.first() else { return 1 };
        let mut lacks: Vec<usize> = self
            .groups()
            .values()
            .map(|group| usize::from(group[0].needed).saturating_sub(group.len()))
            .collect();
        lacks.sort_unstable();
        let groups = usize::from(first.common.group_threshold);
        let others = groups.saturating_sub(lacks.len());
        lacks.iter().take(groups).sum::<usize>() + others
    }

    /// The secret.
    ///
    /// # Errors
    /// `Config` while shares are missing, `Corrupt` where they do not belong together.
    pub fn secret(&self) -> Result<SecretBytes> {
        self.secret_by(b"")
    }

    fn secret_by(&self, passphrase: &[u8]) -> Result<SecretBytes> {
        let missing = self.missing();
        let (Some(first), 0) = (self.shares.first(), missing) else {
            return Err(Error::new(Kind::Config, format!("{missing} more shares are needed")));
        };
        scrubbed(|| {
            let needed = usize::from(first.common.group_threshold);
            let whole = self.groups();
            let whole =
                whole.iter().filter(|(_, group)| group.len() >= usize::from(group[0].needed));
            let mut groups = Vec::with_capacity(needed);
            for (&number, group) in whole.take(needed) {
                let points: Vec<_> =
                    group.iter().map(|share| (share.member, share.value.expose())).collect();
                groups.push((number, secret::joined(&points, group[0].needed)?));
            }
            let points: Vec<_> = groups.iter().map(|(at, value)| (*at, value.expose())).collect();
            let encrypted = secret::joined(&points, first.common.group_threshold)?;
            secret::decrypted(&encrypted, passphrase, &first.common)
        })
    }

    fn groups(&self) -> BTreeMap<u8, Vec<&Share>> {
        let mut groups: BTreeMap<u8, Vec<&Share>> = BTreeMap::new();
        for share in &self.shares {
            groups.entry(share.group).or_default().push(share);
        }
        groups
    }
}

#[cfg(test)]
mod tests;
