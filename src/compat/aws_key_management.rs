//! The stand-in for MariaDB's `aws_key_management`: each key version is a file in the data folder,
//! wrapped by a key of AWS KMS, and made when it is first asked for.
//!
//! Names, types and defaults are those of the original's documentation
//! (<https://mariadb.com/kb/en/aws-key-management-encryption-plugin/>), which gives no ranges.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::AWS as NAME;
use super::my_cnf::{self, Options};
use super::plugin::{Plugin, Size, Started, Values, Variable, VariableKind, rotate_by};
use crate::assemble;
use crate::backend::aws_kms::{FileSettings, KeyFiles, Settings};
use crate::backend::http::{IN_THE_CLEAR, USE_TLS, Url, is_private};
use crate::config;
use crate::custodian::Custodian;
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, PageMode};
use crate::manager::ExportedKey;
use crate::source::{NamedServer, Role, ServedSource};

/// `ER_UNKNOWN_ERROR`: the server has no number for this.
const NO_NUMBER: u32 = 1105;

/// How long the folder's listing is taken for the truth: another process may rotate.
const REFRESH: Duration = Duration::from_secs(60);

/// The region where nothing names one, as the original's SDK has it.
const DEFAULT_REGION: &str = "us-east-1";

/// What to do before a key can be made where no master key is named.
const NAME_A_MASTER: &str =
    "set aws_key_management_master_key_id, and the first table with that id makes it";

const AES_256: &CStr = c"AES_256";
const OFF: &CStr = c"Off";

pub(super) static PLUGIN: Plugin = Plugin {
    name: c"aws_key_management",
    description: c"AWS key management plugin (keyward)",
    stable: true,
    variables: &[
        Variable::new(
            c"master_key_id",
            c"AWS KMS Customer Master Key ID (ARN or alias prefixed by alias/) for the master \
              encryption key. Used to create new data keys. If not set, none are created.",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"region",
            c"AWS region. For example us-east-1, or eu-central-1. If no value provided, the SDK \
              finds it.",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"key_spec",
            c"Encryption algorithm used to create new keys.",
            VariableKind::Choice { words: &[c"AES_128", AES_256], default: 0 },
        ),
        Variable::new(
            c"log_level",
            c"Accepted for option files of the original; failures are always logged.",
            VariableKind::Choice {
                words: &[OFF, c"Fatal", c"Error", c"Warn", c"Info", c"Debug", c"Trace"],
                default: 0,
            },
        ),
        Variable::new(
            c"keyfile_dir",
            c"Define the directory in which to save key files. If not set, the root datadir will be \
              used.",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"rotate_key",
            c"Set this variable to key id to perform rotation of the key. Specify -1 to rotate all \
              keys.",
            VariableKind::Command { switch: false, run: rotate },
        ),
        Variable::new(
            c"request_timeout",
            c"Timeout in milliseconds for a request to AWS, 0 for the default of 10000.",
            VariableKind::Number { size: Size::UnsignedInt, default: 0, min: 0, max: 3_600_000 },
        ),
        Variable::new(
            c"endpoint_url",
            c"Used to override AWS API endpoint. If not set, the default endpoint will be used.",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"mock",
            c"Mock AWS KMS calls (for testing). Refused: keys would lie in the clear.",
            VariableKind::Switch { default: false },
        ),
    ],
    start,
    error_number: |_| NO_NUMBER,
    original_texts: false,
};

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
    /// What an option file at `path` says of them.
    pub(super) fn configured(options: &Options, path: &Path) -> Result<Self> {
        let text = |name| options.get(NAME, name).filter(|text| !text.is_empty());
        let data = options.datadir();
        if data.is_relative() {
            let what = "datadir: it is not an absolute path".to_owned();
            return my_cnf::refused(path, what, "write the whole path");
        }
        let folder = text("keyfile_dir").map_or_else(|| data.clone(), |folder| data.join(folder));
        let Ok(timeout) = text("request_timeout").unwrap_or("0").parse().map(Duration::from_millis)
        else {
            let what = format!("{NAME}_request_timeout is no number");
            return my_cnf::refused(path, what, "write milliseconds");
        };
        Ok(Self {
            folder,
            master_key_id: text("master_key_id").unwrap_or_default().to_owned(),
            region: text("region").map(str::to_owned),
            endpoint_url: text("endpoint_url").map(str::to_owned),
            // Of new keys, and none is made.
            key_len: 16,
            timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        })
    }

    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(config::DEFAULT_TIMEOUT)
    }

    /// The keys of all its files.
    pub(super) fn keys(self, env: &Env) -> Result<Vec<ExportedKey>> {
        let (folder, timeout) = (self.folder.display().to_string(), self.timeout());
        let keys = assemble::read_keys(&self.server(false, env)?, timeout)?;
        if keys.is_empty() {
            let what = format!("{folder} has no file aws-kms-key.<id>.<version>");
            let none = Error::new(Kind::NotFound, what);
            return Err(none.advise(
                "set `datadir` to the server's data folder, or aws_key_management_keyfile_dir to theirs",
            ));
        }
        Ok(keys)
    }

    fn server(self, as_original: bool, env: &Env) -> Result<KeyFiles> {
        let kms = Settings {
            key: self.master_key_id,
            region: self.region,
            default_region: Some(DEFAULT_REGION),
            endpoint: self.endpoint_url.as_deref().map(endpoint).transpose()?,
            as_original,
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
fn serve(files: AwsKeyFiles, role: Role, env: Env) -> Result<Custodian> {
    let cipher = Cipher { mode: PageMode::Cbc, key_len: files.key_len };
    let has_master = !files.master_key_id.is_empty();
    let named = NamedServer {
        name: NAME.to_owned(),
        timeout: files.timeout(),
        refresh: REFRESH,
        server: Box::new(files.server(true, &env)?),
    };
    let source = ServedSource::new(named, cipher, env.clone()).only_noting();
    let source = match has_master {
        true => source.on_demand(),
        false => source.makes_none_until(NAME_A_MASTER),
    };
    Custodian::start(source, role, env)
}

fn start(values: &dyn Values, role: Role, env: Env) -> Result<Started> {
    if values.switch(c"mock") {
        return Err(Error::new(
            Kind::Config,
            "aws_key_management_mock is for tests of the original",
        )
        .advise("take it out: keys would lie on disk in the clear"));
    }
    if role == Role::Server {
        tell_what_has_no_effect(values, &env);
    }
    let some = |name| Some(values.text(name)).filter(|text| !text.is_empty());
    let timeout = u64::try_from(values.number(c"request_timeout")).unwrap_or_default();
    let files = AwsKeyFiles {
        folder: folder(&values.text(c"keyfile_dir"))?,
        master_key_id: values.text(c"master_key_id"),
        region: some(c"region"),
        endpoint_url: some(c"endpoint_url"),
        key_len: if values.choice(c"key_spec") == Some(AES_256) { 32 } else { 16 },
        timeout: Some(Duration::from_millis(timeout)).filter(|timeout| !timeout.is_zero()),
    };
    serve(files, role, env).map(Started::from)
}

fn tell_what_has_no_effect(values: &dyn Values, env: &Env) {
    if values.choice(c"log_level").is_some_and(|word| word != OFF) {
        let note = "aws_key_management_log_level has no effect: failures are always logged";
        env.log.log(Level::Note, note);
    }
    if values.text(c"master_key_id").is_empty() {
        let warning = "aws_key_management_master_key_id is not set: no key can be made or rotated";
        env.log.log(Level::Warning, warning);
    }
}

/// Where the key files are: what `keyfile_dir` says, as seen from the data folder, which a server
/// works in.
fn folder(keyfile_dir: &str) -> Result<PathBuf> {
    let data = std::env::current_dir().map_err(|cause| {
        Error::new(Kind::Io, format!("cannot tell where the data folder is: {cause}"))
    })?;
    Ok(if keyfile_dir.is_empty() { data } else { data.join(keyfile_dir) })
}

fn rotate(custodian: &Custodian, number: i64, actor: &str) -> Result<()> {
    rotate_by(custodian, number, actor, "aws_key_management_rotate_key")
}
