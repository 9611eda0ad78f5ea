//! Whether a restart would succeed, and no key made while it would not.

use keyward::custodian::{NextSource, NextStart};
use keyward::event::Answer;
use keyward::provider::{FreshLogin, KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};

use super::*;

/// A provider that must not be logged in to once more, and fails whoever tries to use it.
struct OneLogin;

impl KeyWrapper for OneLogin {
    fn wrap(&self, _: &DataKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn unwrap(&self, _: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<DataKey> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn rewrap(&self, _: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Spends("a log-in may use up its secret")
    }
}

/// The next start of a bench: with its key store as it is, or with [`OneLogin`].
pub(crate) struct Next {
    path: PathBuf,
    env: Env,
    key_store: Option<Arc<KeyStore>>,
}

impl NextStart for Next {
    fn open(&mut self) -> Result<NextSource> {
        let wrapper: Box<dyn KeyWrapper> = match &self.key_store {
            Some(key_store) => Box::new(Shared(key_store.clone())),
            None => Box::new(OneLogin),
        };
        let wrappers =
            vec![NamedWrapper { name: "test".into(), timeout: Duration::from_secs(1), wrapper }];
        let file = StoreFile::at(&self.path);
        let source = Manager::new(file, wrappers, Cipher::DEFAULT, 2, self.env.clone());
        Ok(NextSource::Keystore(Box::new(source.as_role(Role::Reader))))
    }
}

impl Bench {
    pub(crate) fn next(&self, repeatable: bool) -> Box<Next> {
        let clock = Arc::new(FakeClock::at(Timestamp::from_unix(1_700_000_000)));
        let env = Env { clock, rng: self.rng.clone(), log: Arc::new(FakeLog::default()) };
        let key_store = repeatable.then(|| self.key_store.clone());
        Box::new(Next { path: self.path(), env, key_store })
    }
}

#[test]
fn a_restart_is_checked_soon_then_hourly_and_every_minute_while_it_would_fail() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.watch_restart(bench.next(true));
    let start = Instant::now();
    let checked = |after: u64| {
        bench.key_store.calls.store(0, Ordering::SeqCst);
        server.check_restart_in_time(start + Duration::from_secs(after));
        bench.key_store.calls.load(Ordering::SeqCst)
    };
    assert_eq!(checked(55), 0);
    assert_eq!(server.status().restart.answer, Answer::Unknown);
    assert_eq!(checked(65), 1, "one unwrap");
    assert_eq!(server.status().restart.answer, Answer::Yes);
    assert_eq!((checked(70), checked(3600)), (0, 0));
    bench.key_store.away.store(true, Ordering::SeqCst);
    assert_eq!(checked(3670), 1);
    assert_eq!(server.status().restart.answer, Answer::No);
    assert_eq!((checked(3700), checked(3735)), (0, 1));
    bench.key_store.away.store(false, Ordering::SeqCst);
    assert_eq!(checked(3800), 1);
    assert_eq!((checked(3900), checked(7300)), (0, 0));
    assert!(server.status().degraded.is_none());
}

#[test]
fn nothing_that_a_log_in_would_use_up_is_tried() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.watch_restart(bench.next(false));
    bench.key_store.calls.store(0, Ordering::SeqCst);
    let found = server.check_restart();
    assert_eq!(found.answer, Answer::Unknown);
    assert_eq!(
        found.reason,
        "provider \"test\" opens the keystore now; a log-in may use up its secret"
    );
    assert_eq!(bench.key_store.calls.load(Ordering::SeqCst), 1, "by the log-in that is open");
    server.rotate(Which::All, REASON).unwrap();
    bench.key_store.away.store(true, Ordering::SeqCst);
    let found = server.check_restart();
    assert_eq!(found.answer, Answer::No);
    assert_eq!(found.reason, "provider \"test\": the key store is away");
}

#[test]
fn no_key_is_made_while_no_provider_opens_the_keystore() {
    let bench = Bench::new();
    let custodian = bench.custodian(Role::Daemon);
    let before = bench.files();
    bench.key_store.away.store(true, Ordering::SeqCst);
    for refused in [
        custodian.rotate(Which::All, REASON).unwrap_err(),
        custodian.create(key(11), None, REASON).unwrap_err(),
        custodian
            .manager()
            .unwrap()
            .change_state(&keyward::manager::StateChange::RotateNow(Which::One(key(7))), REASON)
            .unwrap_err(),
    ] {
        assert_eq!(refused.kind(), Kind::Unavailable);
        assert!(refused.what().starts_with("no new key is made: "), "{refused}");
    }
    assert_eq!(bench.files(), before);
}
