//! A healthy server of which `doctor` has nothing to say, and faults planted one by one, each found.

use std::fs;
use std::path::Path;
use std::time::Duration;

use test_kit::account::give_to_server;
use test_kit::doctor::Said;
use test_kit::{Result, Scratch, ensure, files, seen};
use test_mariadb::rows::{Table, create};
use test_mariadb::{Server, Site};

/// All Aria tables but those in memory, as statements that write them again.
const FORCE_ARIA: &str =
    "SELECT CONCAT('ALTER TABLE `', TABLE_SCHEMA, '`.`', TABLE_NAME, '` FORCE;')
    FROM information_schema.TABLES
    WHERE ENGINE = 'Aria' AND TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA <> 'information_schema'";

/// How long the threads may take.
const PATIENCE: Duration = Duration::from_secs(60);

const TABLE: Table =
    Table { name: "key_three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 500 };

/// A site with its keys on another file system than the data, opened by two providers.
pub(crate) struct Room {
    pub(crate) site: Site,
    pub(crate) keys: Scratch,
}

impl Room {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut site = Site::with_keyward(name)?;
        site.encrypt_everything();
        site.keyward(&["keys", "create", "3"])?.ok()?;
        let keys = Scratch::on_disk(name)?;
        files::chmod(keys.path(), 0o755)?;
        let room = Self { site, keys };
        let (local, second) = (room.keys.path().join("local.key"), room.keys.path().join("second"));
        fs::copy(room.site.key_file(), &local)?;
        files::write(&second, "correct horse battery staple\n")?;
        for file in [&local, &second] {
            room.site.only_for_server(file)?;
        }
        let config = room.config()?;
        let config = config.replace(&format!("{:?}", room.site.key_file()), &format!("{local:?}"));
        room.configure(&(config + &second_provider("recovery", &second)))?;
        room.site.keyward(&["keystore", "rewrap"])?.ok()?;
        Ok(room)
    }

    pub(crate) fn config(&self) -> Result<String> {
        files::text(&self.site.config())
    }

    pub(crate) fn configure(&self, text: &str) -> Result<()> {
        files::write(&self.site.config(), text)
    }

    /// Starts it and has it encrypt all that was there before it had keys.
    pub(crate) fn start_encrypted(&self) -> Result<Server> {
        let server = self.site.start()?;
        create(&server, &[TABLE])?;
        let statements = server.sql(FORCE_ARIA)?;
        server.sql(&format!("SET SESSION alter_algorithm = COPY; {statements}"))?;
        server.sql("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY; FLUSH TABLES")?;
        wait_until_encrypted(&server)?;
        Ok(server)
    }

    /// Looks once the server has tried what its next start will do, which it does a minute after this one.
    pub(crate) fn doctor(&self, server: Option<&Server>, more: &[&str]) -> Result<Said> {
        if let Some(server) = server {
            server.sql("SET GLOBAL keyward_refresh = ON")?;
            let safe = "SHOW GLOBAL STATUS LIKE 'Keyward_restart_safe'";
            server.wait_for(safe, PATIENCE, |row| row.ends_with("\tyes"))?;
        }
        self.look(server, more)
    }

    /// Looks at it as it is.
    pub(crate) fn look(&self, server: Option<&Server>, more: &[&str]) -> Result<Said> {
        let socket = match server {
            Some(server) => server.socket().display().to_string(),
            None => self.site.path("run/none").display().to_string(),
        };
        let words = [&["--json", "doctor", "--socket", &socket], more].concat();
        let mut command = self.site.keyward_command(&words);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.site.path("bin").display()));
        Said::by(&mut command)
    }
}

/// Waits until InnoDB's threads have nothing left to encrypt, and all of it is on the disk.
fn wait_until_encrypted(server: &Server) -> Result<()> {
    let plain = "SELECT COUNT(*) FROM information_schema.INNODB_SYS_TABLESPACES s
            LEFT JOIN information_schema.INNODB_TABLESPACES_ENCRYPTION e ON s.SPACE = e.SPACE
            WHERE s.NAME <> 'innodb_temporary' AND (e.MIN_KEY_VERSION IS NULL OR e.MIN_KEY_VERSION = 0
                OR e.KEY_ROTATION_PAGE_NUMBER IS NOT NULL)";
    server.wait_for(plain, PATIENCE, |count| count.trim() == "0")?;
    server.write_pages()
}

fn second_provider(name: &str, passphrase: &Path) -> String {
    format!("\n[[provider]]\nname = {name:?}\ntype = \"local\"\npassphrase_file = {passphrase:?}\n")
}

#[test]
fn of_a_healthy_server_there_is_nothing_to_say_and_each_option_is_missed() -> Result<()> {
    let mut room = Room::new("doctor-up")?;
    let server = room.start_encrypted()?;
    let said = room.doctor(Some(&server), &[])?;
    ensure!(said.code == 0 && said.wrong().is_empty(), "{}: {:?}", said.code, said.wrong());
    seen!("a healthy server: {} things looked at, exit code 0", said.findings.len());
    // A table that is not to be encrypted is nobody's fault.
    server.sql("CREATE TABLE test.open (a INT) ENCRYPTED=NO")?;
    server.write_pages()?;
    ensure!(room.doctor(Some(&server), &[])?.code == 0, "ENCRYPTED=NO was meant");
    for (fault, id, words, repair) in [
        (
            "innodb_encryption_threads = 0",
            "encryption-threads",
            "threads = 0",
            "innodb_encryption_threads = 4",
        ),
        (
            "innodb_encryption_rotate_key_age = 0",
            "rotate-key-age",
            "age = 0",
            "innodb_encryption_rotate_key_age = 1",
        ),
        (
            "aria_encrypt_tables = OFF",
            "encrypt-aria",
            "aria_encrypt_tables = OFF",
            "aria_encrypt_tables = ON",
        ),
        (
            "encrypt_tmp_disk_tables = OFF",
            "encrypt-temporary",
            "tmp_disk_tables = OFF",
            "encrypt_tmp_disk_tables = ON",
        ),
    ] {
        server.sql(&format!("SET GLOBAL {fault}"))?;
        room.doctor(Some(&server), &[])?.only("warning", id, words)?;
        server.sql(&format!("SET GLOBAL {repair}"))?;
    }
    server.sql("DROP TABLE test.open")?;
    // With this one the threads decrypt, too.
    server.sql("SET GLOBAL innodb_encrypt_tables = OFF")?;
    let wrong = room.doctor(Some(&server), &[])?.wrong();
    ensure!(wrong.iter().any(|line| line.starts_with("warning encrypt-tables: ")), "{wrong:?}");
    server.sql("SET GLOBAL innodb_encrypt_tables = ON")?;
    wait_until_encrypted(&server)?;
    server.sql("SET GLOBAL aria_encrypt_tables = OFF; CREATE TABLE test.clear (a INT) ENGINE=Aria; \
                INSERT INTO test.clear VALUES (1); FLUSH TABLES; SET GLOBAL aria_encrypt_tables = ON")?;
    room.doctor(Some(&server), &[])?.only(
        "warning",
        "plain-files",
        "Aria tables in the clear (1): test/clear.MAI",
    )?;
    // The advice.
    server.sql("ALTER TABLE test.clear FORCE; FLUSH TABLES")?;
    ensure!(room.doctor(Some(&server), &[])?.code == 0, "the advice does not help");
    server.stop()?;
    for (option, id) in [
        ("innodb_encrypt_log", "encrypt-log"),
        ("encrypt_binlog", "encrypt-binlog"),
        ("encrypt_tmp_files", "encrypt-temporary"),
        ("innodb_doublewrite", "torn-pages"),
        ("keyward =", "load-option"),
    ] {
        room.site.unset(option);
        let wrong = if option == "keyward =" {
            "keyward = ON".to_owned()
        } else {
            format!("{option} = OFF")
        };
        room.site.set(&wrong);
        let server = room.site.start()?;
        let said = room.doctor(Some(&server), &[])?;
        // What is written meanwhile is in the clear as well.
        let wrongs = said.wrong();
        ensure!(said.code == 3, "{option}: {wrongs:?}");
        ensure!(
            wrongs.iter().any(|line| line.starts_with(&format!("warning {id}: "))),
            "{wrongs:?}"
        );
        ensure!(
            wrongs.iter().all(|line| line.contains(id) || line.starts_with("warning plain-files")),
            "{wrongs:?}"
        );
        server.stop()?;
        room.site.unset(&wrong);
        room.site.set(&match option {
            "keyward =" => "keyward = FORCE_PLUS_PERMANENT".to_owned(),
            option => format!("{option} = ON"),
        });
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_keys_and_places_is_found_beside_a_running_server() -> Result<()> {
    let room = Room::new("doctor-keys")?;
    let server = room.start_encrypted()?;
    let (site, config) = (&room.site, room.config()?);
    let found =
        |mark: &str, id: &str, words: &str| room.doctor(Some(&server), &[])?.only(mark, id, words);
    let third = room.keys.path().join("third");
    files::write(&third, "another one\n")?;
    site.only_for_server(&third)?;
    room.configure(&(config.clone() + &second_provider("third", &third)))?;
    found("warning", "wrappings", "provider \"third\" does not wrap the keystore yet")?;
    site.keyward(&["keystore", "rewrap"])?.ok()?;
    ensure!(room.doctor(Some(&server), &[])?.code == 0, "rewrap does not help");
    room.configure(&config)?;
    found("warning", "wrappings", "provider \"third\" wraps the keystore, and is not configured")?;
    site.keyward(&["keystore", "rewrap", "--prune"])?.ok()?;
    ensure!(room.doctor(Some(&server), &[])?.code == 0, "--prune does not help");
    // Its wrapping alone.
    let alone = config.split("\n[[provider]]\nname = \"recovery\"").next().ok_or("no second")?;
    room.configure(&format!("{alone}\n"))?;
    site.keyward(&["keystore", "rewrap", "--prune"])?.ok()?;
    found("warning", "sole-wrapping", "alone opens the keystore")?;
    room.configure(&config)?;
    site.keyward(&["keystore", "rewrap"])?.ok()?;
    // Its key on the disk of the data.
    let on_disk = format!("{:?}", room.keys.path().join("local.key"));
    room.configure(&config.replace(&on_disk, &format!("{:?}", site.key_file())))?;
    found("warning", "key-beside-data", "local.key lies on the file system of the data")?;
    room.configure(&config)?;
    site.keyward(&["keys", "compromise", "3", "1", "--reason", "a test"])?.ok()?;
    found("warning", "needed-versions", "key 3 version 1 is compromised")?;
    let socket = server.socket().display().to_string();
    site.keyward(&["rotate", "3", "--wait", "--socket", &socket])?.ok()?;
    server.write_pages()?;
    ensure!(
        room.doctor(Some(&server), &[])?.wrong().is_empty(),
        "{:?}",
        room.doctor(Some(&server), &[])?.wrong()
    );
    server.stop()?;
    Ok(())
}

#[test]
fn of_a_server_that_is_down_option_files_log_and_data_tell() -> Result<()> {
    let mut room = Room::new("doctor-down")?;
    room.start_encrypted()?.stop()?;
    fs::create_dir(room.site.path("bin"))?;
    let script = room.site.path("bin/my_print_defaults");
    let real = "/usr/bin/my_print_defaults";
    files::write(
        &script,
        format!("#!/bin/sh\nexec {real} --defaults-file={} \"$@\"\n", room.site.my_cnf().display()),
    )?;
    files::chmod(&script, 0o755)?;
    let look = |room: &Room| -> Result<Said> {
        room.site.write_my_cnf()?;
        let mut said = room.doctor(None, &[])?;
        // That it is down.
        said.findings.retain(|one| one[0] != "server");
        Ok(said)
    };
    let said = look(&room)?;
    ensure!(said.code == 0 && said.wrong().is_empty(), "{}: {:?}", said.code, said.wrong());
    // The data directory is the one that the server has entered in the keystore.
    for id in ["error-log", "needed-versions", "plain-files", "key-beside-data"] {
        ensure!(said.findings.iter().any(|one| one[0] == id), "no {id}: {:?}", said.findings);
    }
    let started =
        said.findings.iter().any(|one| one[2].contains("keyward: started with 3 keys in 3"));
    ensure!(started, "{:?}", said.findings);
    for (line, mark, id, words) in [
        ("plugin_load_add = file_key_management", "failed", "option-files", "2 plugins for keys"),
        ("plugin_maturity = stable", "failed", "option-files", "plugin_maturity = stable"),
        ("keyward = ON", "warning", "load-option", "keyward = ON"),
    ] {
        room.site.set(line);
        look(&room)?.only(mark, id, words)?;
        room.site.unset(line);
    }
    room.site.set("keyward = FORCE_PLUS_PERMANENT");
    // A start that failed has said why.
    let (key, away) = (room.keys.path().join("local.key"), room.keys.path().join("away"));
    let second = room.keys.path().join("second");
    fs::rename(&key, &away)?;
    fs::rename(&second, room.keys.path().join("second-away"))?;
    room.site.refusal()?;
    fs::rename(&away, &key)?;
    fs::rename(room.keys.path().join("second-away"), &second)?;
    look(&room)?.only("warning", "error-log", "keyward cannot start")?;
    // Another server's data need a key that nobody has here.
    let other = Site::with_keyward("doctor-other")?;
    other.keyward(&["keys", "create", "9"])?.ok()?;
    let server = other.start()?;
    server.sql("CREATE DATABASE IF NOT EXISTS test; CREATE TABLE test.nine (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=9")?;
    server.stop()?;
    let datadir = other.data().display().to_string();
    let said = room.doctor(None, &["--datadir", &datadir])?;
    let missing = "failed needed-versions: data directory: key 9 version 1 is not in the keystore";
    ensure!(said.wrong().iter().any(|line| line.starts_with(missing)), "{:?}", said.wrong());
    ensure!(said.code == 1, "{}", said.code);
    if test_kit::account::server_user().is_some() {
        let folder = room.site.keys();
        test_kit::run("chown", ["-R", "0:0", &folder.display().to_string()])?;
        let said = room.doctor(None, &[])?;
        let words = "warning keystore-folder: ";
        ensure!(said.wrong().iter().any(|line| line.starts_with(words)), "{:?}", said.wrong());
        give_to_server(&folder)?;
    }
    Ok(())
}
