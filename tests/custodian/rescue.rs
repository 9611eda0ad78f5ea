//! The keys in memory written into a new keystore.

use keyward::event::{Event, Fault, Trail};

use super::*;

impl Bench {
    /// Empties the folder, but for the lock that a running server may hold.
    fn empty(&self) {
        for (path, _) in self.files() {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// The names of the files that were set aside.
    fn set_aside(&self) -> Vec<PathBuf> {
        let files = self.files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.display().to_string().contains(".before-rescue-")).collect()
    }

    /// Every version as a new process has it, and as `server` has it.
    fn agrees(&self, server: &Custodian) {
        let new = self.custodian(Role::Reader);
        assert_eq!(new.keys().len(), server.keys().len());
        for info in server.keys() {
            let KeyName::Id(id) = info.key.name else { panic!("{}", info.key) };
            let bytes = |custodian: &Custodian| {
                let key = custodian.key(id, info.key.version).unwrap();
                key.key().expose().to_vec()
            };
            assert!(bytes(&new) == bytes(server), "{}", info.key);
            assert_eq!(new.latest(id), server.latest(id));
        }
        let state = |custodian: &Custodian| -> Vec<_> {
            custodian.keys().iter().map(|info| (info.key.clone(), info.state)).collect()
        };
        assert_eq!(state(&new), state(server));
    }
}

#[test]
fn the_keys_in_memory_are_rescued_from_an_empty_folder() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.rotate(Which::One(key(7)), REASON).unwrap();
    let whole = server.rescue(REASON).unwrap();
    assert_eq!((whole.versions, whole.aside), (0, None), "nothing to rescue");
    bench.empty();
    server.refresh().unwrap_err();
    let rescued = server.rescue(REASON).unwrap();
    assert_eq!((rescued.path, rescued.versions, rescued.aside), (bench.path(), 4, None));
    assert!(server.status().degraded.is_none());
    bench.agrees(&server);
    server.rotate(Which::All, REASON).unwrap();
    bench.agrees(&server);
    assert_eq!(server.rescue(REASON).unwrap().versions, 0);
    let trail = Trail::beside(&bench.path());
    let (lines, damaged) = trail.salvage().unwrap();
    assert!(!damaged && lines[1].event == Event::Rescued && lines[1].keys.len() == 4, "{lines:?}");
    // It was lost with the keystore, and goes on after the line that the server knew.
    let missing = Fault::Missing { from: 1, to: lines[0].number - 1 };
    assert_eq!(trail.verify(server.known_of_trail()).unwrap().faults, [missing]);
}

#[test]
fn what_is_in_the_place_of_the_keystore_is_set_aside_and_stays() {
    let bench = Bench::new();
    let older = bench.files();
    let server = bench.custodian(Role::Daemon);
    server.rotate(Which::All, REASON).unwrap();
    let put_back = |bytes: &[u8]| {
        let new = bench.folder.path().join("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        std::fs::rename(new, bench.path()).unwrap();
    };
    let copy = &older.iter().find(|(path, _)| *path == bench.path()).unwrap().1;
    for (n, content) in [copy.as_slice(), b"{", b""].into_iter().enumerate() {
        put_back(content);
        server.refresh().unwrap_err();
        let rescued = server.rescue(REASON).unwrap();
        assert_eq!(rescued.versions, server.keys().len());
        let aside = rescued.aside.unwrap();
        assert!(aside.display().to_string().ends_with(&format!("-{}", n + 1)), "{aside:?}");
        assert_eq!(std::fs::read(&aside).unwrap(), content);
        assert_eq!(bench.set_aside().len(), n + 1, "none was overwritten");
        bench.agrees(&server);
        server.rotate(Which::One(key(1)), REASON).unwrap();
    }
}

#[test]
fn a_rescue_that_no_provider_could_open_changes_nothing() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    bench.found(&bench.folder.path().join("other.json"), 9);
    std::fs::rename(bench.folder.path().join("other.json"), bench.path()).unwrap();
    server.refresh().unwrap_err();
    bench.key_store.away.store(true, Ordering::SeqCst);
    let before = bench.files();
    let refused = server.rescue(REASON).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "nothing was rescued, because no provider wraps the keystore: provider \"test\": the key \
         store is away"
    );
    assert_eq!(bench.files(), before);
    bench.key_store.away.store(false, Ordering::SeqCst);
    assert_eq!(server.rescue(REASON).unwrap().versions, 3);
    bench.agrees(&server);
}
