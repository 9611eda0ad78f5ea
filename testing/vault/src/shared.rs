//! One Vault for all tests of a process, each with keys of its own: a start takes seconds.

use std::sync::Arc;

use test_kit::{Result, shared};

use crate::Vault;

/// What a server may do that keyward runs in, for all prefixes and keys of all tests.
const RULES: &str = r#"
path "transit/*" { capabilities = ["read", "update"] }
path "secret/*" { capabilities = ["create", "read", "update", "list"] }
"#;

/// A Vault with engines `secret` (KV 2) and `transit`, and a role `keyward` to log in as.
pub struct Shared {
    /// The Vault itself.
    pub vault: Vault,
    /// The name of the role.
    pub role_id: String,
    /// Its secret.
    pub secret_id: String,
}

impl Shared {
    /// The one of this process; it ends with its last user.
    pub fn get() -> Result<Arc<Self>> {
        static SHARED: shared::Shared<Shared> = shared::Shared::new();
        SHARED.get(Self::start)
    }

    /// A name that no other test of this process has.
    #[must_use]
    pub fn new_name(&self) -> String {
        shared::new_name()
    }

    fn start() -> Result<Self> {
        let vault = Vault::start()?;
        vault.vault(&["secrets", "enable", "transit"])?;
        vault.vault(&["secrets", "enable", "-path=secret", "-version=2", "kv"])?;
        vault.vault(&["auth", "enable", "approle"])?;
        vault.policy("keyward", RULES)?;
        vault.vault(&["write", "auth/approle/role/keyward", "token_policies=keyward"])?;
        let role = "auth/approle/role/keyward";
        let role_id = vault.field("role_id", &["read", &format!("{role}/role-id")])?;
        let secret_id = vault.field("secret_id", &["write", "-f", &format!("{role}/secret-id")])?;
        Ok(Self { vault, role_id, secret_id })
    }
}
