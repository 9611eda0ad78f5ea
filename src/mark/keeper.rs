//! Who keeps the mark of one server: compares at the start, writes before a version is used.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::data::{Findings, Place, examine, examine_system, is_encrypted};
use super::file::{MARK_NAME, MarkFile, Read};
use super::format::{Difference, Mark};
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyName, KeyRef};
use crate::ring::{NamedKeys, Ring, Watch};
use crate::secret::scrubbed;
use crate::store::{Keystore, OsDisk};

/// How long pages beyond the first are looked at where the mark and the keys differ.
const WITH_A_DIFFERENCE: Duration = Duration::from_secs(10);

/// The same where there is no mark: the server starts for the first time, or after a restore.
const WITHOUT_A_MARK: Duration = Duration::from_secs(2);

/// Files of which one is in every data directory that a server has begun to use.
const SIGNS: [&str; 3] = ["ibdata1", "aria_log_control", "mysql.ibd"];

/// How the name of a key source begins that is no keystore of ours.
const SERVED_BY: &str = "provider:";

/// The server whose mark is kept.
pub struct Setting<'a> {
    /// Its data directory.
    pub folder: &'a Path,
    /// Whose keys were opened: a keystore's id, or `provider:` and a name.
    pub keystore: String,
    /// Whether the start is refused where the data need other keys; otherwise a warning is given.
    pub refuses: bool,
    /// What an operator can write to have it not refused.
    pub way_round: Option<&'a str>,
}

/// The mark of a server that runs.
pub struct Keeper {
    file: MarkFile,
    folder: PathBuf,
    keystore: String,
    env: Env,
    /// Whether the server has asked for a key: before, the data directory may be another's.
    begun: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// As it is on disk.
    mark: Option<Mark>,
    /// Listed versions that we lack, and nobody knows whether a page needs them.
    unsettled: Vec<KeyRef>,
    /// Whether a newer keyward's mark is in the place.
    newer: bool,
    /// Why it could not be written last.
    problem: Option<String>,
}

/// The keystore that the mark in `folder` names, where there is one.
#[must_use]
pub fn keystore_of(folder: &Path) -> Option<String> {
    match MarkFile::of(folder, Arc::new(OsDisk)).read() {
        Read::Mark(mark) => Some(mark.keystore().to_owned()),
        Read::None | Read::Unusable(_) => None,
    }
}

/// This machine's name, as the register of data directories has it.
#[must_use]
pub fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// The id of the mark in `folder`, where there is one.
#[must_use]
pub fn id_of(folder: &Path) -> Option<String> {
    match MarkFile::of(folder, Arc::new(OsDisk)).read() {
        Read::Mark(mark) => Some(mark.id().to_owned()),
        Read::None | Read::Unusable(_) => None,
    }
}

/// What the mark in `folder` says of the keystore whose keys its data need, where there is one.
#[must_use]
pub fn named_in(folder: &Path) -> Option<String> {
    match MarkFile::of(folder, Arc::new(OsDisk)).read() {
        Read::Mark(mark) if mark.keys().len() > 0 => {
            let (theirs, at) = (whose(mark.keystore()), folder.display());
            Some(format!("{MARK_NAME} in {at} says that the data there are of {theirs}"))
        }
        _ => None,
    }
}

/// The same, or the name of a file that shows that the data in `folder` need keys.
#[must_use]
pub fn evidence(folder: &Path) -> Option<String> {
    named_in(folder).or_else(|| {
        let file = is_encrypted(folder)?;
        Some(format!("{} in {} is encrypted", file.display(), folder.display()))
    })
}

impl Keeper {
    /// Compares the mark with the keys in `ring`. Where they differ, or there is no mark, the data
    /// decide; where they agree, the system tablespaces can still object. `State` where the data need
    /// what is not in `ring`. `gone` are versions that we destroyed.
    pub fn begin(
        setting: &Setting<'_>,
        ring: &Ring,
        gone: &dyn Fn(&KeyRef) -> bool,
        env: Env,
    ) -> Result<Self> {
        let file = MarkFile::of(setting.folder, Arc::new(OsDisk));
        let mut newer = false;
        let mark = match file.read() {
            Read::None => None,
            Read::Mark(mark) => Some(mark),
            Read::Unusable(error) => {
                newer = error.kind() == Kind::Unsupported;
                let level = if newer { Level::Note } else { Level::Warning };
                env.log.log(level, &format!("the mark is not heeded: {error}"));
                None
            }
        };
        let differences = mark.as_ref().map(|mark| differences(mark, ring, gone));
        let mut unsettled = Vec::new();
        let agrees = differences.as_ref().is_some_and(Vec::is_empty);
        if agrees {
            // The data may have come from another server, next to this one's mark.
            let against = examine_system(setting.folder, ring, gone);
            let findings = Findings { against, ..Findings::default() };
            Decision { setting, mark: mark.as_ref(), agrees, findings: &findings }.refuse(&env)?;
        } else if is_used(setting.folder) {
            let depth = if mark.is_some() { WITH_A_DIFFERENCE } else { WITHOUT_A_MARK };
            let findings = examine(setting.folder, ring, gone, depth);
            let differences = differences.unwrap_or_default();
            let decision = Decision { setting, mark: mark.as_ref(), agrees, findings: &findings };
            decision.refuse(&env)?;
            decision.tell(&differences, &env);
            if !findings.complete {
                unsettled = differences.into_iter().map(|(key, _)| key).collect();
            }
        }
        let state = Mutex::new(State { mark, unsettled, newer, problem: None });
        let (folder, keystore) = (setting.folder.to_owned(), setting.keystore.clone());
        Ok(Self { file, folder, keystore, env, begun: AtomicBool::new(false), state })
    }

    /// The server asks for a key: from now on the mark is kept. Costs nothing after the first time.
    #[inline]
    pub fn asked(&self, ring: &Ring) {
        if !self.begun.load(Ordering::Relaxed) {
            self.first_asked(ring);
        }
    }

    /// `written`, `none` or what is wrong with it, for the status.
    #[must_use]
    pub fn state(&self) -> String {
        let state = self.lock();
        match (&state.problem, &state.mark) {
            (Some(problem), _) => problem.clone(),
            (None, Some(_)) => "written".to_owned(),
            (None, None) if state.newer => "of a newer keyward".to_owned(),
            (None, None) => "none".to_owned(),
        }
    }

    /// The id of the mark, where there is one.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.lock().mark.as_ref().map(|mark| mark.id().to_owned())
    }

    #[cold]
    fn first_asked(&self, ring: &Ring) {
        let mut state = self.lock();
        // A server that has not begun to use the folder may yet refuse it because it is not empty.
        if self.begun.load(Ordering::Relaxed) || !is_used(&self.folder) {
            return;
        }
        self.write(&mut state, true, ring, &ring.named());
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Writes the mark where it would say something else; `whole` takes out what is gone.
    fn write(&self, state: &mut State, whole: bool, ring: &Ring, named: &NamedKeys) {
        if state.newer {
            return;
        }
        match self.next(state, whole, ring, named) {
            Ok(next) if next.keys().len() == 0 || state.mark.as_ref() == Some(&next) => {}
            Ok(next) => match self.file.write(&next) {
                Ok(()) => (state.mark, state.problem) = (Some(next), None),
                Err(error) => self.note_problem(state, &error),
            },
            Err(error) => self.note_problem(state, &error),
        }
    }

    fn next(&self, state: &State, whole: bool, ring: &Ring, named: &NamedKeys) -> Result<Mark> {
        let before = match &state.mark {
            Some(mark) => mark.clone(),
            None => Mark::new(&Keystore::new_id(&*self.env.rng)?, &self.keystore, &*self.env.rng)?,
        };
        let same = before.keystore() == self.keystore;
        let mut next = if whole || !same { before.emptied(&self.keystore) } else { before.clone() };
        scrubbed(|| {
            for (id, version) in ring.versions() {
                if let Some(held) = ring.get(id, version) {
                    next.list(KeyRef::new(id, version), held.key());
                }
            }
            for (name, held) in named.for_files() {
                next.list(KeyRef::new(name.clone(), held.version()), held.data());
            }
        });
        for key in &state.unsettled {
            next.keep(key, &before);
        }
        Ok(next)
    }

    fn note_problem(&self, state: &mut State, error: &Error) {
        let problem = error.to_string();
        if state.problem.as_ref() != Some(&problem) {
            let line =
                format!("{problem}; a restored keystore may not be noticed at the next start");
            self.env.log.log(Level::Warning, &line);
            state.problem = Some(problem);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is made in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Keeper {
    fn before_use(&self, ring: &Ring, named: &NamedKeys) {
        if self.begun.load(Ordering::Relaxed) {
            self.write(&mut self.lock(), false, ring, named);
        }
    }
}

/// Whether a server has begun to use `folder` as its data directory.
fn is_used(folder: &Path) -> bool {
    SIGNS.iter().any(|name| folder.join(name).exists())
}

fn differences(
    mark: &Mark,
    ring: &Ring,
    gone: &dyn Fn(&KeyRef) -> bool,
) -> Vec<(KeyRef, Difference)> {
    let named = ring.named();
    mark.differences(
        |key, is| match &key.name {
            KeyName::Id(id) => ring.get(*id, key.version).map(|held| is(held.key())),
            name @ KeyName::Named { .. } => {
                let held = named.get(name).filter(|held| held.version() == key.version);
                held.map(|held| is(held.data()))
            }
        },
        gone,
    )
}

/// What follows from what the data say.
struct Decision<'a> {
    setting: &'a Setting<'a>,
    mark: Option<&'a Mark>,
    /// Whether the keys are those that the mark lists.
    agrees: bool,
    findings: &'a Findings,
}

impl Decision<'_> {
    /// Refuses keys that the data do not fit.
    fn refuse(&self, env: &Env) -> Result<()> {
        let Some(place) = &self.findings.against else { return Ok(()) };
        let refused = self.refusal(place);
        if self.setting.refuses {
            return Err(refused);
        }
        env.log.log(Level::Warning, &format!("started all the same: {}", refused.what()));
        Ok(())
    }

    fn refusal(&self, Place { file, key, why }: &Place) -> Error {
        let (file, ours) = (file.display(), whose(&self.setting.keystore));
        let needs = match why {
            Difference::Missing => format!("{file} needs {key}, which {ours} does not have"),
            Difference::Other => format!(
                "{file} is encrypted with {key} of another keystore: that of {ours} does not open it"
            ),
        };
        let theirs = self.mark.map(Mark::keystore);
        let (witness, way_out) = match theirs {
            _ if self.agrees => (
                format!("{MARK_NAME} does not list it"),
                "the data came from another server, or an older copy of the keystore took its \
                 place: put the newest keystore of these data here"
                    .to_owned(),
            ),
            Some(theirs) if theirs == self.setting.keystore => (
                format!("{MARK_NAME} lists it as of the same keystore"),
                "an older copy took its place: put the newest copy back".to_owned(),
            ),
            Some(theirs) => (
                format!("{MARK_NAME} says that the data are of {}", whose(theirs)),
                format!("put the configuration and the keys of {} back", whose(theirs)),
            ),
            None => (
                format!("no {MARK_NAME} says whose the data are"),
                "put the configuration and the keystore of these data back".to_owned(),
            ),
        };
        let round = self.setting.way_round.map_or_else(String::new, |round| {
            format!("; if they are lost, {round} starts without such files")
        });
        Error::new(Kind::State, format!("{needs}; {witness}")).advise(way_out + &round)
    }

    /// Tells what is odd and no reason to refuse.
    fn tell(&self, differences: &[(KeyRef, Difference)], env: &Env) {
        let ours = &self.setting.keystore;
        if let Some(Place { file, key, .. }) = &self.findings.stray {
            let line = format!(
                "{} is encrypted with another {key} than all other files: it came from elsewhere",
                file.display()
            );
            env.log.log(Level::Warning, &line);
        }
        let (Some(mark), Some((key, _))) = (self.mark, differences.first()) else { return };
        if self.findings.against.is_some() {
            return;
        }
        let theirs = whose(mark.keystore());
        if mark.keystore() != ours {
            // As after a state transfer, which leaves the joiner's own mark next to others' data.
            let line = format!(
                "{MARK_NAME} was of {theirs}; the data are read with the keys of {}",
                whose(ours)
            );
            env.log.log(Level::Note, &line);
        } else {
            let looked = if self.findings.complete { "no file needs it" } else { NOT_ALL };
            let line = format!("{theirs} has lost {key}, which {MARK_NAME} lists; {looked}");
            env.log.log(Level::Warning, &line);
        }
    }
}

const NOT_ALL: &str = "no file that could be looked at in time needs it";

/// `keystore ID`, or the provider that serves.
#[must_use]
pub fn whose(keystore: &str) -> String {
    match keystore.strip_prefix(SERVED_BY) {
        Some(provider) => format!("provider {provider:?}"),
        None => format!("keystore {keystore}"),
    }
}
