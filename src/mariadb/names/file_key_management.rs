//! The stand-in for MariaDB's `file_key_management`: keys in one file, which may be encrypted.
//!
//! Names, defaults and error texts are those of the original, because option files, tests and
//! monitoring know them. `digest` and `use_pbkdf2` came with a later server; here every server has
//! them.

#![forbid(unsafe_code)]

use std::ffi::CStr;

use super::{Face, Size, Started, Values, Variable, VariableKind};
use crate::env::{Env, Level};
use crate::error::{Code, Error, Kind, Result};
use crate::key::PageMode;
use crate::mariadb::core::{KeyFile, Role, from_key_file};

/// The server's numbers for file errors, which the original answers with.
const EE_READ: u32 = 2;
const EE_NOT_SET: u32 = 15;
const EE_FILE_NOT_FOUND: u32 = 29;

const CTR: &CStr = c"aes_ctr";

pub(super) static FACE: Face = Face {
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
    from_key_file(file, role, env)
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
