//! In the place of `kmip_key_management`, by the lines that guides have.

use std::os::unix::fs::symlink;

use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create};

use crate::life::Room;
use crate::{said, settings, soon, wrapper};

const TABLES: &[Table] = &[Table { name: "payroll", options: "ENCRYPTED=YES", rows: 1000 }];

/// A guide's lines; what stands in capitals is the reader's own.
const GUIDE: &str = "\
plugin_load_add = kmip_key_management
kmip_key_management = FORCE_PLUS_PERMANENT
kmip_key_management_server_address = 127.0.0.1
kmip_key_management_server_port = PORT
kmip_key_management_client_ca = ETC/ca.pem
kmip_key_management_client_certificate = ETC/client.pem
kmip_key_management_client_key = ETC/client.key
kmip_key_management_master_key_id = KEY
innodb_encrypt_tables = ON
innodb_encrypt_log = ON
innodb_encryption_threads = 4
";

impl Room {
    /// Takes the guide's lines as they are, with `key` as the master key's id.
    pub(crate) fn follow_guide(&mut self, key: &str) -> Result<()> {
        let link = self.site.path("plugin/kmip_key_management.so");
        if !link.exists() {
            symlink("keyward.so", link)?;
        }
        self.site.unset("kmip_key_management");
        let etc = self.site.path("etc/kmip").display().to_string();
        let port = self.kmip.port().to_string();
        for line in GUIDE.lines() {
            let line = line
                .replace("PORT", &port)
                .replace("ETC", &etc)
                .replace("= KEY", &format!("= {key}"));
            self.site.set(&line);
        }
        // The keystore of a test lies in the test's own folder.
        let keystore = self.site.path("var/keystore.json");
        self.site.set(&format!("kmip_key_management_keystore = {}", keystore.display()));
        Ok(())
    }
}

#[test]
fn a_guides_my_cnf_loads_as_it_is() -> Result<()> {
    let mut room = Room::new("kmip-dropin")?;
    std::fs::create_dir(room.site.path("var"))?;
    files::chmod(&room.site.path("var"), 0o700)?;
    give_to_server(&room.site.path("var"))?;
    room.follow_guide("mariadb-master")?;
    let log = room.site.refusal()?;
    let line = log.lines().find(|line| line.contains("has no key \"mariadb-master\""));
    seen!(
        "no such key: {}",
        line.ok_or(log.clone())?.replace(&room.kmip.port().to_string(), "PORT")
    );

    let made = said(wrapper(settings(&room.kmip), "mariadb-master", None).create_key(soon()))?;
    let server = room.site.start()?;
    create(&server, TABLES)?;
    let variables = server.sql("SHOW VARIABLES LIKE 'kmip_key_management_%'")?;
    ensure!(variables.lines().count() == 7, "{variables}");
    let plugin = server.sql(
        "SELECT PLUGIN_STATUS, LOAD_OPTION, PLUGIN_MATURITY FROM information_schema.PLUGINS
         WHERE PLUGIN_NAME = 'kmip_key_management'",
    )?;
    ensure!(plugin == "ACTIVE\tFORCE_PLUS_PERMANENT\tGamma", "{plugin}");
    let warned = server.log().matches("made a new keystore").count();
    ensure!(warned == 1, "{}", server.log());
    server.kill()?;
    // The same key by its id, and no second keystore.
    let id = made.kek.rsplit_once('#').ok_or("no id")?.1;
    room.follow_guide(id)?;
    let server = room.site.start()?;
    check(&server, TABLES)?;
    ensure!(!server.log().contains("made a new keystore"), "{}", server.log());
    server.stop()?;

    room.site.unset("kmip_key_management_client_ca");
    let log = room.site.refusal()?;
    let line = log.lines().find(|line| line.contains("kmip_key_management_client_ca is not set"));
    seen!("without a line: {}", line.ok_or(log.clone())?);
    room.follow_guide(id)?;
    files::write(&room.site.path("etc/kmip/ca.pem"), files::read(&room.kmip.path("client.pem"))?)?;
    let log = room.site.refusal()?;
    let line = log.lines().find(|line| line.contains("cannot trust")).ok_or(log.clone())?;
    ensure!(line.contains("kmip_key_management_client_ca"), "{line}");
    seen!("another authority: {}", line.replace(&room.kmip.port().to_string(), "PORT"));
    Ok(())
}
