//! `kmip_key_management`, which guides describe and nobody ships: a keystore of ours, wrapped by a key
//! of a KMIP server.

#![forbid(unsafe_code)]

use super::{Face, Size, Started, Values, Variable, VariableKind};
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::mariadb::core::{KmipOptions, Role, from_kmip};

/// `ER_UNKNOWN_ERROR`: the server has no number for this.
const NO_NUMBER: u32 = 1105;

pub(super) static FACE: Face = Face {
    name: c"kmip_key_management",
    description: c"Encryption keys wrapped by a KMIP server (keyward)",
    stable: false,
    variables: &[
        Variable::new(
            c"server_address",
            c"The KMIP server's name or address; several with commas between, tried in order",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"server_port",
            c"The KMIP server's port",
            VariableKind::Number { size: Size::UnsignedInt, default: 5696, min: 1, max: 65535 },
        ),
        Variable::new(
            c"client_ca",
            c"The certificate of the authority that the KMIP server's is from, in PEM",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"client_certificate",
            c"Our own certificate, in PEM",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"client_key",
            c"The private key of our certificate, in PEM",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"master_key_id",
            c"The id or the name of the KMIP server's key that wraps the keystore",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"keystore",
            c"The keystore file, made where there is none",
            VariableKind::Text { default: c"/var/lib/keyward/keystore.json" },
        ),
    ],
    start,
    error_number: |_| NO_NUMBER,
    original_texts: false,
};

fn start(values: &dyn Values, role: Role, env: Env) -> Result<Started> {
    let set = |name: &std::ffi::CStr| match values.text(name) {
        text if text.is_empty() => {
            let name = format!("kmip_key_management_{}", name.to_string_lossy());
            Err(Error::new(Kind::Config, format!("{name} is not set"))
                .advise(format!("add a line to my.cnf: {name} = ...")))
        }
        text => Ok(text),
    };
    let options = KmipOptions {
        server_address: set(c"server_address")?,
        server_port: values.number(c"server_port"),
        client_ca: set(c"client_ca")?,
        client_certificate: set(c"client_certificate")?,
        client_key: set(c"client_key")?,
        master_key_id: set(c"master_key_id")?,
        keystore: set(c"keystore")?,
    };
    from_kmip(&options, role, &env).map(Started::from)
}
