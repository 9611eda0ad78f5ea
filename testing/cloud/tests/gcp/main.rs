//! keyward and Google Cloud KMS: by itself, and with MariaDB on it. All answers are those of `test_cloud`'s
//! own server, so all tests are named `fake_gcp_...`; Google's own client drives it in `google`.

mod credentials;
mod google;
mod many;
mod mariadb;
mod outage;
mod rotation;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyward::backend::gcp_kms::{KmsWrapper, Settings};
use keyward::backend::http::Url;
use keyward::env::{Deadline, System};
use keyward::error::{Error, Kind};
use keyward::provider::{KeyWrapper, WrapContext, WrappedKey};
use keyward::secret::DataKey;
use serde_json::Value;
use test_cloud::FakeGcp;
use test_kit::{Result, Scratch, ensure, files};

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

/// A Google with one key, and a folder of credentials for it.
struct Room {
    fake: FakeGcp,
    scratch: Scratch,
    key: String,
}

impl Room {
    fn new(name: &str) -> Result<Self> {
        let (fake, scratch) = (FakeGcp::start()?, Scratch::new(&format!("gcp-{name}"))?);
        let key = fake.new_key("store");
        Ok(Self { fake, scratch, key })
    }

    /// A file of credentials, as gcloud leaves it.
    fn file(&self, name: &str, content: &Value) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        files::write(&path, content.to_string())?;
        files::chmod(&path, 0o600)?;
        Ok(path)
    }

    /// How its key is reached, with no credentials yet.
    fn settings(&self) -> Result<Settings> {
        let url = Url::parse(&self.fake.url()).map_err(|error| error.to_string())?;
        Ok(Settings::on(self.key.parse().told()?, url))
    }

    /// The same with these credentials.
    fn with(&self, credentials: &Value) -> Result<Settings> {
        let credentials_file = Some(self.file("google.json", credentials)?);
        Ok(Settings { credentials_file, ..self.settings()? })
    }

    /// The provider on its key, as the service account.
    fn provider(&self) -> Result<KmsWrapper> {
        Ok(wrapper(self.with(&self.fake.service_account()?)?))
    }

    /// The error of `result`, which must be of this kind and have these words in it.
    fn refused<T>(&self, result: keyward::Result<T>, kind: Kind, words: &[&str]) -> Result<Error> {
        let Err(error) = result else {
            return Err(format!("it went through; {words:?} was due").into());
        };
        let text = error.to_string();
        ensure!(error.kind() == kind, "{:?}: {text}", error.kind());
        for word in words {
            ensure!(text.contains(word), "no {word:?} in: {text}");
        }
        for secret in self.fake.secrets() {
            let secret = String::from_utf8_lossy(&secret).into_owned();
            ensure!(!text.contains(&secret), "it shows {secret:?}: {text}");
        }
        Ok(error)
    }
}

fn wrapper(settings: Settings) -> KmsWrapper {
    KmsWrapper::new(settings, Arc::new(System))
}

/// Wraps and unwraps a key.
fn round_trip(kms: &KmsWrapper) -> Result<WrappedKey> {
    let data = new_key()?;
    let wrapped = kms.wrap(&data, &context(), soon()).told()?;
    let opened = kms.unwrap(&wrapped, &context(), soon()).told()?;
    ensure!(opened.same_as(&data), "another key");
    Ok(wrapped)
}

/// The value of a fact that `doctor` shows.
fn fact(kms: &KmsWrapper, name: &str) -> Result<String> {
    let probe = kms.probe(soon()).told()?;
    let found = probe.facts.iter().find(|(known, _)| known == name);
    Ok(found.ok_or_else(|| format!("no {name:?} in {probe:?}"))?.1.clone())
}
