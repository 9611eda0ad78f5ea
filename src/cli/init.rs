//! `keyward init`: a keystore, its wrapping key and a configuration, and the lines for the server's
//! own files.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::print::Printer;
use super::user::{self, Account};
use super::{Exit, env, mycnf, no_folder};
use crate::assemble;
use crate::config::{self, Config, component};
use crate::custodian::Reason;
use crate::env::{Deadline, Env};
use crate::error::{Error, Kind, Result};
use crate::key::Cipher;
use crate::mark;
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
    /// The server's data directory, where no other keystore's data may be [default: the one of
    /// /etc/mysql/my.cnf, else /var/lib/mysql; none with --dir]
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,
    /// Make a keystore though another one's is lost whose data are in the data directory
    #[arg(long)]
    despite_data: bool,
    /// The cipher of new keys
    #[arg(long, value_name = "CIPHER", default_value_t = Cipher::DEFAULT)]
    cipher: Cipher,
}

/// The provider that needs nothing outside the machine.
const LOCAL: &str = "local";

/// How long to wait for another `init` that works in the same folder.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How often to look whether it has ended.
const LOCK_POLL: Duration = Duration::from_millis(20);

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
    plan.refuse_others_data(options)?;
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

    /// A keystore was lost rather than never made where its data are still there: a new one would not
    /// read them, and its keys have the same numbers.
    fn refuse_others_data(&self, options: &Options) -> Result<()> {
        let folder = options.datadir.clone();
        let folder = folder.or_else(|| options.dir.is_none().then(mycnf::default_datadir));
        let Some(folder) = folder.filter(|_| !options.despite_data) else { return Ok(()) };
        // Keys that are to come by migrate or import are those of the data that are there.
        let imports = options.empty || options.mysql;
        let found = if imports { mark::named_in(&folder) } else { mark::evidence(&folder) };
        match found {
            None => Ok(()),
            Some(evidence) => Err(Error::new(Kind::State, evidence).advise(
                "put that keystore and its configuration back from a backup, or take over its keys \
                 (--empty, then import or migrate); --despite-data makes a keystore that does not \
                 read these data",
            )),
        }
    }

    fn carry_out(
        &mut self,
        options: &Options,
        owner: Option<Account>,
        made: &mut Made,
    ) -> Result<()> {
        let env = env();
        made.folder(parent(&self.config)?, 0o750, owner.map(Account::group_only))?;
        made.lock(parent(&self.config)?)?;
        // Another `init` may have made it while we waited.
        self.refuse_what_exists()?;
        made.folder(parent(&self.keystore)?, 0o700, owner)?;
        if let Some(key_file) = &self.key_file {
            assemble::create_key_file(key_file, &*env.rng)?;
            made.note(key_file, file_mode(owner), owner.map(Account::group_only))?;
        }
        let role = self.set_up_vault(options, owner, made, &env)?;
        let toml = self.toml(options) + &role + &self.stash_toml();
        made.file(&self.config, toml.as_bytes(), owner)?;
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
                (false, true) => self.make_keystore(&config, &[], reason, &env, made),
                (false, false) => {
                    self.make_keystore(&config, &assemble::FIRST_KEYS, reason, &env, made)
                }
            }
        })
    }

    /// Makes the keystore. Once that is on disk, whatever fails, nothing that opens it goes.
    fn make_keystore(
        &self,
        config: &Config,
        ids: &[u32],
        reason: Reason<'_>,
        env: &Env,
        made: &mut Made,
    ) -> Result<()> {
        let outcome = assemble::make_keystore(config, ids, reason, env);
        if outcome.as_ref().map_or_else(|not_made| not_made.stays, |()| true) {
            made.keep();
        }
        outcome.map_err(|not_made| match not_made.stays {
            true => self.made_in_part(&not_made.error, ids),
            false => not_made.error,
        })
    }

    fn made_in_part(&self, error: &Error, ids: &[u32]) -> Error {
        let commands: Vec<_> = ids.iter().map(|id| format!("`keyward keys create {id}`")).collect();
        let then = match ids {
            [] => "`keyward status` shows it".to_owned(),
            _ => {
                let commands = commands.join(" and ");
                format!("{commands} make the keys that `keyward keys list` does not show")
            }
        };
        let what =
            format!("{} was made, with all that opens it, but: {error}", self.keystore.display());
        // Not transient: another `init` would only find the keystore.
        Error::new(Kind::State, what).advise(then)
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
        made.file(path, role.secret_id.expose(), owner)?;
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

fn parent(path: &Path) -> Result<&Path> {
    path.parent().ok_or_else(|| no_folder(path))
}

/// Root keeps its files and lets the server's group read them.
fn file_mode(owner: Option<Account>) -> u32 {
    if owner.is_some() { 0o640 } else { 0o600 }
}

/// What this process made so far: taken away again unless kept, so that a failed `init` leaves
/// nothing.
#[derive(Default)]
struct Made {
    /// Each with what tells it from another at the same place.
    all: Vec<(PathBuf, FileId)>,
    /// Released after all that is not kept was taken away.
    lock: Option<File>,
}

/// Device and inode.
type FileId = (u64, u64);

impl Made {
    /// Waits until no other `init` is at work in `folder`, and keeps the next ones waiting.
    fn lock(&mut self, folder: &Path) -> Result<()> {
        let file = File::open(folder).map_err(|e| Error::io("cannot open", folder, &e))?;
        let by = Deadline::after(LOCK_WAIT);
        // Where a file system has no locks, each file is still made by one process only.
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = format!("another `keyward init` is at work in {}", folder.display());
            std::thread::sleep(by.left(what)?.min(LOCK_POLL));
        }
        self.lock = Some(file);
        Ok(())
    }

    /// Makes the folder at `path` unless it is there.
    fn folder(&mut self, path: &Path, mode: u32, owner: Option<Account>) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent().filter(|above| !above.exists()) {
            self.folder(above, 0o755, None)?;
        }
        match fs::create_dir(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(e) => Err(Error::io("cannot make", path, &e)),
            Ok(()) => self.note(path, mode, owner),
        }
    }

    /// Makes the file at `path`, which must not be there. The server may read it, and only the
    /// server.
    fn file(&mut self, path: &Path, bytes: &[u8], owner: Option<Account>) -> Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::io("cannot create", path, &e))?;
        self.remember(path, &file)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::io("cannot write", path, &e))?;
        give(path, &file, file_mode(owner), owner.map(Account::group_only))
    }

    /// Takes note of what this process has just made at `path`, and gives it to `owner`.
    fn note(&mut self, path: &Path, mode: u32, owner: Option<Account>) -> Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|e| Error::io("cannot open", path, &e))?;
        self.remember(path, &file)?;
        give(path, &file, mode, owner)
    }

    fn remember(&mut self, path: &Path, file: &File) -> Result<()> {
        let meta = file.metadata().map_err(|e| Error::io("cannot look at", path, &e))?;
        self.all.push((path.to_owned(), (meta.dev(), meta.ino())));
        Ok(())
    }

    fn keep(&mut self) {
        self.all.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (path, id) in self.all.iter().rev() {
            let Ok(meta) = fs::symlink_metadata(path) else { continue };
            if (meta.dev(), meta.ino()) == *id {
                // What cannot be taken away is named by the error that brought us here.
                let _ = if meta.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            }
        }
    }
}

fn give(path: &Path, file: &File, mode: u32, owner: Option<Account>) -> Result<()> {
    if let Some(Account { uid, gid }) = owner {
        fchown(file, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(|e| Error::io("cannot give away", path, &e))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(|e| Error::io("cannot set the mode of", path, &e))
}
