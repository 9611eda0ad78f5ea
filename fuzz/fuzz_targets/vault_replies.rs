//! Any answers of a Vault, to every operation: what was asked for, or one line of refusal in which
//! nothing of an answer stands.
//!
//! The first line says how to log in and what to do; the others are the answers (`http::scripted`).
#![no_main]
use std::sync::Arc;
use std::time::Duration;

use keyward::backend::http::{TlsConfig, Url, scripted};
use keyward::backend::vault::{
    Jwt, KvServer, KvSettings, Login, Lookup, OriginalKeys, Place, RoleId, Settings,
    TransitSettings, TransitWrapper,
};
use keyward::env::{Rng, fake::FakeRng};
use keyward::key::{KeyId, KeyInfo, KeyRef, KeyState, KeyVersion, PageMode};
use keyward::provider::{
    Found, KekInfo, KeyLookup, KeyServer, KeyWrapper, WrapContext, WrappedKey,
};
use keyward::secret::DataKey;
use keyward::secret::source::{Given, SecretSource};

mod told;
use told::{has_secret, later, soon, told};

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    let end = script.iter().position(|byte| *byte == b'\n').unwrap_or(script.len());
    let Ok(first) = std::str::from_utf8(&script[..end]) else { return };
    let Some((login, doing)) = first.split_once(' ') else { return };
    let Some(vault) = settings(login) else { return };
    // The name of another node is none.
    if script.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"3") && has_secret(line)) {
        return;
    }
    scripted::answer_with(script.get(end + 1..).unwrap_or_default());
    let rng: Arc<dyn Rng> = Arc::new(FakeRng::new(1));
    match doing.split_once(' ') {
        Some(("kv", doing)) => kv(vault, doing, rng),
        Some(("transit", doing)) => transit(vault, doing, rng),
        Some(("original", doing)) => original(vault, doing, rng),
        _ => {}
    }
});

fn settings(login: &str) -> Option<Settings> {
    let given = || SecretSource::Option(Given::new("an option", "hvs.ours"));
    let mount = login.to_owned();
    let login = match login {
        "token" => Login::Token(given()),
        "approle" => {
            let role_id = RoleId::Given("role".to_owned());
            Login::AppRole { mount, role_id, secret_id: given(), wrapped: true }
        }
        "jwt" => Login::Jwt { mount, role: "role".to_owned(), jwt: Jwt::Secret(given()) },
        "userpass" => Login::User { mount, name: "keyward".to_owned(), password: given() },
        "cert" => Login::Certificate { mount, role: None },
        _ => return None,
    };
    let addresses = vec![Url::parse("https://vault:8200").ok()?];
    let namespace = Some("team/db".to_owned());
    Some(Settings { addresses, namespace, trust: TlsConfig::default(), login })
}

fn kv(vault: Settings, doing: &str, rng: Arc<dyn Rng>) {
    let (mount, prefix) = ("secret".to_owned(), "keyward".to_owned());
    let refresh = Duration::from_secs(10);
    let settings = KvSettings { vault, mount, prefix, mode: PageMode::Ctr, refresh };
    let server = KvServer::new(settings, rng);
    let Ok(second) = KeyVersion::try_from(2) else { return };
    let key = KeyRef::new(KeyId::SYSTEM, second);
    match doing {
        "list" => told(server.list(soon())).iter().for_each(|infos| listed(&server, infos)),
        "fetch" => told(server.fetch(&key, soon())).iter().for_each(served),
        "put" => drop(told(server.put(&key, &ours(), soon()))),
        "remove" => drop(told(server.remove(&key, soon()))),
        "probe" => drop(told(server.probe(soon()))),
        _ => {}
    }
}

/// Each version once, of each key one that encrypts; what is told of a key is true of it.
fn listed(server: &KvServer, infos: &[KeyInfo]) {
    for (n, info) in infos.iter().enumerate() {
        for other in &infos[..n] {
            assert!(other.key != info.key, "{} is there twice", info.key);
            let both = other.state == KeyState::Active && info.state == KeyState::Active;
            assert!(!both || other.key.name != info.key.name, "{} encrypts twice", info.key);
        }
        info.created.iter().for_each(|moment| drop(moment.to_string()));
        if let Some(check) = info.check {
            let data = told(server.fetch(&info.key, later())).expect("it was read already");
            assert!(data.check_value() == check && data.expose().len() == info.purpose.key_len());
        }
    }
}

fn served(data: &DataKey) {
    assert!(matches!(data.expose().len(), 16 | 24 | 32));
}

fn transit(vault: Settings, doing: &str, rng: Arc<dyn Rng>) {
    let settings = TransitSettings { vault, mount: "transit".into(), key: "keyward".into() };
    let wrapper = TransitWrapper::new(settings, rng);
    let context = WrapContext { keystore: "of a fuzzer".to_owned(), store_key: 1 };
    let before = WrappedKey {
        kek: "transit/keyward:v1".to_owned(),
        algorithm: "aes256-gcm96".to_owned(),
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
        "create" => told(wrapper.create_key(soon())).iter().for_each(described),
        "probe" => drop(told(wrapper.probe(soon()))),
        "set-up" => drop(told(wrapper.set_up(soon()))),
        _ => {}
    }
}

fn theirs(wrapped: &WrappedKey) {
    let version = wrapped.kek.strip_prefix("transit/keyward:v");
    assert!(version.is_some_and(|number| number.parse::<u32>().is_ok()), "{}", wrapped.kek);
}

fn described(info: &KekInfo) {
    assert!(info.kek.starts_with("transit/keyward:v"));
    info.created.iter().for_each(|moment| drop(moment.to_string()));
}

fn original(vault: Settings, doing: &str, rng: Arc<dyn Rng>) {
    let Ok(place) = Place::of_url("https://vault:8200/v1/secret") else { return };
    let check_version = doing.ends_with("checked");
    let lookup = Lookup::new(vault, OriginalKeys { place, prefix: None, check_version }, rng);
    let found = match doing.split_once(' ').map_or(doing, |(doing, _)| doing) {
        "begin" => {
            told(lookup.begin(soon()));
            return;
        }
        "newest" => told(lookup.newest(KeyId::SYSTEM, soon())),
        "version" => told(lookup.version(KeyId::SYSTEM, KeyVersion::FIRST, soon())),
        _ => return,
    };
    if let Some(Found { data, cipher, .. }) = found {
        served(&data);
        assert!(cipher.key_len == data.expose().len());
    }
}

fn ours() -> DataKey {
    DataKey::copy_of(&[0x5a; 32]).expect("a key of 32 bytes is one")
}
