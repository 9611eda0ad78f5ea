//! Where our credentials are ("Application Default Credentials"), and what a file of them says. What is
//! secret of it lives for one operation, in memory that is wiped when it is freed (ADR 51).

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::http::{IN_THE_CLEAR, METADATA, USE_TLS, Url, is_metadata, is_private};
use super::settings::{Settings, is_account};
use crate::error::{Error, Kind, Result, json_place};
use crate::trust::{self, Refusal};

/// The longest file of credentials, in bytes.
const MAX_FILE: u64 = 1 << 16;

/// The file that `gcloud auth application-default login` leaves in gcloud's folder.
const LOGIN: &str = "application_default_credentials.json";

/// The one universe whose addresses are built in.
const UNIVERSE: &str = "googleapis.com";

/// Where a person's log-in gives tokens, if its file does not say.
fn token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

/// Credentials, and where they are from.
pub(super) struct Found {
    pub(super) credentials: Credentials,
    /// The project that calls are counted for.
    pub(super) quota_project: Option<String>,
    /// The file, for people.
    pub(super) place: String,
}

/// What proves who we are.
pub(super) enum Credentials {
    ServiceAccount(ServiceAccount),
    User(User),
    Federated(Box<Federation>),
    Impersonated(Box<Impersonation>),
    /// The machine's own service account, by its metadata service.
    Machine(Url),
}

/// A service account's key, as `gcloud iam service-accounts keys create` writes it.
#[derive(Deserialize)]
pub(super) struct ServiceAccount {
    pub(super) client_email: String,
    pub(super) private_key: String,
    pub(super) private_key_id: Option<String>,
}

/// A person's log-in, as `gcloud auth application-default login` leaves it.
#[derive(Deserialize)]
pub(super) struct User {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) refresh_token: String,
    #[serde(default = "token_uri")]
    pub(super) token_uri: String,
}

/// Workload identity federation, as `gcloud iam workload-identity-pools create-cred-config` writes it.
#[derive(Deserialize)]
pub(super) struct Federation {
    pub(super) audience: String,
    pub(super) subject_token_type: String,
    pub(super) token_url: String,
    pub(super) service_account_impersonation_url: Option<String>,
    credential_source: Source,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<String>,
    pub(super) workforce_pool_user_project: Option<String>,
}

/// Where the token of somebody whom Google trusts is.
#[derive(Deserialize)]
struct Source {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    format: Option<Format>,
    executable: Option<IgnoredAny>,
    environment_id: Option<IgnoredAny>,
    certificate: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

/// The token of somebody whom Google trusts: where it is, and how to find it there.
pub(super) struct Subject<'a> {
    pub(super) place: Place<'a>,
    /// The field that it is in, where it is in JSON.
    pub(super) field: Option<&'a str>,
}

/// Where the token of somebody whom Google trusts is.
pub(super) enum Place<'a> {
    File(&'a Path),
    Url(Url, &'a BTreeMap<String, String>),
}

/// A service account that others may become.
pub(super) struct Impersonation {
    pub(super) source: Credentials,
    pub(super) url: String,
    pub(super) delegates: Vec<String>,
}

#[derive(Deserialize)]
struct ImpersonationFile {
    service_account_impersonation_url: String,
    source_credentials: Value,
    #[serde(default)]
    delegates: Vec<String>,
}

/// What every file of credentials says.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    quota_project_id: Option<String>,
    universe_domain: Option<String>,
}

/// The credentials that `settings` and the environment name, else the machine's own.
pub(super) fn find(settings: &Settings) -> Result<Found> {
    let environment = &settings.environment;
    if let Some(path) = &settings.credentials_file {
        return read(path).map_err(|refusal| refusal.of("cannot read", path))?;
    }
    if let Some(path) = &environment.credentials {
        return read(path)
            .map_err(|refusal| refusal.of("cannot read", path))
            .flatten()
            .map_err(|error| error.within("GOOGLE_APPLICATION_CREDENTIALS"));
    }
    let usual = environment.gcloud.as_ref().map(|folder| folder.join(LOGIN));
    // One that is not there is not looked for: its folder may be anybody's.
    if let Some(path) = usual.filter(|path| path.symlink_metadata().is_ok()) {
        match read(&path) {
            Err(Refusal::Io(_)) => {}
            Err(refusal) => return Err(refusal.of("cannot read", &path)),
            Ok(found) => return found,
        }
    }
    Ok(Found {
        credentials: Credentials::Machine(metadata(environment.metadata.as_deref())?),
        quota_project: None,
        place: "the machine's metadata service".to_owned(),
    })
}

/// Where the metadata service is: link-local, or on this machine, since it speaks no TLS.
fn metadata(host: Option<&str>) -> Result<Url> {
    let named = match host {
        None | Some("metadata.google.internal") => METADATA,
        Some(host) => host,
    };
    let url = Url::parse(&format!("http://{named}/"));
    url.ok().filter(is_metadata).ok_or_else(|| {
        let what = "GCE_METADATA_HOST names another machine, which would see our token";
        Error::new(Kind::Config, what)
            .advise(format!("unset it, or set it to {METADATA} or an address of this machine"))
    })
}

/// What the file at `path` says, which nobody else can change, and nobody else can read who could then
/// log in with it.
fn read(path: &Path) -> Result<Result<Found>, Refusal> {
    let file = trust::open(path)?;
    let is_open = file.metadata().map_err(Refusal::Io)?.mode() & 0o004 != 0;
    let text = read_whole(file).map_err(Refusal::Io)?;
    let place = path.display().to_string();
    Ok(parse(&text, &place).and_then(|found| match found.credentials.has_secret() && is_open {
        false => Ok(found),
        true => {
            let what = format!("the secret file {place} can be read by others");
            Err(Error::new(Kind::Config, what).advise(format!("run chmod 0640 {place}")))
        }
    }))
}

fn read_whole(file: File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The credentials in `text`, which came from `place`.
fn parse(text: &[u8], place: &str) -> Result<Found> {
    if text.len() as u64 > MAX_FILE {
        return Err(unusable(place, format!("has more than {MAX_FILE} bytes")));
    }
    let value: Value = serde_json::from_slice(text)
        .map_err(|cause| unusable(place, format!("is no JSON: {}", json_place(&cause))))?;
    let head: Head = part(value.clone(), place)?;
    if head.universe_domain.as_deref().is_some_and(|domain| domain != UNIVERSE) {
        let what = format!("{place} is for another universe than {UNIVERSE}");
        return Err(Error::new(Kind::Unsupported, what).advise("name credentials of that one"));
    }
    let credentials = credentials(head.kind.as_str(), value, place)?;
    Ok(Found { credentials, quota_project: head.quota_project_id, place: place.to_owned() })
}

fn credentials(kind: &str, value: Value, place: &str) -> Result<Credentials> {
    Ok(match kind {
        "service_account" => Credentials::ServiceAccount(part(value, place)?),
        "authorized_user" => {
            let user: User = part(value, place)?;
            judged_url(&user.token_uri, "token_uri", place)?;
            Credentials::User(user)
        }
        "external_account" => {
            let federation: Federation = part(value, place)?;
            federation.subject(place)?;
            judged_url(&federation.token_url, "token_url", place)?;
            let through = federation.service_account_impersonation_url.as_ref();
            through.map(|url| impersonation(url, place)).transpose()?;
            Credentials::Federated(Box::new(federation))
        }
        "impersonated_service_account" => {
            let file: ImpersonationFile = part(value, place)?;
            impersonation(&file.service_account_impersonation_url, place)?;
            let head: Head = part(file.source_credentials.clone(), place)?;
            if head.kind == "impersonated_service_account" {
                let what = "impersonates by way of an account that is impersonated".to_owned();
                return Err(unusable(place, what).advise("name that one among `delegates`"));
            }
            let source = credentials(&head.kind, file.source_credentials, place)?;
            if !file.delegates.iter().all(|name| name.rsplit('/').next().is_some_and(is_account)) {
                return Err(unusable(place, "has a delegate that is no account".to_owned()));
            }
            Credentials::Impersonated(Box::new(Impersonation {
                source,
                url: file.service_account_impersonation_url,
                delegates: file.delegates,
            }))
        }
        _ => {
            let what = format!("{place} has credentials of a type that keyward does not support");
            return Err(Error::new(Kind::Unsupported, what).advise(
                "use service_account, authorized_user, external_account or impersonated_service_account",
            ));
        }
    })
}

/// A part of a file of credentials. Of what is wrong no value is shown.
fn part<T: DeserializeOwned>(value: Value, place: &str) -> Result<T> {
    serde_json::from_value(value).map_err(|cause| {
        let said = json_place(&cause);
        let what = said.split_once(": ").map_or(said.as_str(), |(_, what)| what);
        unusable(place, format!("is no file of Google credentials: {what}"))
    })
}

fn unusable(place: &str, what: String) -> Error {
    Error::new(Kind::Config, format!("{place} {what}"))
        .advise("make it again with gcloud; `keyward help gcp-kms` has the lines")
}

impl Credentials {
    /// Whether who has them can log in with nothing else.
    fn has_secret(&self) -> bool {
        match self {
            Self::ServiceAccount(_) | Self::User(_) => true,
            Self::Federated(federation) => {
                federation.client_secret.is_some()
                    || !federation.credential_source.headers.is_empty()
            }
            Self::Impersonated(through) => through.source.has_secret(),
            Self::Machine(_) => false,
        }
    }
}

impl Federation {
    /// Where its token is; an error where we go no such way.
    pub(super) fn subject(&self, place: &str) -> Result<Subject<'_>> {
        let Source { file, url, headers, format, executable, environment_id, certificate } =
            &self.credential_source;
        let unsupported = |what: &str, advice: &str| {
            Err(Error::new(Kind::Unsupported, format!("{place}: {what}")).advise(advice))
        };
        if executable.is_some() {
            return unsupported(
                "its credential_source runs a program, which a database server does not",
                "have that program write the token to a file, and name that as credential_source.file",
            );
        }
        if environment_id.is_some() || certificate.is_some() {
            return unsupported(
                "its credential_source is neither a file nor a URL",
                "use one of these, or a service account",
            );
        }
        let field = match format.as_ref().map(|format| (format.kind.as_str(), format)) {
            None | Some(("text", _)) => None,
            Some(("json", format)) => match &format.subject_token_field_name {
                Some(field) => Some(field.as_str()),
                None => {
                    return Err(unusable(place, "names no subject_token_field_name".to_owned()));
                }
            },
            Some(_) => return Err(unusable(place, "has a format of another kind".to_owned())),
        };
        match (file, url) {
            (Some(file), None) if file.is_absolute() => {
                Ok(Subject { place: Place::File(file), field })
            }
            (Some(_), None) => Err(unusable(
                place,
                "names a token's file by a path that is not absolute".to_owned(),
            )),
            (None, Some(url)) => {
                Ok(Subject { place: Place::Url(source_url(url, place)?, headers), field })
            }
            _ => Err(unusable(place, "names neither file nor url, or both".to_owned())),
        }
    }
}

/// Where a token may be asked for: also of the machine's metadata service.
fn source_url(text: &str, place: &str) -> Result<Url> {
    let url = Url::parse(text)
        .map_err(|_| unusable(place, "has a credential_source.url that is none".to_owned()))?;
    match is_private(&url) || is_metadata(&url) {
        true => Ok(url),
        false => {
            let what = format!("{place}: credential_source.url {IN_THE_CLEAR}");
            Err(Error::new(Kind::Config, what).advise(USE_TLS))
        }
    }
}

/// The address at `setting` of the file `place`. A token, or what gives one, is sent there.
pub(super) fn judged_url(text: &str, setting: &str, place: &str) -> Result<Url> {
    let url =
        Url::parse(text).map_err(|_| unusable(place, format!("has a {setting} that is none")))?;
    match is_private(&url) {
        true => Ok(url),
        false => {
            let what = format!("{place}: {setting} {IN_THE_CLEAR}");
            Err(Error::new(Kind::Config, what).advise(USE_TLS))
        }
    }
}

/// The address and the account of a `service_account_impersonation_url`.
pub(super) fn impersonation(text: &str, place: &str) -> Result<(Url, String)> {
    let url = judged_url(text, "service_account_impersonation_url", place)?;
    let account =
        url.path().rsplit('/').next().and_then(|last| last.strip_suffix(":generateAccessToken"));
    match account.filter(|account| is_account(account)).map(str::to_owned) {
        Some(account) => Ok((url, account)),
        None => Err(unusable(
            place,
            "has a service_account_impersonation_url that names no service account".to_owned(),
        )),
    }
}

/// What a file that has `text` comes to, for a fuzzer.
#[cfg(fuzzing)]
pub fn read_as_fuzzed(text: &[u8]) -> Result<()> {
    parse(text, "a file").map(drop)
}
