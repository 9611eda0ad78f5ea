//! Any answers of Azure, to every operation of a vault by each kind of credentials, and any text as the file of an
//! application's certificate and key: what was asked for, or one line of refusal in which nothing of either stands.
//!
//! The first line says whose credentials, how a key wraps, and what to do; the others are the answers
//! (`http::scripted`), or the file.
#![no_main]
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use keyward::backend::azure_keyvault::{KeyName, KeyVaultWrapper, Settings, signs_as_fuzzed};
use keyward::backend::http::scripted;
use keyward::env::{Rng, Timestamp, fake::FakeRng};
use keyward::provider::{KekInfo, KeyWrapper, WrapContext, WrappedKey};
use keyward::secret::DataKey;

mod told;
use told::{soon, told};

const KEY: &str = "https://example.vault.azure.net/keys/k";
const VERSION: &str = "0123456789abcdef0123456789abcdef";

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    let end = script.iter().position(|byte| *byte == b'\n').unwrap_or(script.len());
    let rest = script.get(end + 1..).unwrap_or_default();
    let Ok(first) = std::str::from_utf8(&script[..end]) else { return };
    if first == "certificate" {
        told(signs_as_fuzzed(rest, &*rng()));
        return;
    }
    let words: Vec<&str> = first.split(' ').collect();
    let [credentials, algorithm, doing] = words[..] else { return };
    let Some(settings) = settings(credentials, algorithm) else { return };
    scripted::answer_with(rest);
    act(&KeyVaultWrapper::new(settings, rng()), algorithm, doing);
});

fn rng() -> Arc<dyn Rng> {
    Arc::new(FakeRng::new(1))
}

fn key() -> KeyName {
    KEY.parse().expect("it is a key's name")
}

fn settings(credentials: &str, algorithm: &str) -> Option<Settings> {
    let mut settings = Settings::on(key());
    settings.algorithm = algorithm.parse().ok();
    let client_id = Some("0f0c6f3c".to_owned());
    match credentials {
        "machine" => {}
        "assigned" => settings.client_id = client_id,
        "secret" => {
            settings.client_id = client_id;
            settings.client_secret_file = Some(file());
        }
        "federated" => {
            settings.client_id = client_id;
            settings.federated_token_file = Some(file());
        }
        "token" => settings.access_token_file = Some(file()),
        "arc" => {
            let folder = file().parent()?.to_owned();
            settings.environment.arc = Some("http://127.0.0.1:40342/token".to_owned());
            settings.environment.arc_tokens = folder;
        }
        _ => return None,
    }
    Some(settings)
}

/// A secret, made once.
fn file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let made = FILE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("keyward-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("secret.key");
        fs::write(&path, "hunter2").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    });
    made.clone()
}

fn act(wrapper: &KeyVaultWrapper, algorithm: &str, doing: &str) {
    let context = WrapContext { keystore: "of a fuzzer".to_owned(), store_key: 1 };
    let before = WrappedKey {
        kek: key().version_name(VERSION),
        algorithm: algorithm.to_owned(),
        parameters: match algorithm {
            "A256KW" => [("salt".to_owned(), "00".to_owned())].into(),
            _ => Default::default(),
        },
        blob: vec![7; 72],
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
