//! What MariaDB's own `hashicorp_key_management` wants of a Vault: keys that are looked up one by
//! one, in a KV engine whose place is given as a URL. Its texts begin with `hashicorp: `.

#![forbid(unsafe_code)]

use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use super::super::http::{IN_THE_CLEAR, USE_TLS, Url, is_private};
use super::client::{Call, Client};
use super::nodes::Answer;
use super::secrets::{Data, Secret, key_of};
use super::settings::Settings;
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyVersion, PageMode};
use crate::provider::{Found, KeyLookup, Maintain};

/// Where the keys are: the parts of `https://vault:8200/v1/MOUNT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The Vault.
    pub address: Url,
    /// Where the engine is mounted.
    pub mount: String,
}

impl Place {
    /// The place that `hashicorp_key_management_vault_url` names, by the original's rules.
    pub fn of_url(text: &str) -> Result<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("hashicorp: {what}: \"{}\"", without_user(text)))
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() && (scheme.is_some() || !rest.is_empty()) {
            return Err(wrong("Supplied URL does not contain a hostname"));
        }
        let path = path.trim_start_matches('/').strip_prefix("v1");
        let Some(path) = path.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Err(wrong(
                "According to the Hashicorp Vault API rules, the path inside the URL must start \
                 with the \"/v1/\" prefix, while the supplied URL value is",
            ));
        };
        let mount = path.trim_matches('/');
        if mount.is_empty() {
            return Err(wrong("Supplied URL does not contain a secret name"));
        }
        let address = address(scheme, host).ok_or_else(|| wrong("This is no URL of a Vault"))?;
        check_private(&address, text)?;
        if !is_path(mount) {
            return Err(wrong("The path inside this URL is no secret name"));
        }
        Ok(Self { address, mount: mount.to_owned() })
    }

    /// The same for the options that guides have beside it: a URL without a path, and the mount.
    pub fn of_base(url: &str, mount: &str) -> Result<Self> {
        let wrong = |what: String, advice: &str| Error::new(Kind::Config, what).advise(advice);
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, url),
        };
        let address = address(scheme, rest.trim_end_matches('/')).ok_or_else(|| {
            let what = format!("hashicorp: \"{}\" is no address of a Vault", without_user(url));
            wrong(what, "with vault_mount, vault_url is a scheme, a host and a port alone")
        })?;
        check_private(&address, url)?;
        let mount = mount.trim_matches('/');
        if !is_path(mount) {
            let what = format!("hashicorp: vault_mount {mount:?} is no path");
            return Err(wrong(what, "name the engine as `vault secrets list` does"));
        }
        Ok(Self { address, mount: mount.to_owned() })
    }
}

/// A scheme, a host and a port; http where there is no scheme, as curl has it.
fn address(scheme: Option<&str>, host: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}://{host}", scheme.unwrap_or("http"))).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let plain = bare && url.username().is_empty() && url.password().is_none();
    (plain && matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The original calls anybody in the clear, and sends its token so. Here that is for this machine alone.
fn check_private(address: &Url, said: &str) -> Result<()> {
    if is_private(address) {
        return Ok(());
    }
    let what = format!("hashicorp: vault_url \"{}\" {IN_THE_CLEAR}", without_user(said));
    Err(Error::new(Kind::Config, what).advise(USE_TLS))
}

/// Whether `text` can be put into a request as it is.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && !"?#%\\\"<>^`{|}".contains(c);
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_plain);
    text.split('/').all(is_part)
}

/// A URL for an error: what stands before an @ may be a password.
fn without_user(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.split_once("://").map_or_else(String::new, |(one, _)| format!("{one}://"));
    format!("{scheme}...@{after}")
}

/// What is mounted at a path.
pub struct Mounted {
    /// The kind of engine: `kv`, `transit`.
    pub kind: String,
    /// The version of a KV engine; 1 where it says none.
    pub version: u32,
}

/// The answers of `sys/internal/ui/mounts/<path>` and of `sys/mounts/<path>/tune`.
#[derive(Deserialize)]
struct MountAnswer {
    data: MountBody,
}

#[derive(Deserialize)]
struct MountBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    options: Option<MountOptions>,
}

#[derive(Deserialize)]
struct MountOptions {
    version: Option<String>,
}

/// The answer of a KV engine of version 1.
#[derive(Deserialize)]
struct DataOfOne {
    data: Secret,
}

impl Client {
    /// What is mounted at `mount`: asked in the way that needs no right but to something within
    /// it, then in the way that the original asks.
    pub fn mounted(&self, mount: &str, by: Deadline) -> Result<Mounted> {
        let call = self.call("asking Vault what is mounted", by)?;
        let ways = [format!("sys/internal/ui/mounts/{mount}"), format!("sys/mounts/{mount}/tune")];
        let mut failure = None;
        for way in &ways {
            match call.get(way) {
                Ok(answer) if answer.is_ok() => {
                    let MountBody { kind, options } = answer.json::<MountAnswer>()?.data;
                    let version = options.and_then(|options| options.version);
                    let version = version.and_then(|version| version.parse().ok()).unwrap_or(1);
                    return Ok(Mounted { kind: kind.unwrap_or_else(|| "kv".to_owned()), version });
                }
                Ok(answer) => failure = Some(answer.unexpected("to say what is mounted")),
                Err(error) if error.kind() == Kind::Denied => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::new(Kind::Internal, "Vault was not asked")))
    }
}

/// Which keys, and what is asked first.
pub struct Keys {
    /// The Vault, its engine.
    pub place: Place,
    /// The folder of the keys within it, where they are not at its top.
    pub prefix: Option<String>,
    /// Whether an engine of version 1 is refused at once.
    pub check_version: bool,
}

/// The keys of an engine, looked up one by one. All of them encrypt with CBC, as the server does by
/// itself.
pub struct Lookup {
    client: Arc<Client>,
    keys: Keys,
    /// Whether the engine is of version 1, once that is known.
    of_one: OnceLock<bool>,
}

impl Lookup {
    /// The keys that `keys` name in the Vault of `settings`. Nobody is called yet.
    pub fn new(settings: Settings, keys: Keys, rng: Arc<dyn Rng>) -> Self {
        let client = Arc::new(Client::new(settings, rng).without_retries());
        Self { client, keys, of_one: OnceLock::new() }
    }

    /// The API's path of a secret: `secret/data/1`, without a kind `secret/1`.
    fn path(&self, kind: Option<&str>, id: KeyId) -> String {
        let mut path = self.keys.place.mount.clone();
        for part in [kind, self.keys.prefix.as_deref()].into_iter().flatten() {
            path = format!("{path}/{part}");
        }
        format!("{path}/{id}")
    }

    fn ask(&self, id: KeyId, version: Option<KeyVersion>, by: Deadline) -> Result<Found> {
        let call = self.client.call(format_args!("fetching key {id} from Vault"), by)?;
        let mut path = self.path(Some("data"), id);
        if let Some(version) = version {
            path = format!("{path}?version={version}");
        }
        if self.of_one.get() == Some(&true) {
            return self.ask_one(&call, id, version);
        }
        let answer = call.get(&path)?;
        if answer.status == 404 && !self.keys.check_version && self.is_of_one(by) {
            return self.ask_one(&call, id, version);
        }
        let body = self.body::<Data>(answer, id, version)?.data;
        let (Some(secret), Some(found)) = (body.data, body.metadata.and_then(|one| one.number()))
        else {
            return Err(self.wrong(id, "Unable to get data object"));
        };
        self.found(id, found, secret)
    }

    /// The same of an engine that keeps no versions: there is the first one alone.
    fn ask_one(&self, call: &Call<'_>, id: KeyId, version: Option<KeyVersion>) -> Result<Found> {
        if version.is_some_and(|version| version != KeyVersion::FIRST) {
            return Err(not_found(id, version));
        }
        let answer = call.get(&self.path(None, id))?;
        let secret = self.body::<DataOfOne>(answer, id, version)?.data;
        self.found(id, KeyVersion::FIRST, secret)
    }

    /// Asked once: after that the engine is known.
    fn is_of_one(&self, by: Deadline) -> bool {
        let known = self.of_one.get().copied();
        let ask = || self.client.mounted(&self.keys.place.mount, by).ok();
        let of_one = known.or_else(|| ask().map(|at| at.kind == "kv" && at.version < 2));
        of_one.is_some_and(|of_one| *self.of_one.get_or_init(|| of_one))
    }

    fn body<T: serde::de::DeserializeOwned>(
        &self,
        answer: Answer,
        id: KeyId,
        version: Option<KeyVersion>,
    ) -> Result<T> {
        match answer.status {
            404 => Err(not_found(id, version)),
            _ if answer.is_ok() => answer.json(),
            _ => Err(answer.unexpected(&format!("to give key {id}"))),
        }
    }

    fn found(&self, id: KeyId, version: KeyVersion, secret: Secret) -> Result<Found> {
        let data = key_of(secret, |what| self.wrong(id, what))?;
        let cipher = Cipher { mode: PageMode::Cbc, key_len: data.expose().len() };
        Ok(Found { version, data, cipher })
    }

    fn wrong(&self, id: KeyId, what: &str) -> Error {
        Error::new(Kind::Config, format!("hashicorp: {what} (key id: {id})"))
            .advise("write the key there as 32, 48 or 64 hex digits in the field `data`")
    }
}

impl KeyLookup for Lookup {
    fn begin(&self, by: Deadline) -> Result<()> {
        if !self.keys.check_version {
            return Ok(());
        }
        let Place { address, mount } = &self.keys.place;
        let found = self.client.mounted(mount, by).map_err(|error| {
            let what =
                format!("hashicorp: Unable to get storage options for \"{address}v1/{mount}\"");
            let cause = Error::new(error.kind(), format!("{what}: {}", error.what()));
            match error.advice() {
                Some(advice) => cause.advise(advice),
                None => cause,
            }
        })?;
        if found.kind == "kv" && found.version >= 2 {
            return Ok(());
        }
        let what = "hashicorp: Key-value storage must be version number 2 or later";
        Err(Error::new(Kind::Config, what))
    }

    fn newest(&self, id: KeyId, by: Deadline) -> Result<Found> {
        self.ask(id, None, by)
    }

    fn version(&self, id: KeyId, version: KeyVersion, by: Deadline) -> Result<Found> {
        self.ask(id, Some(version), by)
    }

    fn maintenance(&self) -> Option<Arc<dyn Maintain>> {
        Some(self.client.clone())
    }
}

fn not_found(id: KeyId, version: Option<KeyVersion>) -> Error {
    let which = match version {
        None => format!("key id: {id}"),
        Some(version) => format!("key id: {id}, key version: {version}"),
    };
    Error::new(Kind::NotFound, format!("hashicorp: Key not found ({which})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "the path inside the URL must start with the \"/v1/\" prefix";

    fn refused(url: &str) -> String {
        Place::of_url(url).err().unwrap().to_string()
    }

    #[test]
    fn a_url_has_a_host_then_v1_then_a_mount() {
        for (url, address, mount) in [
            ("https://vault:8200/v1/secret", "https://vault:8200/", "secret"),
            ("http://127.0.0.1:8200/v1/bug///", "http://127.0.0.1:8200/", "bug"),
            ("https://h///v1//a/b/", "https://h/", "a/b"),
            ("localhost/v1/m", "http://localhost/", "m"),
            ("127.0.0.1:8200/v1/m", "http://127.0.0.1:8200/", "m"),
        ] {
            let place = Place::of_url(url).unwrap();
            assert_eq!((place.address.as_str(), place.mount.as_str()), (address, mount), "{url}");
        }
    }

    #[test]
    fn a_token_is_not_sent_in_the_clear_but_to_this_machine() {
        let advice = "is not https: secrets would cross the network in the clear; write it as \
                      https://...; plain http is for 127.0.0.1, [::1] and localhost";
        for url in ["http://vault:8200/v1/m", "vault:8200/v1/m", "http://10.0.0.1/v1/m"] {
            assert_eq!(refused(url), format!("hashicorp: vault_url \"{url}\" {advice}"));
        }
        for url in ["http://vault:8200", "vault"] {
            let error = Place::of_base(url, "kv").err().unwrap();
            assert_eq!(error.to_string(), format!("hashicorp: vault_url \"{url}\" {advice}"));
        }
        assert!(Place::of_base("http://127.0.0.1:8200", "kv").is_ok());
    }

    #[test]
    fn what_is_missing_is_said_as_the_original_says_it() {
        for url in
            ["/", "/abcd", "///v1/a", "http://", "http:///", "http:///abcd", "http://///v1/a"]
        {
            let text = refused(url);
            assert_eq!(
                text,
                format!("hashicorp: Supplied URL does not contain a hostname: \"{url}\"")
            );
        }
        for url in
            ["", "abcd", "abcd//", "abcd/v", "a/v1b", "http://a", "http://abcd//", "http://a/v1b"]
        {
            assert!(refused(url).contains(PREFIX), "{url}");
            assert!(refused(url).ends_with(&format!("is: \"{url}\"")), "{url}");
        }
        for url in ["a/v1", "a/v1///", "a///v1/", "http://a/v1", "http://a///v1/"] {
            let text = refused(url);
            assert_eq!(
                text,
                format!("hashicorp: Supplied URL does not contain a secret name: \"{url}\"")
            );
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_shown() {
        for url in ["https://me:hunter2@vault/v1/m", "https://me:hunter2@vault/"] {
            let text = refused(url);
            assert!(!text.contains("hunter2") && text.contains("https://...@vault/"), "{text}");
        }
    }

    #[test]
    fn with_a_mount_the_url_is_an_address() {
        let place = Place::of_base("https://vault:8200/", "/kv/keys/").unwrap();
        assert_eq!(
            (place.address.as_str(), place.mount.as_str()),
            ("https://vault:8200/", "kv/keys")
        );
        assert!(Place::of_base("https://vault:8200/v1/kv", "kv").is_err());
        assert!(Place::of_base("https://vault:8200", "../sys").is_err());
        assert!(Place::of_base("ftp://vault", "kv").is_err());
    }
}
