//! A real MariaDB under load while KMS fails.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use test_cloud::outage::{self, Cloud, Trouble};
use test_cloud::{FakeAws, REGION, Reply, Shared};
use test_kit::{Result, files};

/// LocalStack's KMS with what it never says of itself.
struct Aws {
    shared: Arc<Shared>,
    key: String,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Aws {
    /// What is answered in LocalStack's place, if anything.
    fn fault(trouble: Option<Trouble>) -> Option<Reply> {
        match trouble? {
            Trouble::KeyDisabled | Trouble::Away => None,
            Trouble::TokenRefused => Some(Reply::error(400, "ExpiredTokenException")),
            Trouble::Throttled => Some(Reply::error(400, "ThrottlingException")),
            Trouble::OutOfOrder => Some(Reply { status: 503, body: Vec::new() }),
        }
    }
}

impl Cloud for Aws {
    fn suffer(&self, trouble: Option<Trouble>) -> Result<()> {
        let is_disabled = trouble == Some(Trouble::KeyDisabled);
        let action = if is_disabled { "DisableKey" } else { "EnableKey" };
        self.shared.localstack.kms(REGION, action, &json!({ "KeyId": self.key }))?;
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        Ok(())
    }

    fn words(&self, trouble: Trouble) -> &'static str {
        match trouble {
            Trouble::KeyDisabled => "is disabled; aws kms enable-key --key-id",
            Trouble::TokenRefused => "has expired; renew them",
            Trouble::Throttled => "asks us to come back later",
            Trouble::OutOfOrder => "status 503",
            Trouble::Away => "connection refused",
        }
    }
}

#[test]
fn fake_errors_of_kms_fail_no_transaction() -> Result<()> {
    let shared = Shared::get()?;
    let (key, trouble) = (shared.localstack.new_key(REGION)?, Arc::<Mutex<_>>::default());
    let (now, localstack) = (Arc::clone(&trouble), shared.localstack.address());
    let kms = FakeAws::start(move |request| {
        let now: Option<Trouble> = *now.lock().unwrap_or_else(PoisonError::into_inner);
        Aws::fault(now).map_or_else(|| request.send(localstack), Ok)
    })?;
    let front = outage::front(kms.address())?;
    let site = crate::mariadb::init(&format!("http://127.0.0.1:{}", front.port()), &key)?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    let config = files::text(&site.config())?;
    files::write(
        &site.config(),
        config.replacen("[[provider]]", "[[provider]]\ntimeout = \"3s\"", 1),
    )?;
    outage::through(&site, &Aws { shared, key, trouble }, &front)
}
