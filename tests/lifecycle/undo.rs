//! Every way back to a version that encrypted before, in every order of steps: on values, without a
//! file.

use std::collections::{BTreeMap, BTreeSet};

use keyward::env::Timestamp;
use keyward::env::fake::FakeRng;
use keyward::key::{Cipher, KeyName, KeyState};
use keyward::policy::{self, Undo};
use keyward::provider::WrappedKey;
use keyward::secret::DataKey;
use keyward::store::{Change, KeyEntry, Keystore, NewVersion, Wrapping, may_become};

use crate::bench::{key, key_ref, version};

/// More steps find no further states of three versions.
const DEPTH: usize = 6;

#[derive(Clone, Copy, Debug)]
enum Step {
    Rotate,
    Prepare,
    Activate,
    Compromise(u32),
    Destroy(u32),
    Undo,
}

/// One key, and what is known of its past without a look at its history.
#[derive(Clone)]
struct Life {
    keystore: Keystore,
    /// Whose place each version took when it became active.
    took_place_of: BTreeMap<u32, u32>,
    /// The versions that were active.
    encrypted: BTreeSet<u32>,
    steps: Vec<Step>,
}

impl Life {
    fn new() -> Self {
        let rng = FakeRng::new(3);
        let id = Keystore::new_id(&rng).unwrap();
        let store_key = DataKey::generate(32, &rng).unwrap();
        let wrapped = WrappedKey {
            kek: "k".into(),
            algorithm: "none".into(),
            parameters: Default::default(),
            blob: vec![1],
        };
        let wrappings = vec![Wrapping { provider: "p".into(), key: wrapped }];
        let keystore = Keystore::create(&id, store_key, wrappings, change(0).at, &rng).unwrap();
        let (took_place_of, encrypted) = (BTreeMap::new(), BTreeSet::new());
        let life = Self { keystore, took_place_of, encrypted, steps: Vec::new() };
        life.with_version(1, KeyState::Active)
    }

    fn entry(&self) -> &KeyEntry {
        self.keystore.contents().key(&KeyName::Id(key(7))).unwrap()
    }

    fn active(&self) -> u32 {
        self.entry().active().unwrap().version.get()
    }

    fn state(&self, number: u32) -> KeyState {
        self.entry().version(version(number)).unwrap().state
    }

    fn now(&self) -> Change {
        change(self.steps.len() as u64)
    }

    fn next(&self) -> u32 {
        self.entry().newest().unwrap().version.get() + 2
    }

    fn with_version(mut self, number: u32, state: KeyState) -> Self {
        let rng = FakeRng::new(u64::from(number));
        let data = DataKey::generate(32, &rng).unwrap();
        let change = self.now();
        let (key, purpose) = (key_ref(7, number), Cipher::DEFAULT.into());
        let new = NewVersion { key, purpose, data: &data, state, created: change.at };
        self.keystore = self.keystore.with_version(&new, &change, &rng).unwrap();
        self.noted(number, state)
    }

    fn moved(mut self, number: u32, state: KeyState) -> Self {
        self.keystore = self.keystore.with_state(&key_ref(7, number), state, &self.now()).unwrap();
        self.noted(number, state)
    }

    fn noted(mut self, number: u32, state: KeyState) -> Self {
        if state == KeyState::Active {
            self.encrypted.insert(number);
        }
        self
    }

    fn takes_place(mut self, number: u32, of: u32) -> Self {
        self.took_place_of.insert(number, of);
        self
    }

    fn possible(&self) -> Vec<Step> {
        let mut steps = vec![Step::Rotate, Step::Prepare, Step::Undo];
        if policy::planned(self.entry()).is_some() {
            steps.push(Step::Activate);
        }
        for one in self.entry().versions() {
            let number = one.version.get();
            if may_become(one.state, KeyState::Compromised) {
                steps.push(Step::Compromise(number));
            }
            if may_become(one.state, KeyState::Destroyed) {
                steps.push(Step::Destroy(number));
            }
        }
        steps
    }

    fn take(&self, step: Step) -> Option<Self> {
        let mut life = self.clone();
        life.steps.push(step);
        let (active, next) = (self.active(), self.next());
        Some(match step {
            Step::Rotate => life.with_version(next, KeyState::Active).takes_place(next, active),
            Step::Prepare => {
                if policy::planned(self.entry()).is_some() {
                    return None;
                }
                life = life.with_version(next, KeyState::Pending);
                let plan = Some((KeyState::Active, &life.now()));
                life.keystore = life.keystore.with_plan(&key_ref(7, next), plan).unwrap();
                life
            }
            Step::Activate => {
                let pending = policy::planned(self.entry()).unwrap().0.version.get();
                life.moved(pending, KeyState::Active).takes_place(pending, active)
            }
            // Its pages leave it for a newer version only.
            Step::Compromise(number) if number >= active && self.encrypted.contains(&number) => {
                life.with_version(next, KeyState::Active)
                    .takes_place(next, active)
                    .moved(number, KeyState::Compromised)
            }
            Step::Compromise(number) => life.moved(number, KeyState::Compromised),
            Step::Destroy(number) => life.moved(number, KeyState::Destroyed),
            Step::Undo => return life.undone(),
        })
    }

    /// Takes the last rotation back where the policy lets us, and checks that against what is known.
    fn undone(mut self) -> Option<Self> {
        let active = self.active();
        let former = self.took_place_of.get(&active).copied();
        let outcome = policy::undo(self.entry());
        match &outcome {
            Ok(Undo::CallOff(pending)) => {
                assert!(pending.get() > active, "{:?}", self.steps);
                self.keystore = self.keystore.with_plan(&key_ref(7, pending.get()), None).unwrap();
                return Some(self);
            }
            Ok(Undo::GoBack { from, to }) => {
                assert_eq!((from.get(), Some(to.get())), (active, former), "{:?}", self.steps);
                assert_eq!(self.state(to.get()), KeyState::Retired, "{:?}", self.steps);
                assert_eq!(self.left_compromised(to.get()), None, "{:?}", self.steps);
                let history = &self.entry().version(*to).unwrap().history;
                let harmed = |state| matches!(state, KeyState::Compromised | KeyState::Destroyed);
                assert!(!history.iter().any(|event| harmed(event.state)), "{:?}", self.steps);
            }
            Err(error) => {
                let lost = former.map(|former| (former, self.state(former)));
                let left = former.and_then(|former| self.left_compromised(former));
                let words = match (lost, left) {
                    (None, _) => "key 7 has no rotation to undo".to_owned(),
                    (Some((_, KeyState::Retired)), Some(left)) => format!(
                        "key 7 version {active} replaces version {left}, too, which is compromised: \
                         there is no way back; `keyward rotate 7` makes another version instead"
                    ),
                    (Some((former, state)), _) => format!(
                        "key 7 version {active} took the place of version {former}, which is \
                         {state}: there is no way back; `keyward rotate 7` makes another version \
                         instead"
                    ),
                };
                assert_eq!(error.to_string(), words, "{:?}", self.steps);
                assert!(left.is_some() || lost.is_none_or(|(_, state)| state != KeyState::Retired));
                return None;
            }
        }
        let name = KeyName::Id(key(7));
        self.keystore = self.keystore.with_rotation_undone(&name, &self.now()).unwrap();
        assert_eq!(Some(self.active()), former, "the keystore goes back to the same version");
        Some(self)
    }

    /// A compromised version between `former` and the active one that pages would stay on.
    fn left_compromised(&self, former: u32) -> Option<u32> {
        let mut between = (former + 1..self.active()).filter(|it| self.encrypted.contains(it));
        between.find(|number| self.state(*number) == KeyState::Compromised)
    }

    /// What tells one life from another here.
    fn shape(&self) -> String {
        let one = |one: &keyward::store::VersionEntry| {
            let left: Vec<_> = one.history.iter().map(|event| event.state).collect();
            format!("{} {left:?} {}", one.version, one.planned.is_some())
        };
        self.entry().versions().map(one).collect::<Vec<_>>().join("; ")
    }
}

fn change(step: u64) -> Change {
    let at = Timestamp::from_unix(1_700_000_000 + step);
    Change { at, actor: "test".into(), reason: "because".into() }
}

#[test]
fn in_every_order_of_steps_only_a_version_that_may_encrypt_comes_back() {
    let (mut seen, mut undone) = (BTreeSet::new(), BTreeSet::new());
    let mut lives = vec![Life::new()];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for life in lives {
            for step in life.possible() {
                let Some(after) = life.take(step) else { continue };
                let planned = policy::planned(after.entry()).map(|(one, _)| one.version.get());
                assert!(
                    planned.is_none_or(|planned| planned > after.active()),
                    "{:?}",
                    after.steps
                );
                if matches!(step, Step::Undo) {
                    undone.insert(after.shape());
                }
                if after.entry().versions().len() <= 4 && seen.insert(after.shape()) {
                    next.push(after);
                }
            }
        }
        lives = next;
    }
    assert!(seen.len() > 500 && undone.len() > 30, "{} {}", seen.len(), undone.len());
}
