//! Which plugin this library is: the one whose name the server opened it under.
//!
//! Every name is one entry of [`FACES`]: its variables, how it starts and how it words its errors.

#![forbid(unsafe_code)]

mod file_key_management;
mod keyward;

use std::ffi::CStr;
use std::path::Path;

use super::core::{Custodian, Role};
use crate::env::Env;
use crate::error::{Error, Result};

/// The first one is what an unknown file name means.
static FACES: [&Face; 2] = [&keyward::FACE, &file_key_management::FACE];

/// How the library shows itself to the server under one name.
pub(super) struct Face {
    /// The plugin's name, and the file's without `.so`.
    pub(super) name: &'static CStr,
    /// What `INFORMATION_SCHEMA.PLUGINS` tells of it.
    pub(super) description: &'static CStr,
    /// Whether it is declared stable; otherwise gamma, the least that a stable server loads.
    pub(super) stable: bool,
    /// Its system variables.
    pub(super) variables: &'static [Variable],
    /// Reads the variables and gets the keys.
    pub(super) start: fn(&dyn Values, Role, Env) -> Result<Custodian>,
    /// Under which number a client learns of a failed start.
    pub(super) error_number: fn(&Error) -> u32,
    /// Whether a failed start has texts of its own that other programs look for.
    pub(super) original_texts: bool,
}

/// A system variable. Its name in the server has the plugin's name before it.
pub(super) struct Variable {
    /// The name.
    pub(super) name: &'static CStr,
    /// The line of `--help`.
    pub(super) comment: &'static CStr,
    /// What it holds or does.
    pub(super) kind: VariableKind,
}

/// What a system variable holds or does.
pub(super) enum VariableKind {
    /// A text, set at start-up only.
    Text {
        /// What it holds when it is not set.
        default: &'static CStr,
    },
    /// A number from 0 on, set at start-up only; 0 when it is not set.
    Count,
    /// One of some words, set at start-up only; the first one when it is not set.
    Choice {
        /// The words.
        words: &'static [&'static CStr],
    },
    /// Does something when it is SET, and stays what it was. What it is given at start-up is
    /// ignored: a backup replays the server's values into a second process.
    Command {
        /// Whether it takes ON and OFF instead of a number from -1 to 4294967295.
        switch: bool,
        /// What it does with the number; the text is who asks for it.
        run: fn(&Custodian, i64, &str) -> Result<()>,
    },
}

/// The values of a face's variables. A name that it does not have, or has as another kind, is
/// empty, 0 or `None`.
pub(super) trait Values {
    /// The text of a `Text`.
    fn text(&self, name: &CStr) -> String;
    /// The number of a `Count`.
    fn count(&self, name: &CStr) -> u32;
    /// The word of a `Choice`.
    fn choice(&self, name: &CStr) -> Option<&'static CStr>;
}

impl Face {
    /// The face for a library that was opened as `file`.
    pub(super) fn of(file: &Path) -> &'static Self {
        let stem = file.file_stem().unwrap_or_default();
        let named = FACES.into_iter().find(|face| stem == face.name.to_string_lossy().as_ref());
        named.unwrap_or(&keyward::FACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_chooses() {
        let name = |file| Face::of(Path::new(file)).name.to_str().unwrap();
        assert_eq!(name("/usr/lib/mysql/plugin/file_key_management.so"), "file_key_management");
        assert_eq!(name("/usr/lib/mysql/plugin/keyward.so"), "keyward");
        assert_eq!(name("libkeyward.so"), "keyward");
        assert_eq!(name(""), "keyward");
    }
}
