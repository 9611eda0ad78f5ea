//! A keystore whose store key anybody could have wrapped.

use keyward::manager::Rewrap;

use super::*;

impl Bench {
    fn start_with(&self, fingerprint: Option<&str>) -> Result<Custodian> {
        self.start_as(Role::Reader, fingerprint)
    }

    fn start_as(&self, role: Role, fingerprint: Option<&str>) -> Result<Custodian> {
        let env = Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() };
        let file = StoreFile::at(self.path());
        let source = Manager::new(file, vec![self.wrapper()], Cipher::DEFAULT, 2, env.clone())
            .with_fingerprint(fingerprint.map(str::to_owned));
        Custodian::start(source, role, env)
    }
}

#[test]
fn what_a_public_key_wrapped_opens_only_where_it_is_pinned() {
    let bench = Bench::new();
    bench.start_with(None).unwrap();
    bench.key_store.public.store(true, Ordering::SeqCst);
    let refused = bench.start_with(None).err().unwrap();
    assert_eq!(refused.kind(), Kind::State);
    let text = refused.to_string();
    let words =
        "provider \"test\" wraps by a public key, so that anybody can have made this keystore";
    assert!(text.contains(words), "{text}");
    // The advice leads out.
    let fingerprint = named_in(&text);
    bench.start_with(Some(&fingerprint)).unwrap();

    // Another keystore in its place, which the public key wrapped as well.
    std::fs::remove_file(bench.path()).unwrap();
    bench.found(&bench.path(), 2);
    let refused = bench.start_with(Some(&fingerprint)).err().unwrap();
    assert!(refused.to_string().contains("another keystore took its place"), "{refused}");
}

#[test]
fn a_public_key_does_not_come_to_wrap_a_keystore_that_is_not_pinned() {
    let bench = Bench::new();
    let unpinned = bench.start_as(Role::Command, None).unwrap();
    bench.key_store.public.store(true, Ordering::SeqCst);
    let (before, mut fingerprint) = (bench.files(), String::new());
    let new_store_key = Rewrap::NewStoreKey { prune: false };
    for how in [Rewrap::ToLatest, new_store_key, Rewrap::Move { from: "gone", to: "test" }] {
        let refused = unpinned.manager().unwrap().rewrap(how, REASON).unwrap_err();
        assert_eq!(refused.kind(), Kind::State, "{refused}");
        let text = refused.to_string();
        assert!(text.contains("the configuration must name this keystore first"), "{text}");
        assert_eq!(bench.files(), before, "{how:?}");
        fingerprint = named_in(&text);
    }
    // The advice leads out.
    let pinned = bench.start_as(Role::Command, Some(&fingerprint)).unwrap();
    pinned.manager().unwrap().rewrap(Rewrap::ToLatest, REASON).unwrap();
}

/// The fingerprint that `text` says to write.
fn named_in(text: &str) -> String {
    let line = text.split("write fingerprint = \"").nth(1).unwrap();
    let fingerprint = line.split('"').next().unwrap().to_owned();
    assert_eq!(fingerprint.len(), 64, "{text}");
    fingerprint
}
