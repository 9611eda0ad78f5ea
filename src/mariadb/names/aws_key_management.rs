//! The stand-in for MariaDB's `aws_key_management`: each key version is a file in the data folder,
//! wrapped by a key of AWS KMS, and made when it is first asked for.
//!
//! Names, types and defaults are those of the original's documentation
//! (<https://mariadb.com/kb/en/aws-key-management-encryption-plugin/>), which gives no ranges.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Face, Size, Started, Values, Variable, VariableKind, rotate_by};
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::mariadb::core::{AwsKeyFiles, Custodian, Role, from_aws_key_files};

/// `ER_UNKNOWN_ERROR`: the server has no number for this.
const NO_NUMBER: u32 = 1105;

const AES_256: &CStr = c"AES_256";
const OFF: &CStr = c"Off";

pub(super) static FACE: Face = Face {
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
    from_aws_key_files(files, role, env).map(Started::from)
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
