//! The manager changes keyward's own keystore: it makes keys and versions, changes their states,
//! destroys them and rewraps the store key. Each change is one commit, whoever asks for it: a server's
//! worker, SQL or the command.

#![forbid(unsafe_code)]

mod approvals;
mod approvers;
mod backup;
mod checkpoint;
mod data_backups;
mod destroy;
mod drill;
mod erase;
mod fork;
mod import;
mod keys;
mod named;
mod placed;
mod policy_runner;
mod register;
mod rescue;
mod restore;
mod retention;
mod rewrap;
mod rollback;
mod states;

use std::sync::Arc;

pub use approvals::Standing;
pub use approvers::of_approvers;
pub use backup::Readers;
pub use data_backups::DataBackup;
pub use destroy::Destruction;
pub use drill::Drilled;
pub use erase::Erasure;
pub use fork::Forked;
pub use import::ExportedKey;
pub use register::{Home, Judged};
pub use rescue::{Rescued, held_keys};
pub use restore::Restored;
pub use rewrap::{Rewrap, Rewrapped, WrapChange};
pub use rollback::Rollback;
pub use states::StateChange;

use crate::env::{Deadline, Env, Level};
use crate::error::{Error, Kind, Result};
use crate::event::{Appended, Event, Fault, Head, Record};
use crate::hex::Hex;
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef};
use crate::policy::{CheckpointPolicy, NextRotation, Policy, TrailPolicy};
use crate::ring::Ring;
use crate::secret::scrubbed;
use crate::source::{
    KeySource, KeystoreReader, LOCK_WAIT, Looked, Maintenance, NamedWrapper, Reason, Role,
    SourceState, Which,
};
use crate::store::{Change, Contents, Epoch, KeyEntry, Keystore, StoreFile, TrailAnchor};
use checkpoint::Checkpoints;
use policy_runner::PolicyRunner;
use register::Registering;
use retention::Retention;

/// Reads and changes one keystore of ours.
pub struct Manager {
    reader: KeystoreReader,
    cipher: Cipher,
    version_step: u32,
    runner: PolicyRunner,
    checkpoints: Box<Checkpoints>,
    trail: Box<Retention>,
    /// The generation that the next change is to be made from, whatever is in force.
    expected: Option<u64>,
    /// MySQL's keys whose storing ended with an unknown outcome.
    unconfirmed: Vec<KeyRef>,
    /// The server that this process is, to be registered.
    home: Option<Registering>,
}

/// A changed keystore, and the events for the audit trail.
struct Changed {
    after: Keystore,
    events: Vec<(Event, Vec<KeyRef>)>,
}

impl Manager {
    /// Of the keystore in `file`; nothing is read yet. New versions are `version_step` further on and
    /// made for `cipher` unless the version before has another.
    #[must_use]
    pub fn new(
        file: StoreFile,
        wrappers: Vec<NamedWrapper>,
        cipher: Cipher,
        version_step: u32,
        env: Env,
    ) -> Self {
        let reader = KeystoreReader::new(file, wrappers, env);
        let (runner, checkpoints, trail) =
            (PolicyRunner::default(), Box::default(), Box::default());
        let (expected, unconfirmed, home) = (None, Vec::new(), None);
        Self {
            reader,
            cipher,
            version_step,
            runner,
            checkpoints,
            trail,
            expected,
            unconfirmed,
            home,
        }
    }

    /// With a policy to keep; its version step goes for every rotation.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.version_step = policy.version_step;
        self.runner.policy = policy;
        self
    }

    /// With another time for checkpoints of the audit trail.
    #[must_use]
    pub fn with_checkpoints(mut self, policy: CheckpointPolicy) -> Self {
        self.checkpoints.policy = policy;
        self
    }

    /// With other limits of the audit trail's files, and another time that they are kept.
    #[must_use]
    pub fn with_trail_policy(mut self, policy: TrailPolicy) -> Self {
        self.trail.policy = policy;
        self
    }

    /// For the keystore alone of which an epoch's key has this fingerprint.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.reader = self.reader.with_fingerprint(fingerprint);
        self
    }

    /// For a process that may do what `role` says.
    #[must_use]
    pub fn as_role(mut self, role: Role) -> Self {
        self.begin(role);
        self
    }

    /// What reads the keystore.
    #[must_use]
    pub fn reader(&self) -> &KeystoreReader {
        &self.reader
    }

    /// What the keystore holds, as it was read last; nothing before the first reading.
    #[must_use]
    pub fn contents(&self) -> Option<&Contents> {
        self.reader.contents()
    }

    /// From now on, a change is made only from this generation; `State` where another is in force. So a
    /// change whose outcome is unknown can be called for again.
    pub fn expect_generation(&mut self, generation: u64) {
        self.expected = Some(generation);
    }

    /// What names the keystore's signing key to people. `State` in a keystore of format 1.
    pub fn fingerprint(&self) -> Result<Hex<32>> {
        let last = self.contents().and_then(|contents| contents.registers().epochs().last());
        last.map(Epoch::fingerprint).ok_or_else(|| {
            Error::new(Kind::State, "a keystore of format 1 has no fingerprint")
                .advise("the next change brings it to format 2")
        })
    }

    /// The next rotation that the policy brings.
    #[must_use]
    pub fn next_rotation(&self) -> Option<NextRotation> {
        let contents = self.contents()?;
        self.runner.policy.coming(contents.id(), contents.keys())
    }

    /// Everything that a change shares: lock, read again, change the copy, check, commit, and only
    /// then use it. A `change` that gives nothing had nothing to do. The keys that were changed.
    ///
    /// An error means that nothing was changed, except for `Unknown`. What fails after the commit is a
    /// line in the log.
    fn commit(
        &mut self,
        reason: Reason<'_>,
        change: impl FnOnce(&Self, &Keystore) -> Result<Option<Changed>>,
    ) -> Result<Vec<KeyRef>> {
        self.may_write()?;
        let lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        self.reader.load(Some(&lock))?;
        let before = self.reader.keystore()?;
        self.check_expected(before.contents())?;
        let Some(Changed { after, events }) = change(self, before)? else { return Ok(Vec::new()) };
        let after = self.registered_in(after);
        let keys: Vec<KeyRef> = events.iter().flat_map(|(_, keys)| keys).cloned().collect();
        prove(&after, &keys)?;
        let generation = before.contents().generation() + 1;
        let known = before.contents().registers().trail;
        let anchor = self.append(known, generation, Event::Intended, &keys, reason)?;
        let after = after.with_trail(anchor);
        let committed = self.reader.file.commit(&lock, &after, &*self.reader.env.rng);
        if committed.as_ref().err().is_none_or(|error| error.kind() == Kind::Unknown) {
            for (event, keys) in &events {
                // The change itself is on disk; the trail shows its intent.
                let told = self.append(Some(anchor), generation, *event, keys, reason);
                self.reader.warn_of(told.map(drop));
            }
        }
        match committed {
            Ok((keystore, stamp)) => {
                self.reader.adopt(keystore, stamp)?;
                self.reader.raise_guard(&lock, self.reader.keystore()?);
                self.checkpoint_after_change(reason.actor);
                Ok(keys)
            }
            Err(error) => {
                // It may be there.
                self.reader.read_again();
                Err(error)
            }
        }
    }

    fn may_write(&self) -> Result<()> {
        match self.reader.writes {
            true => Ok(()),
            false => Err(Error::new(Kind::Unsupported, "this process only reads keys")
                .advise("rotate in the server, or with `keyward rotate`")),
        }
    }

    fn check_expected(&self, found: &Contents) -> Result<()> {
        match self.expected {
            Some(expected) if expected != found.generation() => {
                let what = format!(
                    "{} is of generation {}, not {expected}",
                    self.reader.file.path().display(),
                    found.generation()
                );
                Err(Error::new(Kind::State, what)
                    .advise("nothing was changed: look at `keyward keys list`"))
            }
            _ => Ok(()),
        }
    }

    /// The key of the present epoch and its signature over `text`, which begins with the name of what it is, as no
    /// other kind of text does.
    pub fn sign(&mut self, text: &str) -> Result<(Hex<32>, [u8; 64])> {
        self.load()?;
        self.reader.keystore()?.sign(text)
    }

    /// Appends a line to the trail that data encrypted with `keys` is about to be read; to be called before
    /// it is.
    pub fn note(&mut self, event: Event, keys: &[KeyRef], reason: Reason<'_>) -> Result<()> {
        self.load()?;
        let _lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        let contents = self.reader.keystore()?.contents();
        let (known, generation) = (contents.registers().trail, contents.generation());
        self.append(known, generation, event, keys, reason).map(drop)
    }

    /// Appends a line to the trail, which `known` was in before. What that comes to is for the keystore to
    /// know.
    fn append(
        &self,
        known: Option<TrailAnchor>,
        generation: u64,
        event: Event,
        keys: &[KeyRef],
        reason: Reason<'_>,
    ) -> Result<TrailAnchor> {
        let (actor, reason) = (reason.actor, reason.text);
        let record = Record { event, keys, generation, actor, reason };
        let known = known.map(|TrailAnchor { line, head: hash }| Head { line, hash });
        let Appended { head, gone, damaged } =
            self.trail().append_after(known, &*self.reader.env.clock, &record)?;
        if let Some(name) = damaged {
            let line = format!(
                "the last line of the audit trail cannot be read: the file is kept as {name}, and a new one \
                 continues it; `keyward audit verify` shows all faults"
            );
            self.reader.env.log.log(Level::Warning, &line);
        }
        if let Some(gone) = gone {
            let missing = Fault::Missing { from: *gone.start(), to: *gone.end() };
            let line = format!(
                "of the audit trail {missing}, and it goes on with line {}; keep the older trail, if there \
                 is one, for who asks: `keyward audit verify` shows what is here",
                head.line
            );
            self.reader.env.log.log(Level::Warning, &line);
        }
        Ok(TrailAnchor { line: head.line, head: head.hash })
    }

    /// A change made now.
    fn change(&self, reason: Reason<'_>) -> Change {
        let (actor, reason) = (reason.actor.to_owned(), reason.text.to_owned());
        Change { at: self.reader.env.clock.now(), actor, reason }
    }
}

impl KeySource for Manager {
    fn ring(&self) -> &Arc<Ring> {
        self.reader.ring()
    }

    fn begin(&mut self, role: Role) {
        self.reader.begin(role);
    }

    fn has_changed(&self) -> bool {
        self.reader.has_changed()
    }

    fn load(&mut self) -> Result<()> {
        self.reader.load(None)
    }

    fn look_for(&mut self, _: KeyId, _: bool) -> Result<Looked> {
        if !self.has_changed() {
            return Ok(Looked::NothingNew);
        }
        self.load().map(|()| Looked::ReadAgain)
    }

    fn rotate(&mut self, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.reader.prove_before_new_key()?;
        self.commit(reason, |manager, before| {
            let changed = manager.rotated(before, which, false, reason)?;
            Ok((!changed.events.is_empty()).then_some(changed))
        })
    }

    fn create(&mut self, id: KeyId, cipher: Option<Cipher>, reason: Reason<'_>) -> Result<KeyRef> {
        self.reader.prove_before_new_key()?;
        let name = KeyName::from(id);
        let made = self.commit(reason, |manager, before| {
            if before.contents().key(&name).is_some() {
                return Err(Error::new(Kind::State, format!("key {id} already exists"))
                    .advise(format!("`keyward rotate {id}` gives it a new version")));
            }
            let key = KeyRef::new(name.clone(), before.contents().next_version(&name, 1)?);
            let cipher = cipher.unwrap_or(manager.cipher);
            let after = manager.with_new_key(before, &key, cipher, reason)?;
            Ok(Some(Changed { after, events: vec![(Event::KeyCreated, vec![key])] }))
        })?;
        let none = || Error::new(Kind::Internal, format!("key {id} was not made"));
        made.into_iter().next().ok_or_else(none)
    }

    fn keys(&self) -> Vec<KeyInfo> {
        self.reader.keys()
    }

    /// Without a copy of each name: it is done after each change.
    fn counts(&self) -> (usize, usize) {
        let decrypting = |key: &KeyEntry| key.versions().filter(|one| one.state.decrypts()).count();
        let keys = self.contents().into_iter().flat_map(Contents::keys).map(decrypting);
        keys.filter(|of_key| *of_key > 0)
            .fold((0, 0), |(keys, all), of_key| (keys + 1, all + of_key))
    }

    fn state(&self) -> SourceState {
        self.reader.state()
    }

    fn maintenance(&self) -> Vec<Maintenance> {
        self.reader.maintenance()
    }
}

/// What was wrapped is unwrapped and compared before anybody relies on it.
fn prove(keystore: &Keystore, keys: &[KeyRef]) -> Result<()> {
    let lives =
        |key: &&KeyRef| keystore.contents().info(key).is_none_or(|info| info.state.decrypts());
    // One wipe of the stack for all keys, not one for each.
    scrubbed(|| keys.iter().filter(lives).try_for_each(|key| keystore.data_key(key).map(drop)))
}
