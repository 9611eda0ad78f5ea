//! `keyward init`: a keystore, its wrapping key and a configuration, and the lines for the server's
//! own files.

#![forbid(unsafe_code)]

mod made;
mod written;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Gid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::assemble;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::{env, no_folder};
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::privilege::{self, Account, Said};
use crate::compat::my_cnf;
use crate::config::{self, Config, component};
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::key::Cipher;
use crate::mark;
use crate::provider::KekInfo;
use crate::secret;
use crate::source::Reason;
use crate::trust::Folder;
use made::{InPart, Made, Owner};

#[derive(clap::Args)]
pub(super) struct Options {
    /// Put everything into this folder, for a try-out
    #[arg(long, value_name = "DIR", conflicts_with = "keystore")]
    dir: Option<PathBuf>,
    /// The keystore file to make
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_KEYSTORE)]
    keystore: PathBuf,
    /// The kind of key store that wraps the keystore's key: `type` in the configuration
    #[arg(long, value_name = "TYPE", default_value = LOCAL)]
    provider: String,
    /// A line of its configuration, such as timeout=5s; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Have the key store make a new wrapping key
    #[arg(long)]
    create_key: bool,
    /// Prepare the key store for the server with its administrator's token in this file: what holds
    /// the keys, and an account with the least rights that the server logs in as
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
    /// The part of it that the server's account does for root
    #[arg(long, value_enum, hide = true)]
    part: Option<Part>,
}

/// What the server's account does for root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Prepares the key store, which a network leads to.
    SetUp,
    /// Makes the keystore, or the keys in a key store that serves them.
    Keystore,
    /// Looks whether there are data of another keystore.
    Data,
}

/// Who calls.
pub(super) struct Caller<'a> {
    pub(super) user: Option<&'a str>,
    /// The call without the program's name.
    pub(super) call: &'a [OsString],
    /// Whether root called before, and this is the account's part.
    pub(super) second: bool,
}

/// Who does the account's part: it, as a command of its own, or we who are it.
struct Hands<'a> {
    account: Option<Account>,
    call: &'a [OsString],
}

/// The variable in which the account's part finds the token of a key store's administrator.
const ADMIN_TOKEN: &str = "KEYWARD_ADMIN_TOKEN";

/// The longest such token, in bytes.
const MAX_TOKEN: usize = 1 << 16;

/// How the keystore was made.
#[derive(Serialize, Deserialize)]
struct Outcome {
    serves: bool,
    wrapping_key: Option<KekInfo>,
    /// What the configuration must name, where a public key wraps.
    fingerprint: Option<String>,
    /// What failed and what to do, where the keystore is on disk all the same.
    in_part: Option<(String, String)>,
}

/// How the server logs in to a key store that was prepared for it.
#[derive(Serialize, Deserialize)]
struct Login {
    /// Lines of the configuration.
    settings: String,
    secret: String,
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
    /// The secret by which the server logs in to a key store that was prepared for it.
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

pub(super) fn run(
    config: &Path,
    options: &Options,
    caller: Caller<'_>,
    printer: &Printer,
) -> Result<Exit> {
    let mut plan = Plan::of(config, options)?;
    match options.part {
        // Whoever is root gives none of it away; whoever is not gains nothing by saying so.
        Some(part) => return plan.account_part(part, options, caller.second),
        None => plan.refuse_what_exists()?,
    }
    let account = account(caller.user.unwrap_or("mysql"))?;
    let hands = Hands { account, call: caller.call };
    let mut made = Made::default();
    if let Some(failed) = plan.carry_out(options, &hands, &mut made)? {
        return Ok(failed);
    }
    made.keep();
    printer.show(&plan, &plain_lines(&plan.text()))?;
    Ok(Exit::Success)
}

/// The account that is to own what the server writes; without root, ourselves.
fn account(name: &str) -> Result<Option<Account>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    privilege::find(name)?.map(Some).ok_or_else(|| privilege::no_user(name))
}

impl Hands<'_> {
    /// Who gets what root makes for the server: root keeps it, and the server's group reads it.
    fn group(&self) -> Option<Gid> {
        self.account.as_ref().map(|account| account.gid)
    }

    /// Has the account do `part`; `alone` is how we do it where we are the account.
    fn have_done<T: DeserializeOwned>(
        &self,
        part: &str,
        config: &Path,
        more: &[(&str, OsString)],
        alone: impl FnOnce() -> Result<T>,
    ) -> Result<T, Stopped> {
        let Some(account) = self.account.as_ref().filter(|account| !account.uid.is_root()) else {
            return Ok(alone()?);
        };
        let mut call = self.call.to_vec();
        call.extend(["--part".into(), part.into()]);
        let said = privilege::step_as(account, config, &call, more).map_err(Stopped::Lost)?;
        match said {
            Said::Failed(exit) => Err(Stopped::Told(exit)),
            Said::Text(text) => serde_json::from_slice(&Zeroizing::new(text)).map_err(|_| {
                let what = format!("the part of user {} has no answer of ours", account.name);
                Stopped::Lost(Error::new(Kind::Internal, what))
            }),
        }
    }
}

/// Why `init` ends early.
enum Stopped {
    /// Nobody has told yet.
    By(Error),
    /// The account's part has.
    Told(Exit),
    /// Nobody knows how far the account's part came.
    Lost(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::By(error)
    }
}

impl Plan {
    fn of(config: &Path, options: &Options) -> Result<Self> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|e| Error::io("cannot make absolute", path, &e))
        };
        if options.dir.is_none() && config.extension().is_some_and(|ending| ending == "cnf") {
            let what = format!("{} is for MySQL's component", config.display());
            return Err(Error::new(Kind::Config, what)
                .advise("the server's first start makes its `path`; for `config`, name a .toml"));
        }
        let (config, keystore) = match &options.dir {
            Some(dir) => (dir.join("keyward.toml"), dir.join("keystore/keystore.json")),
            None => (config.to_owned(), options.keystore.clone()),
        };
        let (config, keystore) = (absolute(&config)?, absolute(&keystore)?);
        let is_local = options.provider == LOCAL && options.set.is_empty();
        let key_file = (is_local || options.stash).then(|| config.with_file_name("local.key"));
        let stash = options.stash.then(|| keystore.with_file_name("stash.json"));
        let secret_id_file = match options.admin_token_file {
            Some(_) => {
                let name = assemble::set_up_of(&options.provider)?.secret_name;
                Some(config.with_file_name(name))
            }
            None => None,
        };
        let (wrapping_key, serves, mysql) = (None, false, options.mysql);
        Ok(Self { config, key_file, wrapping_key, secret_id_file, keystore, serves, stash, mysql })
    }

    fn refuse_what_exists(&self) -> Result<()> {
        let made = self.key_file.iter().chain(&self.secret_id_file);
        for path in [&self.config, &self.keystore].into_iter().chain(made) {
            if path.symlink_metadata().is_ok() {
                return Err(Error::new(Kind::State, format!("{} already exists", path.display()))
                    .advise("nothing was changed; `keyward status` shows what is set up"));
            }
        }
        Ok(())
    }

    /// A keystore was lost rather than never made where its data are still there: a new one would not
    /// read them, and its keys have the same numbers.
    fn refuse_others_data(&self, options: &Options) -> Result<()> {
        let folder = options.datadir.clone();
        let folder = folder.or_else(|| options.dir.is_none().then(my_cnf::default_datadir));
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

    /// Makes everything; the exit code where the account's part failed, and has told why.
    fn carry_out(
        &mut self,
        options: &Options,
        hands: &Hands<'_>,
        made: &mut Made,
    ) -> Result<Option<Exit>> {
        match self.make(options, hands, made) {
            Ok(()) => Ok(None),
            Err(Stopped::Told(exit)) => Ok(Some(exit)),
            Err(Stopped::By(error) | Stopped::Lost(error)) => Err(error),
        }
    }

    fn make(
        &mut self,
        options: &Options,
        hands: &Hands<'_>,
        made: &mut Made,
    ) -> Result<(), Stopped> {
        let env = env();
        let group = hands.group();
        let this = &*self;
        hands.have_done("data", &self.config, &[], || this.refuse_others_data(options))?;
        let folder = made.folder(parent(&self.config)?, 0o750, Owner::group(group))?;
        made.lock(parent(&self.config)?)?;
        // Another `init` may have made it while we waited.
        self.refuse_what_exists()?;
        self.make_keystores_folder(hands, made)?;
        if let Some(key_file) = &self.key_file {
            assemble::create_key_file(key_file, &*env.rng)?;
            made.note(key_file, &folder, group)?;
        }
        let login = self.set_up(options, hands, made, &folder)?;
        let toml = self.toml(options) + &login + &self.stash_toml();
        made.file(&self.config, toml.as_bytes(), &folder, group)?;
        let this = &*self;
        let outcome: Result<Outcome, Stopped> =
            hands.have_done("keystore", &self.config, &[], || this.make_keystore(options));
        // Nothing that opens a keystore is taken away.
        let is_made = match &outcome {
            Ok(_) => true,
            Err(Stopped::Lost(_)) => self.keystore.symlink_metadata().is_ok(),
            Err(_) => false,
        };
        if is_made {
            made.keep();
        }
        let outcome = outcome?;
        if let Some(fingerprint) = &outcome.fingerprint {
            made.pin(&self.config, &toml, fingerprint, group)?;
        }
        if let Some((what, advice)) = outcome.in_part {
            return Err(Error::new(Kind::State, what).advise(advice).into());
        }
        (self.serves, self.wrapping_key) = (outcome.serves, outcome.wrapping_key);
        Ok(())
    }

    /// Root makes it where only root could; below a folder of the account's, that does it.
    fn make_keystores_folder(&self, hands: &Hands<'_>, made: &mut Made) -> Result<()> {
        let folder = parent(&self.keystore)?;
        let root = hands.account.is_some();
        match Folder::open(folder) {
            Err(refusal) if refusal.is_missing() => {}
            Ok(_) => return Ok(()),
            Err(_) if root => return Ok(()),
            Err(refusal) => return Err(refusal.of("cannot open the folder", folder)),
        }
        let owner = hands.account.as_ref().map(|account| Owner(account.uid, account.gid));
        match made.folder(folder, 0o700, owner) {
            Err(error) if root && error.kind() == Kind::Config => Ok(()),
            made => made.map(drop),
        }
    }

    /// What the account does, said to root, who has called it.
    fn account_part(&mut self, part: Part, options: &Options, second: bool) -> Result<Exit> {
        if !second {
            return Err(Error::new(Kind::Config, "--part is root's to say"));
        }
        let text = match part {
            Part::SetUp => serde_json::to_vec(&self.login(options, None)?),
            Part::Keystore => serde_json::to_vec(&self.make_keystore(options)?),
            Part::Data => serde_json::to_vec(&self.refuse_others_data(options)?),
        };
        let internal = |_| Error::new(Kind::Internal, "cannot say what was made");
        let text = Zeroizing::new(text.map_err(internal)?);
        std::io::stdout().write_all(&text).map_err(|_| Error::new(Kind::Io, "cannot say it"))?;
        Ok(Exit::Success)
    }

    /// The keystore, or the keys in a key store that serves them, as the configuration says.
    fn make_keystore(&self, options: &Options) -> Result<Outcome> {
        let env = env();
        let config = Config::load_made(&self.config, self.origins(options))?;
        let mut made = Made::default();
        made.folder(parent(&self.keystore)?, 0o700, None)?;
        let serves = assemble::serves(&config, &env)?;
        if serves && self.mysql {
            let what = format!("provider {:?} serves MariaDB's keys only", options.provider);
            return Err(Error::new(Kind::Unsupported, what)
                .advise("for MySQL take one that wraps, such as local"));
        }
        let actor = privilege::actor();
        let reason = Reason { actor: &actor, text: "keyward init" };
        let wrapping_key = match options.create_key {
            true => Some(assemble::create_wrapping_key(&config, &options.provider, &env)?),
            false => None,
        };
        let (fingerprint, in_part) = match (serves, options.empty || options.mysql) {
            (true, true) => (None, None),
            (true, false) => {
                assemble::create_served_keys(&config, reason, &env).map(|()| (None, None))?
            }
            (false, true) => self.commit_keystore(&config, &[], reason, &env)?,
            (false, false) => self.commit_keystore(&config, &assemble::FIRST_KEYS, reason, &env)?,
        };
        made.keep();
        Ok(Outcome { serves, wrapping_key, fingerprint, in_part })
    }

    /// Makes the keystore; the fingerprint to pin, or what failed and what to do, where it is on disk all
    /// the same.
    fn commit_keystore(
        &self,
        config: &Config,
        ids: &[u32],
        reason: Reason<'_>,
        env: &Env,
    ) -> Result<(Option<String>, Option<InPart>)> {
        match assemble::make_keystore(config, ids, reason, env) {
            Ok(fingerprint) => Ok((fingerprint, None)),
            Err(not_made) if not_made.stays => {
                Ok((None, Some(self.made_in_part(&not_made.error, ids))))
            }
            Err(not_made) => Err(not_made.error),
        }
    }

    /// Not transient: another `init` would only find the keystore.
    fn made_in_part(&self, error: &Error, ids: &[u32]) -> (String, String) {
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
        (what, then)
    }

    /// Does in the key store what an administrator must do, where we were given such a one's token; the
    /// lines of the configuration that log in with the account made there.
    fn set_up(
        &self,
        options: &Options,
        hands: &Hands<'_>,
        made: &mut Made,
        folder: &Folder,
    ) -> Result<String, Stopped> {
        let (Some(token), Some(path)) = (&options.admin_token_file, &self.secret_id_file) else {
            return Ok(String::new());
        };
        let token =
            std::path::absolute(token).map_err(|e| Error::io("cannot make absolute", token, &e))?;
        // It may be root's alone to read: the account gets what is in it.
        let handed = match &hands.account {
            Some(_) => vec![(ADMIN_TOKEN, read_token(&token)?)],
            None => Vec::new(),
        };
        let alone = || self.login(options, Some(&token));
        let login: Login = hands.have_done("set-up", &self.config, &handed, alone)?;
        made.file(path, login.secret.as_bytes(), folder, hands.group())?;
        let secret_file = assemble::set_up_of(&options.provider)?.secret_file;
        Ok(format!("{}{secret_file} = {path:?}\n", login.settings))
    }

    /// Prepares the key store, logged in as its administrator by the token in `file`, else in the
    /// environment.
    fn login(&self, options: &Options, file: Option<&Path>) -> Result<Login> {
        let set_up = assemble::set_up_of(&options.provider)?;
        let administrator = match file {
            Some(file) => format!("{} = {file:?}\n", set_up.token_file),
            None => format!("{} = {ADMIN_TOKEN:?}\n", set_up.token_env),
        };
        let toml = self.toml(options) + &administrator;
        let config = Config::parse_made(&self.config, &toml, self.origins(options))?;
        let made = assemble::set_up(&config, &env())?;
        let secret = std::str::from_utf8(made.secret.expose());
        let secret = secret.map_err(|_| Error::new(Kind::Unsupported, "the secret is no text"))?;
        let line = |(key, value): &(&str, String)| {
            format!("{key} = {}\n", toml::Value::from(value.as_str()))
        };
        let settings = made.settings.iter().map(line).collect();
        Ok(Login { settings, secret: secret.to_owned() })
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
                format!("wrapping key   {}, newly made: {}\n", made.kek, made.place)
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

/// What is in the administrator's token file.
fn read_token(path: &Path) -> Result<OsString> {
    Ok(OsString::from_vec(secret::read_file(path, MAX_TOKEN)?.expose().to_vec()))
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent().ok_or_else(|| no_folder(path))
}
