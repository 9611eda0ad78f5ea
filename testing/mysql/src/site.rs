//! One server's folder: its data, its plugins, its manifest, its keyring.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use test_kit::command::answer;
use test_kit::files::copy;
use test_kit::shared::Shared;
use test_kit::{Answer, Result, Scratch, account, artefacts, files};

use crate::{Server, root};

/// Small and quick to start; otherwise the server's own defaults.
const SETTINGS: &[&str] = &[
    "--no-defaults",
    "--user=root",
    "--skip-networking",
    "--mysqlx=OFF",
    "--secure-file-priv=",
    "--innodb-buffer-pool-size=32M",
    "--innodb-redo-log-capacity=8M",
    "--server-id=1",
];

/// Which component the server takes its keys from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// `component_keyring_keyward`.
    Ours,
    /// `component_keyring_file`, the stock one.
    Stock,
}

impl Keyring {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "component_keyring_keyward",
            Self::Stock => "component_keyring_file",
        }
    }
}

/// One server's folder. It goes when this value goes.
pub struct Site {
    scratch: Scratch,
    /// The data that ours was copied from, kept for the sites that run beside this one.
    fresh: Arc<Scratch>,
    settings: Vec<String>,
    /// Who runs the server, if not the caller.
    server_account: Option<u32>,
    /// Who runs `mysql_migrate_keyring` and the command, if not the caller.
    tools_account: Option<u32>,
}

impl Site {
    /// A folder with fresh data and a keyring that is configured by its path alone.
    pub fn new(name: &str, keyring: Keyring) -> Result<Self> {
        let site = Self {
            scratch: Scratch::new(name)?,
            fresh: shared_data()?,
            settings: Vec::new(),
            server_account: None,
            tools_account: None,
        };
        for folder in ["bin", "plugin"] {
            fs::create_dir(site.path(folder))?;
        }
        fs::DirBuilder::new().mode(0o700).create(site.path("keys"))?;
        symlink(root::path().join("usr/sbin/mysqld"), site.path("bin/mysqld"))?;
        let library = format!("{}.so", Keyring::Ours.name());
        artefacts::fill_plugins(&site.path("plugin"), &root::plugins(), &library)?;
        site.use_keyring(keyring)?;
        copy(&site.fresh.path().join("data"), &site.data())?;
        Ok(site)
    }

    /// Has the server take its keys from `keyring` at the next start.
    pub fn use_keyring(&self, keyring: Keyring) -> Result<()> {
        let manifest = format!("{{\"components\": \"file://{}\"}}", keyring.name());
        files::write(&self.path("bin/mysqld.my"), manifest)?;
        let path = self.keyring(keyring);
        self.configure(
            keyring,
            &format!("{{\"path\": \"{}\", \"read_only\": false}}", path.display()),
        )
    }

    /// Writes a component's configuration file.
    pub fn configure(&self, keyring: Keyring, text: &str) -> Result<()> {
        files::write(&self.configuration(keyring), text)
    }

    /// A component's configuration file.
    #[must_use]
    pub fn configuration(&self, keyring: Keyring) -> PathBuf {
        self.path("plugin").join(format!("{}.cnf", keyring.name()))
    }

    /// The file in which a component keeps its keys.
    #[must_use]
    pub fn keyring(&self, keyring: Keyring) -> PathBuf {
        self.path(match keyring {
            Keyring::Ours => "keys/keystore.json",
            Keyring::Stock => "keys/keyring",
        })
    }

    /// The wrapping key beside our keystore.
    #[must_use]
    pub fn wrapping_key(&self) -> PathBuf {
        self.path("keys/keystore.json.key")
    }

    /// Adds an option to the server's command line.
    pub fn set(&mut self, option: &str) {
        self.settings.push(option.to_owned());
    }

    /// Has the account of servers run this one from now on, if we are root, and the tools as well or not.
    /// All that is there becomes the account's at each start.
    pub fn run_as_mysql(&mut self, tools_too: bool) {
        self.server_account = account::server_user().map(|user| user.uid.as_raw());
        self.tools_account = self.server_account.filter(|_| tools_too);
    }

    /// Starts the server; an error is what it logged.
    pub fn start(&self) -> Result<Server> {
        if self.server_account.is_some() {
            account::give_to_server(&self.path(""))?;
        }
        let log = self.log_from_here();
        let _ = fs::remove_file(self.path("pid"));
        let output = fs::File::create(self.path("output"))?;
        let child = self
            .mysqld()
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Server::attend(child, self, log)
    }

    /// The server's command line.
    #[must_use]
    pub fn mysqld(&self) -> Command {
        let name = self.path("bin/mysqld");
        let mut command = mysqld(&name, &self.data());
        let at = |option: &str, within: &str| format!("--{option}={}", self.path(within).display());
        command.arg(at("plugin-dir", "plugin")).arg(at("socket", "sock"));
        command.arg(at("pid-file", "pid")).arg(at("log-error", "error.log"));
        command.args(&self.settings);
        by(self.server_account, command)
    }

    /// Runs the command on our keyring's configuration.
    pub fn keyward(&self, args: &[&str]) -> Result<Answer> {
        answer(&mut self.keyward_command(args))
    }

    /// The command on our keyring's configuration, to be run.
    #[must_use]
    pub fn keyward_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(artefacts::command());
        command.arg("--config").arg(self.configuration(Keyring::Ours)).args(args);
        by(self.tools_account, command)
    }

    /// Copies all keys by MySQL's own tool.
    pub fn migrate(&self, from: Keyring, to: Keyring) -> Result<String> {
        let folder = self.path("plugin").display().to_string();
        let mut command = root::program("usr/bin/mysql_migrate_keyring");
        command.arg(format!("--component-dir={folder}"));
        command.arg(format!("--source-keyring={}", from.name()));
        command.arg(format!("--source-keyring-configuration-dir={folder}"));
        command.arg(format!("--destination-keyring={}", to.name()));
        command.arg(format!("--destination-keyring-configuration-dir={folder}"));
        let said = answer(&mut by(self.tools_account, command))?;
        let text = said.text();
        said.ok().map(|_| text)
    }

    /// A place in this folder.
    #[must_use]
    pub fn path(&self, within: &str) -> PathBuf {
        self.scratch.path().join(within)
    }

    /// The server's data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn log_from_here(&self) -> u64 {
        fs::metadata(self.path("error.log")).map_or(0, |data| data.len())
    }
}

/// The command run by `account`. It may read whatever lies where only root gets to, such as the root folder
/// in root's home; what it may write is the account's.
fn by(account: Option<u32>, command: Command) -> Command {
    let Some(account) = account else { return command };
    let mut as_account = Command::new("setpriv");
    as_account.args([format!("--reuid={account}"), "--clear-groups".to_owned()]);
    as_account.args(["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]);
    as_account.arg(command.get_program()).args(command.get_args());
    as_account
}

/// The server, called by `name`, beside which it looks for its manifest.
fn mysqld(name: &Path, data: &Path) -> Command {
    let root = root::path();
    let mut command = root::program_as(name, name);
    command.args(SETTINGS);
    command.arg(format!("--basedir={}", root.join("usr").display()));
    command.arg(format!("--lc-messages-dir={}", root.join("usr/share/mysql").display()));
    let charsets = root.join("usr/share/mysql/charsets");
    command.arg(format!("--character-sets-dir={}", charsets.display()));
    command.arg(format!("--datadir={}", data.display()));
    command
}

/// Data made once and copied for each site. It goes with the last site that holds it.
fn shared_data() -> Result<Arc<Scratch>> {
    static SHARED: Shared<Scratch> = Shared::new();
    SHARED.get(fresh_data)
}

/// The data of a server that has never run, with a root who needs no password.
fn fresh_data() -> Result<Scratch> {
    let scratch = Scratch::new("mysql-fresh")?;
    let name = scratch.path().join("mysqld");
    symlink(root::path().join("usr/sbin/mysqld"), &name)?;
    let mut command = mysqld(&name, &scratch.path().join("data"));
    answer(command.arg("--initialize-insecure"))?
        .ok()
        .map_err(|error| error.within("mysqld --initialize-insecure"))?;
    Ok(scratch)
}
