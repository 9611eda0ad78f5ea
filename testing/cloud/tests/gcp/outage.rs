//! A real MariaDB under load while Cloud KMS fails.

use serde_json::Value;
use test_cloud::FakeGcp;
use test_cloud::gcp::{Answer, RING};
use test_cloud::outage::{self, Cloud, Trouble};
use test_kit::Result;

struct Google {
    fake: FakeGcp,
    key: String,
}

impl Cloud for Google {
    fn suffer(&self, trouble: Option<Trouble>) -> Result<()> {
        let is_disabled = trouble == Some(Trouble::KeyDisabled);
        self.fake.set_version(&self.key, 1, if is_disabled { "DISABLED" } else { "ENABLED" });
        self.fake.fail(move |_| match trouble? {
            Trouble::KeyDisabled | Trouble::Away => None,
            Trouble::TokenRefused => {
                Some(Answer::error(401, "UNAUTHENTICATED", "the token has expired", &Value::Null))
            }
            Trouble::Throttled => {
                Some(Answer::error(429, "RESOURCE_EXHAUSTED", "quota exceeded", &Value::Null))
            }
            Trouble::OutOfOrder => Some(Answer::text(503, "")),
        });
        Ok(())
    }

    fn words(&self, trouble: Trouble) -> &'static str {
        match trouble {
            Trouble::KeyDisabled => "is disabled; gcloud kms keys versions enable 1",
            Trouble::TokenRefused => "does not accept our token",
            Trouble::Throttled => "asks us to come back later",
            Trouble::OutOfOrder => "status 503",
            Trouble::Away => "connection refused",
        }
    }
}

#[test]
fn fake_gcp_no_trouble_of_kms_fails_a_transaction() -> Result<()> {
    let (fake, key) = (FakeGcp::start()?, format!("{RING}/cryptoKeys/db"));
    let front = outage::front(fake.address())?;
    let endpoint = format!("http://127.0.0.1:{}", front.port());
    let site = crate::mariadb::init(&fake, &endpoint, &key, "gcp-outage")?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    outage::through(&site, &Google { fake, key }, &front)
}
