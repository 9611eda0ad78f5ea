//! One keystore, moved through every key store that wraps: each step leaves one wrapping, the rows and
//! the bytes of every table file.

use std::time::Instant;

use test_cloud::REGION;
use test_kit::account::give_to_server;
use test_kit::command::{Answer, answer};
use test_kit::files::{self, Snapshot};
use test_kit::{Result, ensure, seen};
use test_kmip::Kmip;
use test_mariadb::rows::{Table, create};
use test_mariadb::{Launch, Server, Site};
use test_vault::Vault;

#[allow(dead_code)]
use test_kit::hsm::{Hsm, PIN};

/// The tables whose rows are compared.
const CHECKED: &[&str] = &["test.payroll", "test.patients"];

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "patients", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

/// From one to the next, and home again.
const JOURNEY: [&str; 6] = ["local", "pkcs11", "kmip", "aws-kms", "vault-transit", "local"];

/// A site, and every key store beside it.
struct Room {
    site: Site,
    hsm: Hsm,
    kmip: Kmip,
    aws: std::sync::Arc<test_cloud::Shared>,
    vault: Vault,
}

impl Room {
    fn new() -> Result<Self> {
        let mut site = Site::new("journey")?;
        site.init_keyward()?;
        site.encrypt_everything();
        // A clean end leaves nothing to be done to the pages by the next server.
        site.set("innodb_fast_shutdown = 0");
        site.unset("innodb_encryption_threads");
        site.keyward(&["keys", "create", "3"])?.ok()?;
        std::fs::create_dir(site.path("hsm"))?;
        let hsm = Hsm::softhsm(&site.path("hsm"))?;
        hsm.make_token("keyward")?;
        private(&site, "hsm/pin", PIN)?;
        give_to_server(&site.path("hsm"))?;
        let kmip = Kmip::start()?;
        std::fs::create_dir(site.path("etc/kmip"))?;
        test_kmip::give_client_files(kmip.certificates(), &site.path("etc/kmip"))?;
        Ok(Self { site, hsm, kmip, aws: test_cloud::Shared::get()?, vault: Vault::start()? })
    }

    /// The variable that tells the module where its tokens are.
    fn variable(&self) -> (String, String) {
        let (_, name, value) = self.hsm.real();
        (name.to_owned(), value.display().to_string())
    }

    fn keyward(&self, words: &[&str]) -> Result<Answer> {
        let (name, value) = self.variable();
        answer(self.site.keyward_command(words).env(name, value))
    }

    fn start(&self) -> Result<Server> {
        Ok(self.site.launch(&Launch { environment: vec![self.variable()], ..Launch::default() })?)
    }

    /// The `[[provider]]` sections of all but `local`, by type, which is also their name.
    fn sections(&self) -> Result<Vec<(&'static str, String)>> {
        let path = |within: &str| format!("{:?}", self.site.path(within).display().to_string());
        let hsm = format!(
            "module = {:?}\ntoken = \"keyward\"\npin_file = {}\nkey = \"kek\"\n",
            self.hsm.real().0,
            path("hsm/pin")
        );
        let kmip = format!(
            "server = \"127.0.0.1\"\nport = {}\nca_file = {}\nclient_certificate_file = {}\n\
             client_key_file = {}\nkey = \"kek\"\n",
            self.kmip.port(),
            path("etc/kmip/ca.pem"),
            path("etc/kmip/client.pem"),
            path("etc/kmip/client.key")
        );
        private(&self.site, "etc/aws", &test_cloud::shared::credentials())?;
        let aws = format!(
            "key = {:?}\nendpoint = {:?}\ncredentials_file = {}\n",
            self.aws.localstack.new_key(REGION)?,
            self.aws.localstack.url(),
            path("etc/aws")
        );
        self.vault.vault(&["secrets", "enable", "transit"])?;
        self.vault.vault(&["write", "-f", "transit/keys/kek"])?;
        let token = self.vault.field("token", &["token", "create", "-ttl=1h"])?;
        private(&self.site, "etc/vault-token", &token)?;
        files::write(&self.site.path("etc/vault-ca.pem"), self.vault_ca()?)?;
        let vault = format!(
            "address = {:?}\nca_file = {}\nauth = \"token\"\ntoken_file = {}\nkey = \"kek\"\n",
            self.vault.address(),
            path("etc/vault-ca.pem"),
            path("etc/vault-token")
        );
        let all = [("pkcs11", hsm), ("kmip", kmip), ("aws-kms", aws), ("vault-transit", vault)];
        let section = |(name, lines): (&'static str, String)| {
            (name, format!("\n[[provider]]\nname = \"{name}\"\ntype = \"{name}\"\n{lines}"))
        };
        Ok(all.map(section).to_vec())
    }

    fn vault_ca(&self) -> Result<Vec<u8>> {
        files::read(&self.vault.certificates().path("ca.pem"))
    }
}

#[test]
fn through_every_key_store_and_home_without_touching_a_page() -> Result<()> {
    let room = Room::new()?;
    let server = room.start()?;
    create(&server, TABLES)?;
    server.sql(
        "ALTER TABLE test.payroll STATS_PERSISTENT=0; ALTER TABLE test.patients STATS_PERSISTENT=0",
    )?;
    server.write_pages()?;
    let rows = server.checksums(CHECKED)?;
    server.stop()?;
    let pages = Snapshot::of(&room.site.data().join("test"))?;

    let local = files::text(&room.site.config())?;
    let (head, home) =
        local.split_once("[[provider]]").ok_or("no provider in the configuration")?;
    let mut sections = room.sections()?;
    let every: String = sections.iter().map(|(_, section)| section.as_str()).collect();
    let every = format!("{local}{every}");
    sections.push(("local", format!("[[provider]]{home}")));
    files::write(&room.site.config(), &every)?;
    for name in ["pkcs11", "kmip"] {
        // It does not wrap yet, which is said; the key is made.
        let made = room.keyward(&["keystore", "rewrap", "--new-kek", name])?;
        ensure!(
            made.text().contains("run `keyward keystore rewrap` without --to-latest"),
            "{}",
            made.text()
        );
    }
    for step in JOURNEY.windows(2) {
        let (from, to) = (step[0], step[1]);
        files::write(&room.site.config(), &every)?;
        let began = Instant::now();
        let moved = room.keyward(&["migrate", "--from", from, "--to", to])?.ok()?;
        let took = began.elapsed();
        ensure!(moved.contains(&format!("wrapping by provider {from:?}: removed")), "{moved}");
        let section = sections.iter().find(|(name, _)| *name == to).ok_or("no such section")?;
        files::write(&room.site.config(), format!("{head}{}", section.1))?;
        let server = room.start()?;
        ensure!(server.checksums(CHECKED)? == rows, "{from} to {to}: the rows have changed");
        server.stop()?;
        let now = Snapshot::of(&room.site.data().join("test"))?;
        ensure!(now == pages, "{from} to {to}: a page was written");
        seen!("{from} -> {to}: {} ms, checksums equal, no page rewritten", took.as_millis());
    }
    Ok(())
}

/// Writes a file that only the server may read.
fn private(site: &Site, within: &str, content: &str) -> Result<()> {
    let path = site.path(within);
    files::write(&path, content)?;
    files::chmod(&path, 0o600)?;
    give_to_server(&path)
}
