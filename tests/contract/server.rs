//! The contract of a provider that serves data keys.

use std::collections::{HashMap, HashSet};

use keyward::env::System;
use keyward::error::Kind;
use keyward::key::{KeyId, KeyName, KeyRef, KeyState, KeyVersion};
use keyward::provider::KeyServer;
use keyward::secret::DataKey;

use super::{ServerFixture, passed, refused, shallow, silent, soon, start, telling};

/// Runs every behaviour below on each fixture: `name: Fixture`.
#[macro_export]
macro_rules! server_contract {
    ($($(#[$cfg:meta])? $name:ident: $fixture:ty),* $(,)?) => {
        $($crate::server_contract!(@behaviours $(#[$cfg])? $name, $fixture,
            list_and_fetch_agree
            the_list_is_the_same_each_time
            an_unknown_key_is_not_found
            a_version_is_put_once_and_never_replaced
            what_is_removed_is_gone
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
                $crate::contract::server::$behaviour::<$fixture>();
            })*
        }
    };
}

pub fn list_and_fetch_agree<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    let infos = provider.list(soon()).unwrap();
    let mut seen = HashSet::new();
    let mut active = HashMap::<KeyName, usize>::new();
    for info in &infos {
        assert!(seen.insert(info.key.clone()), "{} is listed twice", info.key);
        *active.entry(info.key.name.clone()).or_default() +=
            usize::from(info.state == KeyState::Active);
        if info.state.decrypts() {
            let data = provider.fetch(&info.key, soon()).unwrap();
            assert_eq!(data.expose().len(), info.purpose.key_len(), "{}", info.key);
            assert!(info.check.is_none_or(|check| check == data.check_value()), "{}", info.key);
        }
    }
    assert!(active.values().all(|count| *count == 1), "one active version a key: {active:?}");
    for (key, check) in store.held() {
        assert!(seen.contains(&key), "{key} is not listed");
        assert_eq!(provider.fetch(&key, soon()).unwrap().check_value(), check, "{key}");
    }
    silent(&infos, &store.secrets());
}

pub fn the_list_is_the_same_each_time<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let sorted = |provider: &dyn KeyServer| {
        let mut infos = provider.list(soon()).unwrap();
        infos.sort_by(|a, b| a.key.cmp(&b.key));
        infos
    };
    let provider = store.open();
    let first = sorted(&*provider);
    assert_eq!(first, sorted(&*provider));
    assert_eq!(first, sorted(&*store.open()));
}

pub fn an_unknown_key_is_not_found<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    let named = KeyName::named("INNODBKey-x-1", "");
    for key in [
        key(4_000_000, 1),
        key(1, 4_000_000),
        key(u32::MAX, u32::MAX - 1),
        KeyRef::new(named, KeyVersion::FIRST),
    ] {
        for _ in 0..2 {
            let result = provider.fetch(&key, soon());
            let error = refused(result, &[Kind::NotFound], &store.secrets());
            assert!(error.to_string().contains(&key.to_string()), "which key? {error}");
            assert!(!error.is_transient());
        }
    }
}

pub fn a_version_is_put_once_and_never_replaced<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    let before = provider.list(soon()).unwrap().len();
    let new = key(7, 1);
    let [data, other] = [(); 2].map(|()| DataKey::generate(32, &System).unwrap());
    let mut secrets = store.secrets();
    secrets.extend([data.expose().to_vec(), other.expose().to_vec()]);
    if !F::WRITABLE {
        for _ in 0..2 {
            let error = refused(provider.put(&new, &data, soon()), &[Kind::Unsupported], &secrets);
            assert!(error.advice().is_some(), "what else to do? {error}");
        }
        assert_eq!(provider.list(soon()).unwrap().len(), before);
        refused(provider.fetch(&new, soon()), &[Kind::NotFound], &secrets);
        return;
    }
    provider.put(&new, &data, soon()).unwrap();
    for again in [&other, &data] {
        refused(provider.put(&new, again, soon()), &[Kind::Conflict], &secrets);
        refused(store.open().put(&new, again, soon()), &[Kind::Conflict], &secrets);
    }
    for reader in [provider, store.open()] {
        assert_eq!(reader.fetch(&new, soon()).unwrap().expose(), data.expose());
        assert_eq!(reader.list(soon()).unwrap().len(), before + 1);
    }
}

pub fn what_is_removed_is_gone<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    let secrets = store.secrets();
    let (first, check) = store.held().swap_remove(0);
    if !F::WRITABLE {
        let error = refused(provider.remove(&first, soon()), &[Kind::Unsupported], &secrets);
        assert!(error.advice().is_some(), "what else to do? {error}");
        assert_eq!(provider.fetch(&first, soon()).unwrap().check_value(), check);
        return;
    }
    let new = key(7, 1);
    provider.put(&new, &DataKey::generate(32, &System).unwrap(), soon()).unwrap();
    provider.remove(&new, soon()).unwrap();
    for reader in [&provider, &store.open()] {
        refused(reader.fetch(&new, soon()), &[Kind::NotFound], &secrets);
        refused(reader.remove(&new, soon()), &[Kind::NotFound], &secrets);
        assert_eq!(reader.fetch(&first, soon()).unwrap().check_value(), check);
    }
}

pub fn a_deadline_that_has_passed_is_a_timeout<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    let secrets = store.secrets();
    for (key, _) in store.held() {
        refused(provider.fetch(&key, passed()), &[Kind::Timeout], &secrets);
    }
    refused(provider.list(passed()), &[Kind::Timeout], &secrets);
    refused(provider.probe(passed()), &[Kind::Timeout], &secrets);
    if F::WRITABLE {
        let data = DataKey::generate(32, &System).unwrap();
        refused(provider.put(&key(7, 1), &data, passed()), &[Kind::Timeout], &secrets);
        refused(provider.fetch(&key(7, 1), soon()), &[Kind::NotFound], &secrets);
        let (held, _) = store.held().swap_remove(0);
        refused(provider.remove(&held, passed()), &[Kind::Timeout], &secrets);
    }
    assert!(provider.list(soon()).is_ok(), "a timeout is not remembered");
}

pub fn the_probe_says_something_and_no_secret<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    telling(&store.open().probe(soon()).unwrap(), &store.secrets());
}

pub fn threads_may_share_it<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let provider = store.open();
    let held = store.held();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    for (key, check) in &held {
                        let data = provider.fetch(key, soon()).unwrap();
                        assert_eq!(data.check_value(), *check, "{key}");
                    }
                    assert!(provider.list(soon()).unwrap().len() >= held.len());
                }
            });
        }
    });
}

pub fn calls_leave_a_server_its_stack<F: ServerFixture>() {
    let Some(store) = start::<F>() else { return };
    let (first, _) = store.held().swap_remove(0);
    let provider = store.open();
    assert!(!shallow("list", || provider.list(soon())).unwrap().is_empty());
    shallow("fetch", || provider.fetch(&first, soon())).unwrap();
    shallow("probe", || provider.probe(soon())).unwrap();
    // Where nothing can be stored, that is found out without going deep.
    let (new, data) = (key(7, 1), DataKey::generate(32, &System).unwrap());
    let stored = shallow("put", || provider.put(&new, &data, soon()));
    let removed = shallow("remove", || provider.remove(&new, soon()));
    assert_eq!((stored.is_ok(), removed.is_ok()), (F::WRITABLE, F::WRITABLE));
}

fn key(id: u32, version: u32) -> KeyRef {
    KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
}
