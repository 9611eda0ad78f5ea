//! keyward and AWS KMS: by itself, and with MariaDB on it. What is named `fake_...` is answered by the
//! test; everything else by LocalStack.

mod backup;
mod chain;
mod dropin;
mod many;
mod mariadb;
mod outage;
mod reach;
mod regions;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyward::backend::aws_kms::{KmsWrapper, Settings};
use keyward::backend::http::Url;
use keyward::env::{Deadline, System};
use keyward::error::{Error, Kind};
use keyward::provider::WrapContext;
use keyward::secret::DataKey;
use test_cloud::{REGION, Shared};
use test_kit::{Result, ensure, files};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn context() -> WrapContext {
    WrapContext { keystore: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(), store_key: 1 }
}

fn new_key() -> Result<DataKey> {
    DataKey::generate(32, &System).told()
}

/// keyward's errors as those of a test.
trait Told<T> {
    fn told(self) -> Result<T>;
}

impl<T> Told<T> for keyward::Result<T> {
    fn told(self) -> Result<T> {
        self.map_err(|error| error.to_string().into())
    }
}

/// How to reach `key` at `endpoint`, with the credentials' file that all share.
fn settings(shared: &Shared, key: &str, endpoint: &str) -> Result<Settings> {
    Ok(Settings {
        key: key.to_owned(),
        region: None,
        default_region: None,
        endpoint: Some(Url::parse(endpoint).map_err(|error| error.to_string())?),
        fips: false,
        profile: None,
        config_file: Some(shared.config_file.clone()),
        credentials_file: Some(shared.credentials_file.clone()),
        as_original: false,
    })
}

fn wrapper(settings: Settings) -> KmsWrapper {
    KmsWrapper::new(settings, Arc::new(System))
}

/// A new key in LocalStack, and the provider on it.
fn on_a_new_key(shared: &Shared) -> Result<(String, KmsWrapper)> {
    let key = shared.localstack.new_key(REGION)?;
    let wrapper = wrapper(settings(shared, &key, &shared.localstack.url())?);
    Ok((key, wrapper))
}

/// The error of `result`, which must be of this kind and have these words in it.
fn refused<T>(result: keyward::Result<T>, kind: Kind, words: &[&str]) -> Result<Error> {
    let Err(error) = result else {
        return Err(format!("it went through; {words:?} was due").into());
    };
    let text = error.to_string();
    ensure!(error.kind() == kind, "{:?}: {text}", error.kind());
    for word in words {
        ensure!(text.contains(word), "no {word:?} in: {text}");
    }
    for secret in [test_cloud::shared::SECRET, "a text that nobody is shown"] {
        ensure!(!text.contains(secret), "it shows {secret:?}: {text}");
    }
    Ok(error)
}

/// A file of the test's own beside the shared ones.
fn file(shared: &Shared, content: &str) -> Result<PathBuf> {
    let path = shared.localstack.path(&shared.new_name());
    files::write(&path, content)?;
    Ok(path)
}

/// An address of this machine where nobody listens.
fn nobody() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(format!("http://{}", listener.local_addr()?))
}
