//! What a server tells the audit trail besides changes of keys: that it runs, with which library and
//! configuration, which key versions it uses, and how its key store stands. The worker writes it; whoever
//! notices only puts it into a queue.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::held::Guard;
use super::{Custodian, Shared, lock};
use crate::env::{Level, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Noticed, NoticedFile};
use crate::hex::Hex;
use crate::key::{KeyName, KeyRef};
use crate::ring::{Ring, RingKey, Turned};
use crate::source::Reason;

/// How long a server has run before it is worth a line, and how often it looks for something new.
const PERIOD: Duration = Duration::from_secs(60);

/// How many lines may wait while the trail cannot be written; later ones are lost.
const MAX_WAITING: usize = 100;

/// How many keys a line in the log names.
const NAMED_AT_ONCE: usize = 4;

/// Who the audit trail names.
const ACTOR: &str = "server";

/// The version of this library.
const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// Reads the configuration's file as it is now; nothing where that cannot be read.
pub type Configuration = Box<dyn Fn() -> Option<Vec<u8>> + Send>;

/// What is to be told.
#[derive(Default)]
pub(super) struct Notices {
    /// Nothing is told before it is known whose server this is.
    server: Mutex<Option<Server>>,
    waiting: Mutex<VecDeque<Notice>>,
    standing: Mutex<Standing>,
}

/// The server that this process is.
struct Server {
    host: String,
    data_directory: String,
    configuration: Option<Configuration>,
    /// What the trail has of it; none before its file was read.
    noticed: Option<Noticed>,
    /// Whether its file has that.
    saved: bool,
    due: Timestamp,
    failure: Option<String>,
}

struct Notice {
    event: Event,
    keys: Vec<KeyRef>,
    text: String,
}

/// How the key store stood last.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Answers,
    Away,
    Refuses,
}

impl Custodian {
    /// Has the server whose data directory this is tell the audit trail what it does besides changes. Does nothing
    /// in other processes.
    pub fn notice_for(&self, host: String, data_directory: String) {
        let due = self.shared.env.clock.now().plus(PERIOD);
        let server = Server {
            host,
            data_directory,
            configuration: None,
            noticed: None,
            saved: true,
            due,
            failure: None,
        };
        *lock(&self.shared.notices.server) = Some(server);
    }

    /// Has it also tell when its configuration changes.
    pub fn notice_configuration(&self, configuration: Configuration) {
        if let Some(server) = &mut *lock(&self.shared.notices.server) {
            server.configuration = Some(configuration);
        }
    }
}

impl Shared {
    /// Notes that a key store failed: it is away, or it refuses. Other failures say nothing of it.
    pub(super) fn note_failure(&self, error: &Error) {
        let (standing, event) = match error.kind() {
            Kind::Denied => (Standing::Refuses, Event::ProviderDenied),
            _ if error.is_outage() => (Standing::Away, Event::ProviderDown),
            _ => return,
        };
        self.note_standing(standing, event, error.what());
    }

    /// Notes that a key store did what it was asked.
    pub(super) fn note_standing_again(&self) {
        self.note_standing(Standing::Answers, Event::ProviderUp, "the key store answers again");
    }

    fn note_standing(&self, standing: Standing, event: Event, text: &str) {
        let mut last = lock(&self.notices.standing);
        if *last != standing {
            *last = standing;
            self.notices.push(event, Vec::new(), text.to_owned());
        }
    }

    /// Tells the trail what waits, and once a minute looks for more.
    pub(super) fn tell_in_time(&self) {
        let mut server = lock(&self.notices.server);
        let Some(server) = server.as_mut() else { return };
        let now = self.env.clock.now();
        let is_due = now >= server.due || server.due.since(now) > PERIOD;
        if !is_due && (server.failure.is_some() || lock(&self.notices.waiting).is_empty()) {
            return;
        }
        let told = match is_due {
            true => self.look_and_tell(server, now),
            false => self.tell_what_waits(),
        };
        let failure = told.err().map(|error| error.to_string());
        if let Some(line) = failure.as_ref().filter(|_| server.failure != failure) {
            let line = format!("the audit trail lacks what this server has to tell: {line}");
            self.env.log.log(Level::Warning, &line);
        }
        server.failure = failure;
    }

    /// Tells the log which keys have another version that encrypts: one line for all that turned together.
    pub(super) fn tell_of_rotations(&self) {
        if !self.ring.has_turned() {
            return;
        }
        // Whoever turns keys has the source until all are.
        let source = self.source();
        let turned = self.ring.take_turned();
        drop(source);
        // In the place of another plugin the log has what that one says.
        if lock(&self.notices.server).is_some() {
            let (back, on): (Turned, Turned) =
                turned.into_iter().partition(|(_, (before, now))| now < before);
            for (what, turned) in [("rotated", on), ("rotation undone", back)] {
                if let Some(line) = rotation_line(what, &turned) {
                    self.env.log.log(Level::Note, &line);
                }
            }
        }
    }

    fn look_and_tell(&self, server: &mut Server, now: Timestamp) -> Result<()> {
        server.due = now.plus(PERIOD);
        let Some(keystore) = self.trail_is_beside() else { return self.tell_what_waits() };
        let file = NoticedFile::beside(&keystore, &server.host, &server.data_directory);
        let is_first = server.noticed.is_none();
        let before = server.noticed.take().unwrap_or_else(|| file.read());
        let configuration = server.configuration.as_ref().and_then(|read| read());
        let digest = configuration.map(|bytes| Hex(Sha256::digest(bytes).into()));
        let configuration = digest.or(before.configuration);
        let used = used(&self.ring);
        let place = format!("{} on {}", server.data_directory, server.host);
        let mut found = Vec::new();
        if is_first {
            found.extend(started(&before, configuration, &place));
        }
        found.extend(reconfigured(&before, configuration, &place));
        let new: Vec<_> = used.difference(&before.keys).cloned().collect();
        if !new.is_empty() {
            found.push(Notice { event: Event::FirstUsed, keys: new, text: place });
        }
        let damage = self.found_in_trail().unwrap_or_else(|| before.damage.clone());
        if let Some(text) = damage.clone().filter(|_| damage != before.damage) {
            found.push(Notice { event: Event::TrailDamaged, keys: Vec::new(), text });
        }
        let library = Some(LIBRARY.to_owned());
        // What another process of this server used before stays as long as the key does.
        let keys = before.keys.iter().filter(|key| is_there(&self.ring, key)).cloned();
        let keys = keys.chain(used).collect();
        let noticed = Noticed { library, configuration, damage, keys };
        server.saved &= noticed == before;
        server.noticed = Some(noticed.clone());
        found.into_iter().for_each(|one| self.notices.push(one.event, one.keys, one.text));
        self.tell_what_waits()?;
        // Not before: twice is better than never.
        if !server.saved {
            file.write(&noticed)?;
            server.saved = true;
        }
        Ok(())
    }

    fn tell_what_waits(&self) -> Result<()> {
        loop {
            let Some(notice) = lock(&self.notices.waiting).pop_front() else { return Ok(()) };
            let told = self.tell(&notice);
            if told.is_err() {
                lock(&self.notices.waiting).push_front(notice);
                return told;
            }
        }
    }

    fn tell(&self, notice: &Notice) -> Result<()> {
        let reason = Reason { actor: ACTOR, text: &notice.text };
        match &mut *self.source() {
            Guard::Keystore(manager) => manager.note(notice.event, &notice.keys, reason),
            Guard::Served(source) => source.tell(notice.event, &notice.keys, reason),
            Guard::LookedUp(_) => Ok(()),
        }
    }

    /// The file that the trail is next to; none where there is no trail.
    fn trail_is_beside(&self) -> Option<PathBuf> {
        match &*self.source() {
            Guard::Keystore(manager) => Some(manager.reader().file.path().to_owned()),
            Guard::Served(source) => source.trail_is_beside().map(ToOwned::to_owned),
            Guard::LookedUp(_) => None,
        }
    }
}

impl Notices {
    /// Has the worker look for something new at once.
    pub(super) fn look_now(&self, now: Timestamp) {
        if let Some(server) = &mut *lock(&self.server) {
            server.due = now;
        }
    }

    fn push(&self, event: Event, keys: Vec<KeyRef>, text: String) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MAX_WAITING {
            waiting.push_back(Notice { event, keys, text });
        }
    }
}

/// What was done to the keys in `turned`, each by its name where they are few.
fn rotation_line(what: &str, turned: &Turned) -> Option<String> {
    let all: Vec<_> = turned
        .iter()
        .take(NAMED_AT_ONCE)
        .map(|(id, (before, now))| format!("key {id} from version {before} to {now}"))
        .collect();
    let first = all.first()?;
    Some(match turned.len() {
        few if few <= NAMED_AT_ONCE => format!("{what}: {}", all.join(", ")),
        many => format!("{what}: {many} keys, the first of them {first}"),
    })
}

/// The start, and before it the upgrade that it came with.
fn started(before: &Noticed, configuration: Option<Hex<32>>, place: &str) -> Vec<Notice> {
    let notice = |event, text| Notice { event, keys: Vec::new(), text };
    let mut found = Vec::new();
    if let Some(former) = before.library.as_ref().filter(|former| *former != LIBRARY) {
        let text = format!("from keyward {former} to {LIBRARY}: {place}");
        found.push(notice(Event::LibraryUpgraded, text));
    }
    let configuration = configuration
        .map_or_else(String::new, |digest| format!(", its configuration has the SHA-256 {digest}"));
    let text = format!("keyward {LIBRARY} serves {place}{configuration}");
    found.push(notice(Event::ServerStarted, text));
    found
}

fn reconfigured(before: &Noticed, now: Option<Hex<32>>, place: &str) -> Option<Notice> {
    let (former, now) = (before.configuration?, now?);
    (former != now).then(|| Notice {
        event: Event::ConfigurationChanged,
        keys: Vec::new(),
        text: format!("SHA-256 {former} was followed by {now}: {place}"),
    })
}

/// The versions in memory that the server has asked for.
fn used(ring: &Ring) -> BTreeSet<KeyRef> {
    let versions = ring.versions().into_iter();
    let asked =
        versions.filter(|(id, version)| ring.get(*id, *version).is_some_and(RingKey::is_used));
    let mut used: BTreeSet<_> = asked.map(|(id, version)| KeyRef::new(id, version)).collect();
    let named = ring.named();
    let asked = named.iter().filter(|(_, key)| key.is_used());
    used.extend(asked.map(|(name, key)| KeyRef::new(name.clone(), key.version())));
    used
}

fn is_there(ring: &Ring, key: &KeyRef) -> bool {
    match &key.name {
        KeyName::Id(id) => ring.get(*id, key.version).is_some(),
        name => ring.named().get(name).is_some_and(|there| there.version() == key.version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyId, KeyVersion};

    #[test]
    fn few_keys_have_their_names_in_the_line() {
        let turned = |count: u32| -> Turned {
            let version = |number| KeyVersion::new(number).unwrap();
            (1..=count).map(|id| (KeyId::new(id).unwrap(), (version(1), version(3)))).collect()
        };
        assert_eq!(rotation_line("rotated", &turned(0)), None);
        let two = "rotated: key 1 from version 1 to 3, key 2 from version 1 to 3";
        assert_eq!(rotation_line("rotated", &turned(2)).unwrap(), two);
        let all = "rotated: 10000 keys, the first of them key 1 from version 1 to 3";
        assert_eq!(rotation_line("rotated", &turned(10_000)).unwrap(), all);
    }
}
