//! A real server whose keystore is wrapped by a key on a token.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create, wait_for_version};
use test_mariadb::{Launch, Server, Site};

use test_kit::hsm::{Hsm, PIN};

/// The tables whose rows are compared.
const CHECKED: &[&str] = &["test.payroll", "test.patients"];

const TOKEN: &str = "keyward";

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "patients", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

/// A site beside a token of its own.
struct Room {
    site: Site,
    hsm: Hsm,
}

impl Room {
    fn new(name: &str) -> Result<Self> {
        let site = Site::new(name)?;
        let folder = site.path("hsm");
        std::fs::create_dir(&folder)?;
        let hsm = Hsm::softhsm(&folder)?;
        hsm.make_token(TOKEN)?;
        files::write(&site.path("hsm/pin"), format!("{PIN}\n"))?;
        files::chmod(&site.path("hsm/pin"), 0o600)?;
        give_to_server(&folder)?;
        Ok(Self { site, hsm })
    }

    /// The variable that tells the module where its tokens are.
    fn variable(&self) -> (String, String) {
        let (_, name, value) = self.hsm.real();
        (name.to_owned(), value.display().to_string())
    }

    fn keyward(&self, words: &[&str]) -> Result<String> {
        let (name, value) = self.variable();
        answer(self.site.keyward_command(words).env(name, value))?.ok()
    }

    /// All that `doctor` says, whatever it thinks of it.
    fn doctor(&self, server: &Server) -> Result<String> {
        let (name, value) = self.variable();
        let socket = server.socket().display().to_string();
        let mut command = self.site.keyward_command(&["doctor", "--socket", &socket]);
        Ok(answer(command.env(name, value))?.out)
    }

    /// Sets up keyward on the token by `keyward init`, in the words of an operator.
    fn init(&mut self, module: &Path) -> Result<String> {
        let dir = self.site.path("keyward").display().to_string();
        let module = format!("module={}", module.display());
        let pin = format!("pin_file={}", self.site.path("hsm/pin").display());
        let said = self.keyward(&[
            "init",
            "--dir",
            &dir,
            "--provider",
            "pkcs11",
            "--set",
            &module,
            "--set",
            &format!("token={TOKEN}"),
            "--set",
            &pin,
            "--set",
            "key=keyward kek",
            "--set",
            "timeout=3s",
            "--create-key",
        ])?;
        self.site.load_keyward();
        self.site.encrypt_everything();
        self.keyward(&["keys", "create", "3"])?;
        Ok(said)
    }

    fn start(&self) -> Result<Server> {
        Ok(self.site.launch(&Launch { environment: vec![self.variable()], ..Launch::default() })?)
    }

    /// The bytes of each encrypted table, to see whether any page was written.
    fn table_files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let name = |table: &Table| format!("test/{}.ibd", table.name);
        TABLES
            .iter()
            .map(|table| Ok((name(table), files::read(&self.site.data().join(name(table)))?)))
            .collect()
    }
}

#[test]
fn the_life_of_a_key_on_a_token() -> Result<()> {
    let mut room = Room::new("pkcs11-life")?;
    let module = room.hsm.real().0.to_owned();
    let said = room.init(&module)?;
    let line = said.lines().find(|line| line.starts_with("wrapping key")).unwrap_or_default();
    ensure!(line.contains("newly made: key \"keyward kek\" of token \"keyward\""), "{said}");
    ensure!(!room.site.key_file().exists(), "there is a key file beside the token's key");

    let server = room.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "%", 3)?;
    let before = server.checksums(CHECKED)?;
    server.stop()?;

    let server = room.start()?;
    check(&server, TABLES)?;
    let rewrapped = room.keyward(&["keystore", "rewrap", "--new-kek", "pkcs11"])?;
    ensure!(rewrapped.contains("provider \"pkcs11\": renewed"), "{rewrapped}");
    seen!("{}", rewrapped.lines().next().unwrap_or_default());
    let since = server.status("Keyward_degraded_since")?;
    ensure!(since == "0", "degraded since {since}");
    server.stop()?;

    let server = room.start()?;
    ensure!(server.checksums(CHECKED)? == before, "the rows have changed");
    let doctor = room.doctor(&server)?;
    let line = doctor.lines().find(|line| line.contains("provider \"pkcs11\"")).unwrap_or_default();
    seen!("doctor: {}", line.trim());
    for word in ["keys of that label 2", "never extractable yes", "algorithm aes-256-gcm"] {
        ensure!(line.contains(word), "no {word:?} in {doctor}");
    }
    server.stop()?;
    Ok(())
}

#[test]
fn from_a_key_file_to_a_token_and_back_without_touching_a_page() -> Result<()> {
    let mut room = Room::new("pkcs11-move")?;
    room.site.init_keyward()?;
    room.site.encrypt_everything();
    room.keyward(&["keys", "create", "3"])?;
    let server = room.start()?;
    create(&server, TABLES)?;
    server.write_pages()?;
    let rows = server.checksums(CHECKED)?;
    server.stop()?;
    let pages = room.table_files()?;

    let local = files::text(&room.site.config())?;
    let (head, _) = local.split_once("[[provider]]").ok_or("no provider in the configuration")?;
    let token = format!(
        "[[provider]]\nname = \"hsm\"\ntype = \"pkcs11\"\nmodule = {:?}\ntoken = \"{TOKEN}\"\n\
         pin_file = {:?}\nkey = \"kek\"\n",
        room.hsm.real().0,
        room.site.path("hsm/pin")
    );
    let both = format!("{local}\n{token}");
    files::write(&room.site.config(), &both)?;
    let refused = room.keyward(&["migrate", "--from", "local", "--to", "hsm"]);
    ensure!(refused.is_err_and(|e| e.to_string().contains("has no key \"kek\"")), "no key yet");
    room.keyward(&["keystore", "rewrap", "--new-kek", "hsm"]).map(drop).or_else(|error| {
        // It does not wrap yet, which is said; the key is made.
        ensure!(
            error.to_string().contains("run `keyward keystore rewrap` without --to-latest"),
            "{error}"
        );
        Ok(())
    })?;
    for (from, to, config) in
        [("local", "hsm", format!("{head}{token}")), ("hsm", "local", local.clone())]
    {
        files::write(&room.site.config(), &both)?;
        let moved = room.keyward(&["migrate", "--from", from, "--to", to])?;
        ensure!(moved.contains(&format!("wrapping by provider {from:?}: removed")), "{moved}");
        ensure!(room.table_files()? == pages, "{from} to {to}: a page was written");
        files::write(&room.site.config(), &config)?;
        let server = room.start()?;
        ensure!(server.checksums(CHECKED)? == rows, "{from} to {to}: the rows have changed");
        server.stop()?;
        ensure!(room.table_files()? == pages, "{from} to {to}: the server wrote a page");
    }
    seen!(
        "local -> pkcs11 -> local: checksums equal, {} table files byte for byte the same",
        pages.len()
    );
    Ok(())
}

#[test]
fn a_hung_module_keeps_no_server_from_an_answer() -> Result<()> {
    let mut room = Room::new("pkcs11-hang")?;
    let module = room.hsm.module();
    room.init(&module)?;
    let server = room.start()?;
    create(&server, TABLES)?;
    server.stop()?;

    room.hsm.hang("C_DecryptInit");
    give_to_server(&room.site.path("hsm"))?;
    let since = Instant::now();
    let log = room.site.refusal()?;
    let line = log.lines().find(|line| line.contains("no answer in time")).unwrap_or_default();
    ensure!(line.contains("the module hangs"), "{log}");
    seen!("a server whose module hangs gives up after {:.0} s", since.elapsed().as_secs_f64());
    room.hsm.release();
    Ok(())
}

#[test]
fn a_server_ends_though_the_module_hangs() -> Result<()> {
    let mut room = Room::new("pkcs11-end")?;
    let module = room.hsm.module();
    room.init(&module)?;
    let server = room.start()?;
    create(&server, TABLES)?;
    room.hsm.hang("C_Finalize");
    give_to_server(&room.site.path("hsm"))?;
    let since = Instant::now();
    server.stop()?;
    seen!("a shutdown while C_Finalize hangs: {:.1} s", since.elapsed().as_secs_f64());
    ensure!(since.elapsed() < Duration::from_secs(30), "it took {:?}", since.elapsed());
    room.hsm.release();
    let server = room.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}
