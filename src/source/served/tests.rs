#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use super::*;
use crate::env::fake::FakeLog;
use crate::provider::Probe;

fn env() -> Env {
    Env::system(Arc::new(FakeLog::default()))
}

/// Takes versions of keys until it has as many as it has room for.
struct Full(Mutex<Vec<KeyRef>>, usize);

impl KeyServer for Full {
    fn list(&self, _: Deadline) -> Result<Vec<KeyInfo>> {
        let keys = self.0.lock().unwrap().clone();
        let newest = |key: &KeyRef| {
            !keys.iter().any(|one| one.name == key.name && one.version > key.version)
        };
        let info = |key: &KeyRef| KeyInfo {
            key: key.clone(),
            state: if newest(key) { KeyState::Active } else { KeyState::Retired },
            purpose: Cipher::DEFAULT.into(),
            created: None,
            check: None,
        };
        Ok(keys.iter().map(info).collect())
    }

    fn fetch(&self, key: &KeyRef, _: Deadline) -> Result<DataKey> {
        if !self.0.lock().unwrap().contains(key) {
            return Err(Error::new(Kind::NotFound, format!("there is no {key}")));
        }
        DataKey::copy_of(&[u8::try_from(key.version.get()).unwrap(); 32])
    }

    fn put(&self, key: &KeyRef, _: &DataKey, _: Deadline) -> Result<()> {
        let mut keys = self.0.lock().unwrap();
        if keys.len() == self.1 {
            return Err(
                Error::new(Kind::Unavailable, format!("no room for {key}")).advise("make room")
            );
        }
        keys.push(key.clone());
        Ok(())
    }

    fn remove(&self, _: &KeyRef, _: Deadline) -> Result<()> {
        Ok(())
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        Ok(Probe::default())
    }
}

#[test]
fn a_key_that_is_not_there_to_rotate_is_told_with_what_makes_it() {
    let server = || NamedServer {
        name: "kv".to_owned(),
        timeout: Duration::from_secs(1),
        refresh: Duration::from_secs(1),
        server: Box::new(Full(Mutex::default(), 1)),
    };
    let source = || ServedSource::new(server(), Cipher::DEFAULT, env());
    let which = Which::One(KeyId::try_from(7).unwrap());
    let reason = Reason { actor: "test", text: "test" };
    let told = |mut source: ServedSource| source.rotate(which, reason).unwrap_err().to_string();
    assert_eq!(told(source()), "provider \"kv\" has no key 7; make it: keyward keys create 7");
    assert_eq!(
        told(source().on_demand()),
        "provider \"kv\" has no key 7; the first table with ENCRYPTION_KEY_ID=7 makes it"
    );
    let never = source().makes_none_until("name a master key");
    assert_eq!(told(never), "provider \"kv\" has no key 7; name a master key");
}

#[test]
fn a_rotation_that_fails_midway_names_what_is_stored_and_uses_it() {
    let id = |number| KeyId::try_from(number).unwrap();
    let keys = (1..=3).map(|number| KeyRef::new(id(number), KeyVersion::FIRST)).collect();
    let server = NamedServer {
        name: "kv".to_owned(),
        timeout: Duration::from_secs(1),
        refresh: Duration::from_secs(1),
        server: Box::new(Full(Mutex::new(keys), 5)),
    };
    let folder = tempfile::tempdir().unwrap();
    let beside = StoreFile::at(folder.path().join("keystore.json"));
    let mut source =
        ServedSource::new(server, Cipher::DEFAULT, env()).with_trail(beside, Limits::default());
    let ring = Arc::clone(source.ring());
    let reason = Reason { actor: "test", text: "test" };
    let error = source.rotate(Which::All, reason).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(
        error.to_string(),
        "provider \"kv\": no room for key 3 version 2; stored before that, and in force: key 1 \
         version 2, key 2 version 2; make room; then rotate the others one by one"
    );
    let latest = |number| ring.latest(id(number)).map(KeyVersion::get);
    assert_eq!([latest(1), latest(2), latest(3)], [Some(2), Some(2), Some(1)]);
    let error = source.rotate(Which::One(id(3)), reason).unwrap_err();
    assert_eq!(error.to_string(), "provider \"kv\": no room for key 3 version 2; make room");
    let trail = Trail::beside(&folder.path().join("keystore.json")).read().unwrap();
    let told: Vec<_> = trail.iter().map(|line| (line.event, line.keys.len())).collect();
    assert_eq!(told, [(Event::Intended, 3), (Event::Rotated, 2), (Event::Intended, 1)]);
}
