//! The life of keys that a key store serves, at random: two processes use and change them, the store loses
//! them, changes them, goes away, and has them back.
//!
//! A process gives out for ever what it gave out once. Where the store has that no more as it was, a
//! process that has asked since is not well, and gives that key no new version; where it has all, nobody
//! raises an alarm. An error means that nothing was stored, unless it says so.

mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::Kind;
use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Env, Timestamp};
use keyward::event::Answer;
use keyward::key::{Cipher, KeyId, KeyName, KeyRef, KeyState, KeyVersion};
use keyward::source::{Reason, Role, ServedSource, Which};

use self::store::{Keys, Store, Trouble};
use crate::dice::Dice;
use crate::life::{Broken, Life};
use crate::sequence::Who;

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };
const START: Timestamp = Timestamp::from_unix(1_700_000_000);

/// How often the worker comes in a day of the model.
const TICK: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(26 * 3600);

/// A change that a process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create(u32),
    Rotate(u32),
    RotateAll,
}

/// What happens. `usize` is the how manieth version from the newest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Do(Who, Change),
    Fail(Who, Change, Trouble),
    Read(Who),
    /// While the store is away.
    ReadAway(Who),
    Restart(Who),
    /// A day of a process that now and then checks whether a restart would succeed.
    Day,
    /// The store forgets a version.
    Vanish(u32, usize),
    /// It forgets a key whole.
    VanishAll(u32),
    /// It says that a version is destroyed.
    Delete(u32, usize),
    /// It has another key as that version.
    Replace(u32, usize),
    /// It forgets a key, and somebody makes it again: the numbers begin at 1.
    Again(u32),
    /// An older version encrypts there.
    StepBack(u32, usize),
    /// Everything that keyward ever stored is there as it was.
    PutRight,
    /// Listings have no check values from now on.
    Silent,
}

const KINDS: usize = 16;

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The life of served keys.
pub(crate) struct OfServed;

impl Life for OfServed {
    type Op = Op;
    const KINDS: usize = KINDS;

    fn op(dice: &mut Dice) -> Op {
        let who = dice.who();
        match dice.below(KINDS) {
            0 => Op::Do(who, Change::Create(dice.id())),
            1 => Op::Do(who, Change::Rotate(dice.id())),
            2 => Op::Do(who, Change::RotateAll),
            3 => Op::Fail(who, change(dice), trouble(dice)),
            4 | 5 => Op::Read(who),
            6 => Op::ReadAway(who),
            7 => Op::Restart(who),
            8 => Op::Vanish(dice.id(), dice.below(3)),
            9 => Op::VanishAll(dice.id()),
            10 => Op::Delete(dice.id(), dice.below(3)),
            11 => Op::Replace(dice.id(), dice.below(3)),
            12 => Op::Again(dice.id()),
            13 => Op::StepBack(dice.id(), 1 + dice.below(2)),
            14 => Op::PutRight,
            _ if dice.below(2) == 0 => Op::Day,
            _ => Op::Silent,
        }
    }

    fn kind(op: Op) -> usize {
        match op {
            Op::Do(_, Change::Create(_)) => 0,
            Op::Do(_, Change::Rotate(_)) => 1,
            Op::Do(_, Change::RotateAll) => 2,
            Op::Fail(_, _, Trouble::NoAnswer) => 3,
            Op::Fail(..) => 4,
            Op::Read(_) => 5,
            Op::ReadAway(_) => 6,
            Op::Restart(_) => 7,
            Op::Vanish(..) => 8,
            Op::VanishAll(_) => 9,
            Op::Delete(..) => 10,
            Op::Replace(..) => 11,
            Op::Again(_) => 12,
            Op::StepBack(..) => 13,
            Op::PutRight => 14,
            Op::Day | Op::Silent => 15,
        }
    }

    fn simpler(op: Op) -> Vec<Op> {
        match op {
            Op::Fail(who, change, _) => vec![Op::Do(who, change)],
            Op::Do(who, Change::RotateAll) => vec![Op::Do(who, Change::Rotate(1))],
            Op::VanishAll(id) | Op::Again(id) => vec![Op::Vanish(id, 0)],
            Op::ReadAway(who) => vec![Op::Read(who)],
            _ => Vec::new(),
        }
    }

    fn run(ops: &[Op], told: &mut Vec<String>) -> Result<(), (usize, Broken)> {
        let mut world = World::new();
        for (at, op) in ops.iter().enumerate() {
            let outcome = world.apply(*op);
            told.push(format!("{:>3}  {op}  {}", at + 1, world.told.join("; ")));
            world.told.clear();
            outcome.map_err(|broken| (at, broken))?;
        }
        Ok(())
    }
}

fn change(dice: &mut Dice) -> Change {
    match dice.below(3) {
        0 => Change::Create(dice.id()),
        1 => Change::Rotate(dice.id()),
        _ => Change::RotateAll,
    }
}

fn trouble(dice: &mut Dice) -> Trouble {
    match dice.below(3) {
        0 => Trouble::At(dice.below(6)),
        1 => Trouble::From(dice.below(6)),
        _ => Trouble::NoAnswer,
    }
}

/// A process.
struct Node {
    custodian: Custodian,
    /// Everything that it gave out to encrypt with.
    memory: BTreeMap<KeyRef, Vec<u8>>,
    /// Whether it has asked the store since somebody tampered with that.
    is_current: bool,
    /// Whether it knows all that the store has: it has asked since anybody changed that, and got an answer.
    knows_all: bool,
}

struct World {
    store: Store,
    env: Env,
    nodes: [Option<Node>; 2],
    /// What was first stored under each number.
    first: BTreeMap<KeyRef, Vec<u8>>,
    /// Where the worker's day begins.
    now: Instant,
    /// How many keys were made by others than keyward.
    strange: u8,
    told: Vec<String>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(FakeClock::at(START));
        let env = Env { clock, rng: Arc::new(FakeRng::new(3)), log: Arc::<FakeLog>::default() };
        let mut world = Self {
            store: Store::default(),
            env,
            nodes: [None, None],
            first: BTreeMap::new(),
            now: Instant::now(),
            strange: 0,
            told: Vec::new(),
        };
        for who in [Who::Server, Who::Command] {
            world.restart(who);
        }
        for id in [1, 2] {
            world.apply(Op::Do(Who::Command, Change::Create(id))).unwrap();
        }
        world.apply(Op::Read(Who::Server)).unwrap();
        world.told.clear();
        world
    }

    fn apply(&mut self, op: Op) -> Result<(), Broken> {
        match op {
            Op::Do(who, change) => self.change(who, change, None)?,
            Op::Fail(who, change, trouble) => self.change(who, change, Some(trouble))?,
            Op::Read(who) => self.read(who, None)?,
            Op::ReadAway(who) => self.read(who, Some(Trouble::From(0)))?,
            Op::Restart(who) => self.restart(who),
            Op::Day => self.day()?,
            _ => self.tamper(op),
        }
        self.observe()
    }

    /// A process that begins knows of nothing that was before: the mark, which has tests of its own, does.
    fn restart(&mut self, who: Who) {
        let role = if who == Who::Server { Role::Daemon } else { Role::Command };
        let source = ServedSource::new(self.store.named(), Cipher::DEFAULT, self.env.clone());
        let custodian = Custodian::start(source, role, self.env.clone()).unwrap();
        custodian.watch_restart(Box::new(self.store.clone()));
        let memory = BTreeMap::new();
        self.nodes[who as usize] =
            Some(Node { custodian, memory, is_current: true, knows_all: true });
    }

    fn node(&mut self, who: Who) -> &mut Node {
        self.nodes[who as usize].as_mut().unwrap()
    }

    fn read(&mut self, who: Who, trouble: Option<Trouble>) -> Result<(), Broken> {
        self.store.meet(trouble);
        let read = self.node(who).custodian.refresh();
        self.store.meet(None);
        let node = self.node(who);
        node.knows_all = read.is_ok();
        node.is_current |= read.is_ok();
        match (read, trouble) {
            (Err(error), None) => Err(format!("{who:?} cannot read: {error}")),
            _ => Ok(()),
        }
    }

    fn change(&mut self, who: Who, change: Change, trouble: Option<Trouble>) -> Result<(), Broken> {
        let before = self.store.keys();
        let lost = self.lost(who);
        self.store.meet(trouble);
        let custodian = &self.node(who).custodian;
        let outcome = match change {
            Change::Create(number) => {
                custodian.create(id(number), None, REASON).map(|made| vec![made])
            }
            Change::Rotate(number) => custodian.rotate(Which::One(id(number)), REASON),
            Change::RotateAll => custodian.rotate(Which::All, REASON),
        };
        self.store.meet(None);
        let after = self.store.keys();
        let new = |keys: &Keys| -> Vec<KeyRef> {
            keys.keys().filter(|key| !before.contains_key(key)).cloned().collect()
        };
        for key in new(&after) {
            self.first.entry(key.clone()).or_insert(after[&key].1.clone());
        }
        if !new(&after).is_empty() {
            self.node(who.other()).knows_all = false;
            // That its reading at the end failed is a warning.
            self.node(who).knows_all &= trouble.is_none();
        }
        match outcome {
            Ok(made) => {
                self.told.push(made.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
                self.node(who).is_current |= trouble.is_none();
                match made.iter().find(|key| !after.contains_key(key) || before.contains_key(key)) {
                    Some(key) => Err(format!("{key} was reported and is not stored")),
                    None => match made.iter().find(|key| lost.contains(&key.name)) {
                        Some(key) => Err(format!("{key} was made though an older one is lost")),
                        None => Ok(()),
                    },
                }
            }
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                let said = error.to_string();
                let untold = new(&after).into_iter().find(|key| !said.contains(&key.to_string()));
                match untold {
                    Some(key) if error.kind() != Kind::Unknown => {
                        Err(format!("an error, and something is stored: {key}: {error}"))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// The keys of which the store has not as it was what `who` gave out.
    fn lost(&self, who: Who) -> BTreeSet<KeyName> {
        let shelf = self.store.shelf();
        let node = self.nodes[who as usize].as_ref().unwrap();
        let memory = node.memory.iter();
        memory
            .filter(|(key, bytes)| !shelf.shows(key, bytes))
            .map(|(key, _)| key.name.clone())
            .collect()
    }

    /// A day passes for the server. At its end it knows whether a restart would succeed.
    fn day(&mut self) -> Result<(), Broken> {
        let end = self.now + DAY;
        let node = self.nodes[Who::Server as usize].as_ref().unwrap();
        while self.now < end {
            self.now += TICK;
            node.custodian.check_restart_in_time(self.now);
        }
        let answer = node.custodian.status().restart.answer;
        let keys = self.store.keys();
        let held = node.custodian.ring().versions();
        let lost = held.into_iter().find(|(id, version)| {
            let held = node.custodian.ring().get(*id, *version).map(|key| key.key().expose());
            !has(&keys, &KeyRef::new(*id, *version), held.unwrap_or_default())
        });
        match (answer, lost) {
            (Answer::No, None) => {
                Err("a restart is feared for though the store has all".to_owned())
            }
            (Answer::Yes, Some((id, version))) => {
                let key = KeyRef::new(id, version);
                Err(format!("a restart is promised though this is lost: {key}"))
            }
            _ => Ok(()),
        }
    }

    fn tamper(&mut self, op: Op) {
        for node in self.nodes.iter_mut().flatten() {
            (node.is_current, node.knows_all) = (false, false);
        }
        let mut shelf = self.store.shelf();
        self.strange = self.strange.wrapping_add(1);
        let strange = vec![self.strange; 32];
        match op {
            Op::Vanish(number, at) => {
                if let Some(key) = shelf.nth(number, at) {
                    shelf.keys.remove(&key);
                }
            }
            Op::VanishAll(number) => shelf.forget(number),
            Op::Delete(number, at) => {
                if let Some(key) = shelf.nth(number, at) {
                    shelf.keys.get_mut(&key).unwrap().0 = KeyState::Destroyed;
                }
            }
            Op::Replace(number, at) => {
                if let Some(key) = shelf.nth(number, at) {
                    shelf.keys.get_mut(&key).unwrap().1 = strange;
                }
            }
            Op::Again(number) => {
                shelf.forget(number);
                let first = KeyRef::new(id(number), KeyVersion::FIRST);
                shelf.keys.insert(first, (KeyState::Active, strange));
            }
            Op::StepBack(number, at) => {
                if let Some(key) = shelf.nth(number, at) {
                    shelf.activate(&key);
                }
            }
            Op::Silent => shelf.silent = true,
            Op::PutRight => {
                for (key, bytes) in &self.first {
                    shelf.keys.insert(key.clone(), (KeyState::Retired, bytes.clone()));
                }
                for number in 1..=3 {
                    if let Some(newest) = shelf.nth(number, 0) {
                        shelf.activate(&newest);
                    }
                }
            }
            _ => {}
        }
    }

    fn observe(&mut self) -> Result<(), Broken> {
        let shelf = self.store.shelf();
        for who in [Who::Server, Who::Command] {
            let node = self.nodes[who as usize].as_mut().unwrap();
            for (key, bytes) in &node.memory {
                let held = number(key).and_then(|id| node.custodian.ring().get(id, key.version));
                if held.is_none_or(|held| held.key().expose() != bytes) {
                    return Err(format!("{who:?} has not the {key} any more that it gave out"));
                }
            }
            let mut ahead = None;
            for id in (1..=3).map(id) {
                let ring = node.custodian.ring();
                let Some(version) = ring.latest(id) else { continue };
                let key = KeyRef::new(id, version);
                let Some(held) = ring.get(id, version) else {
                    return Err(format!("{who:?} encrypts with {key}, and does not give it out"));
                };
                let newest = node.memory.keys().filter(|one| one.name == key.name).max();
                if newest > Some(&key) {
                    return Err(format!("{who:?} encrypts with an older version: {key}"));
                }
                node.memory.insert(key.clone(), held.key().expose().to_vec());
                if shelf.active(&key.name) < Some(version) {
                    ahead = Some(key);
                }
            }
            if !node.is_current {
                continue;
            }
            let lost = node.memory.iter().find(|(key, bytes)| !shelf.shows(key, bytes));
            let degraded = node.custodian.status().degraded;
            match (degraded, lost) {
                (None, Some((lost, _))) => {
                    return Err(format!("{who:?} is well though this is lost: {lost}"));
                }
                // What it never gave out to encrypt with may be lost as well.
                (Some(state), None)
                    if ahead.is_none()
                        && node.knows_all
                        && shelf.shows_all(node.custodian.ring()) =>
                {
                    return Err(format!("{who:?} raises a false alarm: {}", state.cause));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether `key` can be read there as these bytes.
fn has(keys: &Keys, key: &KeyRef, bytes: &[u8]) -> bool {
    keys.get(key).is_some_and(|(state, one)| state.decrypts() && one == bytes)
}

fn id(number: u32) -> KeyId {
    KeyId::try_from(number).unwrap()
}

fn number(key: &KeyRef) -> Option<KeyId> {
    match key.name {
        KeyName::Id(id) => Some(id),
        KeyName::Named { .. } => None,
    }
}
