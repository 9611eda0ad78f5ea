//! The plugins that keyward stands in for, one file each: their options, how they start under their own
//! name, and how their keys are taken over. Each copies the original's behaviour and error texts.
//! `plugin` is the type of every plugin, keyward's own included; `my_cnf` reads option files.

#![forbid(unsafe_code)]

#[cfg(feature = "aws-kms")]
mod aws_key_management;
mod file_key_management;
mod hashicorp_key_management;
mod keyring_file;
mod kmip_key_management;
pub mod my_cnf;
mod plugin;

use std::path::Path;

#[cfg(feature = "aws-kms")]
pub use self::aws_key_management::AwsKeyFiles;
pub use self::file_key_management::KeyFile;
pub use self::hashicorp_key_management::{Hashicorp, HashicorpLogin};
pub use self::keyring_file::{at as keyring_file_at, parse as parse_keyring_file};
use self::my_cnf::Options;
pub use self::plugin::{
    Changed, Plugin, Release, Size, Started, Values, Variable, VariableKind, rotate_by,
};
use crate::assemble::{self, MigrationReport};
use crate::config::Config;
use crate::env::Env;
use crate::error::Result;
use crate::manager::ExportedKey;
use crate::source::Reason;

/// The plugins whose names the library can be opened under.
pub static PLUGINS: &[&Plugin] = &[
    #[cfg(feature = "aws-kms")]
    &aws_key_management::PLUGIN,
    &file_key_management::PLUGIN,
    &hashicorp_key_management::PLUGIN,
    &kmip_key_management::PLUGIN,
];

/// The plugins whose keys can be taken over.
const FILE: &str = file_key_management::NAME;
const VAULT: &str = hashicorp_key_management::NAME;
/// A program without its key store still knows whose options these are.
const AWS: &str = "aws_key_management";
const IMPORTED: [&str; 3] = [FILE, VAULT, AWS];

/// The names of all plugins that keyward stands in for, whether this program has their key stores or not.
pub fn plugin_names() -> impl Iterator<Item = &'static str> {
    let kmip = kmip_key_management::PLUGIN.name.to_str().ok();
    IMPORTED.into_iter().chain(kmip)
}

/// A plugin of MariaDB's own whose keys can be taken over, as it is configured.
pub enum Original {
    /// `file_key_management`.
    KeyFile(KeyFile),
    /// `hashicorp_key_management`.
    Vault(Hashicorp),
    /// `aws_key_management`.
    #[cfg(feature = "aws-kms")]
    Aws(AwsKeyFiles),
}

impl Original {
    /// The plugin that the option file at `path` configures, and what it says of its keys.
    pub fn configured(options: &Options, path: &Path) -> Result<Self> {
        let is_set = |plugin, name| options.get(plugin, name).is_some_and(|text| !text.is_empty());
        let mut found = Vec::new();
        found.extend(is_set(FILE, "filename").then_some(FILE));
        found.extend(is_set(VAULT, "vault_url").then_some(VAULT));
        found.extend(options.has_any(AWS).then_some(AWS));
        match found[..] {
            [FILE] => KeyFile::configured(options, path).map(Self::KeyFile),
            [VAULT] => Hashicorp::configured(options, path).map(Self::Vault),
            #[cfg(feature = "aws-kms")]
            [AWS] => AwsKeyFiles::configured(options, path).map(Self::Aws),
            [one] => my_cnf::refused(
                path,
                format!("it configures {one}"),
                "this program was built without the key store of that plugin",
            ),
            [] => my_cnf::refused(
                path,
                format!(
                    "there is no {FILE}_filename, no {VAULT}_vault_url and no option of {AWS} in it"
                ),
                "name the option file that configures the plugin",
            ),
            [one, other, ..] => my_cnf::refused(
                path,
                format!("it configures both {one} and {other}"),
                "take out the one that is not loaded",
            ),
        }
    }

    /// Its name.
    #[must_use]
    pub fn plugin(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => FILE,
            Self::Vault(_) => VAULT,
            #[cfg(feature = "aws-kms")]
            Self::Aws(_) => AWS,
        }
    }

    fn keys(self, env: &Env) -> Result<Vec<ExportedKey>> {
        match self {
            Self::KeyFile(file) => file.keys(),
            Self::Vault(vault) => vault.keys(env),
            #[cfg(feature = "aws-kms")]
            Self::Aws(files) => files.keys(env),
        }
    }
}

/// Takes the keys of an installation of `original` into the keystore of `config`, which is made if it
/// is not there, wrapped by every configured provider.
pub fn import_original(
    config: &Config,
    original: Original,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    assemble::import(config, original.keys(env)?, dry_run, reason, env)
}

/// Takes the keys of MySQL's `component_keyring_file` into the keystore of `config`, from the file
/// at `path` that it keeps them in. The keystore is made as [`import_original`] does, or, where it is
/// a server's `own`, as [`ensure_keystore`](assemble::ensure_keystore) does.
pub fn import_keyring_file(
    config: &Config,
    path: &Path,
    own: bool,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    let keys = keyring_file::read(path)?;
    if own && !dry_run {
        assemble::ensure_keystore(&config.keystore.path, reason, env)?;
    }
    assemble::import(config, keys, dry_run, reason, env)
}
