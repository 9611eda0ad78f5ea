//! Where a server's data keys come from: our own keystore, a key store that lists and serves them, or
//! a key store that can only be asked for one key at a time. A source fills the ring and never
//! removes a key from it.

#![forbid(unsafe_code)]

mod continuity;
mod guard;
mod keystore;
mod lookup;
mod maintenance;
mod opening;
mod pinned;
mod publish;
mod served;
mod stash;
mod wrapper;

use std::sync::Arc;
use std::time::Duration;

pub use keystore::{KeystoreReader, ReadKeystore};
pub(crate) use lookup::millis;
pub use lookup::{LookupOptions, LookupSource, NamedLookup};
pub use maintenance::Maintenance;
pub(crate) use opening::{StoreKeyInUse, unwrap_store_key};
pub(crate) use pinned::fingerprint_to_pin;
pub use publish::infos;
pub use served::{NamedServer, ServedSource};
pub use stash::Stash;
pub use wrapper::NamedWrapper;

use crate::error::Result;
use crate::event::StashState;
use crate::key::{Cipher, KeyId, KeyInfo, KeyRef};
use crate::ring::Ring;

/// How long a change waits for somebody else's change to end.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A database server: serves keys, follows the keystore, may rotate.
    Server,
    /// A database server that may yet fork before it serves (`--daemonize`): as `Server`, but
    /// without a thread until it is woken.
    Daemon,
    /// A process beside the server, such as `mariadb-backup`: serves keys, writes nothing at all.
    Reader,
    /// The command: reads and changes, then ends.
    Command,
}

/// Who changes a key, and why.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a> {
    /// Who.
    pub actor: &'a str,
    /// Why, in the actor's words.
    pub text: &'a str,
}

/// A client of a server as history and trail keep it: one line, which leaves room for words around it.
#[must_use]
pub fn actor_of(client: &str) -> String {
    const MAX_LEN: usize = 150;
    let mut line: String = client.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    line.truncate(line.floor_char_boundary(MAX_LEN));
    line
}

/// Which keys to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(KeyId),
    /// Every key that has an active version.
    All,
}

/// Where data keys come from.
pub trait KeySource: Send {
    /// The keys in memory.
    fn ring(&self) -> &Arc<Ring>;

    /// Sets what this process may do, before anything is read.
    fn begin(&mut self, role: Role);

    /// Whether there may be something new to read. Cheap: a file's stamp, a clock.
    fn has_changed(&self) -> bool;

    /// Reads again and brings the ring up to date. On failure the ring and the source stay as they
    /// were.
    fn load(&mut self) -> Result<()>;

    /// Reads again for key `id`, which somebody asked for and is not in the ring; with `may_make`, a
    /// source that makes keys on demand makes it.
    fn look_for(&mut self, id: KeyId, may_make: bool) -> Result<Looked>;

    /// Gives each key of `which` a new version, active or pending as the policy says: all or none.
    fn rotate(&mut self, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>>;

    /// Makes key `id` with a first version.
    fn create(&mut self, id: KeyId, cipher: Option<Cipher>, reason: Reason<'_>) -> Result<KeyRef>;

    /// All key versions, sorted by key and version.
    fn keys(&self) -> Vec<KeyInfo>;

    /// How many keys and versions decrypt.
    fn counts(&self) -> (usize, usize) {
        let mut keys = self.keys();
        keys.retain(|info| info.state.decrypts());
        let versions = keys.len();
        keys.dedup_by(|one, other| one.key.name == other.key.name);
        (keys.len(), versions)
    }

    /// The state as it was read last.
    fn state(&self) -> SourceState;

    /// What the providers must do now and then though nobody asks for a key.
    fn maintenance(&self) -> Vec<Maintenance>;
}

/// The outcome of [`KeySource::look_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// There was nothing new to read.
    NothingNew,
    /// The source was read again.
    ReadAgain,
    /// The key was made.
    Made,
}

/// A source as it was read last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// The generation of our own keystore; 0 where a key store serves the keys.
    pub generation: u64,
    /// The name of the provider that gave the keys.
    pub provider: String,
    /// The newest line of the audit trail that our own keystore knows; 0 where there is none.
    pub trail_line: u64,
    /// The offline copy, where one is configured.
    pub stash: Option<StashState>,
    /// Why the key store could not be asked, while the keys came from the offline copy.
    pub outage: Option<String>,
    /// The keys in use that the key store lost or changed, and what to do.
    pub losses: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_is_one_short_line() {
        assert_eq!(actor_of("root@localhost"), "root@localhost");
        assert_eq!(actor_of("a\nb\u{7}@%"), "a?b?@%");
        assert_eq!(actor_of(&"ü".repeat(200)).len(), 150);
    }
}
