//! What `keyward init` needs for a Vault: the options, and the sections of the configuration.

use std::path::{Path, PathBuf};

use crate::assemble::{self, VaultRole};
use crate::config::Config;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, PageMode};

/// The types that `--provider` may name, and whether they are Vault's.
pub(super) const PROVIDERS: [&str; 3] = ["local", "vault-transit", "vault-kv"];

/// The variable that Vault's own command reads its token from.
const TOKEN_VARIABLE: &str = "VAULT_TOKEN";

#[derive(clap::Args)]
pub(super) struct VaultOptions {
    /// The key store: on this machine, or a Vault to be set up with an administrator's token
    #[arg(long, value_name = "TYPE", default_value = "local", value_parser = PROVIDERS)]
    pub(super) provider: String,
    /// Vault's address, such as https://vault:8200
    #[arg(long, value_name = "URL", help_heading = "Vault")]
    address: Option<String>,
    /// The authority of its certificate, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", help_heading = "Vault")]
    ca_file: Option<PathBuf>,
    /// The namespace in it
    #[arg(long, value_name = "NAME", help_heading = "Vault")]
    namespace: Option<String>,
    /// Where the engine is mounted, or will be [default: transit or secret]
    #[arg(long, value_name = "PATH", help_heading = "Vault")]
    mount: Option<String>,
    /// The transit key, or the folder of the keys in the KV engine
    #[arg(long, value_name = "NAME", default_value = "keyward", help_heading = "Vault")]
    name: String,
    /// A file with the token of somebody who may set it up [default: the variable VAULT_TOKEN]
    #[arg(long, value_name = "FILE", help_heading = "Vault")]
    admin_token_file: Option<PathBuf>,
}

impl VaultOptions {
    /// Whether a Vault is to be used at all.
    pub(super) fn is_vault(&self) -> bool {
        self.provider != "local"
    }

    /// Whether the key store keeps the data keys itself.
    pub(super) fn serves(&self) -> bool {
        self.provider == "vault-kv"
    }

    /// Sets up engine, policy and role as the administrator.
    pub(super) fn set_up(&self, cipher: Cipher, env: &Env) -> Result<VaultRole> {
        let token = match &self.admin_token_file {
            Some(path) => format!("token_file = {:?}\n", absolute(path)?),
            None => format!("token_env = {TOKEN_VARIABLE:?}\n"),
        };
        let toml = self.section(cipher)? + "timeout = \"60s\"\n" + &token;
        assemble::set_up_vault(&Config::parse(Path::new("init"), &toml)?, env)
    }

    /// The `[[provider]]` section for the server, which logs in as `role`.
    pub(super) fn toml(&self, cipher: Cipher, role: &VaultRole, secret: &Path) -> Result<String> {
        Ok(format!(
            "{}auth = \"approle\"\nrole_id = {:?}\nsecret_id_file = {secret:?}\n",
            self.section(cipher)?,
            role.role_id
        ))
    }

    fn section(&self, cipher: Cipher) -> Result<String> {
        let address = self.address.as_ref().ok_or_else(|| {
            Error::new(Kind::Config, format!("--provider {} lacks --address", self.provider))
                .advise("name it: --address https://vault:8200")
        })?;
        let mut text = format!(
            "[[provider]]\nname = \"vault\"\ntype = {:?}\naddress = {address:?}\n",
            self.provider
        );
        if let Some(path) = &self.ca_file {
            text += &format!("ca_file = {:?}\n", absolute(path)?);
        }
        let named = [("namespace", &self.namespace), ("mount", &self.mount)];
        for (key, value) in named {
            text += &value.as_ref().map_or(String::new(), |value| format!("{key} = {value:?}\n"));
        }
        text += &match (self.serves(), cipher.mode) {
            (false, _) => format!("key = {:?}\n", self.name),
            (true, PageMode::Ctr) => format!("prefix = {:?}\nmode = \"ctr\"\n", self.name),
            (true, PageMode::Cbc) => format!("prefix = {:?}\nmode = \"cbc\"\n", self.name),
        };
        Ok(text)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("cannot make absolute", path, &e))
}
