//! The key stores that the stories are told with: what wraps the keystore's own key, and how it goes
//! away and comes back.

use std::fs;
use std::path::PathBuf;

use test_kit::Result;
use test_mysql::{Keyring, Site};
use test_vault::Vault;

/// How long the key store may take to answer, as the configuration has it: an outage takes as long.
const TIMEOUT: &str = "timeout=3s";

/// What wraps the keystore's own key.
pub(crate) enum KeyStore {
    /// A key file, by the provider `local`.
    File,
    /// A real Vault over TLS, by the provider `vault-transit`.
    Vault(Box<Vault>),
}

/// How a key store can be out of reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Away {
    /// The file is not there; the process is not there.
    Gone,
    /// It answers, and gives nothing.
    Sealed,
}

impl KeyStore {
    /// A Vault of this test's own.
    pub(crate) fn vault() -> Result<Self> {
        Ok(Self::Vault(Box::new(Vault::start()?)))
    }

    /// The provider's name in the configuration.
    pub(crate) fn provider(&self) -> &'static str {
        match self {
            Self::File => "local",
            Self::Vault(_) => "vault-transit",
        }
    }

    /// How this one can go away.
    pub(crate) fn ways(&self) -> &'static [Away] {
        match self {
            Self::File => &[Away::Gone],
            Self::Vault(_) => &[Away::Gone, Away::Sealed],
        }
    }

    /// A server's folder whose keyring is wrapped by this key store.
    pub(crate) fn site(&self, name: &str) -> Result<Site> {
        let site = Site::new(&format!("{name}-{}", self.provider()), Keyring::Ours)?;
        self.set_up(&site, "keyward")?;
        Ok(site)
    }

    /// Gives the site a new keystore in `folder`, as `keyward init` sets it up.
    pub(crate) fn set_up(&self, site: &Site, folder: &str) -> Result<()> {
        let folder = site.path(folder).display().to_string();
        let mut words =
            ["init", "--mysql", "--user", "root", "--dir", &folder].map(str::to_owned).to_vec();
        if let Self::Vault(vault) = self {
            let token = vault.private("admin-token", vault.root_token())?;
            let ca = vault.certificates().path("ca.pem");
            let set = [
                format!("address={}", vault.address()),
                format!("ca_file={}", ca.display()),
                TIMEOUT.to_owned(),
            ];
            words.extend(["--provider".to_owned(), self.provider().to_owned()]);
            words.extend(set.into_iter().flat_map(|line| ["--set".to_owned(), line]));
            words.extend(["--admin-token-file".to_owned(), token.display().to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        site.keyward(&words)?.ok()?;
        let config = format!("{{\"config\": \"{folder}/keyward.toml\"}}");
        site.configure(Keyring::Ours, &config)
    }

    /// A new version of the wrapping key, where it has versions.
    pub(crate) fn turn(&self) -> Result<()> {
        match self {
            Self::File => Ok(()),
            Self::Vault(vault) => {
                vault.vault(&["write", "-f", "transit/keys/keyward/rotate"]).map(drop)
            }
        }
    }

    /// Its first version opens nothing from now on.
    pub(crate) fn forget_what_was(&self) -> Result<()> {
        let words = ["write", "transit/keys/keyward/config", "min_decryption_version=2"];
        match self {
            Self::File => Ok(()),
            Self::Vault(vault) => vault.vault(&words).map(drop),
        }
    }

    /// Out of reach from now on.
    pub(crate) fn leave(&mut self, site: &Site, how: Away) -> Result<()> {
        match (self, how) {
            (Self::File, _) => Ok(fs::rename(key_file(site), site.path("away"))?),
            (Self::Vault(vault), Away::Gone) => vault.kill(),
            (Self::Vault(vault), Away::Sealed) => vault.seal(),
        }
    }

    /// Within reach again.
    pub(crate) fn come_back(&mut self, site: &Site, how: Away) -> Result<()> {
        match (self, how) {
            (Self::File, _) => Ok(fs::rename(site.path("away"), key_file(site))?),
            (Self::Vault(vault), Away::Gone) => {
                vault.run()?;
                vault.unseal()
            }
            (Self::Vault(vault), Away::Sealed) => vault.unseal(),
        }
    }

    /// What an error must name that this key store's absence causes.
    pub(crate) fn cause(&self, how: Away) -> &'static str {
        match (self, how) {
            (Self::File, _) => "local.key: No such file or directory",
            (Self::Vault(_), Away::Gone) => "connection refused",
            (Self::Vault(_), Away::Sealed) => "sealed",
        }
    }
}

/// The folder with the keystore and all that is kept beside it.
pub(crate) fn keys(site: &Site) -> PathBuf {
    site.path("keyward/keystore")
}

fn key_file(site: &Site) -> PathBuf {
    site.path("keyward/local.key")
}
