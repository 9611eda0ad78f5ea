//! The section `[stash]`.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Section;
use crate::error::Result;

/// Where a sealed copy of served keys is kept, and for how long it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stash {
    /// The file.
    pub path: PathBuf,
    /// What is older is not served.
    pub max_age: Option<Duration>,
}

impl Stash {
    pub(super) fn read(section: Section, keystore: &Path) -> Result<Self> {
        let stash = Self {
            path: section.path("path")?.unwrap_or_else(|| keystore.with_file_name("stash.json")),
            max_age: section.duration("max_age")?,
        };
        section.done()?;
        if stash.path == keystore {
            return Err(section.wrong("path", "is the keystore's; the stash is a file of its own"));
        }
        Ok(stash)
    }
}
