//! `keyward keystore backup --identity`: the secret that opens backups, in a file of its own, plain or under
//! a passphrase that several people have in shares.
//!
//! Nothing of the keystore's is needed but its fingerprint, so root does it itself, and the server's
//! account never sees the secret.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::served::recipients_file;
use crate::age::{self, For, Identity};
use crate::assemble;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::{env, open};
use crate::cli::helpers::outlet::Outlet;
use crate::cli::helpers::privilege::{self, Account, Said};
use crate::cli::helpers::reach;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;
use crate::shares;

/// How many shares open a backup, of how many: `3/5`.
#[derive(Clone, Copy)]
pub(super) struct Threshold {
    needed: u8,
    of: u8,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let two = text.split_once('/').and_then(|(needed, of)| {
            Some(Self { needed: needed.parse().ok()?, of: of.parse().ok()? })
        });
        let fits = two.filter(|two| (2..=two.of).contains(&two.needed) && two.of <= shares::MOST);
        fits.ok_or_else(|| format!("write 3/5 for any 3 of 5 shares: 2 to {}", shares::MOST))
    }
}

/// Makes an identity and writes it to the new file `path`. `account` is whose the keystore is, where root
/// asks.
pub(super) fn make(
    path: &Path,
    shares: Option<Threshold>,
    account: Option<&Account>,
    config: &Path,
) -> Result<Exit> {
    let of = match account {
        Some(account) => match asked(account, config)? {
            Ok(of) => of,
            Err(exit) => return Ok(exit),
        },
        None if assemble::serves(&Config::load(config)?, &env())? => Of::ServedKeys,
        None => Of::Keystore(open(config)?.1.manager()?.fingerprint()?.to_string()),
    };
    // Before anybody has written a share down.
    if path.symlink_metadata().is_ok() {
        return Outlet::to_new(path)?.end(Ok(Exit::Failure));
    }
    let env = env();
    let identity = Identity::generate(&*env.rng)?;
    let plain = identity.to_text()?;
    let (recipient, bytes) = match shares {
        None => (identity.recipient()?, Zeroizing::new(plain.expose().to_vec())),
        Some(threshold) => {
            let secret = SecretBytes::build(shares::SECRET, |secret| env.rng.fill(secret))?;
            let all = shares::split(&secret, threshold.needed, threshold.of, &*env.rng)?;
            let passphrase = shares::passphrase(&secret)?;
            let sealed =
                age::encrypt(plain.expose(), For::Passphrase(passphrase.expose()), &*env.rng)?;
            show(&all, threshold, &of)?;
            (identity.recipient()?, Zeroizing::new(sealed))
        }
    };
    let add = match &of {
        Of::Keystore(fingerprint) => {
            eprintln!("keyward: note, on paper, the keystore's fingerprint: {fingerprint}");
            format!("keyward keystore backup --add-recipient {recipient}")
        }
        Of::ServedKeys => format!("echo {recipient} >> {}", recipients_file(config).display()),
    };
    eprintln!("keyward: once you have the file: {add}");
    let mut outlet = Outlet::to_new(path)?;
    // Why it fails, the outlet knows.
    drop(outlet.write_all(&bytes).and_then(|()| outlet.flush()));
    outlet.end(Ok(Exit::Success))
}

/// Whose keys the secret opens.
enum Of {
    /// Those of the keystore with this fingerprint.
    Keystore(String),
    /// Those that a key store serves.
    ServedKeys,
}

/// What the account's part of the command says of it.
fn asked(account: &Account, config: &Path) -> Result<Result<Of, Exit>> {
    let words = [OsString::from("--config"), config.into(), "--json".into(), "status".into()];
    let text = match privilege::text_as(account, config, &words, reach::Options::default())? {
        Said::Failed(exit) => return Ok(Err(exit)),
        Said::Text(text) => text,
    };
    let status: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    let keystore = status.as_ref().and_then(|status| status.get("keystore_id"));
    if keystore.is_some_and(serde_json::Value::is_null) {
        return Ok(Ok(Of::ServedKeys));
    }
    let fingerprint = status.as_ref().and_then(|status| status["fingerprint"].as_str());
    let is_one = |text: &&str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let none = || {
        Error::new(Kind::State, "the keystore has no fingerprint")
            .advise("the next change of it gives it one")
    };
    fingerprint.filter(is_one).map(|text| Ok(Of::Keystore(text.to_owned()))).ok_or_else(none)
}

/// Shows each share alone, where somebody sits at a terminal; else one after another.
fn show(all: &[Zeroizing<String>], threshold: Threshold, of_whom: &Of) -> Result<()> {
    let Threshold { needed, of } = threshold;
    let (input, error) = (io::stdin(), io::stderr());
    let waits = input.is_terminal() && error.is_terminal();
    for (n, share) in all.iter().enumerate() {
        let n = n + 1;
        let mut text = Zeroizing::new(String::with_capacity(1_024));
        text.push_str(&format!("share {n} of {of}, of which any {needed} open the backups\n"));
        text.push_str(share);
        text.push_str(&match of_whom {
            Of::Keystore(fingerprint) => {
                format!("\nof the keystore with the fingerprint {fingerprint}\n\n")
            }
            Of::ServedKeys => "\n\n".to_owned(),
        });
        let failed = |cause| Error::io("cannot show", "a share".as_ref(), &cause);
        error.lock().write_all(text.as_bytes()).map_err(failed)?;
        if waits {
            eprint!("Write it down, then press Enter: it is not shown again. ");
            input.read_line(&mut String::new()).map_err(failed)?;
            // The screen, and what has scrolled out of it.
            eprint!("\x1b[H\x1b[2J\x1b[3J");
        }
    }
    Ok(())
}
