//! The world of a sequence: a keystore's folder, two processes that use it, somebody who tampers with it,
//! and the reference that says what must hold.

mod changes;
mod files;
mod processes;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward::Result;
use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Deadline, Timestamp};
use keyward::key::{KeyId, KeyName, KeyRef};
use keyward::provider::KeyWrapper as _;
use keyward::secret::DataKey;
use keyward::source::Reason;
use keyward::store::{Keystore, StoreFile, Wrapping};

use self::files::{Entry, Files, GuardIs};
use self::processes::Node;
use self::reference::Reference;
use crate::dice::Dice;
use crate::life::{Broken, Life};
use crate::sequence::{self, Change, Op, Who};
use crate::sim_disk::{Fate, SimDisk, Survival};
use crate::stage::{Locks, Plain};

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };
const START: Timestamp = Timestamp::from_unix(1_700_000_000);
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct World {
    folder: tempfile::TempDir,
    locks: Locks,
    disk: SimDisk,
    rng: Arc<FakeRng>,
    clock: Arc<FakeClock>,
    log: Arc<FakeLog>,
    nodes: [Option<Node>; 2],
    copies: Vec<Files>,
    /// The files as keyward left them last.
    ours: Files,
    guard: GuardIs,
    /// Whether somebody put another keystore in the place of ours, and no process took it for good yet.
    forked: bool,
    trail_is_ours: bool,
    /// The guard as somebody left it.
    spoilt: Option<Vec<u8>>,
    /// How many lines the log had then.
    since: usize,
    reference: Reference,
    /// The keystore that was opened last, by its bytes.
    opened: Option<(Vec<u8>, BTreeMap<KeyRef, Entry>)>,
    /// What came of each step, in words.
    pub(crate) told: Vec<String>,
}

/// The life of a keystore.
pub(crate) struct OfKeystore;

impl Life for OfKeystore {
    type Op = Op;
    const KINDS: usize = sequence::KINDS;

    fn op(dice: &mut Dice) -> Op {
        dice.op()
    }

    fn kind(op: Op) -> usize {
        op.kind()
    }

    fn simpler(op: Op) -> Vec<Op> {
        sequence::simpler(op)
    }

    fn run(ops: &[Op], told: &mut Vec<String>) -> std::result::Result<(), (usize, Broken)> {
        let mut world = World::new();
        for (at, op) in ops.iter().enumerate() {
            let outcome = world.apply(*op);
            told.push(format!("{:>3}  {op}  {}", at + 1, world.told.join("; ")));
            world.told.clear();
            outcome.map_err(|broken| (at, broken))?;
        }
        let outcome = world.end();
        told.push(format!("end  {}", world.told.join("; ")));
        outcome.map_err(|broken| (ops.len(), broken))
    }
}

impl World {
    /// Both processes on a keystore with keys 1 and 2.
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let mut world = Self {
            folder,
            locks: Locks::default(),
            disk: SimDisk::default(),
            rng: Arc::new(FakeRng::new(7)),
            clock: Arc::new(FakeClock::at(START)),
            log: Arc::default(),
            nodes: [None, None],
            copies: Vec::new(),
            ours: Files::default(),
            guard: GuardIs::Ours,
            forked: false,
            trail_is_ours: true,
            spoilt: None,
            since: 0,
            reference: Reference::default(),
            opened: None,
            told: Vec::new(),
        };
        world.found().unwrap();
        for id in [1, 2] {
            world.apply(Op::Do(Who::Command, Change::Create(id))).unwrap();
        }
        world.apply(Op::Read(Who::Server)).unwrap();
        world.told.clear();
        world
    }

    fn found(&mut self) -> Result<()> {
        let store_key = DataKey::generate(32, &*self.rng)?;
        let id = Keystore::new_id(&*self.rng)?;
        let key = Plain.wrap(&store_key, &Keystore::first_context(&id), soon())?;
        let wrappings = vec![Wrapping { provider: "plain".to_owned(), key }];
        let keystore = Keystore::create(&id, store_key, wrappings, START, &*self.rng)?;
        let file = StoreFile::on(self.path(), Arc::new(self.stage()));
        let lock = file.lock(soon())?;
        file.commit(&lock, &keystore, &*self.rng)?;
        drop(lock);
        self.ours = self.files();
        Ok(())
    }

    /// Does `op`, and checks that what must hold holds.
    pub(crate) fn apply(&mut self, op: Op) -> Result<(), Broken> {
        match op {
            Op::Do(who, change) => self.change(who, change, Fate::None)?,
            Op::Fail(who, change, at) => {
                self.change(who, change, Fate::FailAt(at, libc::EIO))?;
            }
            Op::Crash(who, change, at, names, bytes) => {
                self.crash(who, change, at, Survival { names, bytes })?;
            }
            Op::During(who, change, at, other) => self.during(who, change, at, other)?,
            Op::ReadDuring(who, at, other) => {
                self.read(who, Some((at, other)))?;
            }
            Op::Read(who) => self.read(who, None)?,
            Op::RestartDuring(who, at, other) => self.restart(who, Some((at, other)))?,
            Op::Restart(who) => self.restart(who, None)?,
            Op::AcceptRollback => self.accept()?,
            Op::Clock(days) => self.clock.advance(DAY * days),
            _ => self.tamper(op),
        }
        self.observe()
    }

    /// The end: both start again.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        for who in [Who::Server, Who::Command] {
            self.apply(Op::Restart(who))?;
        }
        Ok(())
    }
}

pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub(super) fn id(number: u32) -> KeyId {
    KeyId::try_from(number).unwrap()
}

pub(super) fn number(key: &KeyRef) -> Option<KeyId> {
    match key.name {
        KeyName::Id(id) => Some(id),
        KeyName::Named { .. } => None,
    }
}

pub(super) fn ids(custodian: &Custodian) -> BTreeSet<KeyId> {
    custodian.keys().iter().filter_map(|info| number(&info.key)).collect()
}
