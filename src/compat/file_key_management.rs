//! The stand-in for MariaDB's `file_key_management`: keys in one file, which may be encrypted.
//!
//! Names, defaults and error texts are those of the original, because option files, tests and
//! monitoring know them. Where they changed in time, the server that loads us tells which hold.
//! `digest` and `use_pbkdf2` came with a later server; here every server has them.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use super::my_cnf::{self, Options};
use super::plugin::{Plugin, Release, Size, Started, Values, Variable, VariableKind};
use crate::assemble;
use crate::backend::file::{Dialect, Edition, FileServer, MAX_FILE_LEN, Password, Settings};
use crate::config;
use crate::custodian::Custodian;
use crate::env::{Deadline, Env, Level};
use crate::error::{Code, Error, Kind, Result};
use crate::key::{Cipher, PageMode};
use crate::manager::ExportedKey;
use crate::source::{NamedServer, Role, ServedSource};

/// The plugin's name, as errors know it.
pub(super) const NAME: &str = "file_key_management";

/// How long it may take to read all keys of a file.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's numbers for files, which the original answers with.
const EE_FIRST: u32 = 1;
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

    /// All of its keys. A command waits for no pipe.
    pub(super) fn keys(self) -> Result<Vec<ExportedKey>> {
        let kind = fs::metadata(&self.filename).map(|meta| meta.file_type());
        if kind.is_ok_and(|kind| kind.is_fifo()) {
            return Err(Error::new(Kind::Config, format!("{} is a pipe", self.filename))
                .advise("write its keys into a file, and name that in a copy of the option file"));
        }
        assemble::read_keys(&self.server(Edition::V10)?, FILE_TIMEOUT)
    }

    fn server(self, edition: Edition) -> Result<FileServer> {
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
            dialect: Dialect::Original(edition),
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
    let edition = edition(values.release());
    let path = file.filename.clone();
    let server = file.server(edition)?;
    if edition == Edition::V11_8 {
        note_what_is_read(&server, &path, values)?;
    }
    serve(server, role, env)
        .map(Started::from)
        // There is but one provider here, and the original's texts do not begin with its name.
        .map_err(Error::without_context)
}

/// Which of the original's editions the server of `release` has.
fn edition(release: Release) -> Edition {
    if release < Release(11, 8) { Edition::V10 } else { Edition::V11_8 }
}

/// Reads the key file and notes its length, as the original of 11.8 does, whether or not it has keys.
fn note_what_is_read(server: &FileServer, path: &str, values: &dyn Values) -> Result<()> {
    let read = server.read(Deadline::after(config::DEFAULT_TIMEOUT));
    let len = server.bytes_read();
    if read.is_ok() || len > 0 {
        let limit = format!("max key file size: {MAX_FILE_LEN} bytes");
        values.note(EE_FIRST, &format!("Read from {path}, read bytes: {len}, {limit}"));
    }
    read
}

/// Begins to serve the keys of a key file, by the rules of MariaDB's own plugin.
fn serve(server: FileServer, role: Role, env: Env) -> Result<Custodian> {
    let named = NamedServer {
        name: NAME.to_owned(),
        timeout: config::DEFAULT_TIMEOUT,
        refresh: Duration::MAX,
        server: Box::new(server),
    };
    let source = ServedSource::new(named, Cipher::DEFAULT, env.clone()).only_noting();
    Custodian::start(source, role, env)
}

fn error_number(error: &Error) -> u32 {
    match error.code() {
        Some(Code::NotSet(_)) => EE_NOT_SET,
        Some(Code::CannotOpen) => EE_FILE_NOT_FOUND,
        Some(Code::Approvals) | None => EE_READ,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    /// A server of some release whose `filename` is set.
    struct Server {
        release: Release,
        filename: PathBuf,
        notes: RefCell<Vec<(u32, String)>>,
    }

    impl Server {
        fn new(release: Release, filename: PathBuf) -> Self {
            Self { release, filename, notes: RefCell::default() }
        }

        /// What the start fails with, without the folder's name.
        fn error(&self) -> String {
            let error = start(self, Role::Reader, quiet()).err().unwrap().to_string();
            error.replace(&format!("{}/", self.filename.parent().unwrap().display()), "")
        }
    }

    impl Values for Server {
        fn text(&self, name: &CStr) -> String {
            if name == c"filename" { self.filename.display().to_string() } else { String::new() }
        }
        fn number(&self, _: &CStr) -> i64 {
            0
        }
        fn switch(&self, _: &CStr) -> bool {
            false
        }
        fn choice(&self, _: &CStr) -> Option<&'static CStr> {
            None
        }
        fn hand_on(&self, _: &str, _: &str) {}
        fn release(&self) -> Release {
            self.release
        }
        fn note(&self, number: u32, text: &str) {
            self.notes.borrow_mut().push((number, text.to_owned()));
        }
    }

    fn quiet() -> Env {
        Env::system(Arc::new(crate::env::fake::FakeLog::default()))
    }

    const V10_11: Release = Release(10, 11);
    const V11_8: Release = Release(11, 8);

    #[test]
    fn each_server_has_its_own_edition() {
        for release in [V10_11, Release(10, 6), Release(11, 4)] {
            assert_eq!(edition(release), Edition::V10, "{release:?}");
        }
        for release in [V11_8, Release(12, 3), Release(13, 0)] {
            assert_eq!(edition(release), Edition::V11_8, "{release:?}");
        }
    }

    #[test]
    fn the_words_are_those_of_the_servers_own_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        std::fs::write(&path, vec![b'#'; MAX_FILE_LEN + 1]).unwrap();
        assert_eq!(
            Server::new(V10_11, path.clone()).error(),
            "Error reading file 'long' (Errcode: 27 \"File too large\")"
        );
        assert_eq!(
            Server::new(V11_8, path).error(),
            "File long too large, must be less than 1048576 bytes"
        );
    }

    /// Nobody writes to the pipe: a command that opened it would wait.
    #[test]
    fn an_import_takes_no_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("keys.pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let file = KeyFile {
            filename: pipe.display().to_string(),
            filekey: None,
            digest: "sha1".to_owned(),
            use_pbkdf2: 0,
            encryption: PageMode::Cbc,
        };
        let error = file.keys().err().unwrap().to_string();
        assert_eq!(
            error,
            format!(
                "{} is a pipe; write its keys into a file, and name that in a copy of the option \
                 file",
                pipe.display()
            )
        );
    }

    #[test]
    fn from_11_8_on_the_length_of_the_key_file_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.txt");
        for text in [format!("1;{}\n", "11".repeat(16)), "1;no key\n".to_owned()] {
            std::fs::write(&path, &text).unwrap();
            for release in [V10_11, V11_8] {
                let server = Server::new(release, path.clone());
                let started = start(&server, Role::Reader, quiet());
                assert_eq!(started.is_ok(), !text.contains("no key"));
                let what = format!("Read from {}, read bytes: {}", path.display(), text.len());
                let noted = (1, format!("{what}, max key file size: 1048576 bytes"));
                let expected = if release == V11_8 { vec![noted] } else { Vec::new() };
                assert_eq!(server.notes.take(), expected);
            }
        }
    }
}
