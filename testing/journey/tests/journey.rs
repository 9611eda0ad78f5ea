//! One keystore, moved through every key store that wraps: each step leaves one wrapping, the rows and
//! the bytes of every table file.

use std::time::Instant;

use test_cloud::azure::{CLIENT_ID, CLIENT_SECRET};
use test_cloud::gcp::Answer as Reply;
use test_cloud::{FakeAzure, FakeGcp, REGION};
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
const JOURNEY: [&str; 8] =
    ["local", "gcp-kms", "azure-keyvault", "aws-kms", "vault-transit", "kmip", "pkcs11", "local"];

/// Those that one company's outage takes away.
const CLOUDS: [&str; 3] = ["gcp-kms", "azure-keyvault", "aws-kms"];

/// A site, and every key store beside it.
struct Room {
    site: Site,
    hsm: Hsm,
    kmip: Kmip,
    gcp: FakeGcp,
    azure: FakeAzure,
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
        let (gcp, azure) = (FakeGcp::start()?, FakeAzure::start()?);
        let (aws, vault) = (test_cloud::Shared::get()?, Vault::start()?);
        Ok(Self { site, hsm, kmip, gcp, azure, aws, vault })
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
        private(&self.site, "etc/google.json", &self.gcp.service_account()?.to_string())?;
        let gcp = format!(
            "key = {:?}\nendpoint = {:?}\ncredentials_file = {}\n",
            self.gcp.new_key("kek"),
            self.gcp.url(),
            path("etc/google.json")
        );
        private(&self.site, "etc/azure-secret", CLIENT_SECRET)?;
        let azure = format!(
            "key = {:?}\nauthority_host = {:?}\nclient_id = {CLIENT_ID:?}\nclient_secret_file = {}\n",
            self.azure.new_key("kek", "RSA")?,
            self.azure.url(),
            path("etc/azure-secret")
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
        let all = [
            ("pkcs11", hsm),
            ("kmip", kmip),
            ("gcp-kms", gcp),
            ("azure-keyvault", azure),
            ("aws-kms", aws),
            ("vault-transit", vault),
        ];
        let section = |(name, lines): (&'static str, String)| {
            (name, format!("\n[[provider]]\nname = \"{name}\"\ntype = \"{name}\"\n{lines}"))
        };
        Ok(all.map(section).to_vec())
    }

    /// The section of a provider whose cloud is away: nobody listens at its endpoint. Azure's is named in
    /// its key, and answers 503 instead.
    fn away(&self, section: &str) -> String {
        let endpoints = [self.gcp.url(), self.aws.localstack.url()];
        let away = endpoints.iter().fold(section.to_owned(), |section, url| {
            let endpoint = format!("endpoint = {url:?}");
            section.replace(&endpoint, "endpoint = \"http://127.0.0.1:1\"")
        });
        away + "timeout = \"3s\"\n"
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

    let local = pinned(&room)?;
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
    files::write(&room.site.config(), &every)?;
    room.keyward(&["migrate", "--from", "local", "--to", "gcp-kms"])?.ok()?;
    for name in ["azure-keyvault", "aws-kms"] {
        room.keyward(&["keystore", "rewrap", "--add", name])?.ok()?;
    }
    report_of_three_clouds(&room)?;
    for here in CLOUDS {
        let of_cloud = |(name, _): &&(&str, String)| CLOUDS.contains(name);
        let clouds = sections.iter().filter(of_cloud).map(|(name, section)| match *name == here {
            true => section.clone(),
            false => room.away(section),
        });
        files::write(&room.site.config(), format!("{head}{}", clouds.collect::<String>()))?;
        room.azure.fail(move |_| (here != "azure-keyvault").then(|| Reply::text(503, "")));
        let began = Instant::now();
        let server = room.start()?;
        let took = began.elapsed();
        let provider = server.status("Keyward_provider")?;
        ensure!(provider == here, "{provider} opened it while {here} alone is there");
        ensure!(server.checksums(CHECKED)? == rows, "{here} alone: the rows have changed");
        server.stop()?;
        seen!("wrapped by three clouds, {here} alone there: a start in {} ms", took.as_millis());
    }
    Ok(())
}

/// The report names each of the three: what it is, where it is, and that it is in use.
fn report_of_three_clouds(room: &Room) -> Result<()> {
    let server = room.start()?;
    let data = room.site.data().display().to_string();
    let report = room.keyward(&["report", "--json", "--datadir", &data])?.ok()?;
    server.stop()?;
    let report: serde_json::Value = serde_json::from_str(&report).map_err(|e| e.to_string())?;
    let stores = report["servers"][0]["key_stores"].as_array().ok_or("no key stores")?;
    for name in CLOUDS {
        let store = stores.iter().find(|store| store["name"] == name).ok_or("not there")?;
        ensure!(store["kind"] == name && store["role"] == "wraps the keystore", "{store}");
        ensure!(store["in_use"] == true && store["failure"].is_null(), "{store}");
        ensure!(store["facts"].as_array().is_some_and(|facts| !facts.is_empty()), "{store}");
        seen!("the report of {name}: {}", store["facts"]);
    }
    Ok(())
}

/// The configuration that `init` wrote, and the keystore's fingerprint in it: an RSA key wraps for anybody.
fn pinned(room: &Room) -> Result<String> {
    let status = room.keyward(&["--json", "status"])?.ok()?;
    let status: serde_json::Value = serde_json::from_str(&status).map_err(|e| e.to_string())?;
    let fingerprint = status["fingerprint"].as_str().ok_or("no fingerprint")?;
    let text = files::text(&room.site.config())?;
    ensure!(text.contains("[keystore]\n"), "no [keystore]:\n{text}");
    Ok(text.replacen("[keystore]\n", &format!("[keystore]\nfingerprint = {fingerprint:?}\n"), 1))
}

/// Writes a file that only the server may read.
fn private(site: &Site, within: &str, content: &str) -> Result<()> {
    let path = site.path(within);
    files::write(&path, content)?;
    files::chmod(&path, 0o600)?;
    give_to_server(&path)
}
