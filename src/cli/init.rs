//! `keyward init`: a keystore, its wrapping key and a configuration, and the lines for my.cnf.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::print::Printer;
use super::user::{self, Account};
use super::{Exit, env, no_folder};
use crate::assemble;
use crate::config::{self, Config};
use crate::custodian::Reason;
use crate::error::{Error, Kind, Result};
use crate::key::Cipher;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Put everything into this folder, for a try-out
    #[arg(long, value_name = "DIR", conflicts_with = "keystore")]
    dir: Option<PathBuf>,
    /// The keystore file to make
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_KEYSTORE)]
    keystore: PathBuf,
    /// The account that the server runs as; it will own the keystore
    #[arg(long, value_name = "NAME", default_value = "mysql")]
    user: String,
    /// Make no keys: those of another key store are to come, by migrate or import
    #[arg(long)]
    empty: bool,
    /// The cipher of new keys
    #[arg(long, value_name = "CIPHER", default_value_t = Cipher::DEFAULT)]
    cipher: Cipher,
}

/// Where everything goes.
#[derive(Serialize)]
struct Plan {
    config: PathBuf,
    key_file: PathBuf,
    keystore: PathBuf,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let plan = Plan::of(config, options)?;
    plan.refuse_what_exists()?;
    let owner = owner(&options.user)?;
    let mut made = Made::default();
    plan.carry_out(options, owner, &mut made)?;
    made.keep();
    printer.show(&plan, &plan.text())?;
    Ok(Exit::Success)
}

/// The account that is to own what the server writes; without root, ourselves.
fn owner(name: &str) -> Result<Option<Account>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let account = user::account(name)?.ok_or_else(|| {
        Error::new(Kind::Config, format!("there is no user {name:?}"))
            .advise("install the server first, or name its account with --user")
    })?;
    Ok(Some(account))
}

impl Plan {
    fn of(config: &Path, options: &Options) -> Result<Self> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|e| Error::io("cannot make absolute", path, &e))
        };
        let (config, keystore) = match &options.dir {
            Some(dir) => (dir.join("keyward.toml"), dir.join("keystore/keystore.json")),
            None => (config.to_owned(), options.keystore.clone()),
        };
        let (config, keystore) = (absolute(&config)?, absolute(&keystore)?);
        Ok(Self { key_file: config.with_file_name("local.key"), config, keystore })
    }

    fn refuse_what_exists(&self) -> Result<()> {
        for path in [&self.config, &self.key_file, &self.keystore] {
            if fs::symlink_metadata(path).is_ok() {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("{} is there already", path.display()),
                )
                .advise("nothing was changed; `keyward status` shows what is set up"));
            }
        }
        Ok(())
    }

    fn carry_out(&self, options: &Options, owner: Option<Account>, made: &mut Made) -> Result<()> {
        let env = env();
        made.folder(parent(&self.config)?, 0o750, owner.map(Account::group_only))?;
        made.folder(parent(&self.keystore)?, 0o700, owner)?;
        assemble::create_key_file(&self.key_file, &*env.rng)?;
        made.file(&self.key_file, owner)?;
        fs::write(&self.config, self.toml(options.cipher))
            .map_err(|e| Error::io("cannot write", &self.config, &e))?;
        made.file(&self.config, owner)?;
        let config = Config::load(&self.config)?;
        let actor = user::actor();
        let reason = Reason { actor: &actor, text: "keyward init" };
        user::acting_as(owner, || match options.empty {
            true => assemble::create_keystore_without_keys(&config, reason, &env),
            false => assemble::create_keystore(&config, reason, &env),
        })
    }

    fn toml(&self, cipher: Cipher) -> String {
        format!(
            "# keyward's configuration, for the server and for the command.\n\n\
             [keystore]\npath = {:?}\ncipher = \"{cipher}\"            # of new versions; each version keeps its own\n\n\
             [[provider]]                      # wraps the keystore's key; order = order of preference\n\
             name = \"local\"\ntype = \"local\"\nkey_file = {:?}\n",
            self.keystore, self.key_file
        )
    }

    fn text(&self) -> String {
        let config = self.config.display();
        let path_line = if self.config == Path::new(config::DEFAULT_PATH) {
            String::new()
        } else {
            format!("keyward_config = {config}\n")
        };
        format!(
            "configuration  {config}\nwrapping key   {}   <- keep a copy elsewhere: without it no data can be read\n\
             keystore       {}\n\n\
             Add to my.cnf and restart the server:\n\n\
             [mariadb]\nplugin_load_add = keyward\nkeyward = FORCE_PLUS_PERMANENT\n{path_line}\
             innodb_encrypt_tables = ON\ninnodb_encrypt_log = ON\ninnodb_encryption_threads = 4\n\
             innodb_encryption_rotate_key_age = 1\naria_encrypt_tables = ON\nencrypt_binlog = ON\n\
             encrypt_tmp_disk_tables = ON\nencrypt_tmp_files = ON\n",
            self.key_file.display(),
            self.keystore.display(),
        )
    }
}

impl Account {
    /// Only the group of it: root keeps what the server may read but not change.
    fn group_only(self) -> Self {
        Self { uid: nix::unistd::Uid::from_raw(0), ..self }
    }
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent().ok_or_else(|| no_folder(path))
}

/// What was made so far: taken away again unless kept, so that a failed `init` leaves nothing.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes the folder at `path` unless it is there.
    fn folder(&mut self, path: &Path, mode: u32, owner: Option<Account>) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent().filter(|above| !above.exists()) {
            self.folder(above, 0o755, None)?;
        }
        fs::create_dir(path).map_err(|e| Error::io("cannot make", path, &e))?;
        self.0.push(path.to_owned());
        give(path, mode, owner)
    }

    /// Takes note of the file at `path` and lets the server read it, and only the server.
    fn file(&mut self, path: &Path, owner: Option<Account>) -> Result<()> {
        self.0.push(path.to_owned());
        let mode = if owner.is_some() { 0o640 } else { 0o600 };
        give(path, mode, owner.map(Account::group_only))
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // What cannot be taken away is named by the error that brought us here.
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

fn give(path: &Path, mode: u32, owner: Option<Account>) -> Result<()> {
    if let Some(Account { uid, gid }) = owner {
        chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(|e| Error::io("cannot give away", path, &e))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|e| Error::io("cannot set the mode of", path, &e))
}
