//! What MariaDB's own `aws_key_management` keeps: a file a key version, wrapped by AWS KMS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::moving;
use crate::backend::aws_kms::{FileSettings, KeyFiles, Settings};
use crate::backend::http::{IN_THE_CLEAR, USE_TLS, Url, is_private};
use crate::config;
use crate::custodian::Custodian;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, PageMode};
use crate::manager::Moving;
use crate::source::{NamedServer, Role, ServedSource};

/// How long the folder's listing is taken for the truth: another process may rotate.
const REFRESH: Duration = Duration::from_secs(60);

/// The region where nothing names one, as the original's SDK has it.
const DEFAULT_REGION: &str = "us-east-1";

/// What to do before a key can be made where no master key is named.
const NAME_A_MASTER: &str =
    "set aws_key_management_master_key_id, and the first table with that id makes it";

/// What `aws_key_management` is configured with, by its variables' names.
pub struct AwsKeyFiles {
    /// `keyfile_dir`, or the server's data folder: where the files are.
    pub folder: PathBuf,
    /// `master_key_id`: ARN, id or alias of the key that wraps new keys; none are made where it is
    /// empty.
    pub master_key_id: String,
    /// `region`.
    pub region: Option<String>,
    /// `endpoint_url`.
    pub endpoint_url: Option<String>,
    /// `key_spec`: how long new keys are, in bytes.
    pub key_len: usize,
    /// `request_timeout`.
    pub timeout: Option<Duration>,
}

impl AwsKeyFiles {
    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(config::DEFAULT_TIMEOUT)
    }

    /// The keys of all its files.
    pub(super) fn keys(self, env: &Env) -> Result<Vec<Moving>> {
        let (folder, timeout) = (self.folder.display().to_string(), self.timeout());
        let keys = moving::read(&self.server(env)?, timeout)?;
        if keys.is_empty() {
            let what = format!("{folder} has no file aws-kms-key.<id>.<version>");
            let none = Error::new(Kind::NotFound, what);
            return Err(none.advise(
                "set `datadir` to the server's data folder, or aws_key_management_keyfile_dir to theirs",
            ));
        }
        Ok(keys)
    }

    fn server(self, env: &Env) -> Result<KeyFiles> {
        let kms = Settings {
            key: self.master_key_id,
            region: self.region,
            default_region: Some(DEFAULT_REGION),
            endpoint: self.endpoint_url.as_deref().map(endpoint).transpose()?,
            ..Settings::default()
        };
        let settings = FileSettings { folder: self.folder, key_len: self.key_len, kms };
        Ok(KeyFiles::new(settings, Arc::clone(&env.rng)))
    }
}

fn endpoint(text: &str) -> Result<Url> {
    let wrong = |what: &str| {
        let what = format!("aws_key_management_endpoint_url {what}");
        Error::new(Kind::Config, what).advise("write it as https://kms.eu-central-1.amazonaws.com")
    };
    let url = Url::parse(text).map_err(|_| wrong("is no address"))?;
    match is_private(&url) {
        true => Ok(url),
        false => Err(wrong(IN_THE_CLEAR).advise(USE_TLS)),
    }
}

/// Begins to serve the keys of a data folder's key files, and makes those that are asked for.
pub fn from_aws_key_files(files: AwsKeyFiles, role: Role, env: Env) -> Result<Custodian> {
    let cipher = Cipher { mode: PageMode::Cbc, key_len: files.key_len };
    let has_master = !files.master_key_id.is_empty();
    let named = NamedServer {
        name: "aws_key_management".to_owned(),
        timeout: files.timeout(),
        refresh: REFRESH,
        server: Box::new(files.server(&env)?),
    };
    let source = ServedSource::new(named, cipher, env.clone()).only_noting();
    let source = match has_master {
        true => source.on_demand(),
        false => source.makes_none_until(NAME_A_MASTER),
    };
    Custodian::start(source, role, env)
}
