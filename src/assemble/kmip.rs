//! A keystore wrapped by a key of a KMIP server, as `kmip_key_management` is configured.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::{create_keystore_without_keys, start, trust_owner_of};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::key::KeyId;
use crate::source::{Reason, Role};

/// What `kmip_key_management` is configured with, by its variables' names.
pub struct KmipOptions {
    /// `server_address`: one, or several with commas between.
    pub server_address: String,
    /// `server_port`.
    pub server_port: i64,
    /// `client_ca`.
    pub client_ca: String,
    /// `client_certificate`.
    pub client_certificate: String,
    /// `client_key`.
    pub client_key: String,
    /// `master_key_id`: an id or a name.
    pub master_key_id: String,
    /// `keystore`.
    pub keystore: String,
}

/// Begins to serve the keys of the keystore that `options` name. A server makes it where there is
/// none, with keys 1 (system) and 2 (temporary files).
pub fn from_kmip(options: &KmipOptions, role: Role, env: &Env) -> Result<Custodian> {
    let config = options.config()?;
    let reason = Reason { actor: "kmip_key_management", text: "first start" };
    let path = &config.keystore.path;
    trust_owner_of(path);
    if role == Role::Server
        && !path.try_exists().map_err(|e| Error::io("cannot look for", path, &e))?
    {
        make_folder(path)?;
        create_keystore_without_keys(&config, reason, env)?;
        let what = format!(
            "made a new keystore, {}: if this server had one, stop it and restore that",
            path.display()
        );
        env.log.log(Level::Warning, &what);
    }
    let custodian = start(&config, role, env.clone())?;
    if role == Role::Server {
        for id in [1, 2].map(KeyId::try_from) {
            let id = id?;
            if !custodian.keys().iter().any(|info| info.key.name == id.into()) {
                custodian.create(id, None, reason)?;
            }
        }
    }
    Ok(custodian)
}

impl KmipOptions {
    fn config(&self) -> Result<Config> {
        let files = [
            ("client_ca", &self.client_ca),
            ("client_certificate", &self.client_certificate),
            ("client_key", &self.client_key),
            ("keystore", &self.keystore),
        ];
        if let Some((name, path)) =
            files.into_iter().find(|(_, path)| Path::new(path).is_relative())
        {
            let what = format!("kmip_key_management_{name}: {path} is not an absolute path");
            return Err(Error::new(Kind::Config, what).advise("begin it with /"));
        }
        let text = |value: &str| toml::Value::from(value).to_string();
        let servers: Vec<String> =
            self.server_address.split(',').map(|one| text(one.trim())).collect();
        let toml = format!(
            "[keystore]\npath = {}\n[policy]\nversion_step = 1\n[[provider]]\n\
             name = \"kmip_key_management\"\ntype = \"kmip\"\nserver = [{}]\nport = {}\n\
             ca_file = {}\nclient_certificate_file = {}\nclient_key_file = {}\nmaster_key = {}\n",
            text(&self.keystore),
            servers.join(", "),
            self.server_port,
            text(&self.client_ca),
            text(&self.client_certificate),
            text(&self.client_key),
            text(&self.master_key_id),
        );
        Config::parse(Path::new("kmip_key_management"), &toml)
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
