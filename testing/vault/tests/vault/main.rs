//! keyward and a real Vault: by itself, and with MariaDB on it.

mod dropin;
mod login;
mod many;
mod mariadb;
mod planted;
mod recovery;
mod trouble;
mod versions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyward::backend::http::{TlsConfig, Url};
use keyward::backend::vault::{
    KvServer, KvSettings, Login, RoleId, Settings, TransitSettings, TransitWrapper,
};
use keyward::env::{Deadline, System};
use keyward::key::PageMode;
use keyward::provider::WrapContext;
use keyward::secret::source::SecretSource;
use test_kit::{Result, Scratch, files};
use test_vault::{Shared, Vault};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn shortly() -> Deadline {
    Deadline::after(Duration::from_secs(2))
}

fn context() -> WrapContext {
    WrapContext { keystore: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(), store_key: 1 }
}

/// How to reach `vault`, with this log-in.
fn settings(vault: &Vault, login: Login) -> Result<Settings> {
    let address = Url::parse(&vault.address()).map_err(|error| error.to_string())?;
    let trust =
        TlsConfig { ca_file: Some(vault.certificates().path("ca.pem")), ..TlsConfig::default() };
    Ok(Settings { addresses: vec![address], namespace: None, trust, login })
}

/// A transit key of the test's own, with this log-in.
fn transit(shared: &Shared, login: Login) -> Result<TransitWrapper> {
    let key = shared.new_name();
    shared.vault.vault(&["write", "-f", &format!("transit/keys/{key}")])?;
    Ok(wrapper(settings(&shared.vault, login)?, &key))
}

fn wrapper(vault: Settings, key: &str) -> TransitWrapper {
    let settings = TransitSettings { vault, mount: "transit".into(), key: key.into() };
    TransitWrapper::new(settings, Arc::new(System))
}

/// The keys under `prefix`, with this log-in.
fn kv(shared: &Shared, prefix: &str, login: Login) -> Result<KvServer> {
    let settings = KvSettings {
        vault: settings(&shared.vault, login)?,
        mount: "secret".into(),
        prefix: prefix.into(),
        mode: PageMode::Ctr,
        refresh: Duration::from_secs(10),
    };
    Ok(KvServer::new(settings, Arc::new(System)))
}

/// A secret in a file of the test's own.
fn secret(scratch: &Scratch, name: &str, content: &str) -> Result<SecretSource> {
    let path: PathBuf = scratch.path().join(name);
    files::write(&path, content)?;
    files::chmod(&path, 0o600)?;
    Ok(SecretSource::File(path))
}

fn approle(role_id: &str, secret_id: SecretSource) -> Login {
    let role_id = RoleId::Given(role_id.into());
    Login::AppRole { mount: "approle".into(), role_id, secret_id, wrapped: false }
}
