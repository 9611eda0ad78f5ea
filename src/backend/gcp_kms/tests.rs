#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::http::Url;
use super::*;
use crate::config::Config;
use crate::env::{Deadline, System};
use crate::error::{Kind, Result};
use crate::provider::KeyWrapper as _;

const KEY: &str = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k";

fn read(lines: &str) -> Result<Settings> {
    let text = format!("[[provider]]\ntype = \"gcp-kms\"\n{lines}\n");
    let config = Config::parse(Path::new("k.toml"), &text)?;
    let section = &config.providers[0].section;
    section.required("type")?;
    let settings = Settings::read(section)?;
    section.done()?;
    Ok(settings)
}

fn refusal(lines: &str) -> String {
    read(lines).err().unwrap().to_string()
}

#[test]
fn reads_all_settings() {
    let settings = read(&format!(
        "key = {KEY:?}\nendpoint = \"https://cloudkms-keyward.p.googleapis.com\"\n\
         credentials_file = \"/etc/keyward/google.json\"\nquota_project = \"q\"\n\
         impersonate = [\"a@p.iam.gserviceaccount.com\", \"b@p.iam.gserviceaccount.com\"]\n\
         protection_level = \"hsm\"\nca_file = \"/etc/ca.pem\"\nca_folder = \"/etc/ca\"\ntimeout = \"5s\""
    ))
    .unwrap();
    assert_eq!(settings.key.to_string(), KEY);
    assert_eq!(settings.endpoint.as_str(), "https://cloudkms-keyward.p.googleapis.com/");
    assert_eq!(settings.impersonate.len(), 2);
    assert_eq!(settings.protection_level, ProtectionLevel::Hsm);
    assert_eq!(settings.trust.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    let settings = read(&format!("key = {KEY:?}")).unwrap();
    assert_eq!(settings.endpoint.as_str(), "https://cloudkms.googleapis.com/");
    assert_eq!(settings.iam.as_str(), "https://iamcredentials.googleapis.com/");
}

#[test]
fn says_what_is_wrong_with_a_setting() {
    let with = |line: &str| refusal(&format!("key = {KEY:?}\n{line}"));
    assert!(refusal("").contains("lacks \"key\""));
    let wrong = refusal(&format!("key = \"{KEY}/cryptoKeyVersions/1\""));
    assert!(wrong.contains("k.toml:3:1") && wrong.contains("names a version"), "{wrong}");
    let clear = with("endpoint = \"http://kms.example.com\"");
    assert!(clear.contains("k.toml:4:1") && clear.contains("in the clear"), "{clear}");
    assert!(with("endpoint = \"https://kms.example.com/v1\"").contains("more than a scheme"));
    assert!(with("endpoint = \"kms\"").contains("is no address"));
    assert!(with("impersonate = \"a/../b\"").contains("is no service account"));
    assert!(with("protection_level = \"external\"").contains("use software or hsm"));
    let secret = with("private_key = \"MIIEvQ\"");
    assert!(secret.contains("may not stand in the configuration") && !secret.contains("MIIEvQ"));
    assert!(with("quota_projekt = \"x\"").contains("did you mean \"quota_project\"?"));
    assert!(read(&format!("key = {KEY:?}\nendpoint = \"http://127.0.0.1:1\"")).is_ok());
}

#[test]
fn the_environment_says_where_credentials_are() {
    let of = |set: &'static [(&str, &str)]| {
        Environment::of(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    };
    let all = of(&[
        ("GOOGLE_APPLICATION_CREDENTIALS", "/a"),
        ("CLOUDSDK_CONFIG", "/b"),
        ("HOME", "/c"),
        ("GOOGLE_CLOUD_QUOTA_PROJECT", "q"),
    ]);
    assert_eq!(all.credentials, Some(PathBuf::from("/a")));
    assert_eq!(all.gcloud, Some(PathBuf::from("/b")));
    assert_eq!(all.quota_project.as_deref(), Some("q"));
    let home = of(&[("HOME", "/c"), ("GOOGLE_APPLICATION_CREDENTIALS", "")]);
    assert_eq!(home.credentials, None);
    assert_eq!(home.gcloud, Some(PathBuf::from("/c/.config/gcloud")));
}

/// A folder with a file of credentials, and what is said where nobody answers.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        self.chmod(name, 0o600);
        path
    }

    fn chmod(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn settings(&self, environment: Environment) -> Settings {
        // Nobody listens there.
        let endpoint = Url::parse("http://127.0.0.1:1").unwrap();
        Settings { environment, ..Settings::on(KEY.parse().unwrap(), endpoint) }
    }

    /// The error of a call by the file's credentials, if it has `text`.
    fn refused(&self, text: &str) -> crate::error::Error {
        let mut settings = self.settings(Environment::default());
        settings.credentials_file = Some(self.write("google.json", text));
        called(settings)
    }
}

fn called(settings: Settings) -> crate::error::Error {
    let wrapper = KmsWrapper::new(settings, Arc::new(System));
    wrapper.describe(Deadline::after(Duration::from_secs(5))).unwrap_err()
}

fn user() -> Value {
    json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "hunter2",
        "refresh_token": "hunter2", "token_uri": "http://127.0.0.1:1/token",
    })
}

fn federation(source: Value) -> Value {
    json!({
        "type": "external_account", "audience": "a", "subject_token_type": "t",
        "token_url": "http://127.0.0.1:1/sts", "credential_source": source,
    })
}

#[test]
fn what_is_wrong_with_a_file_of_credentials_is_told_without_a_value_of_it() {
    let (url, file) = ("https://iam.test/v1/projects/-/serviceAccounts/", json!({ "file": "/t" }));
    let with = |mut of: Value, name: &str, value: Value| {
        of[name] = value;
        of.to_string()
    };
    let through = |url: &str, source: Value| {
        let kind = "impersonated_service_account";
        json!({ "type": kind, "service_account_impersonation_url": url, "source_credentials": source })
            .to_string()
    };
    let becomes = format!("{url}a@p.iam.gserviceaccount.com:generateAccessToken");
    for (text, kind, words) in [
        ("hunter2".to_owned(), Kind::Config, "is no JSON: line 1 column 1"),
        (String::new(), Kind::Config, "is no JSON"),
        ("[\"hunter2\"]".to_owned(), Kind::Config, "no file of Google credentials"),
        ("{\"a\": \"hunter2\"}".to_owned(), Kind::Config, "missing field `type`"),
        (
            "{\"type\": \"gdch\", \"a\": \"hunter2\"}".to_owned(),
            Kind::Unsupported,
            "does not support",
        ),
        ("{\"type\": \"authorized_user\"}".to_owned(), Kind::Config, "missing field `client_id`"),
        (with(user(), "client_id", json!(["hunter2"])), Kind::Config, "a value of another kind"),
        (
            with(user(), "token_uri", json!("http://hunter.test")),
            Kind::Config,
            "token_uri is not https",
        ),
        (with(user(), "token_uri", json!("hunter2")), Kind::Config, "a token_uri that is none"),
        (
            with(user(), "universe_domain", json!("hunter.test")),
            Kind::Unsupported,
            "another universe",
        ),
        (
            json!({ "type": "service_account", "client_email": "a", "private_key": "hunter2" })
                .to_string(),
            Kind::Config,
            "private_key is no RSA key in PEM",
        ),
        (
            federation(json!({ "executable": { "command": "hunter2" } })).to_string(),
            Kind::Unsupported,
            "runs a program",
        ),
        (
            federation(json!({ "environment_id": "aws1", "url": "https://a" })).to_string(),
            Kind::Unsupported,
            "neither a file nor a URL",
        ),
        (federation(json!({})).to_string(), Kind::Config, "names neither file nor url"),
        (federation(json!({ "file": "t" })).to_string(), Kind::Config, "not absolute"),
        (
            federation(json!({ "url": "http://hunter.test/t" })).to_string(),
            Kind::Config,
            "credential_source.url is not https",
        ),
        (
            federation(json!({ "file": "/t", "format": { "type": "json" } })).to_string(),
            Kind::Config,
            "subject_token_field_name",
        ),
        (
            with(federation(file.clone()), "token_url", json!("http://hunter.test")),
            Kind::Config,
            "token_url is not https",
        ),
        (
            with(federation(file), "service_account_impersonation_url", json!("https://a/hunter2")),
            Kind::Config,
            "names no service account",
        ),
        (through("http://hunter.test", user()), Kind::Config, "impersonation_url is not https"),
        (through(url, user()), Kind::Config, "names no service account"),
        (
            through(&becomes, json!({ "type": "impersonated_service_account" })),
            Kind::Config,
            "by way of an account that is impersonated",
        ),
    ] {
        let error = Folder::new().refused(&text);
        let said = error.to_string();
        assert_eq!(error.kind(), kind, "{said}");
        assert!(said.contains(words) && said.contains("google.json"), "{words}: {said}");
        assert!(!said.contains("hunter2") && error.advice().is_some(), "{said}");
    }
}

#[test]
fn a_file_of_credentials_that_others_can_write_or_read_is_refused() {
    let folder = Folder::new();
    folder.write("google.json", &user().to_string());
    let of_environment =
        || Environment { credentials: Some(folder.path("google.json")), ..Environment::default() };
    folder.write("gcloud/application_default_credentials.json", &user().to_string());
    let of_gcloud =
        || Environment { gcloud: Some(folder.path("gcloud")), ..Environment::default() };
    let places: [(&str, &dyn Fn() -> Settings); 3] = [
        ("google.json", &|| Settings {
            credentials_file: Some(folder.path("google.json")),
            ..folder.settings(Environment::default())
        }),
        ("google.json", &|| folder.settings(of_environment())),
        ("gcloud/application_default_credentials.json", &|| folder.settings(of_gcloud())),
    ];
    for (name, settings) in places {
        for (mode, words) in [(0o666, "can be written by others"), (0o644, "can be read by others")]
        {
            folder.chmod(name, mode);
            let said = called(settings()).to_string();
            assert!(said.contains(words) && said.contains("chmod"), "{name}: {said}");
            folder.chmod(name, 0o640);
            let said = called(settings()).to_string();
            assert!(said.contains("cannot reach http://127.0.0.1:1"), "{name}: {said}");
        }
    }
    // A token's file is open to a pod, and may not be written by others either.
    let token = folder.write("token", "t");
    for (mode, words) in [(0o644, "cannot reach"), (0o666, "token can be written by others")] {
        folder.chmod("token", mode);
        let said = folder.refused(&federation(json!({ "file": token })).to_string()).to_string();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_file_that_is_named_must_be_there_and_gclouds_need_not() {
    let folder = Folder::new();
    let environment = Environment {
        credentials: Some(folder.path("none")),
        metadata: Some("127.0.0.1:1".to_owned()),
        ..Environment::default()
    };
    let said = called(folder.settings(environment)).to_string();
    let words =
        format!("GOOGLE_APPLICATION_CREDENTIALS: cannot read {}", folder.path("none").display());
    assert!(said.starts_with(&words), "{said}");
    folder.chmod("", 0o777);
    let environment = Environment {
        gcloud: Some(folder.path("gcloud")),
        metadata: Some("127.0.0.1:1".to_owned()),
        ..Environment::default()
    };
    let error = called(folder.settings(environment));
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("there are no Google credentials"), "{error}");
}

#[test]
fn no_metadata_service_on_a_network_is_asked() {
    for host in ["metadata.example", "10.0.0.1", "169.254.169.253", "a b", "[::2]:80"] {
        let environment = Environment { metadata: Some(host.to_owned()), ..Environment::default() };
        let error = called(Folder::new().settings(environment));
        assert_eq!(error.kind(), Kind::Config, "{host}: {error}");
        assert!(error.to_string().contains("GCE_METADATA_HOST"), "{host}: {error}");
    }
}
