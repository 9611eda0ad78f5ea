//! Names of keys (Key Vault, "Object identifiers"): `https://VAULT/keys/NAME`, and of a version of one
//! `https://VAULT/keys/NAME/VERSION`.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use super::super::http::{IN_THE_CLEAR, USE_TLS, Url, is_loopback, is_private, place};
use crate::error::{Error, Kind, Result};

/// A key of Key Vault or Managed HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// Where the vault is.
    pub vault: Url,
    /// The key's name in it.
    pub name: String,
    /// The one version that is meant; else the newest.
    pub version: Option<String>,
}

/// Where one of Azure's clouds has what we call.
pub(super) struct Cloud {
    /// Vaults are below it.
    vaults: &'static str,
    /// Managed HSMs are below it.
    hsms: &'static str,
    /// Where Entra ID gives tokens.
    pub(super) authority: &'static str,
}

/// Azure's clouds ("National clouds").
static CLOUDS: [Cloud; 3] = [
    Cloud {
        vaults: "vault.azure.net",
        hsms: "managedhsm.azure.net",
        authority: "https://login.microsoftonline.com",
    },
    Cloud {
        vaults: "vault.usgovcloudapi.net",
        hsms: "managedhsm.usgovcloudapi.net",
        authority: "https://login.microsoftonline.us",
    },
    Cloud {
        vaults: "vault.azure.cn",
        hsms: "managedhsm.azure.cn",
        authority: "https://login.chinacloudapi.cn",
    },
];

impl FromStr for KeyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::Config, what)
                .advise("write it as https://VAULT.vault.azure.net/keys/NAME")
        };
        let url = Url::parse(text).map_err(|_| wrong("is no key's address"))?;
        if !is_private(&url) {
            return Err(Error::new(Kind::Config, IN_THE_CLEAR).advise(USE_TLS));
        }
        let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        let parts: Vec<&str> = url.path().split('/').collect();
        let (name, version) = match parts[..] {
            ["", "keys", name] | ["", "keys", name, ""] if bare => (name, None),
            ["", "keys", name, version] if bare => (name, Some(version)),
            _ => return Err(wrong("is no key's address")),
        };
        let plain = |part: &str, more: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !part.is_empty() && part.len() <= 127 && part.chars().all(fits)
        };
        if !plain(name, "-") || !version.is_none_or(|version| plain(version, "")) {
            return Err(wrong("has a part that is no name"));
        }
        let (name, version) = (name.to_owned(), version.map(str::to_owned));
        let vault = Url::parse(&place(&url)).map_err(|_| wrong("is no key's address"))?;
        Ok(Self { vault, name, version })
    }
}

impl fmt::Display for KeyName {
    /// Without a version.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/keys/{}", place(&self.vault), self.name)
    }
}

impl KeyName {
    /// The full name of `version`, Azure's `kid`.
    #[must_use]
    pub fn version_name(&self, version: &str) -> String {
        format!("{self}/{version}")
    }

    /// The version of this key that is called `kid`; nothing for another key's. Azure takes a key's name in
    /// any case, and answers with the case that it was made in.
    #[must_use]
    pub fn version_in(&self, kid: &str) -> Option<String> {
        let other: Self = kid.parse().ok()?;
        let is_same = other.vault == self.vault && other.name.eq_ignore_ascii_case(&self.name);
        other.version.filter(|_| is_same)
    }

    /// Whether it is in a Managed HSM, as far as its address tells.
    #[must_use]
    pub fn is_in_hsm(&self) -> bool {
        CLOUDS.iter().any(|cloud| is_below(self.host(), cloud.hsms))
    }

    /// Azure's cloud that has it; none at an address that is none of Azure's.
    pub(super) fn cloud(&self) -> Option<&'static Cloud> {
        let host = self.host();
        CLOUDS.iter().find(|cloud| is_below(host, cloud.vaults) || is_below(host, cloud.hsms))
    }

    /// Whether a token for `resource` may be sent to the vault: it is below that resource's host. One on
    /// this machine, as tests have it, is its own.
    pub(super) fn is_of(&self, resource: &Url) -> bool {
        let of = resource.host_str().unwrap_or_default();
        !of.is_empty() && is_below(self.host(), of)
            || (is_loopback(&self.vault) && is_loopback(resource))
    }

    fn host(&self) -> &str {
        self.vault.host_str().unwrap_or_default()
    }

    /// The vault's name, as `az` takes it.
    pub(super) fn vault_name(&self) -> &str {
        self.host().split('.').next().unwrap_or_default()
    }

    /// As `az keyvault key` takes the key.
    pub(super) fn for_az(&self) -> String {
        format!("{}={} --name={}", self.vault_option(), self.vault_name(), self.name)
    }

    /// The option of `az keyvault key` that names the vault.
    fn vault_option(&self) -> &'static str {
        if self.is_in_hsm() { "--hsm-name" } else { "--vault-name" }
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "https://example.vault.azure.net/keys/db-1";
    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_name_has_its_parts_and_comes_back() {
        let key: KeyName = KEY.parse().unwrap();
        assert_eq!((key.to_string().as_str(), &key.version), (KEY, &None));
        assert_eq!(key.for_az(), "--vault-name=example --name=db-1");
        let versioned: KeyName = format!("{KEY}/{VERSION}").parse().unwrap();
        assert_eq!(versioned.version.as_deref(), Some(VERSION));
        assert_eq!(versioned.to_string(), KEY);
        assert_eq!(versioned.version_name(VERSION), format!("{KEY}/{VERSION}"));
        for same in [KEY.replace(".net/", ".net:443/"), KEY.replace("example", "EXAMPLE")] {
            assert_eq!(same.parse::<KeyName>().unwrap(), key, "{same}");
        }
        let hsm: KeyName = "https://h.managedhsm.azure.net/keys/k".parse().unwrap();
        assert!(hsm.is_in_hsm() && !key.is_in_hsm());
        assert_eq!(hsm.for_az(), "--hsm-name=h --name=k");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for (text, words) in [
            ("", "no key's address"),
            ("db-1", "no key's address"),
            ("https://example.vault.azure.net/", "no key's address"),
            ("https://example.vault.azure.net/secrets/db-1", "no key's address"),
            (&format!("{KEY}?a=b"), "no key's address"),
            (&format!("{KEY}/{VERSION}/wrapkey"), "no key's address"),
            (&KEY.replace("db-1", "db_1"), "a part that is no name"),
            (&format!("{KEY}/%2e%2e"), "a part that is no name"),
            (&KEY.replace("https", "http"), "in the clear"),
            (&KEY.replace("https", "ftp"), "in the clear"),
        ] {
            let error = text.parse::<KeyName>().unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
        assert!("http://127.0.0.1:1/keys/k".parse::<KeyName>().is_ok());
    }

    #[test]
    fn a_version_of_another_key_is_not_ours() {
        let key: KeyName = KEY.parse().unwrap();
        let found = key.version_in(&key.version_name(VERSION));
        assert_eq!(found.as_deref(), Some(VERSION));
        let shouted = KEY.replace("db-1", "DB-1");
        assert!(key.version_in(&format!("{shouted}/{VERSION}")).is_some());
        for other in [
            KEY.to_owned(),
            format!("{KEY}2/{VERSION}"),
            format!("{}/{VERSION}", KEY.replace("example", "other")),
            String::new(),
        ] {
            assert_eq!(key.version_in(&other), None, "{other}");
        }
    }

    #[test]
    fn a_token_goes_to_no_vault_that_is_not_below_its_resource() {
        let is = |vault: &str, resource: &str| {
            let key: KeyName = format!("{vault}/keys/k").parse().unwrap();
            key.is_of(&Url::parse(resource).unwrap())
        };
        assert!(is("https://a.vault.azure.net", "https://vault.azure.net"));
        assert!(is("https://a.vault.azure.cn", "https://vault.azure.cn"));
        assert!(is("http://127.0.0.1:1", "http://127.0.0.1:1"));
        for (vault, resource) in [
            ("https://a.vault.azure.net", "https://management.azure.com"),
            ("https://avault.azure.net", "https://vault.azure.net"),
            ("https://vault.azure.net", "https://vault.azure.net"),
            ("https://a.vault.azure.net.example", "https://vault.azure.net"),
            ("https://vault.example", "https://vault.azure.net"),
            ("http://127.0.0.1:1", "https://vault.azure.net"),
            ("https://a.vault.azure.net", "http://127.0.0.1"),
        ] {
            assert!(!is(vault, resource), "{vault} {resource}");
        }
    }

    #[test]
    fn each_cloud_has_its_own_authority() {
        let authority = |vault: &str| {
            let key: KeyName = format!("https://{vault}/keys/k").parse().unwrap();
            key.cloud().map(|cloud| cloud.authority)
        };
        assert_eq!(authority("a.vault.azure.net"), Some("https://login.microsoftonline.com"));
        assert_eq!(
            authority("a.managedhsm.usgovcloudapi.net"),
            Some("https://login.microsoftonline.us")
        );
        assert_eq!(authority("a.vault.azure.cn"), Some("https://login.chinacloudapi.cn"));
        assert_eq!(authority("vault.example"), None);
    }
}
