//! The plugin between its start and its end, in the server's terms: key ids, versions and codes.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::message::{self, ServerLog};
use super::role::role;
use crate::assemble::Keeper;
use crate::cipher::Kernel;
use crate::compat::{Changed, Plugin, Started, Values};
use crate::custodian::Custodian;
use crate::env::{Env, Level, Log};
use crate::error::{Error, Kind, Result};
use crate::event::metrics::{self, Facts, Renderer, ServerFacts, Shown};
use crate::key::{KeyId, KeyVersion, PageMode};
use crate::secret;
use crate::source::Role;

/// The plugin while it serves keys.
pub(super) struct Open {
    custodian: Custodian,
    mark: Option<Arc<Keeper>>,
    changed: Option<Changed>,
}

impl Open {
    /// Gets the keys and begins to serve. On failure the client and the error log are told, and
    /// nothing is left behind.
    pub(super) fn start(plugin: &'static Plugin, values: &dyn Values) -> Option<Self> {
        let env = Env::system(Arc::new(ServerLog));
        match Kernel::select().and_then(|_| (plugin.start)(values, role(), env)) {
            Ok(Started { custodian, mark, changed }) => {
                tell_of_unlocked_memory(plugin);
                tell_of_the_start(plugin, &custodian);
                Some(Self { custodian, mark, changed })
            }
            Err(error) => {
                message::refuse_start(plugin, &error);
                None
            }
        }
    }

    pub(super) fn custodian(&self) -> &Custodian {
        &self.custodian
    }

    /// The version of key `id` that encrypts.
    pub(super) fn latest(&self, id: u32) -> Option<u32> {
        self.custodian.latest(KeyId::new(id)?).map(KeyVersion::get)
    }

    /// Version `version` of key `id`.
    pub(super) fn key(&self, id: u32, version: u32) -> Option<&[u8]> {
        let (id, version) = numbers(id, version)?;
        let key = self.custodian.key(id, version)?;
        if let Some(mark) = &self.mark {
            mark.asked(self.custodian.ring());
        }
        Some(key.key().expose())
    }

    /// How pages are encrypted with that key; never calls out.
    pub(super) fn mode(&self, id: u32, version: u32) -> Option<PageMode> {
        let (id, version) = numbers(id, version)?;
        Some(self.custodian.cipher(id, version)?.mode)
    }

    /// Runs what a SET of a command variable stands for. The client is told of a failure.
    pub(super) fn command(
        &self,
        run: fn(&Custodian, i64, &str) -> Result<()>,
        number: i64,
        actor: &str,
    ) -> Result<(), ()> {
        run(&self.custodian, number, actor).map_err(|error| message::refuse_statement(&error))
    }

    /// Goes by the values of the dynamic variables as they are now.
    pub(super) fn change(&self, values: &dyn Values) {
        if let Some(changed) = &self.changed {
            changed(values);
        }
    }

    /// What SHOW STATUS shows.
    pub(super) fn status(&self) -> Vec<Shown> {
        let keys = self.custodian.status();
        let mark = self.mark.as_ref().map_or_else(String::new, |mark| mark.state());
        let server = ServerFacts { mark, ..ServerFacts::default() };
        let facts = Facts { keys: Some(&keys), server: Some(&server), ..Facts::default() };
        metrics::shown(Renderer::MariaDb, facts)
    }

    /// Ends our threads and waits for them.
    pub(super) fn stop(self) {
        self.custodian.stop();
    }
}

/// Keys that could not be locked in memory serve as well, but may reach swap. A stand-in only notes
/// it: the plugin that it stands in for locks nothing.
fn tell_of_unlocked_memory(plugin: &Plugin) {
    let memory = secret::lock_state();
    if memory.unlocked > 0 {
        let level = if plugin.original_texts { Level::Note } else { Level::Warning };
        ServerLog.log(level, &memory.to_string());
    }
}

/// A good start is a line, too: whoever reads the log of a server that is down sees that what failed was
/// something else. A stand-in says no more than the plugin whose place it takes.
fn tell_of_the_start(plugin: &Plugin, custodian: &Custodian) {
    if plugin.original_texts || !matches!(role(), Role::Server) {
        return;
    }
    ServerLog.log(Level::Note, &custodian.status().started_line());
}

/// Tells the client that there is nothing open that a command could work on.
pub(super) fn refuse_closed() {
    message::refuse_statement(&Error::new(Kind::State, "the plugin is not running"));
}

fn numbers(id: u32, version: u32) -> Option<(KeyId, KeyVersion)> {
    Some((KeyId::new(id)?, KeyVersion::new(version)?))
}
