//! The configuration file of a MySQL keyring component: JSON, beside the library or, where that
//! one says so, in the server's data directory.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Config;
use crate::error::{Error, Kind, Result, json_place};
use crate::trust;

/// What the file is called in either folder.
pub const FILE_NAME: &str = "component_keyring_keyward.cnf";

/// A file longer than this is none of ours, in bytes.
const MAX_LEN: u64 = 1 << 16;

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// `read_local_config`: the file of the same name in the data directory counts.
    Local,
    /// `config`: all is in keyward's own configuration.
    Config(PathBuf),
    /// `path`: a keystore whose wrapping key lies beside it, made where there is none.
    Keystore {
        /// The keystore.
        path: PathBuf,
        /// Whether nothing may be changed in it.
        read_only: bool,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    read_local_config: bool,
    config: Option<PathBuf>,
    path: Option<PathBuf>,
    #[serde(default)]
    read_only: bool,
}

impl Component {
    /// Reads the file next to the library, and the one of the instance where that one says so. Both
    /// folders are named by the server.
    pub fn find(library: &Path, instance: &Path) -> Result<Self> {
        match Self::load(&library.join(FILE_NAME))? {
            Self::Local => match Self::load(&instance.join(FILE_NAME))? {
                Self::Local => Err(invalid(
                    &instance.join(FILE_NAME),
                    "read_local_config belongs into the file beside the library",
                )),
                found => Ok(found),
            },
            found => Ok(found),
        }
    }

    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let text = trust::read_text(path, MAX_LEN)
            .map_err(|refusal| refusal.of("cannot read config file", path))?;
        Self::parse(path, &text)
    }

    /// Checks `text`, which came from `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let document: Document =
            serde_json::from_str(text).map_err(|cause| invalid(path, &json_place(&cause)))?;
        match document {
            Document { read_local_config: true, .. } => Ok(Self::Local),
            Document { config: Some(config), path: None, .. } if config.is_absolute() => {
                Ok(Self::Config(config))
            }
            Document { config: None, path: Some(keystore), read_only, .. }
                if keystore.is_absolute() =>
            {
                Ok(Self::Keystore { path: keystore, read_only })
            }
            _ => Err(invalid(path, "it wants \"config\" or \"path\", either an absolute path")),
        }
    }

    /// The configuration that this stands for; `from` is the file that was read.
    pub fn config(&self, from: &Path) -> Result<Config> {
        match self {
            Self::Config(path) => Config::load(path),
            Self::Keystore { path, .. } => Config::of_keystore(path),
            Self::Local => Err(Error::new(
                Kind::Config,
                format!("{} only says read_local_config", from.display()),
            )
            .advise(format!("name the {FILE_NAME} in the server's data directory"))),
        }
    }
}

fn invalid(path: &Path, why: &str) -> Error {
    let what = format!("config file {} has not valid format: {why}", path.display());
    Error::new(Kind::Config, what).advise(
        r#"write {"config": "/etc/keyward/keyward.toml"} or {"path": "/...", "read_only": false}"#,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Component> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        std::fs::write(&file, text).unwrap();
        Component::load(&file)
    }

    #[test]
    fn reads_what_others_write() {
        let keystore = |read_only| Component::Keystore { path: "/k".into(), read_only };
        assert_eq!(read(r#"{"path": "/k", "read_only": true}"#).unwrap(), keystore(true));
        assert_eq!(read(r#"{"path": "/k"}"#).unwrap(), keystore(false));
        assert_eq!(read(r#"{"config": "/c"}"#).unwrap(), Component::Config("/c".into()));
        assert_eq!(read(r#"{"read_local_config": true}"#).unwrap(), Component::Local);
    }

    #[test]
    fn refuses_the_rest_in_one_line() {
        let cases = [
            "",
            "{}",
            "{\"path\": \"k\"}",
            "{\"path\": 1}",
            "{\"pth\": \"/k\"}",
            "[]",
            "{\"path\": \"/k\", \"config\": \"/c\"}",
        ];
        for text in cases {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("has not valid format") && !error.contains('\n'), "{error}");
        }
        let error = Component::load(Path::new("/nowhere/x.cnf")).unwrap_err().to_string();
        assert_eq!(error, "cannot read config file /nowhere/x.cnf: No such file or directory");
    }
}
