//! A server whose keystore two providers wrap, and what watches it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use test_kit::account::give_to_server;
use test_kit::command::Answer;
use test_kit::{Result, ensure, files};
use test_mariadb::rows::Table;
use test_mariadb::{Launch, Server, Site};
use test_vault::Vault;

use crate::check;
use crate::watch::Watch;

/// Enough pages that some are left to re-encrypt while they are counted.
const TABLE: Table = Table { name: "salaries", options: "ENCRYPTED=YES", rows: 20_000 };

/// All of it.
pub(crate) struct Room {
    pub(crate) watch: Watch,
    server: Option<Server>,
    pub(crate) site: Site,
    pub(crate) vault: Vault,
}

impl Room {
    pub(crate) fn new() -> Result<Self> {
        let mut site = Site::new("monitoring")?;
        site.init_keyward()?;
        site.set("innodb_encrypt_tables = ON");
        let vault = Vault::start()?;
        vault.vault(&["secrets", "enable", "transit"])?;
        vault.vault(&["write", "-f", "transit/keys/keyward"])?;
        let watch = Watch::start(&site.path("run/sock"))?;
        let mut room = Self { watch, server: None, site, vault };
        room.give("ca.pem")?;
        room.token("240h")?;
        let config = files::text(&room.site.config())?;
        let policy = "[policy]\nrotate_after = \"90d\"\n";
        ensure!(!config.contains("[policy]"), "the configuration has a policy: {config}");
        files::write(&room.site.config(), format!("{policy}{config}{}", room.provider()))?;
        room.site.keyward(&["keystore", "rewrap", "--add", "vault"])?.ok()?;
        room.site.keyward(&["keys", "create", "7"])?.ok()?;
        room.have_backups()?;
        room.start(&Launch::default())?;
        TABLE.create(room.server()?)?;
        Ok(room)
    }

    fn provider(&self) -> String {
        format!(
            "\n[[provider]]\nname = \"vault\"\ntype = \"vault-transit\"\naddress = \"{}\"\n\
             ca_file = {:?}\nkey = \"keyward\"\ntoken_file = {:?}\n",
            self.vault.address(),
            self.site.path("etc/ca.pem"),
            self.site.path("etc/token")
        )
    }

    /// Has the keys backed up to a folder, once.
    fn have_backups(&self) -> Result<()> {
        let folder = self.backups();
        fs::create_dir(&folder)?;
        give_to_server(&folder)?;
        let config = files::text(&self.site.config())?;
        let section = format!("[backup]\nto = {folder:?}\n");
        files::write(&self.site.config(), format!("{section}{config}"))?;
        let identity = self.site.path("etc/identity").display().to_string();
        let said = self.site.keyward(&["keystore", "backup", "--identity", &identity])?.text();
        let recipient = said.split_whitespace().find(|word| word.starts_with("age1pq1"));
        let recipient = recipient.ok_or("no recipient")?;
        self.site.keyward(&["keystore", "backup", "--add-recipient", recipient])?.ok()?;
        self.back_up()?.ok().map(drop)
    }

    /// Has a backup made that is due.
    pub(crate) fn back_up(&self) -> Result<Answer> {
        self.site.keyward(&["keystore", "backup", "--due"])
    }

    pub(crate) fn backups(&self) -> PathBuf {
        self.site.path("backups")
    }

    /// Copies a file of the authority's for the server's account.
    pub(crate) fn give(&self, name: &str) -> Result<PathBuf> {
        let to = self.site.path("etc").join(name);
        fs::copy(self.vault.certificates().path(name), &to)?;
        self.site.only_for_server(&to)?;
        Ok(to)
    }

    /// Gives the provider a token that lives so long and cannot be renewed.
    pub(crate) fn token(&self, lives: &str) -> Result<()> {
        let ttl = format!("-ttl={lives}");
        let words = ["token", "create", "-policy=root", &ttl, "-renewable=false", "-field=token"];
        let token = self.vault.vault(&words)?;
        let file = self.site.path("etc/token");
        files::write(&file, token.trim())?;
        self.site.only_for_server(&file)
    }

    pub(crate) fn start(&mut self, launch: &Launch) -> Result<()> {
        self.server = Some(self.site.launch(launch)?);
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), |server| server.stop().map(drop))
    }

    pub(crate) fn server(&self) -> Result<&Server> {
        self.server.as_ref().ok_or_else(|| "the server does not run".into())
    }

    pub(crate) fn sql(&self, sql: &str) -> Result<String> {
        self.server()?.sql(sql)
    }

    /// Has `keyward metrics` write its file as the timer does; gives what is in it.
    pub(crate) fn write(&self) -> Result<String> {
        let file = self.watch.textfiles().join("keyward.prom");
        let (socket, path) = (self.site.path("run/sock"), file.display().to_string());
        let socket = socket.display().to_string();
        let words = ["metrics", "--socket", &socket, "--textfile", &path];
        self.site.keyward(&words)?.ok()?;
        files::text(&file)
    }

    /// Brings everything to where a healthy server is, and waits until Prometheus knows.
    pub(crate) fn well(&self) -> Result<()> {
        // A rotation for the rates, with all pages after it.
        self.sql("SET GLOBAL keyward_rotate_key = 1")?;
        let socket = self.site.path("run/sock").display().to_string();
        self.site.keyward(&["keys", "wait", "--socket", &socket])?.ok()?;
        self.sql("SET GLOBAL keyward_refresh = ON")?;
        check(&self.write()?)?;
        self.watch.until("the server's metrics by both ways", |watch| {
            self.write()?;
            let both = "keyward_server_restart_unsafe == 0 and on () \
                        mysql_global_status_keyward_restart_unsafe == 0";
            Ok(!watch.query(both)?.is_empty())
        })?;
        // All rules have been evaluated with these values.
        std::thread::sleep(Duration::from_secs(12));
        self.write()?;
        std::thread::sleep(Duration::from_secs(3));
        Ok(())
    }

    /// Puts `to` at the place of `from`, with the account's rights.
    pub(crate) fn restore(&self, from: &Path, to: &Path) -> Result<()> {
        fs::remove_dir_all(to)?;
        files::copy(from, to)?;
        give_to_server(to)
    }
}
