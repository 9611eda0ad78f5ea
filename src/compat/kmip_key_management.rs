//! `kmip_key_management`, which guides describe and nobody ships: a keystore of ours, wrapped by a key
//! of a KMIP server.

#![forbid(unsafe_code)]

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use super::plugin::{Plugin, Size, Started, Values, Variable, VariableKind};
use crate::assemble::{create_empty_keystore, make_missing_keys, start_keystore, trust_owner_of};
use crate::backend::http::{TlsAdvice, TlsConfig};
use crate::backend::kmip::{self, Address, KeyAdvice, KeyChoice, KmipWrapper, WrapperSettings};
use crate::config;
use crate::custodian::Custodian;
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::key::Cipher;
use crate::source::{NamedWrapper, Reason, Role};

/// `ER_UNKNOWN_ERROR`: the server has no number for this.
const NO_NUMBER: u32 = 1105;

/// The name that errors and the keystore know this key store by.
const NAME: &str = "kmip_key_management";

/// Under a stand-in's name a rotation raises the version by one.
const VERSION_STEP: u32 = 1;

/// What to do about TLS, by the names of the server's variables.
static TLS_ADVICE: TlsAdvice = TlsAdvice {
    authority: "name the file of that authority's certificate as kmip_key_management_client_ca",
    no_authority: "name one as kmip_key_management_client_ca, in PEM",
    name: "use the name in the certificate as kmip_key_management_server_address",
    client: "set kmip_key_management_client_certificate and kmip_key_management_client_key",
    client_key: "give the key of kmip_key_management_client_certificate, not encrypted",
    certified: true,
};

/// The same for the wrapping key.
static KEY_ADVICE: KeyAdvice = KeyAdvice {
    missing: "correct kmip_key_management_master_key_id, use the certificate of the key's owner, or \
              make it in the KMIP server",
    other: "it is another key: point kmip_key_management_server_address and _master_key_id at the \
            right one",
    gone: "it was destroyed there, or belongs to another server or user: point \
           kmip_key_management_server_address at the right one, or restore that server from a backup; a \
           new key cannot open the keystore:",
    not_aes: "name one that is as kmip_key_management_master_key_id",
};

pub(super) static PLUGIN: Plugin = Plugin {
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

/// What `kmip_key_management` is configured with, by its variables' names.
struct KmipOptions {
    /// `server_address`: one, or several with commas between.
    server_address: String,
    /// `server_port`.
    server_port: i64,
    /// `client_ca`.
    client_ca: String,
    /// `client_certificate`.
    client_certificate: String,
    /// `client_key`.
    client_key: String,
    /// `master_key_id`: an id or a name.
    master_key_id: String,
    /// `keystore`.
    keystore: String,
}

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
    serve(&options, role, &env).map(Started::from)
}

/// Begins to serve the keys of the keystore that `options` name. A server makes it where there is
/// none, with keys 1 (system) and 2 (temporary files).
fn serve(options: &KmipOptions, role: Role, env: &Env) -> Result<Custodian> {
    let reason = Reason { actor: NAME, text: "first start" };
    let wrapper = || options.wrapper(env);
    let opened = wrapper()?;
    let path = Path::new(&options.keystore);
    trust_owner_of(path);
    if role == Role::Server
        && !path.try_exists().map_err(|e| Error::io("cannot look for", path, &e))?
    {
        make_folder(path)?;
        create_empty_keystore(path, &[wrapper()?], reason, env)?;
        let what = format!(
            "made a new keystore, {}: if this server had one, stop it and restore that",
            path.display()
        );
        env.log.log(Level::Warning, &what);
    }
    let custodian = start_keystore(path, opened, Cipher::DEFAULT, VERSION_STEP, role, env)?;
    if role == Role::Server {
        make_missing_keys(&custodian, reason)?;
    }
    Ok(custodian)
}

impl KmipOptions {
    /// The wrapping key.
    fn wrapper(&self, env: &Env) -> Result<NamedWrapper> {
        let files = [
            ("client_ca", &self.client_ca),
            ("client_certificate", &self.client_certificate),
            ("client_key", &self.client_key),
            ("keystore", &self.keystore),
        ];
        if let Some((name, path)) =
            files.into_iter().find(|(_, path)| Path::new(path).is_relative())
        {
            let what = format!("{NAME}_{name}: {path} is not an absolute path");
            return Err(Error::new(Kind::Config, what).advise("begin it with /"));
        }
        let trust = TlsConfig {
            ca_file: Some(self.client_ca.clone().into()),
            client_certificate: Some(self.client_certificate.clone().into()),
            client_key: Some(self.client_key.clone().into()),
            advice: &TLS_ADVICE,
            ..TlsConfig::default()
        };
        let kmip = kmip::Settings { servers: self.servers()?, trust, version: None };
        let key = KeyChoice::Either(self.master_key_id.clone());
        let settings = WrapperSettings { kmip, key, way: None };
        let wrapper = KmipWrapper::new(settings, Arc::clone(&env.rng)).advising(&KEY_ADVICE);
        Ok(NamedWrapper {
            name: NAME.to_owned(),
            timeout: config::DEFAULT_TIMEOUT,
            wrapper: Box::new(wrapper),
        })
    }

    fn servers(&self) -> Result<Vec<Address>> {
        let port = u16::try_from(self.server_port).map_err(|_| {
            Error::new(Kind::Config, format!("{NAME}_server_port is not a port from 1 to 65535"))
        })?;
        let address = |text: &str| {
            Address::parse(text.trim(), port).map_err(|error| {
                error
                    .within(format_args!("{NAME}_server_address"))
                    .advise("write it as kms.example:5696")
            })
        };
        self.server_address.split(',').map(address).collect()
    }
}

/// The keystore's folder, for the server alone, where it is missing and may be made.
fn make_folder(keystore: &Path) -> Result<()> {
    let Some(folder) = keystore.parent().filter(|folder| !folder.exists()) else { return Ok(()) };
    DirBuilder::new().mode(0o700).create(folder).map_err(|cause| {
        let name = folder.display();
        Error::io("cannot make", folder, &cause)
            .advise(format!("run: install --directory --owner=mysql --mode=0700 {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_advice_name_the_servers_variables() {
        let options = |address: &str, ca: &str| KmipOptions {
            server_address: address.to_owned(),
            server_port: 5696,
            client_ca: ca.to_owned(),
            client_certificate: "/c.pem".to_owned(),
            client_key: "/k.pem".to_owned(),
            master_key_id: "kek".to_owned(),
            keystore: "/keystore.json".to_owned(),
        };
        let env = Env::system(Arc::new(crate::env::fake::FakeLog::default()));
        let refused = |options: KmipOptions| options.wrapper(&env).err().unwrap().to_string();
        assert_eq!(
            refused(options("kms, a b", "/ca.pem")),
            "kmip_key_management_server_address: is no host name and no address; write it as \
             kms.example:5696"
        );
        assert_eq!(
            refused(options("kms", "ca.pem")),
            "kmip_key_management_client_ca: ca.pem is not an absolute path; begin it with /"
        );
        assert!(options("a, b:1,[::1]:2", "/ca.pem").wrapper(&env).is_ok());
        let TlsAdvice { authority, no_authority, name, client, client_key, .. } = TLS_ADVICE;
        let KeyAdvice { missing, other, gone, not_aes } = KEY_ADVICE;
        for words in
            [authority, no_authority, name, client, client_key, missing, other, gone, not_aes]
        {
            assert!(words.contains("kmip_key_management_"), "{words}");
            assert!(!words.contains('`') && !words.contains("ca_file"), "{words}");
        }
    }
}
