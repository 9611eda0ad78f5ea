//! A keystore with approvers, a clock to move, and people with SSH keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keyward::Error;
use keyward::approval::PublicKey;
use keyward::assemble;
use keyward::config::Config;
use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Env, Timestamp};
use keyward::error::Code;
use keyward::event::{Event, Line, Trail};
use keyward::key::{KeyId, KeyRef, KeyVersion};
use keyward::manager::{Destruction, Judged, Standing};
use keyward::source::{Reason, Role, Which};

pub(crate) const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Whoever asks in these tests.
pub(crate) const CAROL: Reason<'_> =
    Reason { actor: "carol (sudo, uid 0) on db1", text: "the customer left" };
/// What approvals are signed for.
pub(crate) const NAMESPACE: &str = "keyward-approval-v1";

/// A folder with people's keys, made by `ssh-keygen`.
pub(crate) struct People {
    folder: tempfile::TempDir,
}

/// A keystore with key 1 in versions 1, 3 (retired) and 5 (active).
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) custodian: Custodian,
    pub(crate) people: Arc<People>,
}

impl People {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the key of `name`, of `kind`.
    pub(crate) fn make(&self, name: &str, kind: &[&str]) {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-C", name, "-f"]).arg(self.path(name)).arg("-t").args(kind);
        assert!(keygen.status().unwrap().success());
    }

    /// The public key of `name`, which is made if it is not there.
    pub(crate) fn key(&self, name: &str) -> PublicKey {
        if !self.path(name).exists() {
            self.make(name, &["ed25519"]);
        }
        fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().parse().unwrap()
    }

    /// What `name` signs of `text`.
    pub(crate) fn sign(&self, name: &str, text: &[u8]) -> Vec<u8> {
        self.sign_for(name, NAMESPACE, text)
    }

    /// The same for another purpose.
    pub(crate) fn sign_for(&self, name: &str, namespace: &str, text: &[u8]) -> Vec<u8> {
        let file = self.path("text");
        fs::write(&file, text).unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-Y", "sign", "-n", namespace, "-f"]).arg(self.path(name));
        let signed = keygen.stdin(fs::File::open(file).unwrap()).stderr(Stdio::null()).output();
        let signed = signed.unwrap();
        assert!(signed.status.success() && !signed.stdout.is_empty(), "{name} cannot sign");
        signed.stdout
    }
}

impl Bench {
    /// With two of three approvers: alice, bob and carol.
    pub(crate) fn new() -> Self {
        let bench = Self::of(3);
        bench.set(&["alice", "bob", "carol"], 2).unwrap();
        bench
    }

    /// Without approvers. `seed` makes it another keystore.
    pub(crate) fn of(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::at(Timestamp::from_unix(1_700_000_000)));
        let rng = Arc::new(FakeRng::new(seed));
        let env = Env { clock: clock.clone(), rng: rng.clone(), log: Arc::<FakeLog>::default() };
        let key_file = folder.path().join("local.key");
        assemble::create_key_file(&key_file, &*rng).unwrap();
        let keystore = folder.path().join("keystore.json");
        let text = format!(
            "[keystore]\npath = {keystore:?}\n[[provider]]\ntype = \"local\"\nkey_file = {key_file:?}\n"
        );
        let config = Config::parse(Path::new("k.toml"), &text).unwrap();
        assemble::create_keystore(&config, CAROL, &env).unwrap();
        let custodian = assemble::start(&config, Role::Command, env.clone()).unwrap();
        for _ in 0..2 {
            custodian.rotate(Which::One(KeyId::SYSTEM), CAROL).unwrap();
        }
        Self { folder, clock, config, env, custodian, people: Arc::new(People::new()) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn set(&self, names: &[&str], needed: u32) -> Result<(), Error> {
        let keys: Vec<_> = names.iter().map(|name| self.people.key(name)).collect();
        self.custodian.manager().unwrap().set_approvers(&keys, needed, CAROL)
    }

    /// Asks for version 1 of key 1 to be destroyed.
    pub(crate) fn plan(&self) -> Result<(), Error> {
        self.plan_as(CAROL)
    }

    pub(crate) fn plan_as(&self, reason: Reason<'_>) -> Result<(), Error> {
        let step = Destruction::Plan(key(1, 1), WEEK);
        self.custodian.manager().unwrap().destroy(&step, &Judged::default(), reason)
    }

    /// That this step waits for approvals; the request that it waits with.
    #[track_caller]
    pub(crate) fn waits<T>(&self, step: Result<T, Error>) -> Standing {
        let error = step.err().expect("it does not wait");
        assert_eq!(error.code(), Some(Code::Approvals), "{error}");
        let text = error.to_string();
        let (_, rest) = text.split_once(": request ").unwrap();
        let id = &rest[..8];
        self.custodian.manager().unwrap().request(id).unwrap()
    }

    /// Has `signature` count for the request.
    pub(crate) fn approve(&self, request: &Standing, signature: &[u8]) -> Result<Standing, Error> {
        let id = request.request.id.to_string();
        self.custodian.manager().unwrap().approve(&id, signature, CAROL)
    }

    /// Has `name` sign the request and takes the signature in.
    pub(crate) fn approved_by(&self, request: &Standing, name: &str) -> Result<Standing, Error> {
        self.approve(request, &self.people.sign(name, request.text.as_bytes()))
    }

    /// Takes the step after alice and bob have approved it.
    #[track_caller]
    pub(crate) fn with_both<T>(&self, mut step: impl FnMut() -> Result<T, Error>) -> T {
        let request = self.waits(step());
        self.approved_by(&request, "alice").unwrap();
        let request = self.waits(step());
        assert!(self.approved_by(&request, "bob").unwrap().is_approved());
        step().unwrap()
    }

    pub(crate) fn trail(&self) -> Vec<Line> {
        Trail::beside(&self.path("keystore.json")).read().unwrap()
    }

    /// The last line of the trail of that kind.
    pub(crate) fn last(&self, event: Event) -> Line {
        self.trail().into_iter().rfind(|line| line.event == event).unwrap()
    }
}

pub(crate) fn key(id: u32, version: u32) -> KeyRef {
    KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
}
