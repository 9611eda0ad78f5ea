//! A new keystore that takes the place of what is there, which is set aside.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::Manager;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::KeyRef;
use crate::source::Reason;
use crate::store::{Keystore, Sealed, StoreLock};

/// A keystore in its place.
pub(super) struct Placed {
    /// As it was written.
    pub(super) keystore: Keystore,
    /// Where the file is that was there, if one was.
    pub(super) aside: Option<PathBuf>,
}

impl Manager {
    /// Writes `next`, whose keys are `keys`. The trail has a line before, and one of `event` behind. What was
    /// written takes its place once `prove` has opened it and found it right; on failure all is as it was.
    pub(super) fn place(
        &self,
        lock: &StoreLock,
        next: &Keystore,
        (event, keys): (Event, &[KeyRef]),
        prove: impl FnOnce(Sealed) -> Result<Keystore>,
        reason: Reason<'_>,
    ) -> Result<Placed> {
        let (now, rng) = (self.reader.env.clock.now(), &*self.reader.env.rng);
        let generation = next.contents().generation() + 1;
        let known = next.contents().registers().trail;
        let anchor = self.append(known, generation, Event::Intended, keys, reason)?;
        let next = next.with_trail(anchor);
        let day = now.to_string();
        let day = day.split('T').next().unwrap_or_default();
        let mut written = None;
        let prove = |sealed| {
            let proven = prove(sealed)?;
            self.reader.file.announce(&proven, rng)?;
            written = Some(proven);
            Ok(())
        };
        let aside = self.reader.file.write_aside(lock, &next, day, prove, rng)?;
        let told = self.append(Some(anchor), generation, event, keys, reason);
        self.reader.warn_of(told.map(drop));
        let none = || Error::new(Kind::Internal, "the keystore was not written");
        let keystore = written.ok_or_else(none)?;
        self.reader.warn_of(self.reader.file.take_over(&keystore, rng));
        Ok(Placed { keystore, aside })
    }
}
