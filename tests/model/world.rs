//! The world of a sequence: a keystore's folder, two processes that use it, somebody who tampers with it,
//! and the reference that says what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Deadline, Env, Level, Timestamp};
use keyward::key::{Cipher, KeyId, KeyName, KeyRef, KeyState, KeyVersion};
use keyward::manager::{Destruction, Judged, Manager, Rewrap, StateChange};
use keyward::provider::KeyWrapper as _;
use keyward::secret::DataKey;
use keyward::source::{Reason, Role, Which as Keys};
use keyward::store::{Disk as _, Keystore, StoreFile, Wrapping};
use keyward::{Error, Result};

use crate::sequence::{Change, Op, Which, Who};
use crate::sim_disk::{Fate, SimDisk, Survival};
use crate::stage::{Locks, Plain, Stage, wrapper};

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };
const START: Timestamp = Timestamp::from_unix(1_700_000_000);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

const KEYSTORE: &str = "/store/keystore.json";
const GUARD: &str = "/store/keystore.json.witness";
const TRAIL: &str = "audit.jsonl";

/// How many older copies there are to put back.
const COPIES: usize = 12;

/// What is wrong, in words.
pub(crate) type Broken = String;

/// What a change did.
#[derive(Default)]
struct Done {
    /// Whether there was nothing to do, so that nothing was looked at either.
    idle: bool,
    changed: Vec<KeyRef>,
    destroyed: Option<KeyRef>,
    compromised: Option<KeyRef>,
}

/// One process.
struct Node {
    custodian: Arc<Custodian>,
    stage: Stage,
    /// Every version that it gave out as the newest.
    memory: BTreeMap<KeyRef, Vec<u8>>,
    /// The keystore's bytes as it read them last, unless somebody tampered since.
    seen: Option<Vec<u8>>,
    /// Whether the keystore lost what it holds, and somebody accepted that or nobody could know.
    estranged: bool,
}

/// All files of the folder.
#[derive(Clone, Default, PartialEq, Eq)]
struct Files {
    keystore: Option<Vec<u8>>,
    guard: Option<Vec<u8>>,
    trail: Option<Vec<u8>>,
}

/// What somebody did to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardIs {
    Ours,
    /// One of ours that is older than the newest keystore: put back, or the newest could not be written,
    /// which a warning says. With a keystore of its time, nobody can tell from this folder.
    Older,
    Gone,
    Spoilt,
}

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
    /// Whether nothing could tell of that once: then the guard was as old.
    was_open: bool,
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

/// A version as it is in the file.
#[derive(Clone)]
struct Entry {
    state: KeyState,
    bytes: Option<Vec<u8>>,
}

/// What must hold.
#[derive(Default)]
struct Reference {
    /// The key of each number that was ever in force.
    numbers: BTreeMap<KeyRef, Vec<u8>>,
    /// What was reported as made, or given out to encrypt with, while all was well.
    required: BTreeSet<KeyRef>,
    compromised: BTreeSet<KeyRef>,
    destroyed: BTreeSet<KeyRef>,
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
            was_open: false,
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
            _ => {
                self.tamper(op);
                self.was_open = self.forked && (self.was_open || self.guard == GuardIs::Older);
            }
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

    // Files.

    fn path(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    fn stage(&self) -> Stage {
        Stage::new(self.disk.clone(), self.folder.path(), &self.locks)
    }

    fn files(&self) -> Files {
        let read = |path: &str| self.disk.read(path.as_ref(), usize::MAX).ok().map(|read| read.0);
        let trail = std::fs::read(self.folder.path().join(TRAIL)).ok();
        Files { keystore: read(KEYSTORE), guard: read(GUARD), trail }
    }

    fn put(&self, path: &str, bytes: Option<&[u8]>) {
        let path: &Path = path.as_ref();
        let _ = self.disk.remove(path);
        if let Some(bytes) = bytes {
            let mut file = self.disk.create(path, 0o600, (27, 27)).unwrap();
            file.write_all(bytes).unwrap();
            file.sync().unwrap();
        }
        self.disk.sync_folder("/store".as_ref()).unwrap();
    }

    fn put_trail(&self, bytes: Option<&[u8]>) {
        let path = self.folder.path().join(TRAIL);
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
    }

    /// Every version in the file, opened by its store key whatever the guard says; nothing where the file
    /// does not open.
    fn raw(&mut self) -> BTreeMap<KeyRef, Entry> {
        let Some(bytes) = self.files().keystore else { return BTreeMap::new() };
        if let Some((known, entries)) = &self.opened
            && *known == bytes
        {
            return entries.clone();
        }
        let entries = self.open().unwrap_or_default();
        self.opened = Some((bytes, entries.clone()));
        entries
    }

    fn open(&self) -> Result<BTreeMap<KeyRef, Entry>> {
        let file = StoreFile::on(self.path(), Arc::new(self.stage()));
        let sealed = file.read()?.0;
        let contents = sealed.unverified();
        let wrapping = &contents.wrappings()[0];
        let store_key = Plain.unwrap(&wrapping.key, &contents.wrap_context(), soon())?;
        let keystore = sealed.open(store_key)?;
        let mut entries = BTreeMap::new();
        for key in keystore.contents().keys() {
            for version in key.versions() {
                let (name, state) =
                    (KeyRef::new(key.name().clone(), version.version), version.state);
                let bytes = match state.decrypts() {
                    true => Some(keystore.data_key(&name)?.expose().to_vec()),
                    false => None,
                };
                entries.insert(name, Entry { state, bytes });
            }
        }
        Ok(entries)
    }

    fn is_tampered_with(&self) -> bool {
        let now = self.files();
        let guard = self.guard != GuardIs::Ours && now.guard != self.ours.guard;
        guard || now.keystore != self.ours.keystore
    }

    /// Takes the files for keyward's own.
    fn settle(&mut self) {
        self.reconcile();
        let mut now = self.files();
        if matches!(self.guard, GuardIs::Gone | GuardIs::Spoilt) {
            // A commit leaves a guard that it cannot read as it is.
            now.guard = self.ours.guard.clone();
        }
        if now.keystore != self.ours.keystore {
            if std::mem::take(&mut self.forked) {
                self.estrange();
            }
            if now.keystore.is_some() {
                self.copies.push(now.clone());
                let older = self.copies.len().saturating_sub(COPIES);
                self.copies.drain(..older);
            }
        }
        self.ours = now;
        if matches!(self.guard, GuardIs::Ours | GuardIs::Older) {
            self.guard = self.own_guard();
            self.spoilt = self.ours.guard.clone();
        }
    }

    /// What our own guard can tell.
    fn own_guard(&self) -> GuardIs {
        let guard = self.ours.guard.as_deref().map(revision);
        match guard >= self.ours.keystore.as_deref().map(revision) {
            true => GuardIs::Ours,
            false => GuardIs::Older,
        }
    }

    // Processes.

    fn env(&self) -> Env {
        Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() }
    }

    fn source(&self, stage: &Stage) -> Manager {
        let file = StoreFile::on(self.path(), Arc::new(stage.clone()));
        Manager::new(file, vec![wrapper()], Cipher::DEFAULT, 2, self.env())
    }

    /// The process, started where it does not run; none where it does not start.
    fn running(&mut self, who: Who) -> Result<Option<&mut Node>, Broken> {
        if self.nodes[who as usize].is_none() {
            self.start(who, None)?;
        }
        Ok(self.nodes[who as usize].as_mut())
    }

    fn start(&mut self, who: Who, during: Option<(usize, Change)>) -> Result<(), Broken> {
        let stage = self.stage();
        let other = self.hook(who, during, &stage, false)?;
        let tampered = self.is_tampered_with();
        let role = if who == Who::Server { Role::Daemon } else { Role::Command };
        let started = Custodian::start(self.source(&stage), role, self.env());
        stage.calm();
        let happened = self.note_other(other)?;
        match started {
            Err(error) if !tampered => Err(format!("{who:?} does not start: {error}")),
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                Ok(())
            }
            Ok(custodian) => {
                self.judge("a start succeeds")?;
                self.settle();
                let custodian = Arc::new(custodian);
                // It may have read before the other's change.
                let seen = self.files().keystore.filter(|_| !happened);
                self.nodes[who as usize] = Some(Node {
                    custodian,
                    stage,
                    memory: BTreeMap::new(),
                    seen,
                    estranged: false,
                });
                Ok(())
            }
        }
    }

    /// Who takes the keystore for good finds everything in it, unless that cannot be known or a warning
    /// says so.
    fn judge(&mut self, what: &str) -> Result<(), Broken> {
        self.follow_fork();
        match self.lost().first() {
            None => Ok(()),
            Some(lost) => {
                Err(format!("{what} though {lost} is lost (the guard: {:?})", self.guard))
            }
        }
    }

    /// Where a process wrote the guard again: a loss that nobody could know of, or that a warning tells
    /// of, is none of its.
    fn reconcile(&mut self) {
        if self.guard == GuardIs::Ours || self.files().guard == self.spoilt {
            return;
        }
        self.follow_fork();
        self.guard = GuardIs::Ours;
    }

    /// What somebody put in the keystore's place counts from now on, where a process took it for good and
    /// may do so.
    fn follow_fork(&mut self) {
        if self.forked && self.files().keystore != self.ours.keystore && self.is_excused() {
            self.begin_another_history();
        }
    }

    /// Whether nothing in the folder can tell of a keystore that is older than the newest, or a warning
    /// does. All that is left then is what the other process has in memory, and the mark in the data
    /// directory, which has tests of its own.
    fn is_excused(&self) -> bool {
        let lines = self.log.lines();
        let is_told =
            |line: &(Level, String)| line.0 != Level::Note && line.1.contains("rollback guard");
        match self.guard {
            GuardIs::Ours => false,
            GuardIs::Older => true,
            GuardIs::Gone | GuardIs::Spoilt => lines[self.since..].iter().any(is_told),
        }
    }

    /// Copies of the history that was are of another keystore, so to speak.
    fn begin_another_history(&mut self) {
        for key in self.lost() {
            self.reference.required.remove(&key);
            self.reference.numbers.remove(&key);
        }
        let raw = self.raw();
        let is = |key: &KeyRef, bytes: &Vec<u8>| {
            raw.get(key).is_some_and(|entry| entry.bytes.as_ref().is_none_or(|one| one == bytes))
        };
        self.reference.numbers.retain(|key, bytes| is(key, bytes));
        self.forgive_states();
        self.copies.clear();
        self.estrange();
    }

    /// What must be there, and is not.
    fn lost(&mut self) -> Vec<KeyRef> {
        let raw = self.raw();
        let same = |key: &KeyRef| {
            let bytes = raw.get(key).and_then(|entry| entry.bytes.as_ref());
            bytes.is_some() && bytes == self.reference.numbers.get(key)
        };
        self.reference.required.iter().filter(|key| !same(key)).cloned().collect()
    }

    /// Who runs refuses an older copy, whoever accepted it, until it starts again.
    fn estrange(&mut self) {
        self.nodes.iter_mut().flatten().for_each(|node| node.estranged = true);
    }

    /// The states of an older copy that is in force now are the ones that count.
    fn forgive_states(&mut self) {
        let raw = self.raw();
        let is = |key: &KeyRef, state| raw.get(key).is_some_and(|entry| entry.state == state);
        self.reference.compromised.retain(|key| is(key, KeyState::Compromised));
        self.reference.destroyed.retain(|key| is(key, KeyState::Destroyed));
    }

    fn restart(&mut self, who: Who, during: Option<(usize, Change)>) -> Result<(), Broken> {
        self.nodes[who as usize] = None;
        self.start(who, during)
    }

    fn read(&mut self, who: Who, during: Option<(usize, Change)>) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let (custodian, stage) = (Arc::clone(&node.custodian), node.stage.clone());
        let estranged = node.estranged;
        let tampered = self.is_tampered_with() || estranged;
        let other = self.hook(who, during, &stage, false)?;
        let outcome = custodian.refresh();
        stage.calm();
        let happened = self.note_other(other)?;
        match outcome {
            Err(error) if !tampered => Err(format!("{who:?} raises a false alarm: {error}")),
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                Ok(())
            }
            // It may have read before the other's change.
            Ok(()) if happened => Ok(()),
            Ok(()) => {
                match self.forked && self.was_open {
                    // It may have read the keystore then, and need not look at it again.
                    true => self.begin_another_history(),
                    false => self.judge("a process goes on")?,
                }
                self.settle();
                self.saw(who);
                Ok(())
            }
        }
    }

    fn saw(&mut self, who: Who) {
        let seen = self.files().keystore;
        if let Some(node) = &mut self.nodes[who as usize] {
            (node.seen, node.estranged) = (seen, false);
        }
    }

    // Changes.

    fn change(&mut self, who: Who, change: Change, fate: Fate) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let custodian = Arc::clone(&node.custodian);
        let before = self.files().keystore;
        self.disk.meet(fate);
        let outcome = perform(&custodian, change);
        self.disk.meet(Fate::None);
        self.note(who, outcome, Some(before))
    }

    /// Takes note of how a change ended; `before` is the keystore as it was, where nobody else changed it.
    fn note(
        &mut self,
        who: Who,
        outcome: Result<Done>,
        before: Option<Option<Vec<u8>>>,
    ) -> Result<(), Broken> {
        match outcome {
            Ok(done) if done.idle => Ok(()),
            Ok(done) => {
                self.succeeded(done)?;
                self.settle();
                self.saw(who);
                Ok(())
            }
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                let changed = before.is_some_and(|before| before != self.files().keystore);
                match (changed, is_unknown(&error)) {
                    (true, false) => {
                        Err(format!("an error, and the keystore has changed: {error}"))
                    }
                    (true, true) => {
                        self.judge("a change may be made")?;
                        self.settle();
                        Ok(())
                    }
                    (false, _) => Ok(()),
                }
            }
        }
    }

    fn succeeded(&mut self, done: Done) -> Result<(), Broken> {
        self.follow_fork();
        self.reconcile();
        let raw = self.raw();
        for key in &done.changed {
            self.told.push(format!("{key}"));
            let Some(entry) = raw.get(key) else {
                return Err(format!("{key} was reported and is not in the keystore"));
            };
            if let Some(bytes) = &entry.bytes {
                self.reference.number(key, bytes)?;
                self.reference.required.insert(key.clone());
            }
        }
        if let Some(key) = done.destroyed {
            self.told.push(format!("{key} is destroyed"));
            self.reference.required.remove(&key);
            self.reference.destroyed.insert(key);
        }
        if let Some(key) = done.compromised {
            self.reference.compromised.insert(key);
        }
        Ok(())
    }

    fn crash(
        &mut self,
        who: Who,
        change: Change,
        at: usize,
        survival: Survival,
    ) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let custodian = Arc::clone(&node.custodian);
        let (tampered, before) = (self.is_tampered_with(), self.files().keystore);
        self.disk.meet(Fate::DieAt(at));
        let outcome = perform(&custodian, change);
        drop(custodian);
        self.nodes = [None, None];
        self.locks.lock().unwrap().clear();
        self.disk = self.disk.after_power_cut(survival);
        // What was reported before the power went is for ever, unless it is what went wrong.
        match outcome {
            Ok(done) if done.idle => {}
            Ok(done) => self.succeeded(done)?,
            Err(error) => self.told.push(format!("died: {error}")),
        }
        if !tampered || before != self.files().keystore {
            self.settle();
        }
        for who in [Who::Server, Who::Command] {
            self.start(who, None)?;
        }
        Ok(())
    }

    /// Both make a change at once; the lock was removed where the first one had it.
    fn during(&mut self, who: Who, change: Change, at: usize, other: Change) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let (custodian, stage) = (Arc::clone(&node.custodian), node.stage.clone());
        let slot = self.hook(who, Some((at, other)), &stage, true)?;
        let before = self.files().keystore;
        let outcome = perform(&custodian, change);
        stage.calm();
        let changed_by_other = self.note_other(slot)?;
        self.note(who, outcome, (!changed_by_other).then_some(before))?;
        if changed_by_other {
            // Either may have made its change after the other's.
            self.nodes.iter_mut().flatten().for_each(|node| node.seen = None);
        }
        Ok(())
    }

    /// Has the other process make a change at a call of this one's.
    fn hook(
        &mut self,
        who: Who,
        during: Option<(usize, Change)>,
        stage: &Stage,
        loses_lock: bool,
    ) -> Result<Slot, Broken> {
        let slot = Slot::default();
        let Some((at, change)) = during else { return Ok(slot) };
        let Some(other) = self.running(who.other())? else { return Ok(slot) };
        let (custodian, locks) = (Arc::clone(&other.custodian), Arc::clone(&self.locks));
        let result = Arc::clone(&slot);
        stage.at(at, move || {
            let mut held = locks.lock().unwrap();
            if loses_lock {
                held.clear();
            }
            // It would wait for the lock, and this very thread has that.
            let waits = !held.is_empty();
            drop(held);
            if !waits {
                *result.lock().unwrap() = Some((who.other(), perform(&custodian, change)));
            }
        });
        Ok(slot)
    }

    /// What the other process did meanwhile; whether it changed the keystore.
    fn note_other(&mut self, slot: Slot) -> Result<bool, Broken> {
        let Some((who, outcome)) = slot.lock().unwrap().take() else { return Ok(false) };
        self.told.push("meanwhile:".to_owned());
        let changed = outcome.as_ref().is_ok_and(|done| !done.idle);
        self.note(who, outcome, None)?;
        Ok(changed)
    }

    fn accept(&mut self) -> Result<(), Broken> {
        let before = self.files().keystore;
        let stage = self.stage();
        match self.source(&stage).accept_rollback(REASON) {
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                match before == self.files().keystore || is_unknown(&error) {
                    true => Ok(()),
                    false => Err(format!("an error, and the keystore has changed: {error}")),
                }
            }
            Ok(_) => {
                self.told.push("accepted".to_owned());
                for key in self.lost() {
                    // Its number is taken for ever.
                    self.reference.required.remove(&key);
                }
                self.forgive_states();
                self.estrange();
                self.settle();
                Ok(())
            }
        }
    }

    // Somebody who tampers.

    fn tamper(&mut self, op: Op) {
        self.nodes.iter_mut().flatten().for_each(|node| node.seen = None);
        let copy =
            |age: usize| self.copies.iter().rev().nth(age % self.copies.len().max(1)).cloned();
        match op {
            Op::PutBack(which, age) => {
                if let Some(copy) = copy(age) {
                    self.put_one(which, copy, GuardIs::Older);
                }
            }
            Op::PutAllBack(age) => {
                if let Some(copy) = copy(age) {
                    for which in [Which::Keystore, Which::Guard, Which::Trail] {
                        self.put_one(which, copy.clone(), GuardIs::Older);
                    }
                }
            }
            Op::Vanish(which) => self.put_one(which, Files::default(), GuardIs::Gone),
            Op::Alter(which, at) => {
                let mut files = self.files();
                let place = match which {
                    Which::Keystore => &mut files.keystore,
                    Which::Guard => &mut files.guard,
                    Which::Trail => &mut files.trail,
                };
                let Some(bytes) = place.as_mut().filter(|bytes| !bytes.is_empty()) else { return };
                let at = at % bytes.len();
                bytes[at] ^= 1;
                self.put_one(which, files, GuardIs::Spoilt);
            }
            Op::Forge(age) => {
                if let Some(copy) = copy(age) {
                    let forged = self.forged(&copy);
                    self.put_one(Which::Keystore, copy.clone(), GuardIs::Ours);
                    if forged.is_some() {
                        self.put_one(
                            Which::Guard,
                            Files { guard: forged, ..copy },
                            GuardIs::Spoilt,
                        );
                    }
                }
            }
            Op::PutRight => {
                let ours = self.ours.clone();
                self.put(KEYSTORE, ours.keystore.as_deref());
                self.put(GUARD, ours.guard.as_deref());
                self.put_trail(ours.trail.as_deref());
                (self.guard, self.spoilt) = (self.own_guard(), ours.guard);
                self.forked = false;
            }
            _ => {}
        }
    }

    fn put_one(&mut self, which: Which, files: Files, guard: GuardIs) {
        match which {
            Which::Keystore => {
                self.put(KEYSTORE, files.keystore.as_deref());
                (self.forked, self.was_open) = (files.keystore != self.ours.keystore, false);
            }
            Which::Trail => self.put_trail(files.trail.as_deref()),
            Which::Guard => {
                self.put(GUARD, files.guard.as_deref());
                self.since = self.log.lines().len();
                let is_ours = files.guard == self.ours.guard;
                self.guard = if is_ours { self.own_guard() } else { guard };
                // A copy of before the first guard.
                if files.guard.is_none() && !is_ours {
                    self.guard = GuardIs::Gone;
                }
                self.spoilt = files.guard;
            }
        }
    }

    /// A guard for an older keystore, written by hand as if a store key that is gone had made it.
    fn forged(&self, copy: &Files) -> Option<Vec<u8>> {
        let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let mut guard = parse(self.ours.guard.as_deref()?)?;
        guard["generation"] = revision(copy.keystore.as_deref()?).1.into();
        guard["version"] = 1.into();
        guard["store_key"] = 1000.into();
        guard.as_object_mut()?.remove("epoch");
        serde_json::to_vec_pretty(&guard).ok()
    }

    // What must hold.

    fn observe(&mut self) -> Result<(), Broken> {
        let (raw, now) = (self.raw(), self.files().keystore);
        for (place, who) in [Who::Server, Who::Command].into_iter().enumerate() {
            let Some(node) = &mut self.nodes[place] else { continue };
            for (key, bytes) in &node.memory {
                let held = number(key).and_then(|id| node.custodian.key(id, key.version));
                if held.is_none_or(|held| held.key().expose() != bytes) {
                    return Err(format!("{who:?} has not the {key} any more that it gave out"));
                }
            }
            let is_well = node.seen.is_some()
                && node.seen == now
                && node.custodian.status().degraded.is_none();
            for id in ids(&node.custodian) {
                let Some(version) = node.custodian.latest(id) else { continue };
                let key = KeyRef::new(id, version);
                let Some(held) = node.custodian.key(id, version) else {
                    return Err(format!("{who:?} encrypts with {key}, and does not give it out"));
                };
                let bytes = held.key().expose().to_vec();
                if is_well {
                    self.reference.number(&key, &bytes)?;
                    if self.reference.compromised.contains(&key) {
                        return Err(format!("{who:?} encrypts with {key}, which is compromised"));
                    }
                    self.reference.required.insert(key.clone());
                }
                node.memory.insert(key, bytes);
            }
            if !is_well {
                continue;
            }
            for (key, bytes) in &node.memory {
                let kept = raw.get(key).and_then(|entry| entry.bytes.as_ref()) == Some(bytes);
                if !kept && !self.reference.destroyed.contains(key) {
                    return Err(format!(
                        "{who:?} is well and holds {key}, which the keystore has not"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Reference {
    /// That number's key is in force.
    fn number(&mut self, key: &KeyRef, bytes: &[u8]) -> Result<(), Broken> {
        match self.numbers.get(key) {
            Some(known) if known != bytes => Err(format!("{key} is another key than before")),
            Some(_) => Ok(()),
            None => {
                self.numbers.insert(key.clone(), bytes.to_vec());
                Ok(())
            }
        }
    }
}

/// Epoch and generation of a keystore or a guard; none where it is damaged.
fn revision(bytes: &[u8]) -> (u64, u64) {
    #[derive(serde::Deserialize)]
    struct Revision {
        epoch: Option<u64>,
        generation: u64,
    }
    let read: Option<Revision> = serde_json::from_slice(bytes).ok();
    read.map_or((0, 0), |read| (read.epoch.unwrap_or(1), read.generation))
}

/// Where what the other process did is told.
type Slot = Arc<Mutex<Option<(Who, Result<Done>)>>>;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
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

fn ids(custodian: &Custodian) -> BTreeSet<KeyId> {
    custodian.keys().iter().filter_map(|info| number(&info.key)).collect()
}

/// Whether an error says that the change may have been made all the same.
fn is_unknown(error: &Error) -> bool {
    format!("{:?}", error.kind()) == "Unknown"
}

/// The `nth` version of a key from the newest on; its first where there are none so many.
fn nth(custodian: &Custodian, number: u32, nth: usize) -> KeyRef {
    let entry = custodian.entry(&id(number).into());
    let version = entry.and_then(|entry| Some(entry.versions().rev().nth(nth)?.version));
    KeyRef::new(id(number), version.unwrap_or(KeyVersion::FIRST))
}

fn perform(custodian: &Custodian, change: Change) -> Result<Done> {
    let changed = |changed| Done { changed, ..Done::default() };
    match change {
        Change::Create(number) => {
            custodian.create(id(number), None, REASON).map(|made| changed(vec![made]))
        }
        Change::Rotate(number) => custodian.rotate(Keys::One(id(number)), REASON).map(changed),
        Change::RotateAll => custodian.rotate(Keys::All, REASON).map(changed),
        Change::Undo(number) => custodian
            .manager()
            .unwrap()
            .change_state(&StateChange::Undo(id(number)), REASON)
            .map(changed),
        Change::Compromise(number, at) => {
            let key = nth(custodian, number, at);
            let all = custodian
                .manager()
                .unwrap()
                .change_state(&StateChange::Compromised(key.clone()), REASON)?;
            Ok(Done { compromised: Some(key), ..changed(all) })
        }
        Change::Retire(number, at) => custodian
            .manager()
            .unwrap()
            .change_state(&StateChange::Retire(nth(custodian, number, at)), REASON)
            .map(changed),
        Change::Plan(number, at) => {
            let plan = Destruction::Plan(nth(custodian, number, at), WEEK);
            custodian
                .manager()
                .unwrap()
                .destroy(&plan, &Judged::default(), REASON)
                .map(|()| Done::default())
        }
        Change::CarryOut => {
            match custodian.manager().unwrap().pending_destructions().into_iter().next() {
                None => Ok(Done { idle: true, ..Done::default() }),
                Some((key, _)) => custodian
                    .manager()
                    .unwrap()
                    .destroy(&Destruction::CarryOut(key.clone()), &Judged::default(), REASON)
                    .map(|()| Done { destroyed: Some(key), ..Done::default() }),
            }
        }
        Change::Cancel => {
            match custodian.manager().unwrap().pending_destructions().into_iter().next() {
                None => Ok(Done { idle: true, ..Done::default() }),
                Some((key, _)) => custodian
                    .manager()
                    .unwrap()
                    .destroy(&Destruction::Cancel(key), &Judged::default(), REASON)
                    .map(|()| Done::default()),
            }
        }
        Change::NewStoreKey => custodian
            .manager()
            .unwrap()
            .rewrap(Rewrap::NewStoreKey { prune: false }, REASON)
            .map(|_| Done::default()),
        Change::Rewrap => {
            custodian.manager().unwrap().rewrap(Rewrap::ToLatest, REASON).map(|_| Done::default())
        }
    }
}
