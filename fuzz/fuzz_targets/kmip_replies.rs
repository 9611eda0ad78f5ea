//! Any answers of a KMIP server, to every operation: what was asked for, or one line of refusal.
//!
//! The first byte says what to do, the next two in which release of the protocol; the rest is what the
//! server sends (`kmip::scripted`).
#![no_main]
use std::sync::Arc;
use std::time::Duration;

use keyward::backend::http::TlsConfig;
use keyward::backend::kmip::message::Version;
use keyward::backend::kmip::{
    Address, KeyChoice, KmipServer, KmipWrapper, ServerSettings, Settings, WrapMechanism,
    WrapperSettings, scripted,
};
use keyward::env::{Rng, fake::FakeRng};
use keyward::key::{KeyId, KeyInfo, KeyRef, KeyVersion, PageMode};
use keyward::provider::{KekInfo, KeyServer, KeyWrapper, WrapContext, WrappedKey};
use keyward::secret::DataKey;

mod told;
use told::{SECRET, later, soon, told};

/// Tag and type of a refusal's words. A key may be called as they are.
const RESULT_MESSAGE: &[u8] = b"\x42\0\x7d\x07";

/// The authority that nobody is asked to prove.
const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ca.pem");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[doing, major, minor], script)) = bytes.split_first_chunk() else { return };
    let named = |at: usize| {
        script[at..].starts_with(SECRET.as_bytes())
            && !script[..at.saturating_sub(4)].ends_with(RESULT_MESSAGE)
    };
    if (0..script.len()).any(named) {
        return;
    }
    let Ok(address) = Address::parse("kms", 5696) else { return };
    let kmip = Settings {
        servers: vec![address],
        trust: TlsConfig { ca_file: Some(CA.into()), ..TlsConfig::default() },
        // Where it is none, the server is asked.
        version: Version::ALL
            .into_iter()
            .find(|one| one.to_string().bytes().eq([major, b'.', minor])),
    };
    scripted::answer_with(script);
    let rng: Arc<dyn Rng> = Arc::new(FakeRng::new(1));
    match doing.is_ascii_lowercase() {
        true => serves(kmip, doing, rng),
        false => wraps(kmip, doing, rng),
    }
});

fn serves(kmip: Settings, doing: u8, rng: Arc<dyn Rng>) {
    let refresh = Duration::from_secs(10);
    let settings =
        ServerSettings { kmip, prefix: "keyward".to_owned(), mode: PageMode::Ctr, refresh };
    let server = KmipServer::new(settings, rng);
    let key = KeyRef::new(KeyId::SYSTEM, KeyVersion::FIRST);
    match doing {
        b'l' => told(server.list(soon())).iter().for_each(|infos| listed(&server, infos)),
        b'f' => told(server.fetch(&key, soon())).iter().for_each(served),
        b'p' => drop(told(server.put(&key, &ours(), soon()))),
        b'r' => drop(told(server.remove(&key, soon()))),
        b'd' => drop(told(server.probe(soon()))),
        _ => {}
    }
}

/// Each version once; what is told of a key is true of it.
fn listed(server: &KmipServer, infos: &[KeyInfo]) {
    for (n, info) in infos.iter().enumerate() {
        assert!(infos[..n].iter().all(|other| other.key != info.key), "{} twice", info.key);
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

fn wraps(kmip: Settings, doing: u8, rng: Arc<dyn Rng>) {
    let (key, way) = match doing {
        b'G' | b'U' => (KeyChoice::Id("7".to_owned()), Some(WrapMechanism::Get)),
        b'C' | b'V' => (KeyChoice::Name("kek".to_owned()), Some(WrapMechanism::Cbc)),
        _ => (KeyChoice::Either("kek".to_owned()), None),
    };
    let wrapper = KmipWrapper::new(WrapperSettings { kmip, key, way }, rng);
    let context = WrapContext { keystore: "of a fuzzer".to_owned(), store_key: 1 };
    let before = |way: WrapMechanism| WrappedKey {
        kek: "kek#7".to_owned(),
        algorithm: way.name().to_owned(),
        parameters: Default::default(),
        blob: [&[1][..], &[7; 124]].concat(),
    };
    match doing {
        b'W' | b'G' | b'C' => {
            let wrapped = told(wrapper.wrap(&ours(), &context, soon()));
            wrapped.iter().for_each(|one| drop(told(wrapper.unwrap(one, &context, soon()))));
        }
        b'T' => drop(told(wrapper.unwrap(&before(WrapMechanism::Gcm), &context, soon()))),
        b'U' => drop(told(wrapper.unwrap(&before(WrapMechanism::Get), &context, soon()))),
        b'V' => drop(told(wrapper.unwrap(&before(WrapMechanism::Cbc), &context, soon()))),
        b'R' => drop(told(wrapper.rewrap(&before(WrapMechanism::Gcm), &context, soon()))),
        b'D' => told(wrapper.describe(soon())).iter().for_each(described),
        b'N' => told(wrapper.create_key(soon())).iter().for_each(described),
        b'P' => drop(told(wrapper.probe(soon()))),
        _ => {}
    }
}

fn described(info: &KekInfo) {
    info.created.iter().for_each(|moment| drop(moment.to_string()));
}

fn ours() -> DataKey {
    DataKey::copy_of(&[0x5a; 32]).expect("a key of 32 bytes is one")
}
