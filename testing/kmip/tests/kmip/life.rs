//! A real MariaDB whose keys are wrapped, or kept, by a real KMIP server, set up by `keyward init`.

use test_kit::files::{self, Snapshot, all, holding};
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{PLAINTEXT, Table, check, create, wait_for_version};
use test_mariadb::{Server, Site};

use test_kmip::Kmip;

/// The tables whose rows are compared.
const CHECKED: &[&str] = &["test.payroll", "test.patients"];

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "patients", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

/// A site beside a KMIP server of its own.
pub(crate) struct Room {
    pub(crate) site: Site,
    pub(crate) kmip: Kmip,
}

impl Room {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let (site, kmip) = (Site::new(name)?, Kmip::start()?);
        std::fs::create_dir(site.path("etc/kmip"))?;
        test_kmip::give_client_files(kmip.certificates(), &site.path("etc/kmip"))?;
        Ok(Self { site, kmip })
    }

    /// A file of ours for the KMIP server.
    pub(crate) fn file(&self, name: &str) -> String {
        self.site.path("etc/kmip").join(name).display().to_string()
    }

    /// The lines of a `[[provider]]` section that say how to reach the KMIP server.
    fn lines(&self) -> Vec<String> {
        vec![
            "server=127.0.0.1".to_owned(),
            format!("port={}", self.kmip.port()),
            format!("ca_file={}", self.file("ca.pem")),
            format!("client_certificate_file={}", self.file("client.pem")),
            format!("client_key_file={}", self.file("client.key")),
            "timeout=5s".to_owned(),
        ]
    }

    /// Sets up keyward by `keyward init`, in the words of an operator.
    pub(crate) fn init(&mut self, more: &[&str]) -> Result<String> {
        let dir = self.site.path("keyward").display().to_string();
        let lines = self.lines();
        let mut words = vec!["init", "--dir", &dir, "--provider", "kmip"];
        for line in &lines {
            words.extend(["--set", line]);
        }
        words.extend(more);
        let said = self.site.keyward(&words)?.ok()?;
        self.site.load_keyward();
        self.site.encrypt_everything();
        self.site.keyward(&["keys", "create", "3"])?.ok()?;
        Ok(said)
    }

    fn doctor(&self, server: &Server) -> Result<String> {
        let socket = server.socket().display().to_string();
        let said = self.site.keyward(&["doctor", "--socket", &socket])?;
        ensure!(said.code == 3, "{}", said.text());
        let line = said.out.lines().find(|line| line.contains("provider \"kmip\""));
        let line = line.ok_or_else(|| format!("no line of the provider:\n{}", said.out))?;
        Ok(line.trim().replace(&self.kmip.port().to_string(), "PORT"))
    }

    /// A server that lost its keys' home stays, one that starts without it says why.
    fn outage(&mut self, server: Server) -> Result<()> {
        self.kmip.kill()?;
        check(&server, TABLES)?;
        server.stop()?;
        let log = self.site.refusal()?;
        let line = log.lines().find(|line| line.contains("ERROR") && line.contains("keyward"));
        let line = line.ok_or_else(|| format!("no line of keyward's:\n{log}"))?;
        ensure!(line.contains("connection refused"), "{line}");
        seen!("start without it: {}", line.replace(&self.kmip.port().to_string(), "PORT"));
        self.kmip.run("server")
    }
}

fn nothing_in_the_clear(site: &Site) -> Result<()> {
    let clear = holding(&all(&site.data()), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    Ok(())
}

#[test]
fn keys_wrapped_by_a_key_of_the_server() -> Result<()> {
    let mut room = Room::new("kmip-wrapped")?;
    let said = room.init(&["--set", "key=keyward kek", "--create-key"])?;
    let line = said.lines().find(|line| line.starts_with("wrapping key")).unwrap_or_default();
    ensure!(line.contains("keyward kek#") && line.contains("newly made"), "{said}");
    let server = room.site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "%", 3)?;
    server.write_pages()?;
    nothing_in_the_clear(&room.site)?;
    let before = server.checksums(CHECKED)?;
    server.stop()?;

    let server = room.site.start()?;
    let said = room.site.keyward(&["keystore", "rewrap", "--new-kek", "kmip"])?.ok()?;
    ensure!(said.contains("provider \"kmip\": renewed"), "{said}");
    seen!("{}", said.lines().next().unwrap_or_default());
    server.stop()?;

    let server = room.site.start()?;
    ensure!(server.checksums(CHECKED)? == before, "the rows have changed");
    seen!("doctor: {}", room.doctor(&server)?);
    room.outage(server)?;
    let server = room.site.start()?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    check(&server, TABLES)?;
    server.stop().map(drop)
}

#[test]
fn keys_kept_by_the_server() -> Result<()> {
    let mut room = Room::new("kmip-served")?;
    room.init(&["--set", "use=serve", "--set", "refresh=1s"])?;
    ensure!(!room.site.keystore().exists(), "there is a keystore beside the server's keys");
    let server = room.site.start()?;
    create(&server, TABLES)?;
    let version = |server: &Server| -> Result<u32> {
        let later = Table { name: "later", options: "ENCRYPTED=YES", rows: 10 };
        server.sql("DROP TABLE IF EXISTS test.later")?;
        later.create(server)?;
        Ok(test_mariadb::rows::key_of(server, "test/later")?.1)
    };
    ensure!(version(&server)? == 1, "version 1 was to encrypt");
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    ensure!(version(&server)? == 2, "version 2 was to encrypt after a rotation");
    // By the command, in another process.
    room.site.keyward(&["rotate", "1"])?.ok()?;
    let since = std::time::Instant::now();
    while version(&server)? < 3 {
        ensure!(since.elapsed().as_secs() < 30, "version 3 was not seen\n{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    server.write_pages()?;
    nothing_in_the_clear(&room.site)?;
    let before = server.checksums(CHECKED)?;
    seen!("doctor: {}", room.doctor(&server)?);
    room.outage(server)?;
    let server = room.site.start()?;
    ensure!(server.checksums(CHECKED)? == before, "the rows have changed");
    server.stop().map(drop)
}

#[test]
fn from_a_key_file_to_the_server_and_back_without_touching_a_page() -> Result<()> {
    let mut room = Room::new("kmip-move")?;
    room.site.init_keyward()?;
    room.site.encrypt_everything();
    // A clean end leaves nothing to be done to the pages by the next server.
    room.site.set("innodb_fast_shutdown = 0");
    room.site.unset("innodb_encryption_threads");
    room.site.keyward(&["keys", "create", "3"])?.ok()?;
    let server = room.site.start()?;
    create(&server, TABLES)?;
    server.sql(
        "ALTER TABLE test.payroll STATS_PERSISTENT=0; ALTER TABLE test.patients STATS_PERSISTENT=0",
    )?;
    server.write_pages()?;
    let rows = server.checksums(CHECKED)?;
    server.stop()?;
    let pages = Snapshot::of(&room.site.data().join("test"))?;

    let local = files::text(&room.site.config())?;
    let (head, _) = local.split_once("[[provider]]").ok_or("no provider in the configuration")?;
    let quoted = |line: &String| match line.split_once('=') {
        Some(("port", port)) => format!("port = {port}\n"),
        Some((name, value)) => format!("{name} = {value:?}\n"),
        None => String::new(),
    };
    let lines: String = room.lines().iter().map(quoted).collect();
    let provider = format!("[[provider]]\nname = \"hsm\"\ntype = \"kmip\"\n{lines}key = \"kek\"\n");
    let both = format!("{local}\n{provider}");
    files::write(&room.site.config(), &both)?;
    let refused = room.site.keyward(&["migrate", "--from", "local", "--to", "hsm"])?;
    ensure!(refused.err.contains("has no key \"kek\""), "{}", refused.text());
    let made = room.site.keyward(&["keystore", "rewrap", "--new-kek", "hsm"])?;
    // It does not wrap yet, which is said; the key is made.
    ensure!(
        made.text().contains("run `keyward keystore rewrap` without --to-latest"),
        "{}",
        made.text()
    );
    for (from, to, config) in
        [("local", "hsm", format!("{head}{provider}")), ("hsm", "local", local.clone())]
    {
        files::write(&room.site.config(), &both)?;
        let moved = room.site.keyward(&["migrate", "--from", from, "--to", to])?.ok()?;
        ensure!(moved.contains(&format!("wrapping by provider {from:?}: removed")), "{moved}");
        files::write(&room.site.config(), &config)?;
        let server = room.site.start()?;
        ensure!(server.checksums(CHECKED)? == rows, "{from} to {to}: the rows have changed");
        server.stop()?;
        let now = Snapshot::of(&room.site.data().join("test"))?;
        ensure!(now == pages, "{from} to {to}: a page was written");
    }
    seen!("local -> kmip -> local: checksums equal, every table file as before");
    Ok(())
}
