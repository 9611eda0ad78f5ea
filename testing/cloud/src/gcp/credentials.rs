//! Files of credentials, as gcloud writes them, for this server.

use serde_json::{Value, json};
use test_kit::Result;

use super::{ACCOUNT, AUDIENCE, FakeGcp, REFRESH_TOKEN, private_key};

impl FakeGcp {
    /// The key of [`ACCOUNT`]: `gcloud iam service-accounts keys create`.
    pub fn service_account(&self) -> Result<Value> {
        Ok(json!({
            "type": "service_account",
            "project_id": "keyward-test",
            "private_key_id": "0123456789abcdef",
            "private_key": private_key()?,
            "client_email": ACCOUNT,
            "client_id": "1234567890",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": format!("{}/token", self.url()),
            "universe_domain": "googleapis.com",
        }))
    }

    /// A person's log-in: `gcloud auth application-default login`.
    #[must_use]
    pub fn user(&self) -> Value {
        json!({
            "type": "authorized_user",
            "account": "",
            "client_id": "764086051850.apps.googleusercontent.com",
            "client_secret": "client-secret",
            "refresh_token": REFRESH_TOKEN,
            "quota_project_id": "of-the-file",
            "token_uri": format!("{}/token", self.url()),
            "universe_domain": "googleapis.com",
        })
    }

    /// Federation: `gcloud iam workload-identity-pools create-cred-config`.
    #[must_use]
    pub fn federation(&self, source: &Value) -> Value {
        json!({
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/sts/v1/token", self.url()),
            "credential_source": source,
            "universe_domain": "googleapis.com",
        })
    }

    /// Who has `source` as the service account: `gcloud auth application-default login
    /// --impersonate-service-account`.
    #[must_use]
    pub fn impersonated(&self, source: &Value, account: &str) -> Value {
        json!({
            "type": "impersonated_service_account",
            "delegates": [],
            "service_account_impersonation_url": self.impersonation_url(account),
            "source_credentials": source,
        })
    }

    /// Where a token of `account` is asked for.
    #[must_use]
    pub fn impersonation_url(&self, account: &str) -> String {
        format!("{}/v1/projects/-/serviceAccounts/{account}:generateAccessToken", self.url())
    }

    /// Has `who` become `account`.
    pub fn let_become(&self, who: &str, account: &str) {
        self.state().becomes.insert((who.to_owned(), account.to_owned()));
    }
}
