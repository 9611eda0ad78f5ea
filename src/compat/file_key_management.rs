//! The stand-in for MariaDB's `file_key_management`: keys in one file, which may be encrypted.
//!
//! Names, defaults and error texts are those of the original, because option files, tests and
//! monitoring know them. `digest` and `use_pbkdf2` came with a later server; here every server has
//! them.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::Path;
use std::time::Duration;

use super::my_cnf::{self, Options};
use super::plugin::{Plugin, Size, Started, Values, Variable, VariableKind};
use crate::assemble;
use crate::backend::file::{Dialect, FileServer, Password, Settings};
use crate::config;
use crate::custodian::Custodian;
use crate::env::{Env, Level};
use crate::error::{Code, Error, Kind, Result};
use crate::key::{Cipher, PageMode};
use crate::manager::ExportedKey;
use crate::source::{NamedServer, Role, ServedSource};

/// The plugin's name, as errors know it.
pub(super) const NAME: &str = "file_key_management";

/// How long it may take to read all keys of a file.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's numbers for file errors, which the original answers with.
const EE_READ: u32 = 2;
const EE_NOT_SET: u32 = 15;
const EE_FILE_NOT_FOUND: u32 = 29;

const CTR: &CStr = c"aes_ctr";

pub(super) static PLUGIN: Plugin = Plugin {
    name: c"file_key_management",
    description: c"File-based key management plugin (keyward)",
    stable: true,
    variables: &[
        Variable::new(
            c"encryption_algorithm",
            c"Encryption algorithm to use, aes_ctr is the recommended one.",
            VariableKind::Choice { words: &[c"aes_cbc", CTR], default: 0 },
        ),
        Variable::new(
            c"filekey",
            c"Key to encrypt / decrypt the keyfile.",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"filename",
            c"Path and name of the key file.",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"digest",
            c"Digest algorithm that made the key of the key file from filekey.",
            VariableKind::Choice {
                words: &[c"sha1", c"sha224", c"sha256", c"sha384", c"sha512"],
                default: 0,
            },
        ),
        Variable::new(
            c"use_pbkdf2",
            c"Number of PBKDF2 iterations that made the key of the key file; 0 = none.",
            VariableKind::Number {
                size: Size::UnsignedInt,
                default: 0,
                min: 0,
                max: u32::MAX as i64,
            },
        ),
    ],
    start,
    error_number,
    original_texts: true,
};

/// What MariaDB's own `file_key_management` is configured with, by its variables' names.
pub struct KeyFile {
    /// `filename`.
    pub filename: String,
    /// `filekey`: a passphrase, or `FILE:` and where it stands.
    pub filekey: Option<String>,
    /// `digest`.
    pub digest: String,
    /// `use_pbkdf2`: the number of iterations, 0 for none.
    pub use_pbkdf2: u32,
    /// `encryption_algorithm`.
    pub encryption: PageMode,
}

impl KeyFile {
    /// What an option file at `path` says of it.
    pub(super) fn configured(options: &Options, path: &Path) -> Result<Self> {
        let filename = options.get(NAME, "filename").unwrap_or_default();
        let refused = |what: String, advice: &str| my_cnf::refused(path, what, advice);
        if Path::new(filename).is_relative() {
            let what = format!("{NAME}_filename: {filename:?} is not an absolute path");
            return refused(what, "the server reads it from its data folder: write the whole path");
        }
        let rounds = options.get(NAME, "use_pbkdf2").unwrap_or("0");
        let Ok(use_pbkdf2) = rounds.parse() else {
            return refused(format!("{NAME}_use_pbkdf2 is no number"), "write the iterations");
        };
        let encryption =
            match options.get(NAME, "encryption_algorithm").map(str::to_ascii_lowercase) {
                None => PageMode::Cbc,
                Some(word) if word == "aes_cbc" || word == "0" => PageMode::Cbc,
                Some(word) if word == "aes_ctr" || word == "1" => PageMode::Ctr,
                Some(word) => {
                    let what = format!("{NAME}_encryption_algorithm: {word:?} is not one");
                    return refused(what, "it is aes_cbc or aes_ctr");
                }
            };
        Ok(Self {
            filename: filename.to_owned(),
            filekey: options.get(NAME, "filekey").map(str::to_owned),
            digest: options.get(NAME, "digest").unwrap_or("sha1").to_ascii_lowercase(),
            use_pbkdf2,
            encryption,
        })
    }

    /// Begins to serve the keys of a key file, by the rules and in the words of MariaDB's own plugin.
    fn serve(self, role: Role, env: Env) -> Result<Custodian> {
        let named = NamedServer {
            name: NAME.to_owned(),
            timeout: config::DEFAULT_TIMEOUT,
            refresh: Duration::MAX,
            server: Box::new(self.server()?),
        };
        let source = ServedSource::new(named, Cipher::DEFAULT, env.clone()).only_noting();
        Custodian::start(source, role, env)
    }

    /// All of its keys.
    pub(super) fn keys(self) -> Result<Vec<ExportedKey>> {
        assemble::read_keys(&self.server()?, FILE_TIMEOUT)
    }

    fn server(self) -> Result<FileServer> {
        let password = match &self.filekey {
            Some(value) => Password::of_variable(value)?,
            None => None,
        };
        FileServer::new(Settings {
            path: self.filename.into(),
            password,
            digest: self.digest.parse()?,
            pbkdf2_iterations: self.use_pbkdf2,
            mode: self.encryption,
            strict_permissions: false,
            dialect: Dialect::Original,
        })
    }
}

fn start(values: &dyn Values, role: Role, env: Env) -> Result<Started> {
    let filename = values.text(c"filename");
    if filename.is_empty() {
        return Err(Error::new(Kind::Config, "file-key-management-filename is not set")
            .coded(Code::NotSet("filename"))
            .advise("set file_key_management_filename to the path of the key file"));
    }
    let filekey = Some(values.text(c"filekey")).filter(|key| !key.is_empty());
    if filekey.as_ref().is_some_and(|key| !key.starts_with("FILE:")) && role == Role::Server {
        env.log.log(
            Level::Note,
            "file_key_management_filekey holds the secret itself, and SHOW VARIABLES shows it; \
             put it into a file and set FILE:/path/of/the/file",
        );
    }
    let ctr = values.choice(c"encryption_algorithm") == Some(CTR);
    let file = KeyFile {
        filename,
        filekey,
        digest: values.choice(c"digest").unwrap_or(c"sha1").to_string_lossy().into_owned(),
        use_pbkdf2: u32::try_from(values.number(c"use_pbkdf2")).unwrap_or_default(),
        encryption: if ctr { PageMode::Ctr } else { PageMode::Cbc },
    };
    file.serve(role, env)
        .map(Started::from)
        // There is but one provider here, and the original's texts do not begin with its name.
        .map_err(Error::without_context)
}

fn error_number(error: &Error) -> u32 {
    match error.code() {
        Some(Code::NotSet(_)) => EE_NOT_SET,
        Some(Code::CannotOpen) => EE_FILE_NOT_FOUND,
        None => EE_READ,
    }
}
