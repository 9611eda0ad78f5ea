//! A site, and every key store beside it.

use test_cloud::azure::{CLIENT_ID, CLIENT_SECRET};
use test_cloud::{FakeAzure, FakeGcp, REGION};
use test_kit::Result;
use test_kit::account::give_to_server;
use test_kit::command::{Answer, answer};
use test_kit::files;
use test_kit::hsm::{Hsm, PIN};
use test_kmip::Kmip;
use test_mariadb::{Launch, Server, Site};
use test_vault::Vault;

/// A site, and every key store beside it.
pub(crate) struct Room {
    pub(crate) site: Site,
    hsm: Hsm,
    kmip: Kmip,
    pub(crate) gcp: FakeGcp,
    pub(crate) azure: FakeAzure,
    aws: std::sync::Arc<test_cloud::Shared>,
    vault: Vault,
}

impl Room {
    pub(crate) fn new() -> Result<Self> {
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

    pub(crate) fn keyward(&self, words: &[&str]) -> Result<Answer> {
        let (name, value) = self.variable();
        answer(self.site.keyward_command(words).env(name, value))
    }

    pub(crate) fn start(&self) -> Result<Server> {
        Ok(self.site.launch(&Launch { environment: vec![self.variable()], ..Launch::default() })?)
    }

    /// The `[[provider]]` sections of all but `local`, by type, which is also their name.
    pub(crate) fn sections(&self) -> Result<Vec<(&'static str, String)>> {
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
    pub(crate) fn away(&self, section: &str) -> String {
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

/// Writes a file that only the server may read.
fn private(site: &Site, within: &str, content: &str) -> Result<()> {
    let path = site.path(within);
    files::write(&path, content)?;
    files::chmod(&path, 0o600)?;
    give_to_server(&path)
}
