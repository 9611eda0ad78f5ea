//! Any answers of Google, to every operation of Cloud KMS by each kind of credentials, and any text as a file
//! of credentials: what was asked for, or one line of refusal in which nothing of either stands.
//!
//! The first line says whose credentials and what to do; the others are the answers (`http::scripted`), or the
//! file.
#![no_main]
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use keyward::backend::gcp_kms::{KeyName, KmsWrapper, Settings, read_as_fuzzed};
use keyward::backend::http::{Url, scripted};
use keyward::env::{Rng, Timestamp, fake::FakeRng};
use keyward::provider::{KekInfo, KeyWrapper, WrapContext, WrappedKey};
use keyward::secret::DataKey;

mod told;
use told::{soon, told};

const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

/// Files of credentials, by what the first line calls them.
const FILES: [(&str, &str); 4] = [
    (
        "user",
        r#"{"type": "authorized_user", "client_id": "c", "client_secret": "hunter2",
            "refresh_token": "hunter2"}"#,
    ),
    (
        "federation",
        r#"{"type": "external_account", "audience": "a", "subject_token_type": "t",
            "token_url": "https://sts.googleapis.com/v1/token", "client_id": "c",
            "client_secret": "hunter2", "credential_source": {"url": "https://issuer.example/token"}}"#,
    ),
    (
        "pool",
        r#"{"type": "external_account", "audience": "a", "subject_token_type": "t",
            "token_url": "https://sts.googleapis.com/v1/token", "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p:generateAccessToken",
            "credential_source": {"url": "http://169.254.169.254/token", "headers": {"a": "hunter2"},
            "format": {"type": "json", "subject_token_field_name": "t"}}}"#,
    ),
    (
        "impersonated",
        r#"{"type": "impersonated_service_account", "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p:generateAccessToken",
            "source_credentials": {"type": "authorized_user", "client_id": "c",
            "client_secret": "hunter2", "refresh_token": "hunter2"}}"#,
    ),
];

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    let end = script.iter().position(|byte| *byte == b'\n').unwrap_or(script.len());
    let rest = script.get(end + 1..).unwrap_or_default();
    let Ok(first) = std::str::from_utf8(&script[..end]) else { return };
    if first == "file" {
        told(read_as_fuzzed(rest));
        return;
    }
    let Some((credentials, doing)) = first.split_once(' ') else { return };
    let Some(settings) = settings(credentials) else { return };
    scripted::answer_with(rest);
    act(&KmsWrapper::new(settings, rng()), doing);
});

fn rng() -> Arc<dyn Rng> {
    Arc::new(FakeRng::new(1))
}

fn key() -> KeyName {
    KEY.parse().expect("it is a key's name")
}

fn settings(credentials: &str) -> Option<Settings> {
    let mut settings = Settings::on(key(), Url::parse("https://cloudkms.googleapis.com").ok()?);
    match credentials {
        "machine" => {}
        "through" => settings.impersonate = vec!["b@p".to_owned(), "a@p".to_owned()],
        name => {
            FILES.iter().find(|(known, _)| *known == name)?;
            settings.credentials_file = Some(folder().join(name));
        }
    }
    Some(settings)
}

/// Where the files of credentials are, made once.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("keyward-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in FILES {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        folder
    })
}

fn act(wrapper: &KmsWrapper, doing: &str) {
    let context = WrapContext { keystore: "of a fuzzer".to_owned(), store_key: 1 };
    let before = WrappedKey {
        kek: key().version(1),
        algorithm: "GOOGLE_SYMMETRIC_ENCRYPTION".to_owned(),
        parameters: Default::default(),
        blob: vec![7; 60],
    };
    match doing {
        "wrap" => {
            let wrapped = told(wrapper.wrap(&ours(), &context, soon()));
            wrapped.iter().for_each(theirs);
            wrapped.iter().for_each(|one| drop(told(wrapper.unwrap(one, &context, soon()))));
        }
        "unwrap" => drop(told(wrapper.unwrap(&before, &context, soon()))),
        "rewrap" => told(wrapper.rewrap(&before, &context, soon())).iter().for_each(theirs),
        "describe" => told(wrapper.describe(soon())).iter().for_each(described),
        "create" => {
            let made = wrapper.create_key(Timestamp::from_unix(1_800_000_000), soon());
            told(made).iter().for_each(described);
        }
        "probe" => drop(told(wrapper.probe(soon()))),
        _ => {}
    }
}

fn theirs(wrapped: &WrappedKey) {
    assert!(
        key().version_in(&wrapped.kek).is_some() && !wrapped.blob.is_empty(),
        "{}",
        wrapped.kek
    );
}

fn described(info: &KekInfo) {
    assert!(key().version_in(&info.kek).is_some(), "{}", info.kek);
    info.created.iter().for_each(|moment| drop(moment.to_string()));
}

fn ours() -> DataKey {
    DataKey::copy_of(&[0x5a; 32]).expect("a key of 32 bytes is one")
}
