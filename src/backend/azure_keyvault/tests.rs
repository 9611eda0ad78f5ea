#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::credentials::Credentials;
use super::*;
use crate::config::Config;
use crate::env::{Deadline, System};
use crate::error::{Kind, Result};
use crate::provider::{KeyWrapper as _, WrapContext, WrappedKey};

const KEY: &str = "https://example.vault.azure.net/keys/db-1";
const VERSION: &str = "0123456789abcdef0123456789abcdef";
const ID: &str = "0f0c6f3c-1111-4222-8333-0123456789ab";

fn read(lines: &str) -> Result<Settings> {
    let text = format!("[[provider]]\ntype = \"azure-keyvault\"\n{lines}\n");
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
        "key = \"{KEY}/{VERSION}\"\nalgorithm = \"A256GCM\"\nkey_type = \"oct-HSM\"\n\
         allow_purge = true\ntenant = {ID:?}\nauthority_host = \"https://login.example\"\n\
         client_id = {ID:?}\nclient_certificate_file = \"/etc/c.pem\"\n\
         client_key_file = \"/etc/c.key\"\nca_file = \"/etc/ca.pem\"\nca_folder = \"/etc/ca\"\n\
         timeout = \"5s\""
    ))
    .unwrap();
    assert_eq!(settings.key.to_string(), KEY);
    assert_eq!(settings.key.version.as_deref(), Some(VERSION));
    assert_eq!(settings.algorithm, Some(Algorithm::A256Gcm));
    assert_eq!(settings.key_type, Some(KeyType::OctHsm));
    assert!(settings.allow_purge);
    assert_eq!(settings.authority_host.unwrap().as_str(), "https://login.example/");
    assert_eq!(settings.trust.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    let settings = read(&format!("key = {KEY:?}")).unwrap();
    assert!(!settings.allow_purge && settings.algorithm.is_none() && settings.tenant.is_none());
}

#[test]
fn says_what_is_wrong_with_a_setting() {
    let with = |line: &str| refusal(&format!("key = {KEY:?}\n{line}"));
    assert!(refusal("").contains("lacks \"key\""));
    let wrong = refusal("key = \"db-1\"");
    assert!(wrong.contains("k.toml:3:1") && wrong.contains("vault.azure.net/keys/NAME"), "{wrong}");
    assert!(refusal("key = \"http://v.example/keys/k\"").contains("in the clear"));
    assert!(with("authority_host = \"http://login.example\"").contains("in the clear"));
    assert!(with("authority_host = \"https://login.example/x\"").contains("more than a scheme"));
    assert!(with("tenant = \"a/b\"").contains("is no id"));
    assert!(with("client_id = \"a b\"").contains("is no id"));
    assert!(with("algorithm = \"RSA1_5\"").contains("use RSA-OAEP-256"));
    assert!(with("key_type = \"EC\"").contains("use RSA, RSA-HSM"));
    let secret = with("client_secret = \"hunter2\"");
    assert!(secret.contains("may not stand in the configuration") && !secret.contains("hunter2"));
    assert!(with("client_secret_file = \"/a\"").contains("lacks \"client_id\""));
    assert!(with("client_key_file = \"/a\"").contains("lacks \"client_certificate_file\""));
    let two = with("client_secret_file = \"/a\"\nfederated_token_file = \"/b\"");
    assert!(two.contains("a second way to log in"), "{two}");
    assert!(with("client_ids = \"x\"").contains("did you mean \"client_id\"?"));
    assert!(read(&format!("key = {KEY:?}\naccess_token_file = \"/a\"")).is_ok());
}

#[test]
fn the_environment_says_where_credentials_are() {
    let of = |set: &'static [(&str, &str)]| {
        Environment::of(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    };
    let all = of(&[
        ("AZURE_CLIENT_ID", "id"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/t"),
        ("AZURE_CLIENT_CERTIFICATE_PATH", "/c"),
        ("AZURE_AUTHORITY_HOST", "https://login.example/"),
        ("IDENTITY_ENDPOINT", "http://localhost:40342/a"),
        ("IMDS_ENDPOINT", "http://localhost:40342"),
    ]);
    assert_eq!(all.client_id.as_deref(), Some("id"));
    assert_eq!(all.federated_token, Some(PathBuf::from("/t")));
    assert_eq!(all.client_certificate, Some(PathBuf::from("/c")));
    assert_eq!(all.arc.as_deref(), Some("http://localhost:40342/a"));
    assert_eq!(all.arc_tokens, Path::new("/var/opt/azcmagent/tokens"));
    let empty = of(&[("AZURE_CLIENT_ID", ""), ("AZURE_FEDERATED_TOKEN_FILE", "")]);
    assert!(empty.client_id.is_none() && empty.federated_token.is_none());
}

fn settings() -> Settings {
    Settings::on(KEY.parse().unwrap())
}

#[test]
fn the_credentials_that_are_named_come_before_those_of_the_environment() {
    let id = || Some(ID.to_owned());
    let environment = Environment {
        client_id: Some("of-the-environment".to_owned()),
        federated_token: Some("/pod".into()),
        ..Environment::default()
    };
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings { environment: environment.clone(), ..settings() };
        change(&mut settings);
        Credentials::find(&settings).unwrap()
    };
    let file = PathBuf::from("/pod");
    let client_id = "of-the-environment".to_owned();
    assert_eq!(with(&|_| {}), Credentials::Federated { client_id, file: file.clone() });
    let found = with(&|settings| settings.client_id = id());
    assert_eq!(found, Credentials::Federated { client_id: ID.to_owned(), file });
    let found = with(&|settings| {
        settings.client_id = id();
        settings.client_secret_file = Some("/s".into());
    });
    assert_eq!(found, Credentials::Secret { client_id: ID.to_owned(), file: "/s".into() });
    let found = with(&|settings| settings.access_token_file = Some("/t".into()));
    assert_eq!((found.place().as_str(), found.account()), ("/t", None));
    let found = with(&|settings| settings.environment.federated_token = None);
    assert_eq!(found.account(), Some("of-the-environment"));
    assert!(matches!(found, Credentials::Machine { .. }));
}

#[test]
fn no_metadata_service_on_a_network_is_asked() {
    for host in ["http://metadata.example", "http://10.0.0.1", "https://169.254.169.254", "a b"] {
        let environment = Environment { metadata: Some(host.to_owned()), ..Environment::default() };
        let error = Credentials::find(&Settings { environment, ..settings() }).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{host}: {error}");
        let arc = Some(host.to_owned());
        let environment = Environment { arc, ..Environment::default() };
        let error = Credentials::find(&Settings { environment, ..settings() }).unwrap_err();
        assert!(error.to_string().contains("IDENTITY_ENDPOINT"), "{host}: {error}");
    }
    assert!(Credentials::find(&settings()).is_ok());
}

#[test]
fn what_another_key_or_nobody_wrapped_is_refused_without_a_call() {
    let wrapper = KeyVaultWrapper::new(settings(), Arc::new(System));
    let context = WrapContext { keystore: "k".to_owned(), store_key: 1 };
    let wrapped = |kek: &str, algorithm: &str, len: usize| WrappedKey {
        kek: kek.to_owned(),
        algorithm: algorithm.to_owned(),
        parameters: [("salt".to_owned(), "00".to_owned())].into(),
        blob: vec![1; len],
    };
    let kek = format!("{KEY}/{VERSION}");
    for (wrapped, kind) in [
        (wrapped("aws", "A256KW", 72), Kind::NotMine),
        (wrapped(&kek.replace("example", "other"), "A256KW", 72), Kind::NotMine),
        (wrapped(&kek, "none", 72), Kind::Corrupt),
        (wrapped(&kek, "A256KW", 0), Kind::Corrupt),
        (wrapped(&kek, "A256KW", 4096), Kind::Corrupt),
        // With a salt, which only AES key wrap has.
        (wrapped(&kek, "RSA-OAEP-256", 256), Kind::Corrupt),
    ] {
        let by = Deadline::after(Duration::from_secs(5));
        let error = wrapper.unwrap(&wrapped, &context, by).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with("store key 1, wrapped by "), "{error}");
    }
    assert!(!wrapper.authenticates(&wrapped(&kek, "RSA-OAEP-256", 256)));
    assert!(wrapper.authenticates(&wrapped(&kek, "A256KW", 72)));
}
