//! keyward on a KMS that checks signatures and goes by policies: fakecloud's, with what
//! `testing/cloud/fakecloud` adds to it.

mod keys;
mod policy;
mod sessions;
mod signature;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyward::backend::aws_kms::{KmsWrapper, Settings};
use keyward::backend::http::Url;
use keyward::env::{Deadline, System};
use keyward::provider::WrapContext;
use keyward::secret::DataKey;
use test_cloud::{Credentials, Fakecloud};
use test_kit::account::give_to_server;
use test_kit::{Answer, Result, artefacts, ensure, files, shared};
use test_mariadb::Site;

/// The key in the documentation's examples.
const EXAMPLE: &str =
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// The id of a keystore, where a test wraps without one.
const KEYSTORE: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

fn account() -> Result<Arc<Fakecloud>> {
    static SHARED: shared::Shared<Fakecloud> = shared::Shared::new();
    SHARED.get(Fakecloud::start)
}

/// The policy that the documentation prints, for `key`.
fn documented(key: &str) -> Result<String> {
    let page = artefacts::repository().join("docs/providers/aws-kms.md");
    let page = files::text(&page)?;
    let section = page.split_once("## What a policy must allow").map(|(_, rest)| rest);
    let policy = section.and_then(|rest| rest.split_once("```json\n")).map(|(_, rest)| rest);
    let policy = policy.and_then(|rest| rest.split_once("```")).map(|(policy, _)| policy);
    let policy = policy.ok_or("the documentation prints no policy")?;
    ensure!(policy.contains(EXAMPLE), "the policy names another key: {policy}");
    Ok(policy.replace(EXAMPLE, key))
}

/// A policy that allows these actions on `key`.
fn allowing(actions: &[&str], key: &str) -> String {
    let statement = serde_json::json!({ "Effect": "Allow", "Action": actions, "Resource": key });
    serde_json::json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
}

/// A server's folder, a key in KMS, and somebody who may do with it what a policy says.
struct Room {
    account: Arc<Fakecloud>,
    site: Site,
    key: String,
    user: String,
}

impl Room {
    /// With the policy that the documentation prints.
    fn new(name: &str) -> Result<Self> {
        let (account, site) = (account()?, Site::new(name)?);
        let (key, user) = (account.new_key()?, shared::new_name());
        let credentials = account.new_user(&user, &documented(&key)?)?;
        let room = Self { account, site, key, user };
        room.sign_with(&credentials.profile("default"))?;
        files::write(&room.config_file(), "")?;
        give_to_server(&room.config_file())?;
        Ok(room)
    }

    /// From now on the credentials' file says this.
    fn sign_with(&self, profiles: &str) -> Result<()> {
        files::write(&self.credentials_file(), profiles)?;
        files::chmod(&self.credentials_file(), 0o600)?;
        give_to_server(&self.credentials_file())
    }

    fn credentials_file(&self) -> PathBuf {
        self.site.path("etc/aws-credentials")
    }

    fn config_file(&self) -> PathBuf {
        self.site.path("etc/aws-config")
    }

    /// `keyward init` on this room's key, with these words after it.
    fn try_init(&mut self, more: &[&str], environment: &[(&str, String)]) -> Result<Answer> {
        let folder = self.site.path("keyward").display().to_string();
        let mut words = vec!["init", "--dir", &folder, "--provider", "aws-kms"];
        let settings = [
            format!("key={}", self.key),
            format!("endpoint={}", self.account.url()),
            format!("config_file={}", self.config_file().display()),
            format!("credentials_file={}", self.credentials_file().display()),
        ];
        words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        words.extend(more);
        let answer = self.keyward(&words, environment)?;
        if answer.code == 0 {
            self.site.load_keyward();
            self.site.encrypt_everything();
        }
        Ok(answer)
    }

    fn init(&mut self) -> Result<()> {
        self.try_init(&[], &[])?.ok().map(drop)
    }

    /// The command, with nothing of AWS's in its environment but these.
    fn keyward(&self, words: &[&str], environment: &[(&str, String)]) -> Result<Answer> {
        let mut command = self.site.keyward_command(words);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        test_kit::command::answer(&mut command)
    }

    /// The command must fail, and say all of these; its line.
    fn refused(&self, words: &[&str], said: &[&str]) -> Result<String> {
        let answer = self.keyward(words, &[])?;
        ensure!(answer.code != 0, "{words:?} went through: {}", answer.text());
        let text = answer.text();
        for word in said {
            ensure!(text.contains(word), "no {word:?} in: {text}");
        }
        Ok(text.trim().replace(&self.key, "ARN"))
    }
}

/// The provider on `key`, for whom these credentials are.
fn wrapper(account: &Fakecloud, key: &str, credentials: &Credentials) -> Result<KmsWrapper> {
    Ok(KmsWrapper::new(settings(account, key, credentials)?, Arc::new(System)))
}

fn settings(account: &Fakecloud, key: &str, credentials: &Credentials) -> Result<Settings> {
    let file = |content: &str| -> Result<PathBuf> {
        let path = account.path(&shared::new_name());
        files::write(&path, content)?;
        Ok(path)
    };
    Ok(Settings {
        key: key.to_owned(),
        endpoint: Some(Url::parse(&account.url()).map_err(|error| error.to_string())?),
        config_file: Some(file("")?),
        credentials_file: Some(file(&credentials.profile("default"))?),
        ..Settings::default()
    })
}

fn context() -> WrapContext {
    WrapContext { keystore: KEYSTORE.into(), store_key: 1 }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn new_key() -> Result<DataKey> {
    told(DataKey::generate(32, &System))
}

/// keyward's errors as those of a test.
fn told<T>(result: keyward::Result<T>) -> Result<T> {
    result.map_err(|error| error.to_string().into())
}

/// The text of the error that was due, which has all these words.
fn refusal<T>(result: keyward::Result<T>, words: &[&str]) -> Result<String> {
    let Err(error) = result else {
        return Err(format!("it went through; {words:?} was due").into());
    };
    let text = error.to_string();
    for word in words {
        ensure!(text.contains(word), "no {word:?} in: {text}");
    }
    Ok(text)
}
