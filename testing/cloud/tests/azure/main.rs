//! keyward and Azure Key Vault and Managed HSM: by itself, and with MariaDB on it. All answers are those of
//! `test_cloud`'s own server, so all tests are named `fake_azure_...`; Microsoft's own client drives it in
//! `microsoft`.

mod credentials;
mod many;
mod mariadb;
mod microsoft;
mod moving;
mod outage;
mod rotation;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyward::backend::azure_keyvault::{KeyVaultWrapper, Settings};
use keyward::backend::http::Url;
use keyward::config::Config;
use keyward::env::{Deadline, System};
use keyward::error::{Error, Kind};
use keyward::provider::{KeyWrapper, WrapContext, WrappedKey};
use keyward::secret::DataKey;
use test_cloud::FakeAzure;
use test_cloud::azure::{CLIENT_ID, CLIENT_SECRET};
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

/// An Azure with one key, and a folder of credentials for it.
struct Room {
    fake: FakeAzure,
    scratch: Scratch,
    key: String,
}

impl Room {
    /// With a key that a Managed HSM would have: it is made in no time.
    fn new(name: &str) -> Result<Self> {
        Self::with_key(name, "oct-HSM")
    }

    fn with_key(name: &str, kty: &str) -> Result<Self> {
        let (fake, scratch) = (FakeAzure::start()?, Scratch::new(&format!("azure-{name}"))?);
        let key = fake.new_key("store", kty)?;
        Ok(Self { fake, scratch, key })
    }

    /// A secret file.
    fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        files::write(&path, content)?;
        files::chmod(&path, 0o600)?;
        Ok(path)
    }

    /// How its key is reached, with no credentials yet.
    fn settings(&self) -> Result<Settings> {
        let url = Url::parse(&self.fake.url()).map_err(|error| error.to_string())?;
        let settings = Settings::on(self.key.parse().told()?);
        Ok(Settings { authority_host: Some(url), ..settings })
    }

    /// The same as an application with its secret.
    fn with_secret(&self) -> Result<Settings> {
        let file = self.file("secret", &format!("{CLIENT_SECRET}\n"))?;
        let client_id = Some(CLIENT_ID.to_owned());
        Ok(Settings { client_id, client_secret_file: Some(file), ..self.settings()? })
    }

    /// The provider on its key, as that application.
    fn provider(&self) -> Result<KeyVaultWrapper> {
        Ok(wrapper(self.with_secret()?))
    }

    /// A configuration with these lines in `[keystore]`, whose providers are its key and `more`.
    fn config(&self, lines: &str, more: &str) -> Result<Config> {
        let secret = self.file("secret", CLIENT_SECRET)?;
        let text = format!(
            "[keystore]\npath = {:?}\n{lines}\n[[provider]]\nname = \"azure\"\ntype = \"azure-keyvault\"\n\
             key = {:?}\nauthority_host = {:?}\nclient_id = {CLIENT_ID:?}\nclient_secret_file = {secret:?}\n\
             timeout = \"60s\"\n{more}",
            self.keystore(),
            self.key,
            self.fake.url(),
        );
        Config::parse(&self.scratch.path().join("keyward.toml"), &text).told()
    }

    /// Where the keystore of that configuration is.
    fn keystore(&self) -> PathBuf {
        self.scratch.path().join("keystore.json")
    }

    /// The name of the key's newest version.
    fn newest(&self) -> Result<String> {
        let state = self.fake.state();
        let newest = state.keys.get("store").and_then(|key| key.versions.last());
        Ok(newest.ok_or("no key")?.name.clone())
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

fn wrapper(settings: Settings) -> KeyVaultWrapper {
    KeyVaultWrapper::new(settings, Arc::new(System))
}

/// Wraps and unwraps a key.
fn round_trip(vault: &KeyVaultWrapper) -> Result<WrappedKey> {
    let data = new_key()?;
    let wrapped = vault.wrap(&data, &context(), soon()).told()?;
    let opened = vault.unwrap(&wrapped, &context(), soon()).told()?;
    ensure!(opened.same_as(&data), "another key");
    Ok(wrapped)
}

/// The value of a fact that `doctor` shows.
fn fact(vault: &KeyVaultWrapper, name: &str) -> Result<String> {
    let probe = vault.probe(soon()).told()?;
    let found = probe.facts.iter().find(|(known, _)| known == name);
    Ok(found.ok_or_else(|| format!("no {name:?} in {probe:?}"))?.1.clone())
}
