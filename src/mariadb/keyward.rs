//! The plugin under its own name: everything else is in its configuration file.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::assemble::from_file_for;
use crate::compat::{Plugin, Started, Values, Variable, VariableKind, rotate_by};
use crate::custodian::Custodian;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::source::{Reason, Role};

/// `ER_UNKNOWN_ERROR`: the server has no number for this.
const NO_NUMBER: u32 = 1105;

pub(super) static PLUGIN: Plugin = Plugin {
    name: c"keyward",
    description: c"Encryption keys from any key store",
    stable: false,
    variables: &[
        Variable::new(
            c"config",
            c"The configuration file. Nothing in it can be a variable of the server, so that no \
              secret ever is one",
            VariableKind::Text { default: c"/etc/keyward/keyward.toml" },
        ),
        Variable::new(
            c"rotate_key",
            c"SET GLOBAL to a key id gives that key a new version, to -1 every key. What it is set \
              to at start-up has no effect",
            VariableKind::Command { switch: false, run: rotate },
        ),
        Variable::new(
            c"refresh",
            c"SET GLOBAL to ON reads the key store again at once, and checks whether a restart \
              would succeed. What it is set to at start-up has no effect",
            VariableKind::Command { switch: true, run: refresh },
        ),
        Variable::new(
            c"rescue",
            c"SET GLOBAL to ON writes all keys in memory into a new keystore, if the present one is \
              lost or lacks any; a file in its place is set aside. What it is set to at start-up has \
              no effect",
            VariableKind::Command { switch: true, run: rescue },
        ),
    ],
    start,
    error_number: |_| NO_NUMBER,
    original_texts: false,
};

fn start(values: &dyn Values, role: Role, env: Env) -> Result<Started> {
    let path = values.text(c"config");
    if path.is_empty() {
        return Err(Error::new(Kind::Config, "keyward_config is empty")
            .advise("set it to the path of the configuration file"));
    }
    // The server is in its data directory before it starts a plugin.
    let folder = std::env::current_dir().map_err(|cause| {
        Error::new(Kind::Io, format!("the data directory cannot be found: {cause}"))
    })?;
    from_file_for(Path::new(&path), &folder, role, env).map(Started::from)
}

fn rotate(custodian: &Custodian, number: i64, actor: &str) -> Result<()> {
    rotate_by(custodian, number, actor, "keyward_rotate_key")
}

fn rescue(custodian: &Custodian, on: i64, actor: &str) -> Result<()> {
    if on == 0 {
        return Ok(());
    }
    custodian.rescue(Reason { actor, text: "SET GLOBAL keyward_rescue" }).map(drop)
}

fn refresh(custodian: &Custodian, on: i64, _actor: &str) -> Result<()> {
    if on == 0 {
        return Ok(());
    }
    let outcome = custodian.refresh();
    // What it finds is in the status.
    custodian.check_restart();
    outcome
}
