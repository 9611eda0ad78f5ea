//! The stock component and ours side by side: every step on one server and on the other, and what each
//! answers has to be the same. At the end each takes over the other's data, by CLONE and by replication.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use test_kit::{Result, Trouble, ensure, free_port, seen};
use test_mysql::{Keyring, Server, Site};

/// A step that a client takes: its name and its SQL. What it answers is compared, and so is a refusal.
const STEPS: &[(&str, &str)] = &[
    (
        "encrypted table, general tablespace, the server's own",
        "CREATE DATABASE d;
         CREATE TABLE d.own (id INT PRIMARY KEY, body TEXT) ENCRYPTION = 'Y';
         CREATE TABLESPACE shared ADD DATAFILE 'shared.ibd' ENCRYPTION = 'Y';
         CREATE TABLE d.shared (id INT PRIMARY KEY, body TEXT) TABLESPACE shared ENCRYPTION = 'Y';
         ALTER TABLESPACE mysql ENCRYPTION = 'Y';
         INSERT INTO d.own VALUES (1, 'one'), (2, 'two');
         INSERT INTO d.shared SELECT * FROM d.own;
         SELECT NAME, ENCRYPTION FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y'
             ORDER BY NAME",
    ),
    (
        "a table in the clear, encrypted, in the clear again",
        "
         CREATE TABLE d.turned (id INT) ENCRYPTION = 'N'; INSERT INTO d.turned VALUES (7);
         ALTER TABLE d.turned ENCRYPTION = 'Y'; ALTER TABLE d.turned ENCRYPTION = 'N';
         SELECT ENCRYPTION FROM information_schema.INNODB_TABLESPACES WHERE NAME = 'd/turned'",
    ),
    (
        "redo, undo and binary logs",
        "SET PERSIST innodb_redo_log_encrypt = ON; SET PERSIST innodb_undo_log_encrypt = ON;
         SET GLOBAL binlog_encryption = OFF; SET GLOBAL binlog_encryption = ON;
         SELECT @@innodb_redo_log_encrypt, @@innodb_undo_log_encrypt, @@binlog_encryption",
    ),
    (
        "default_table_encryption and a schema's own",
        "
         SET SESSION default_table_encryption = ON; CREATE DATABASE e; CREATE TABLE e.t (a INT);
         SELECT CREATE_OPTIONS FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'e'",
    ),
    (
        "ROTATE INNODB MASTER KEY",
        "ALTER INSTANCE ROTATE INNODB MASTER KEY; SELECT COUNT(*) FROM d.own",
    ),
    ("ROTATE BINLOG MASTER KEY", "ALTER INSTANCE ROTATE BINLOG MASTER KEY"),
    ("RELOAD KEYRING", "ALTER INSTANCE RELOAD KEYRING"),
    (
        "the functions of keyring_udf",
        "INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_generate RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_fetch RETURNS STRING SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_length_fetch RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_type_fetch RETURNS STRING SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_remove RETURNS INTEGER SONAME 'keyring_udf.so'",
    ),
    (
        "generate a key",
        "SELECT keyring_key_generate('made', 'AES', 32), keyring_key_length_fetch('made')",
    ),
    (
        "store a secret, fetch it",
        "SELECT keyring_key_store('given', 'SECRET', 'first');
         SELECT keyring_key_fetch('given'), keyring_key_type_fetch('given')",
    ),
    ("store under a name that is taken", "SELECT keyring_key_store('given', 'SECRET', 'second')"),
    ("the first is still there", "SELECT keyring_key_fetch('given')"),
    ("remove it, fetch it", "SELECT keyring_key_remove('given'), keyring_key_fetch('given')"),
    ("remove it again", "SELECT keyring_key_remove('given')"),
    (
        "store it again, as another kind",
        "SELECT keyring_key_store('given', 'RSA', 'third');
         SELECT keyring_key_fetch('given'), keyring_key_type_fetch('given')",
    ),
    ("a kind that there is not", "SELECT keyring_key_store('odd', 'BLOWFISH', 'x')"),
    ("the longest secret", "SELECT keyring_key_generate('long', 'SECRET', 16384)"),
    ("one byte more", "SELECT keyring_key_generate('longer', 'SECRET', 16385)"),
    (
        "a name with quotes, a slash and an umlaut",
        r#"
         SELECT keyring_key_store('a"\\b/ü', 'SECRET', 'x'), keyring_key_fetch('a"\\b/ü')"#,
    ),
    ("an empty name", "SELECT keyring_key_store('', 'SECRET', 'x')"),
    (
        "the view of the keys",
        "SELECT REGEXP_REPLACE(KEY_ID, '[0-9a-f]{8}-[-0-9a-f]*', 'UUID'), KEY_OWNER
             FROM performance_schema.keyring_keys ORDER BY 1, 2",
    ),
    (
        "EXPORT",
        "CREATE TABLE d.away (id INT PRIMARY KEY, body TEXT) ENCRYPTION = 'Y';
         INSERT INTO d.away VALUES (1, 'exported')",
    ),
];

/// What has to be as before after each restart.
const CHECK: &str = "CHECKSUM TABLE d.own, d.shared, d.turned, e.t, d.away;
    SELECT keyring_key_fetch('given'), keyring_key_length_fetch('made'), keyring_key_length_fetch('long');
    SELECT NAME, ENCRYPTION FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y' ORDER BY NAME;
    SELECT COUNT(*) FROM performance_schema.keyring_keys";

/// The files of an exported table: its pages, their description, and its key.
const ENDS: [&str; 3] = ["ibd", "cfg", "cfp"];

/// A server with one component or the other.
struct Side {
    site: Site,
    server: Option<Server>,
    port: u16,
}

#[test]
fn the_stock_component_and_ours_answer_alike() -> Result<()> {
    let mut both = [Side::new(Keyring::Stock, 1)?, Side::new(Keyring::Ours, 2)?];
    let mut steps = 0;
    for (name, sql) in STEPS {
        same(&mut both, name, &mut steps, |side| side.said(sql))?;
    }
    same(&mut both, "IMPORT", &mut steps, Side::exported_and_imported)?;
    same(&mut both, "all of it", &mut steps, |side| side.said(CHECK))?;
    same(&mut both, "after a restart", &mut steps, |side| {
        side.restart()?;
        side.said(CHECK)
    })?;
    same(&mut both, "after SIGKILL", &mut steps, |side| {
        side.said("INSERT INTO d.own VALUES (3, 'three')")?;
        side.server_mut()?.kill()?;
        side.restart()?;
        side.said(CHECK)
    })?;
    same(&mut both, "a start without the keyring's file", &mut steps, Side::without_keyring)?;
    same(&mut both, "CLONE LOCAL, and a start on the clone", &mut steps, Side::cloned_locally)?;
    same(&mut both, "all of it, at last", &mut steps, |side| side.said(CHECK))?;
    seen!("{steps} steps answered alike by the stock component and by ours");
    Ok(())
}

/// Who had a key made or removed stands in its history and in the trail, and what the server does by itself is
/// its own.
#[test]
fn the_trail_names_the_client() -> Result<()> {
    let side = Side::new(Keyring::Ours, 1)?;
    side.server()?.sql(
        "INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_remove RETURNS INTEGER SONAME 'keyring_udf.so';
         DO keyring_key_store('given', 'SECRET', 'x'); DO keyring_key_remove('given');
         ALTER INSTANCE ROTATE INNODB MASTER KEY",
    )?;
    let shown = side.site.keyward(&["audit", "show"])?.ok()?;
    let by =
        |words: &[&str]| shown.lines().any(|line| words.iter().all(|word| line.contains(word)));
    ensure!(by(&["given", "root@localhost", "stored"]), "{shown}");
    ensure!(by(&["given", "root@localhost", "removed"]), "{shown}");
    ensure!(by(&["INNODBKey-", "root@localhost"]), "{shown}");
    // The key of the binary logs was made at the start.
    ensure!(by(&["MySQLReplicationKey_", "mysqld"]), "{shown}");
    Ok(())
}

/// Each replicates from the other, with encrypted binary and relay logs.
#[test]
fn each_replicates_from_the_other() -> Result<()> {
    for (of, by) in [(Keyring::Stock, Keyring::Ours), (Keyring::Ours, Keyring::Stock)] {
        let (source, mut replica) = (Side::new(of, 1)?, Side::new(by, 2)?);
        let sql = "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY) ENCRYPTION = 'Y'";
        source.server()?.sql(sql)?;
        replica.server()?.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, \
             SOURCE_USER = 'root', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1; START REPLICA",
            source.port
        ))?;
        for a in 0..50 {
            source.server()?.sql(&format!("INSERT INTO d.t VALUES ({a})"))?;
            match a {
                10 => drop(source.server()?.sql("ALTER INSTANCE ROTATE BINLOG MASTER KEY")?),
                20 => drop(replica.server()?.sql("ALTER INSTANCE ROTATE BINLOG MASTER KEY")?),
                30 => drop(replica.server()?.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?),
                40 => replica.restart()?,
                _ => {}
            }
        }
        let done = source.server()?.sql("SELECT @@GLOBAL.gtid_executed")?;
        let waited =
            replica.server()?.sql(&format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{done}', 60)"))?;
        ensure!(waited == "0", "{by:?} does not follow {of:?}: {waited}");
        let rows = replica.server()?.sql("SELECT COUNT(*) FROM d.t")?;
        ensure!(rows == "50", "{rows} rows came over");
        let logs = replica.server()?.sql("SHOW BINARY LOGS")?;
        ensure!(logs.lines().last().is_some_and(|line| line.ends_with("Yes")), "{logs}");
        seen!("{} replicated from {}: 50 rows, three rotations, a restart", by.name(), of.name());
    }
    Ok(())
}

/// A server whose data are cloned from the other's over the network.
#[test]
fn each_clones_the_other() -> Result<()> {
    for (of, by) in [(Keyring::Stock, Keyring::Ours), (Keyring::Ours, Keyring::Stock)] {
        let (donor, mut recipient) = (Side::new(of, 1)?, Side::new(by, 2)?);
        donor.server()?.sql(
            "INSTALL PLUGIN clone SONAME 'mysql_clone.so'; CREATE DATABASE d;
             CREATE TABLE d.t (a INT PRIMARY KEY, b TEXT) ENCRYPTION = 'Y';
             SET GLOBAL innodb_redo_log_encrypt = ON; SET GLOBAL innodb_undo_log_encrypt = ON;
             INSERT INTO d.t VALUES (1, 'cloned'), (2, 'as well');
             ALTER INSTANCE ROTATE INNODB MASTER KEY",
        )?;
        let told = recipient.server()?.try_sql(&format!(
            "INSTALL PLUGIN clone SONAME 'mysql_clone.so';
             SET GLOBAL clone_valid_donor_list = '127.0.0.1:{0}';
             CLONE INSTANCE FROM 'root'@'127.0.0.1':{0} IDENTIFIED BY '' REQUIRE SSL",
            donor.port
        ))?;
        // The server cannot start itself again where nothing watches over it, and says so.
        ensure!(told.err.contains("3707"), "CLONE: {}{}", told.out, told.err);
        recipient.wait_until_ended()?;
        recipient.restart()?;
        let sql = "SELECT * FROM d.t ORDER BY a; ALTER INSTANCE ROTATE INNODB MASTER KEY;
                   INSERT INTO d.t VALUES (3, 'went on'); CHECKSUM TABLE d.t";
        let before = recipient.said(sql)?;
        ensure!(before.contains("cloned") && before.contains("as well"), "{before}");
        recipient.restart()?;
        let rows = recipient.server()?.sql("SELECT COUNT(*) FROM d.t")?;
        ensure!(rows == "3", "{rows} rows after a restart");
        seen!("{} cloned from {}: rows, rotation, restart", by.name(), of.name());
    }
    Ok(())
}

/// Takes the step on both and compares; the stock component's answer leads.
fn same(
    both: &mut [Side; 2],
    name: &str,
    steps: &mut usize,
    step: impl Fn(&mut Side) -> Result<String>,
) -> Result<()> {
    let [stock, ours] = both;
    let within = |error: Trouble| error.within(name);
    let (stock, ours) = (step(stock).map_err(within)?, step(ours).map_err(within)?);
    ensure!(stock == ours, "{name}: the stock component answers\n{stock}\nand ours\n{ours}");
    *steps += 1;
    let shown: String = stock.split_whitespace().collect::<Vec<_>>().join(" ");
    seen!("{name}: {}", shown.chars().take(60).collect::<String>());
    Ok(())
}

fn wait_for(done: impl Fn() -> bool) -> Result<()> {
    let since = Instant::now();
    while !done() {
        ensure!(since.elapsed() < Duration::from_secs(60), "it does not happen");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Side {
    fn new(keyring: Keyring, id: u8) -> Result<Self> {
        let mut site = Site::new(keyring.name(), keyring)?;
        let port = free_port()?;
        // Each has its own; they were copied from the same data.
        let _ = fs::remove_file(site.data().join("auto.cnf"));
        for option in ["--skip-networking=OFF", "--bind-address=127.0.0.1", "--log-bin=binlog"] {
            site.set(option);
        }
        for option in ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--binlog-encryption=ON"]
        {
            site.set(option);
        }
        site.set(&format!("--port={port}"));
        site.set(&format!("--server-id={id}"));
        let server = site.start()?;
        server.sql("CREATE USER root@127.0.0.1; GRANT ALL ON *.* TO root@127.0.0.1; RESET BINARY LOGS AND GTIDS")?;
        Ok(Self { site, server: Some(server), port })
    }

    fn server(&self) -> Result<&Server> {
        self.server.as_ref().ok_or_else(|| "the server is down".into())
    }

    fn server_mut(&mut self) -> Result<&mut Server> {
        self.server.as_mut().ok_or_else(|| "the server is down".into())
    }

    /// What a client is answered: the rows, or the error by its number and words.
    fn said(&self, sql: &str) -> Result<String> {
        let answer = self.server()?.try_sql(sql)?;
        let error = answer.err.lines().find(|line| line.contains("ERROR"));
        Ok(format!("{}{}", answer.out, error.unwrap_or_default()))
    }

    fn restart(&mut self) -> Result<()> {
        // A server that was killed, or has ended by itself, does not answer any more.
        if let Some(server) = self.server.take().filter(|server| server.sql("SELECT 1").is_ok()) {
            server.stop()?;
        }
        self.server = Some(self.site.start()?);
        Ok(())
    }

    fn wait_until_ended(&self) -> Result<()> {
        let server = self.server()?;
        wait_for(|| server.sql("SELECT 1").is_err())
    }

    /// A table leaves with its key and comes back under another name.
    fn exported_and_imported(&mut self) -> Result<String> {
        let folder = self.site.data().join("d");
        let kept = self.site.path("kept");
        fs::create_dir(&kept)?;
        let server = self.server()?;
        // The files are whole as long as the session that made them holds its lock.
        thread::scope(|scope| {
            let session = scope.spawn(|| server.sql("FLUSH TABLES d.away FOR EXPORT; DO SLEEP(3)"));
            wait_for(|| folder.join("away.cfp").exists() && folder.join("away.cfg").exists())?;
            for end in ENDS {
                fs::copy(folder.join(format!("away.{end}")), kept.join(end))?;
            }
            session.join().map_err(|_| "the session panicked")?
        })?;
        server.sql("CREATE TABLE d.back LIKE d.away; ALTER TABLE d.back DISCARD TABLESPACE")?;
        for end in ENDS {
            fs::copy(kept.join(end), folder.join(format!("back.{end}")))?;
        }
        self.said("ALTER TABLE d.back IMPORT TABLESPACE; SELECT * FROM d.back; CHECK TABLE d.back; DROP TABLE d.back")
    }

    /// Refused, and nothing is lost: with its file the server starts again.
    fn without_keyring(&mut self) -> Result<String> {
        let keyring =
            if self.site.keyring(Keyring::Ours).exists() { Keyring::Ours } else { Keyring::Stock };
        let (file, aside) = (self.site.keyring(keyring), self.site.path("aside"));
        self.server.take().ok_or("the server is down")?.stop()?;
        fs::rename(&file, &aside)?;
        let refused = self.site.start().is_err();
        ensure!(refused, "the server starts without {}", file.display());
        if file.exists() {
            // The stock component makes a new one.
            fs::remove_file(&file)?;
        }
        fs::rename(&aside, &file)?;
        self.restart()?;
        self.said(CHECK)
    }

    /// The clone has the keys of the server that it is one of.
    fn cloned_locally(&mut self) -> Result<String> {
        let clone = self.site.path("clone");
        self.server()?.sql(&format!(
            "INSTALL PLUGIN clone SONAME 'mysql_clone.so'; CLONE LOCAL DATA DIRECTORY = '{}'",
            clone.display()
        ))?;
        self.server.take().ok_or("the server is down")?.stop()?;
        let data = self.site.data();
        let aside = self.site.path("data-aside");
        fs::rename(&data, &aside)?;
        fs::rename(&clone, &data)?;
        self.restart()?;
        let said = self.said(CHECK)?;
        self.server.take().ok_or("the server is down")?.stop()?;
        fs::remove_dir_all(&data)?;
        fs::rename(&aside, &data)?;
        self.restart()?;
        Ok(said)
    }
}
