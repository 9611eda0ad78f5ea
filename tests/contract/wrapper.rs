//! The contract of a provider that wraps the store key.

use keyward::env::System;
use keyward::error::Kind;
use keyward::provider::{WrapContext, WrappedKey};
use keyward::secret::DataKey;

use super::{WrapperFixture, passed, refused, shallow, silent, soon, start, telling};

/// Runs every behaviour below on each fixture: `name: Fixture`.
#[macro_export]
macro_rules! wrapper_contract {
    ($($(#[$cfg:meta])? $name:ident: $fixture:ty),* $(,)?) => {
        $($crate::wrapper_contract!(@behaviours $(#[$cfg])? $name, $fixture,
            keys_of_every_size_come_back
            what_one_provider_wrapped_another_on_the_same_store_opens
            two_wraps_of_a_key_differ
            a_wrapped_key_cannot_be_moved
            a_changed_blob_is_never_a_key
            a_blob_that_was_cut_is_never_a_key
            changed_words_around_the_blob_are_never_a_key
            another_wrapping_key_says_not_mine
            it_tells_whether_anybody_could_have_wrapped_it
            rewrapped_it_is_the_same_key
            the_description_names_the_wrapping_key
            a_deadline_that_has_passed_is_a_timeout
            the_probe_says_something_and_no_secret
            threads_may_share_it
            calls_leave_a_server_its_stack
        );)*
    };
    (@behaviours $(#[$cfg:meta])? $name:ident, $fixture:ty, $($behaviour:ident)*) => {
        $(#[$cfg])?
        mod $name {
            $(#[test]
            fn $behaviour() {
                $crate::contract::wrapper::$behaviour::<$fixture>();
            })*
        }
    };
}

/// What a wrapped key that was changed outside its blob may be taken for.
const CHANGED_WORDS: &[Kind] = &[Kind::Corrupt, Kind::NotMine];

pub fn keys_of_every_size_come_back<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    for len in [16, 24, 32, 33, 64, 190, 446, 1024, 4096, 16_383, 16_384] {
        if len <= F::MAX_LEN {
            let data = new_key(len);
            let wrapped = provider.wrap(&data, &context(), soon()).unwrap();
            silent(&wrapped, &[data.expose().to_vec()]);
            let opened = provider.unwrap(&wrapped, &context(), soon()).unwrap();
            assert_eq!(opened.expose(), data.expose(), "{len} bytes");
        }
    }
}

pub fn what_one_provider_wrapped_another_on_the_same_store_opens<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let data = new_key(32);
    let wrapped = store.open().wrap(&data, &context(), soon()).unwrap();
    let json = serde_json::to_string(&wrapped).unwrap();
    silent(&json, &store.secrets());
    let read: WrappedKey = serde_json::from_str(&json).unwrap();
    assert_eq!(read, wrapped);
    let opened = store.open().unwrap(&read, &context(), soon()).unwrap();
    assert_eq!(opened.expose(), data.expose());
}

pub fn two_wraps_of_a_key_differ<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    let data = new_key(32);
    let [one, two] = [(); 2].map(|()| provider.wrap(&data, &context(), soon()).unwrap());
    assert_ne!(one.blob, two.blob);
    assert_eq!(one.algorithm, two.algorithm);
}

pub fn a_wrapped_key_cannot_be_moved<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, secrets) = wrapped(&store);
    let WrapContext { keystore, store_key } = context();
    for other in [
        WrapContext { keystore: "6ba7b811-9dad-41d1-80b4-00c04fd430c8".into(), store_key },
        WrapContext { keystore: String::new(), store_key },
        WrapContext { keystore: keystore.clone(), store_key: store_key + 1 },
        WrapContext { keystore, store_key: 0 },
    ] {
        refused(provider.unwrap(&wrapped, &other, soon()), CHANGED_WORDS, &secrets);
        refused(provider.rewrap(&wrapped, &other, soon()), CHANGED_WORDS, &secrets);
    }
    assert!(provider.unwrap(&wrapped, &context(), soon()).is_ok(), "errors are not remembered");
}

pub fn a_changed_blob_is_never_a_key<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, secrets) = wrapped(&store);
    for bit in (0..wrapped.blob.len() * 8).step_by(F::FLIP_STEP) {
        let mut changed = wrapped.clone();
        changed.blob[bit / 8] ^= 1 << (bit % 8);
        refused(provider.unwrap(&changed, &context(), soon()), F::CHANGED_BLOB, &secrets);
    }
}

pub fn a_blob_that_was_cut_is_never_a_key<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, secrets) = wrapped(&store);
    for len in (0..wrapped.blob.len()).step_by(F::FLIP_STEP) {
        let mut changed = wrapped.clone();
        changed.blob.truncate(len);
        refused(provider.unwrap(&changed, &context(), soon()), F::CHANGED_BLOB, &secrets);
    }
    let mut longer = wrapped.clone();
    longer.blob.push(0);
    refused(provider.unwrap(&longer, &context(), soon()), F::CHANGED_BLOB, &secrets);
}

pub fn changed_words_around_the_blob_are_never_a_key<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, secrets) = wrapped(&store);
    for changed in with_changed_words(&wrapped, F::FLIP_STEP) {
        refused(provider.unwrap(&changed, &context(), soon()), CHANGED_WORDS, &secrets);
    }
}

/// `wrapped` with each bit of its words flipped that leaves text, each of them empty, version 0 of its
/// wrapping key, and each parameter missing or one more.
fn with_changed_words(wrapped: &WrappedKey, step: usize) -> Vec<WrappedKey> {
    let mut all = Vec::new();
    for kek in flipped(&wrapped.kek, step).into_iter().chain(counted_from_zero(&wrapped.kek)) {
        all.push(WrappedKey { kek, ..wrapped.clone() });
    }
    for algorithm in flipped(&wrapped.algorithm, step) {
        all.push(WrappedKey { algorithm, ..wrapped.clone() });
    }
    for (name, value) in &wrapped.parameters {
        for value in flipped(value, step) {
            let mut changed = wrapped.clone();
            changed.parameters.insert(name.clone(), value);
            all.push(changed);
        }
        let mut changed = wrapped.clone();
        changed.parameters.remove(name);
        all.push(changed.clone());
        changed.parameters.insert(format!("{name}x"), value.clone());
        all.push(changed);
    }
    let mut changed = wrapped.clone();
    changed.parameters.insert("colour".into(), "blue".into());
    all.push(changed);
    all
}

fn flipped(text: &str, step: usize) -> Vec<String> {
    let flip = |bit: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    };
    let mut all: Vec<String> = (0..text.len() * 8).step_by(step).filter_map(flip).collect();
    if !text.is_empty() {
        all.push(String::new());
    }
    all
}

/// `kek` with 0 for the number that it ends in: some key stores take that for another one.
fn counted_from_zero(kek: &str) -> Option<String> {
    let name = kek.trim_end_matches(|c: char| c.is_ascii_digit());
    let zero = format!("{name}0");
    (name != kek && zero != kek).then_some(zero)
}

pub fn another_wrapping_key_says_not_mine<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, secrets) = wrapped(&store);
    let other = store.open_other();
    let error = refused(other.unwrap(&wrapped, &context(), soon()), &[Kind::NotMine], &secrets);
    assert!(error.advice().is_some(), "what to do? {error}");
    refused(other.rewrap(&wrapped, &context(), soon()), &[Kind::NotMine], &secrets);
    let others = other.wrap(&new_key(32), &context(), soon()).unwrap();
    assert_ne!(others.kek, wrapped.kek);
    refused(provider.unwrap(&others, &context(), soon()), &[Kind::NotMine], &secrets);
}

pub fn it_tells_whether_anybody_could_have_wrapped_it<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, _) = wrapped(&store);
    let by_public_key = wrapped.algorithm.to_ascii_lowercase().starts_with("rsa");
    assert_eq!(provider.authenticates(&wrapped), !by_public_key, "{}", wrapped.algorithm);
}

pub fn rewrapped_it_is_the_same_key<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, _) = wrapped(&store);
    let rewrapped = provider.rewrap(&wrapped, &context(), soon()).unwrap();
    assert_ne!(rewrapped.blob, wrapped.blob);
    let [before, after] = [&wrapped, &rewrapped]
        .map(|wrapped| provider.unwrap(wrapped, &context(), soon()).unwrap().check_value());
    assert_eq!(before, after);
}

pub fn the_description_names_the_wrapping_key<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, secrets) = wrapped(&store);
    let info = provider.describe(soon()).unwrap();
    assert_eq!((&info.kek, &info.algorithm), (&wrapped.kek, &wrapped.algorithm));
    assert!(!info.place.is_empty());
    silent(&info, &secrets);
    assert_ne!(store.open_other().describe(soon()).unwrap().kek, info.kek);
}

pub fn a_deadline_that_has_passed_is_a_timeout<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (provider, wrapped, secrets) = wrapped(&store);
    let timeout = &[Kind::Timeout];
    refused(provider.wrap(&new_key(32), &context(), passed()), timeout, &secrets);
    refused(provider.unwrap(&wrapped, &context(), passed()), timeout, &secrets);
    refused(provider.rewrap(&wrapped, &context(), passed()), timeout, &secrets);
    refused(provider.describe(passed()), timeout, &secrets);
    refused(provider.probe(passed()), timeout, &secrets);
    assert!(provider.unwrap(&wrapped, &context(), soon()).is_ok(), "a timeout is not remembered");
}

pub fn the_probe_says_something_and_no_secret<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    telling(&store.open().probe(soon()).unwrap(), &store.secrets());
}

pub fn threads_may_share_it<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let data = new_key(32);
                    let wrapped = provider.wrap(&data, &context(), soon()).unwrap();
                    let opened = provider.unwrap(&wrapped, &context(), soon()).unwrap();
                    assert_eq!(opened.expose(), data.expose());
                }
            });
        }
    });
}

pub fn calls_leave_a_server_its_stack<F: WrapperFixture>() {
    let Some(store) = start::<F>() else { return };
    let (data, context) = (new_key(32), context());
    let provider = store.open();
    let wrapped = shallow("wrap", || provider.wrap(&data, &context, soon())).unwrap();
    shallow("unwrap", || provider.unwrap(&wrapped, &context, soon())).unwrap();
    shallow("rewrap", || provider.rewrap(&wrapped, &context, soon())).unwrap();
    shallow("describe", || provider.describe(soon())).unwrap();
    shallow("probe", || provider.probe(soon())).unwrap();
}

type Wrapped = (Box<dyn keyward::provider::KeyWrapper>, WrappedKey, Vec<Vec<u8>>);

/// A provider, a key that it wrapped, and what must stay secret of both.
fn wrapped<F: WrapperFixture>(store: &F) -> Wrapped {
    let provider = store.open();
    let data = new_key(32);
    let wrapped = provider.wrap(&data, &context(), soon()).unwrap();
    let mut secrets = store.secrets();
    secrets.push(data.expose().to_vec());
    (provider, wrapped, secrets)
}

fn new_key(len: usize) -> DataKey {
    DataKey::generate(len, &System).unwrap()
}

fn context() -> WrapContext {
    WrapContext { keystore: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(), store_key: 1 }
}
