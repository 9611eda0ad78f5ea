//! `keyward keystore backup`: all keys in one encrypted file that opens without keyward, and its recipients.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::digest::of_configuration;
use super::identity::{self, Threshold};
use super::opener::MAX_PASSPHRASE;
use super::served::{self, Reader};
use crate::age::{self, For, Recipient};
use crate::assemble::{self, ServedKeys};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::{env, open};
use crate::cli::helpers::outlet::Outlet;
use crate::cli::helpers::print::{Printer, plain};
use crate::cli::helpers::privilege::{self, Account};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::error::{Error, Kind, Result};
use crate::manager::Readers;
use crate::secret::{SecretBytes, read_file, source::without_line_end};
use crate::source::Reason;

/// What to do where nobody could open a backup.
const NO_RECIPIENT: &str =
    "`keyward keystore backup --identity FILE` makes one, --add-recipient adds it";

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(
    ["to", "due", "identity", "add_recipient", "remove_recipient", "recipients"]
)))]
pub(in crate::cli) struct Options {
    /// Write the backup to this new file, for the keystore's recipients
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Make the backup that `[backup]` in the configuration wants by now, for a timer or cron: written
    /// to its folder, the oldest removed, the newest given to its hook
    #[arg(long)]
    pub(super) due: bool,
    /// Encrypt it by the passphrase in this file instead
    #[arg(long, value_name = "FILE", requires = "to")]
    passphrase_file: Option<PathBuf>,
    /// Where a key store serves the keys: encrypt it for this recipient, age1pq1..., and not for those in
    /// `backup-recipients` next to the configuration
    #[arg(long, value_name = "RECIPIENT", requires = "to", conflicts_with = "passphrase_file")]
    recipient: Vec<String>,
    /// Make the secret that opens backups, and write it to this new file, to be kept away from the servers.
    /// Prints the keystore's fingerprint, to be kept as well, and its public part, to be added
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Encrypt that file by a passphrase that is nowhere, but that so many shares give: 3/5 shows five, any
    /// three of which open it
    #[arg(long, value_name = "N/M", requires = "identity")]
    shares: Option<Threshold>,
    /// Encrypt backups from now on for this recipient, too: age1pq1...
    #[arg(long, value_name = "RECIPIENT")]
    add_recipient: Option<String>,
    /// Encrypt them for this recipient no longer
    #[arg(long, value_name = "RECIPIENT")]
    remove_recipient: Option<String>,
    /// List the recipients
    #[arg(long)]
    recipients: bool,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward keystore backup", value_name = "TEXT")]
    reason: String,
}

impl Options {
    /// What root does itself, for the server's `account`; nothing where the account does all of it.
    pub(in crate::cli) fn run_as(&self, account: &Account, config: &Path) -> Option<Result<Exit>> {
        let path = self.identity.as_ref()?;
        Some(identity::make(path, self.shares, Some(account), config))
    }

    /// The new file, if the call makes one; of root's second command, what root has opened.
    pub(in crate::cli) fn outlet(&self) -> Result<Option<Outlet>> {
        match &self.to {
            Some(_) if privilege::is_second() => Outlet::standard().map(Some),
            Some(path) => Outlet::to_new(path).map(Some),
            None => Ok(None),
        }
    }
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    if let Some(path) = &options.identity {
        return identity::make(path, options.shares, None, config);
    }
    let Some(mut outlet) = options.outlet()? else { return listed(config, options, printer) };
    let made = bytes(config, options).map(|bytes| {
        // Why it fails, the outlet knows.
        drop(outlet.write_all(&bytes).and_then(|()| outlet.flush()));
        Exit::Success
    });
    outlet.end(made)
}

/// What the new file is to hold.
fn bytes(config: &Path, options: &Options) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let (actor, env, read) = (privilege::actor(), env(), Config::load(config)?);
    let reason = Reason { actor: &actor, text: &options.reason };
    let passphrase = options.passphrase_file.as_deref().map(passphrase).transpose()?;
    let passphrase = passphrase.as_ref().map(|words| without_line_end(words.expose()));
    if let Some(store) = ServedKeys::of(&read, &env)? {
        let reader = passphrase.map_or(Reader::Recipients(&options.recipient), Reader::Passphrase);
        return served::backup(&store, config, reader, reason).map(Into::into);
    }
    if !options.recipient.is_empty() {
        let what =
            "--recipient is for keys that a key store serves: the keystore has its own recipients";
        return Err(Error::new(Kind::Config, what).advise("--add-recipient adds one"));
    }
    let (_, custodian) = open(config)?;
    if let Some(words) = passphrase {
        let text =
            custodian.manager()?.backup(of_configuration(config), Readers::Passphrase, reason)?;
        return age::encrypt(text.expose(), For::Passphrase(words), &*env.rng).map(Into::into);
    }
    for_recipients(&custodian, config, reason).map_err(|error| match error.kind() {
        Kind::NotFound => error.advise(format!("{NO_RECIPIENT}; or name a --passphrase-file")),
        _ => error,
    })
}

/// The passphrase in `path`, long enough.
fn passphrase(path: &Path) -> Result<SecretBytes> {
    let passphrase = read_file(path, MAX_PASSPHRASE)?;
    if without_line_end(passphrase.expose()).len() < 16 {
        let what = format!("the passphrase in {} has fewer than 16 bytes", path.display());
        return Err(
            Error::new(Kind::Config, what).advise("`openssl rand -hex 16` makes a good one")
        );
    }
    Ok(passphrase)
}

/// A backup for the keystore's recipients; `NotFound` where it has none.
pub(super) fn for_recipients(
    custodian: &Custodian,
    config: &Path,
    reason: Reason<'_>,
) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let recipients = recipients(custodian)?;
    if recipients.is_empty() {
        let none = Error::new(Kind::NotFound, "the keystore has no recipient of backups");
        return Err(none.advise(NO_RECIPIENT));
    }
    let text =
        custodian.manager()?.backup(of_configuration(config), Readers::Recipients, reason)?;
    age::encrypt(text.expose(), For::Recipients(&recipients), &*env().rng).map(Into::into)
}

fn recipients(custodian: &Custodian) -> Result<Vec<Recipient>> {
    let manager = custodian.manager()?;
    let all = manager.contents().map(|contents| contents.registers().backup_recipients.clone());
    all.unwrap_or_default().iter().map(|one| one.parse()).collect()
}

fn listed(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    if assemble::serves(&Config::load(config)?, &env())? {
        if options.add_recipient.is_some() || options.remove_recipient.is_some() {
            return Err(served::no_register(config));
        }
        return shown(&served::recipients(config)?, printer);
    }
    let (_, custodian) = open(config)?;
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    if let Some(recipient) = &options.add_recipient {
        let recipient: Recipient = recipient.parse()?;
        custodian.manager()?.add_backup_recipient(&recipient.to_string(), reason)?;
    }
    if let Some(recipient) = &options.remove_recipient {
        custodian.manager()?.remove_backup_recipient(recipient, reason)?;
    }
    shown(&recipients(&custodian)?, printer)
}

fn shown(recipients: &[Recipient], printer: &Printer) -> Result<Exit> {
    let all: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    let text: String = all.iter().map(|one| plain(one) + "\n").collect();
    printer.show(&all, &text)?;
    Ok(Exit::Success)
}
