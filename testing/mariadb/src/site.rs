//! One server's folder: its data, its plugins, its `my.cnf`, its keystore.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::server::{Log, Refusal};
use crate::{Launch, PLUGINS, Server, Versions};
use test_kit::account::{give_to_server, server_user};
use test_kit::command::answer;
use test_kit::shared::Shared;
use test_kit::{Answer, Result, Scratch, artefacts, files};

/// A key file as MariaDB's guides have it: keys of 32, 16, 24 and 32 bytes.
pub const FILE_KEYS: &str = "\
1;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a
2;49c16acc2dffe616710c9ba9a10b94944a737de1beccb52dc1560abfdd67388b
3;8db1ee74580e7e93ab8cf157f02656d356c2f437d548d5bf
4;6b6e4a2ee2b52c3a8f19e1d07c4b5a90f1de2d3c4b5a69788796a5b4c3d2e1f0
100;ed93a123712d6ac78df8a7c20f5b750ab8df7d6dd5d5ba3f6f2b3a1a1b1c1d1e
";

/// Small, quick to start, quick to re-encrypt; otherwise the server's own defaults. The largest size
/// of the buffer pool is reserved at the start, terabytes of it, which debuggers cannot stand.
const SETTINGS: &str = "\
skip-networking
skip-name-resolve
character_set_server = utf8mb4
innodb_buffer_pool_size = 32M
loose_innodb_buffer_pool_size_max = 32M
innodb_log_file_size = 10M
innodb_flush_method = fsync
innodb_encryption_rotation_iops = 5000
key_buffer_size = 1M
aria_pagecache_buffer_size = 8M
table_open_cache = 100
";

/// One server's folder. It goes when this value goes.
pub struct Site {
    scratch: Scratch,
    /// The data that ours was copied from, kept for the sites that run beside this one.
    fresh: Arc<Scratch>,
    settings: Vec<String>,
}

impl Site {
    /// A folder with fresh data and every plugin, keyward among them, and none of them loaded.
    pub fn new(name: &str) -> Result<Self> {
        Self::within(Scratch::new(name)?)
    }

    /// The same on a disk, for a server that is killed while it writes pages. In memory the kernel
    /// stops between the quarters of a page, and MariaDB 10.11.19 cannot repair each such page when it
    /// is encrypted, whatever plugin has the key. Written past the page cache, as servers do unless
    /// told otherwise, a page is old or new.
    pub fn on_disk(name: &str) -> Result<Self> {
        let mut site = Self::within(Scratch::on_disk(name)?)?;
        site.set("innodb_flush_method = O_DIRECT");
        Ok(site)
    }

    fn within(scratch: Scratch) -> Result<Self> {
        let site = Self { scratch, fresh: shared_data()?, settings: Vec::new() };
        for folder in ["plugin", "run", "tmp", "etc"] {
            fs::create_dir(site.path(folder))?;
        }
        artefacts::fill_plugins(&site.path("plugin"), Path::new(PLUGINS), "keyward.so")?;
        files::copy(&site.fresh.path().join("data"), &site.data())?;
        for folder in ["data", "run", "tmp"] {
            give_to_server(&site.path(folder))?;
        }
        Ok(site)
    }

    /// The same, with keyward as `keyward init` sets it up.
    pub fn with_keyward(name: &str) -> Result<Self> {
        let mut site = Self::new(name)?;
        site.init_keyward()?;
        Ok(site)
    }

    /// Sets up a keystore by `keyward init` and loads keyward at the next start.
    pub fn init_keyward(&mut self) -> Result<String> {
        let folder = self.path("keyward").display().to_string();
        let said = self.keyward(&["init", "--dir", &folder])?.ok()?;
        self.load_keyward();
        Ok(said)
    }

    /// Loads keyward at the next start, with the settings that `keyward init` recommends.
    pub fn load_keyward(&mut self) {
        self.set("plugin_load_add = keyward");
        self.set("keyward = FORCE_PLUS_PERMANENT");
        self.set(&format!("keyward_config = {}", self.config().display()));
        self.set("innodb_encryption_threads = 4");
        self.set("innodb_encryption_rotate_key_age = 1");
    }

    /// Loads `file_key_management`, the original or ours by a link of that name, on a key file.
    pub fn load_file_keys(&mut self, ours: bool, cipher: &str) -> Result<()> {
        self.link_file_keys(ours)?;
        let key_file = self.path("etc/keys.txt");
        if !key_file.exists() {
            files::write(&key_file, FILE_KEYS)?;
            self.only_for_server(&key_file)?;
        }
        self.settings.retain(|line| !line.contains("file_key_management"));
        self.set("plugin_load_add = file_key_management");
        self.set("file_key_management = FORCE_PLUS_PERMANENT");
        self.set(&format!("file_key_management_filename = {}", key_file.display()));
        self.set(&format!("file_key_management_encryption_algorithm = {cipher}"));
        Ok(())
    }

    /// Makes `file_key_management.so` a link to ours, or to the distribution's.
    pub fn link_file_keys(&self, ours: bool) -> Result<()> {
        let link = self.path("plugin/file_key_management.so");
        let _ = fs::remove_file(&link);
        let original = format!("{}/file_key_management.so", PLUGINS);
        symlink(if ours { "keyward.so" } else { &original }, link)?;
        Ok(())
    }

    /// Adds a line to `my.cnf`.
    pub fn set(&mut self, line: &str) {
        self.settings.push(line.to_owned());
    }

    /// Encrypts all that the server can encrypt.
    pub fn encrypt_everything(&mut self) {
        for line in [
            "innodb_encrypt_tables = ON",
            "innodb_encrypt_log = ON",
            "innodb_encrypt_temporary_tables = ON",
            "aria_encrypt_tables = ON",
            "encrypt_tmp_disk_tables = ON",
            "encrypt_tmp_files = ON",
            "encrypt_binlog = ON",
            "log_bin",
            "server_id = 1",
        ] {
            self.set(line);
        }
    }

    /// Takes every line with `word` out of `my.cnf`.
    pub fn unset(&mut self, word: &str) {
        self.settings.retain(|line| !line.contains(word));
    }

    /// Starts the server; an error is what it logged.
    pub fn start(&self) -> Result<Server> {
        Ok(self.launch(&Launch::default())?)
    }

    /// Starts the server in the surroundings of `launch`.
    pub fn launch(&self, launch: &Launch) -> Result<Server, Refusal> {
        let not_even = |log: String| Refusal { status: None, log };
        let my_cnf = self.write_my_cnf().map_err(|error| not_even(error.to_string()))?;
        let log = Log::from_here(&self.log_file());
        let _ = fs::remove_file(self.path("run/pid"));
        let child = launch
            .command(&my_cnf, &self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| not_even(error.to_string()))?;
        Server::attend(child, &self.path("run/sock"), &self.path("run/pid"), log)
    }

    /// Starts the server, which must refuse; gives what it logged.
    pub fn refusal(&self) -> Result<String> {
        match self.launch(&Launch::default()) {
            Ok(_) => Err("the server started, though it should have refused".into()),
            Err(Refusal { status: Some(_), log }) => Ok(log),
            Err(hung) => Err(hung.into()),
        }
    }

    /// Runs the command on this site's configuration.
    pub fn keyward(&self, args: &[&str]) -> Result<Answer> {
        answer(&mut self.keyward_command(args))
    }

    /// Every key version that the keystore holds, with its check value.
    pub fn versions(&self) -> Result<Versions> {
        Versions::read(&mut self.keyward_command(&["keys", "list"]))
    }

    /// The command on this site's configuration, to be run.
    #[must_use]
    pub fn keyward_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(artefacts::command());
        command.arg("--config").arg(self.config()).args(args).stdin(Stdio::null());
        command
    }

    /// The same, run by the account that the server runs as.
    #[must_use]
    pub fn keyward_command_as_server(&self, args: &[&str]) -> Command {
        let words = crate::launch::identity();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(artefacts::command());
        command.arg("--config").arg(self.config()).args(args).stdin(Stdio::null());
        command
    }

    /// Has the data say that they are this keystore's, as a server does that used it.
    pub fn mark(&self) -> Result<()> {
        let keystore = files::text(&self.keystore())?;
        let id = keystore.split("\"id\":").nth(1).and_then(|rest| rest.split('"').nth(1));
        let (id, zeros) = (id.ok_or("the keystore has no id")?, "00".repeat(32));
        let mark = self.data().join("keyward.mark");
        files::write(
            &mark,
            format!(
                "{{\"format\":\"keyward-mark\",\"version\":1,\"id\":\"test\",\"keystore\":\"{id}\",\
                 \"salt\":\"{zeros}\",\"keys\":[]}}"
            ),
        )?;
        self.only_for_server(&mark)
    }

    /// Leaves `path` readable for the server's user and nobody else.
    pub fn only_for_server(&self, path: &Path) -> Result<()> {
        files::chmod(path, 0o600)?;
        give_to_server(path)
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

    /// The keystore's folder, which belongs to the server.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.path("keyward/keystore")
    }

    /// The keystore.
    #[must_use]
    pub fn keystore(&self) -> PathBuf {
        self.path("keyward/keystore/keystore.json")
    }

    /// The wrapping key that `keyward init` made.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.path("keyward/local.key")
    }

    /// keyward's configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("keyward/keyward.toml")
    }

    /// The server's option file, as the last start wrote it.
    #[must_use]
    pub fn my_cnf(&self) -> PathBuf {
        self.path("my.cnf")
    }

    /// The server's error log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.path("data/error.log")
    }

    /// Writes `my.cnf` without starting anything: for tools that read it.
    pub fn write_my_cnf(&self) -> Result<PathBuf> {
        let at = |within: &str| self.path(within).display().to_string();
        let text = format!(
            "[mariadbd]\ndatadir = {}\nplugin_dir = {}\ntmpdir = {}\nsocket = {}\npid_file = {}\n\
             log_error = {}\n{SETTINGS}{}\n",
            at("data"),
            at("plugin"),
            at("tmp"),
            at("run/sock"),
            at("run/pid"),
            self.log_file().display(),
            self.settings.join("\n")
        );
        files::write(&self.my_cnf(), text)?;
        Ok(self.my_cnf())
    }
}

/// Data made once and copied for each site: making it again takes longer than a server's start.
/// It goes with the last site that holds it.
fn shared_data() -> Result<Arc<Scratch>> {
    static SHARED: Shared<Scratch> = Shared::new();
    SHARED.get(fresh_data)
}

/// The data of a server that has never run, with a root who needs no password.
fn fresh_data() -> Result<Scratch> {
    let scratch = Scratch::new("fresh")?;
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    install.args(["--innodb-log-file-size=10M"]);
    install.arg(format!("--datadir={}", scratch.path().join("data").display()));
    if let Some(user) = server_user() {
        install.arg(format!("--user={}", user.name));
    }
    answer(&mut install)?.ok().map_err(|error| error.within("mariadb-install-db"))?;
    Ok(scratch)
}
