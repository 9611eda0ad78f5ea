//! A real MariaDB under load while Key Vault fails.

use test_cloud::FakeAzure;
use test_cloud::azure::{Answer, error, oauth_error};
use test_cloud::outage::{self, Cloud, Trouble};
use test_kit::{Result, files};

struct Azure(FakeAzure);

impl Cloud for Azure {
    fn suffer(&self, trouble: Option<Trouble>) -> Result<()> {
        self.0.change("db", |version| version.enabled = trouble != Some(Trouble::KeyDisabled));
        self.0.fail(move |request| match trouble? {
            Trouble::KeyDisabled | Trouble::Away => None,
            Trouble::TokenRefused if request.path.contains("/oauth2/") => {
                Some(oauth_error("invalid_client", 7_000_222))
            }
            Trouble::TokenRefused => None,
            Trouble::Throttled => {
                Some(error(429, "Throttled", "too many requests", "").with("Retry-After", "1"))
            }
            Trouble::OutOfOrder => Some(Answer::text(503, "")),
        });
        Ok(())
    }

    fn words(&self, trouble: Trouble) -> &'static str {
        match trouble {
            Trouble::KeyDisabled => "is disabled; az keyvault key set-attributes",
            Trouble::TokenRefused => "7000222",
            Trouble::Throttled => "asks us to come back later",
            Trouble::OutOfOrder => "status 503",
            Trouble::Away => "connection refused",
        }
    }
}

#[test]
fn fake_azure_no_trouble_of_key_vault_fails_a_transaction() -> Result<()> {
    let fake = FakeAzure::start()?;
    let front = outage::front(fake.address())?;
    let vault = format!("http://127.0.0.1:{}", front.port());
    let site = crate::mariadb::init(&fake, &vault, "azure-outage")?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    let config = site.path("keyward/keyward.toml");
    files::write(&config, files::text(&config)?.replace("\"30s\"", "\"3s\""))?;
    outage::through(&site, &Azure(fake), &front)
}
