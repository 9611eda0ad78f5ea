//! `keyward init`: a keystore, its wrapping key and a configuration, and the lines for the server's
//! own files.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::print::Printer;
use super::user::{self, Account};
use super::{Exit, env, no_folder};
use crate::assemble;
use crate::config::{self, Config, component};
use crate::custodian::Reason;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::key::Cipher;
use crate::provider::KekInfo;

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
    /// The kind of key store that wraps the keystore's key: `type` in the configuration
    #[arg(long, value_name = "TYPE", default_value = LOCAL)]
    provider: String,
    /// A line of its configuration, such as module=/usr/lib/softhsm/libsofthsm2.so; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Have the key store make a new wrapping key
    #[arg(long)]
    create_key: bool,
    /// Set up a Vault with the administrator's token in this file: engine, key, policy, and a role
    /// that the server logs in as
    #[arg(long, value_name = "FILE", conflicts_with = "create_key")]
    admin_token_file: Option<PathBuf>,
    /// Set up MySQL's component: it makes its keys by itself
    #[arg(long)]
    mysql: bool,
    /// Where the key store serves the keys: keep a sealed copy of them here, and its key in a file,
    /// so that the server starts while the key store is away
    #[arg(long, conflicts_with = "empty")]
    stash: bool,
    /// Make no keys: those of another key store are to come, by migrate or import
    #[arg(long)]
    empty: bool,
    /// The cipher of new keys
    #[arg(long, value_name = "CIPHER", default_value_t = Cipher::DEFAULT)]
    cipher: Cipher,
}

/// The provider that needs nothing outside the machine.
const LOCAL: &str = "local";

/// Where everything goes.
#[derive(Serialize)]
struct Plan {
    config: PathBuf,
    /// The wrapping key that we make, where it is a file.
    key_file: Option<PathBuf>,
    /// The wrapping key that the key store was asked to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrapping_key: Option<KekInfo>,
    /// The secret of the role that the server has in a Vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id_file: Option<PathBuf>,
    keystore: PathBuf,
    /// Whether the key store keeps the data keys itself, and there is no keystore.
    serves: bool,
    /// Whether the server is a MySQL.
    mysql: bool,
    /// Where the server keeps a sealed copy of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    stash: Option<PathBuf>,
}

/// `KEY=VALUE`, as `--set` has it.
fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_bare_key(key) => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// Whether TOML takes `key` without quotes.
fn is_bare_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let mut plan = Plan::of(config, options)?;
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
        if options.dir.is_none() && config.extension().is_some_and(|ending| ending == "cnf") {
            let what = format!("{} is for MySQL's component", config.display());
            return Err(Error::new(Kind::Config, what)
                .advise("leave --config away, or name a .toml: that is what init writes"));
        }
        let (config, keystore) = match &options.dir {
            Some(dir) => (dir.join("keyward.toml"), dir.join("keystore/keystore.json")),
            None => (config.to_owned(), options.keystore.clone()),
        };
        let (config, keystore) = (absolute(&config)?, absolute(&keystore)?);
        let is_local = options.provider == LOCAL && options.set.is_empty();
        let key_file = (is_local || options.stash).then(|| config.with_file_name("local.key"));
        let stash = options.stash.then(|| keystore.with_file_name("stash.json"));
        let vault = options.admin_token_file.is_some();
        let secret_id_file = vault.then(|| config.with_file_name("vault-secret-id"));
        let (wrapping_key, serves, mysql) = (None, false, options.mysql);
        Ok(Self { config, key_file, wrapping_key, secret_id_file, keystore, serves, stash, mysql })
    }

    fn refuse_what_exists(&self) -> Result<()> {
        let made = self.key_file.iter().chain(&self.secret_id_file);
        for path in [&self.config, &self.keystore].into_iter().chain(made) {
            if fs::symlink_metadata(path).is_ok() {
                return Err(Error::new(
                    Kind::State,
                    format!("{} is there already", path.display()),
                )
                .advise("nothing was changed; `keyward status` shows what is set up"));
            }
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        options: &Options,
        owner: Option<Account>,
        made: &mut Made,
    ) -> Result<()> {
        let env = env();
        made.folder(parent(&self.config)?, 0o750, owner.map(Account::group_only))?;
        made.folder(parent(&self.keystore)?, 0o700, owner)?;
        if let Some(key_file) = &self.key_file {
            assemble::create_key_file(key_file, &*env.rng)?;
            made.file(key_file, owner)?;
        }
        let role = self.set_up_vault(options, owner, made, &env)?;
        fs::write(&self.config, self.toml(options) + &role + &self.stash_toml())
            .map_err(|e| Error::io("cannot write", &self.config, &e))?;
        made.file(&self.config, owner)?;
        let config = Config::load(&self.config)?;
        self.serves = assemble::serves(&config, &env)?;
        if self.serves && self.mysql {
            let what = format!("provider {:?} serves MariaDB's keys only", options.provider);
            return Err(Error::new(Kind::Unsupported, what)
                .advise("for MySQL take one that wraps, such as local or vault-transit"));
        }
        let actor = user::actor();
        let reason = Reason { actor: &actor, text: "keyward init" };
        user::acting_as(owner, || {
            if options.create_key {
                let made = assemble::create_wrapping_key(&config, &options.provider, &env)?;
                self.wrapping_key = Some(made);
            }
            match (self.serves, options.empty || options.mysql) {
                (true, true) => Ok(()),
                (true, false) => assemble::create_served_keys(&config, reason, &env),
                (false, true) => assemble::create_keystore_without_keys(&config, reason, &env),
                (false, false) => assemble::create_keystore(&config, reason, &env),
            }
        })
    }

    /// Does in a Vault what an administrator must do, where we were given such a one's token; the
    /// lines of the configuration that log in as the role made there.
    fn set_up_vault(
        &self,
        options: &Options,
        owner: Option<Account>,
        made: &mut Made,
        env: &Env,
    ) -> Result<String> {
        let (Some(token), Some(path)) = (&options.admin_token_file, &self.secret_id_file) else {
            return Ok(String::new());
        };
        let token =
            std::path::absolute(token).map_err(|e| Error::io("cannot make absolute", token, &e))?;
        let toml = format!("{}token_file = {token:?}\n", self.toml(options));
        let role = assemble::set_up_vault(&Config::parse(&self.config, &toml)?, env)?;
        write_secret(path, role.secret_id.expose())?;
        made.file(path, owner)?;
        let role_id = toml::Value::from(role.role_id);
        Ok(format!("auth = \"approle\"\nrole_id = {role_id}\nsecret_id_file = {path:?}\n"))
    }

    fn toml(&self, options: &Options) -> String {
        let Options { cipher, provider, set, .. } = options;
        let mut text = format!(
            "# keyward's configuration, for the server and for the command.\n\n\
             [keystore]\npath = {:?}\ncipher = \"{cipher}\"            # of new versions; each version keeps its own\n\n\
             [[provider]]                      # wraps the keystore's key; order = order of preference\n\
             name = {provider:?}\ntype = {provider:?}\n",
            self.keystore
        );
        if let (Some(key_file), None) = (&self.key_file, &self.stash) {
            text += &format!("key_file = {key_file:?}\n");
        }
        for (key, value) in set {
            // What is no number and neither true nor false is a text.
            let plain = value.parse::<i64>().is_ok() || matches!(value.as_str(), "true" | "false");
            text += &match plain {
                true => format!("{key} = {value}\n"),
                false => format!("{key} = {}\n", toml::Value::from(value.as_str())),
            };
        }
        text
    }

    /// The stash, and the provider that seals it.
    fn stash_toml(&self) -> String {
        let (Some(stash), Some(key_file)) = (&self.stash, &self.key_file) else {
            return String::new();
        };
        format!(
            "\n[[provider]]                      # seals the stash\nname = \"local\"\n\
             type = \"local\"\nkey_file = {key_file:?}\n\n\
             [stash]                           # to start with while the key store is away\n\
             path = {stash:?}\n"
        )
    }

    fn text(&self) -> String {
        let config = self.config.display();
        let wrapping_key = match (&self.key_file, &self.wrapping_key) {
            (Some(file), _) if self.stash.is_some() => {
                format!("stash key      {}   <- opens the stash\n", file.display())
            }
            (Some(file), _) => format!(
                "wrapping key   {}   <- keep a copy elsewhere: without it no data can be read\n",
                file.display()
            ),
            (None, Some(made)) => {
                format!("wrapping key   {}, made anew: {}\n", made.kek, made.place)
            }
            (None, None) => String::new(),
        };
        let line = |name: &str, path: &Path| format!("{name:<14} {}\n", path.display());
        let secret_id = self.secret_id_file.as_ref().map(|path| line("secret id", path));
        let keystore = (!self.serves).then(|| line("keystore", &self.keystore));
        let stash = self.stash.as_ref().map(|path| line("stash", path));
        let files = secret_id.into_iter().chain(keystore).chain(stash).collect::<String>();
        let next = if self.mysql { self.mysql_files() } else { self.my_cnf() };
        format!("configuration  {config}\n{wrapping_key}{files}\n{next}")
    }

    fn my_cnf(&self) -> String {
        let path_line = if self.config == Path::new(config::DEFAULT_PATH) {
            String::new()
        } else {
            format!("keyward_config = {}\n", self.config.display())
        };
        format!(
            "Add to my.cnf and restart the server:\n\n\
             [mariadb]\nplugin_load_add = keyward\nkeyward = FORCE_PLUS_PERMANENT\n{path_line}\
             innodb_encrypt_tables = ON\ninnodb_encrypt_log = ON\ninnodb_encryption_threads = 4\n\
             innodb_encryption_rotate_key_age = 1\naria_encrypt_tables = ON\nencrypt_binlog = ON\n\
             encrypt_tmp_disk_tables = ON\nencrypt_tmp_files = ON\n",
        )
    }

    fn mysql_files(&self) -> String {
        let config = serde_json::json!({ "config": self.config });
        format!(
            "Write mysqld.my beside the server's program, such as /usr/sbin/mysqld.my:\n\n\
             {{ \"components\": \"file://component_keyring_keyward\" }}\n\n\
             and {} beside component_keyring_keyward.so:\n\n{config}\n\n\
             Restart the server.\n",
            component::FILE_NAME
        )
    }
}

impl Account {
    /// Only the group of it: root keeps what the server may read but not change.
    fn group_only(self) -> Self {
        Self { uid: nix::unistd::Uid::from_raw(0), ..self }
    }
}

/// Writes a file that nobody but its owner can read, and that was not there.
fn write_secret(path: &Path, secret: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(secret).and_then(|()| file.sync_all()))
        .map_err(|e| Error::io("cannot write", path, &e))
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
