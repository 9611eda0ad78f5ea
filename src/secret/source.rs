//! Where a secret is read from: a file, a variable of the environment or a systemd credential.
//! Never the configuration itself, which people paste into tickets.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{SecretBytes, read_file};
use crate::error::{Error, Kind, Result};

/// The variable in which systemd tells a unit where its credentials lie (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where to read a secret from, as `*_file`, `*_env` and `*_credential` of the configuration say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that only its owner, and its group, may read.
    File(PathBuf),
    /// A variable of the process's environment.
    Env(String),
    /// A systemd credential, by the name that the unit gives it.
    Credential(String),
    /// An option of the server's, where a plugin that we stand in for takes it so.
    Option(Given),
}

/// A secret that was handed over, and under which name.
#[derive(Clone)]
pub struct Given {
    name: &'static str,
    secret: Arc<SecretBytes>,
}

impl Given {
    /// The value of the option `name`.
    #[must_use]
    pub fn new(name: &'static str, value: &str) -> Self {
        Self { name, secret: Arc::new(SecretBytes::copy_of(value.as_bytes())) }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.secret, &other.secret)
    }
}

impl Eq for Given {}

impl SecretSource {
    /// The secret, at most `max_len` bytes, exactly as it lies there. Each call reads again.
    pub fn read(&self, max_len: usize) -> Result<SecretBytes> {
        self.read_in(max_len, |name| std::env::var_os(name))
    }

    /// [`read`](Self::read) in an environment of the caller's choice.
    pub fn read_in(
        &self,
        max_len: usize,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<SecretBytes> {
        match self {
            Self::File(path) => read_file(path, max_len),
            Self::Env(name) => read_variable(name, variable(name), max_len),
            Self::Credential(name) => {
                read_file(&credential_path(name, variable(CREDENTIALS_DIRECTORY))?, max_len)
            }
            Self::Option(given) if given.secret.expose().len() > max_len => {
                let what = format!("{self} is longer than {max_len} bytes");
                Err(Error::new(Kind::Config, what))
            }
            Self::Option(given) => Ok(SecretBytes::copy_of(given.secret.expose())),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "systemd credential {name}"),
            Self::Option(given) => f.write_str(given.name),
        }
    }
}

/// The secret without the line ends that editors and `echo` leave behind it.
#[must_use]
pub fn without_line_end(secret: &[u8]) -> &[u8] {
    let end = secret.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
    &secret[..end.map_or(0, |last| last + 1)]
}

fn read_variable(name: &str, value: Option<OsString>, max_len: usize) -> Result<SecretBytes> {
    use std::os::unix::ffi::OsStringExt as _;
    let Some(value) = value else {
        return Err(Error::new(Kind::Config, format!("environment variable {name} is not set"))
            .advise("set it where the server is started, such as in its unit"));
    };
    let value = Zeroizing::new(value.into_vec());
    if value.len() > max_len {
        return Err(Error::new(
            Kind::Config,
            format!("environment variable {name} is longer than {max_len} bytes"),
        ));
    }
    SecretBytes::build(value.len(), |to| {
        to.copy_from_slice(&value);
        Ok(())
    })
}

fn credential_path(name: &str, folder: Option<OsString>) -> Result<PathBuf> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(Error::new(Kind::Config, format!("{name:?} is not a credential's name"))
            .advise("give the name that the unit's LoadCredential= has before the colon"));
    }
    let Some(folder) = folder else {
        return Err(Error::new(
            Kind::Config,
            format!("systemd credential {name}: this process has no credentials"),
        )
        .advise("add LoadCredential= to the unit; outside of it use a file instead"));
    };
    Ok(Path::new(&folder).join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn a_secret_comes_from_a_file_a_variable_or_a_credential() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        std::fs::write(&path, b"1234\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let environment = |name: &str| match name {
            "PIN" => Some(OsString::from("1234\n")),
            CREDENTIALS_DIRECTORY => Some(folder.path().into()),
            _ => None,
        };
        let sources = [
            SecretSource::File(path),
            SecretSource::Env("PIN".into()),
            SecretSource::Credential("pin".into()),
            SecretSource::Option(Given::new("the_pin", "1234\n")),
        ];
        for source in sources {
            assert_eq!(source.read_in(64, environment)?.expose(), b"1234\n", "{source}");
            assert!(source.read_in(4, environment).is_err(), "{source} is longer than allowed");
        }
        Ok(())
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        for (source, text) in [
            (
                SecretSource::Env("PIN".into()),
                "environment variable PIN is not set; \
                 set it where the server is started, such as in its unit",
            ),
            (
                SecretSource::Credential("pin".into()),
                "systemd credential pin: this process has no credentials; \
                 add LoadCredential= to the unit; outside of it use a file instead",
            ),
            (
                SecretSource::Credential("../pin".into()),
                "\"../pin\" is not a credential's name; \
                 give the name that the unit's LoadCredential= has before the colon",
            ),
        ] {
            let error = source.read_in(64, nothing).err().unwrap();
            assert_eq!(error.to_string(), text);
            assert_eq!(error.kind(), Kind::Config);
        }
    }

    #[test]
    fn a_secret_that_was_handed_over_shows_nowhere() {
        let source = SecretSource::Option(Given::new("the_pin", "hunter2"));
        assert_eq!(format!("{source} {source:?}"), "the_pin Option(the_pin)");
        assert_eq!(source, source.clone());
        assert_ne!(source, SecretSource::Option(Given::new("the_pin", "hunter2")));
    }

    #[test]
    fn only_line_ends_are_taken_off() {
        for (secret, rest) in [
            (&b"a\n"[..], &b"a"[..]),
            (b"a\r\n\n", b"a"),
            (b"a \n", b"a "),
            (b"\na", b"\na"),
            (b"\n", b""),
            (b"", b""),
        ] {
            assert_eq!(without_line_end(secret), rest);
        }
    }
}
