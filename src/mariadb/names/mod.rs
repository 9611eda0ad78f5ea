//! Which plugin this library is: the one whose name the server opened it under.
//!
//! Every name is one entry of [`FACES`]: its variables, how it starts and how it words its errors.

#![forbid(unsafe_code)]

#[cfg(feature = "aws-kms")]
mod aws_key_management;
mod file_key_management;
mod hashicorp_key_management;
mod keyward;
mod kmip_key_management;

use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;

use super::core::{Custodian, Keeper, Marked, Reason, Role, Which};
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::key::KeyId;

/// The first one is what an unknown file name means.
static FACES: &[&Face] = &[
    &keyward::FACE,
    #[cfg(feature = "aws-kms")]
    &aws_key_management::FACE,
    &file_key_management::FACE,
    &hashicorp_key_management::FACE,
    &kmip_key_management::FACE,
];

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
    pub(super) start: fn(&dyn Values, Role, Env) -> Result<Started>,
    /// Under which number a client learns of a failed start.
    pub(super) error_number: fn(&Error) -> u32,
    /// Whether a failed start has texts of its own that other programs look for.
    pub(super) original_texts: bool,
}

/// What starting gives.
pub(super) struct Started {
    /// Who serves the keys.
    pub(super) custodian: Custodian,
    /// Who keeps the mark in the data directory; none in another plugin's place.
    pub(super) mark: Option<Arc<Keeper>>,
    /// Takes over the values of dynamic variables after a SET. The server holds its lock on all
    /// system variables meanwhile: it must neither wait nor call a key store.
    pub(super) changed: Option<Changed>,
}

/// See [`Started::changed`].
pub(super) type Changed = Box<dyn Fn(&dyn Values) + Send + Sync>;

/// A system variable. Its name in the server has the plugin's name before it. Set at start-up only,
/// unless it says otherwise.
pub(super) struct Variable {
    /// The name.
    pub(super) name: &'static CStr,
    /// The line of `--help`.
    pub(super) comment: &'static CStr,
    /// What it holds or does.
    pub(super) kind: VariableKind,
    /// Whether SET GLOBAL changes it, and by [`Started::changed`] the plugin that runs.
    pub(super) dynamic: bool,
    /// Whether it is an option alone: SHOW VARIABLES does not show it, and `mariadb-backup`, which is
    /// given what that shows, does not learn of it.
    pub(super) hidden: bool,
    /// Whether the server warns who sets it.
    pub(super) deprecated: bool,
}

/// What a system variable holds or does.
pub(super) enum VariableKind {
    /// A text; never dynamic.
    Text {
        /// What it holds when it is not set.
        default: &'static CStr,
    },
    /// A number. The server moves one out of range to the nearer end, with a warning.
    Number {
        /// Its type in the server.
        size: Size,
        /// What it holds when it is not set.
        default: i64,
        /// The least it may be.
        min: i64,
        /// The most it may be.
        max: i64,
    },
    /// ON or OFF.
    Switch {
        /// What it holds when it is not set.
        default: bool,
    },
    /// One of some words.
    Choice {
        /// The words.
        words: &'static [&'static CStr],
        /// Which of them it is when it is not set, from 0 on.
        default: u32,
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

/// A number's type in the server, which INFORMATION_SCHEMA.SYSTEM_VARIABLES shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// `INT`.
    Int,
    /// `INT UNSIGNED`.
    UnsignedInt,
    /// `BIGINT`.
    BigInt,
}

/// The values of a face's variables. A name that it does not have, or has as another kind, is
/// empty, 0, false or `None`.
pub(super) trait Values {
    /// The text of a `Text`.
    fn text(&self, name: &CStr) -> String;
    /// The number of a `Number`.
    fn number(&self, name: &CStr) -> i64;
    /// Whether a `Switch` is on.
    fn switch(&self, name: &CStr) -> bool;
    /// The word of a `Choice`.
    fn choice(&self, name: &CStr) -> Option<&'static CStr>;
}

impl Variable {
    /// A variable that is set at start-up only, and shown.
    pub(super) const fn new(
        name: &'static CStr,
        comment: &'static CStr,
        kind: VariableKind,
    ) -> Self {
        Self { name, comment, kind, dynamic: false, hidden: false, deprecated: false }
    }

    /// The same, changed by SET GLOBAL.
    pub(super) const fn dynamic(self) -> Self {
        Self { dynamic: true, ..self }
    }

    /// The same as an option that no statement shows.
    pub(super) const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The same, with the server's warning for who sets it.
    pub(super) const fn deprecated(self) -> Self {
        Self { deprecated: true, ..self }
    }
}

impl From<Custodian> for Started {
    fn from(custodian: Custodian) -> Self {
        Self { custodian, mark: None, changed: None }
    }
}

impl From<Marked> for Started {
    fn from(Marked { custodian, mark }: Marked) -> Self {
        Self { custodian, mark, changed: None }
    }
}

impl Face {
    /// The face for a library that was opened as `file`.
    pub(super) fn of(file: &Path) -> &'static Self {
        let stem = file.file_stem().unwrap_or_default();
        let named = FACES.iter().find(|face| stem == face.name.to_string_lossy().as_ref());
        named.copied().unwrap_or(&keyward::FACE)
    }
}

/// What SETting a variable called `variable` does that rotates: a key id, or -1 for every key.
fn rotate_by(custodian: &Custodian, number: i64, actor: &str, variable: &str) -> Result<()> {
    let which = match u32::try_from(number) {
        // Setting it to what it always shows changes nothing.
        Ok(0) => return Ok(()),
        Ok(id) => Which::One(KeyId::try_from(id)?),
        Err(_) if number == -1 => Which::All,
        Err(_) => {
            return Err(Error::new(Kind::Config, format!("{number} is not a key id"))
                .advise(format!("set {variable} to a key id, or to -1 for every key")));
        }
    };
    let text = format!("SET GLOBAL {variable}");
    custodian.rotate(which, Reason { actor, text: &text }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_chooses() {
        let name = |file| Face::of(Path::new(file)).name.to_str().unwrap();
        assert_eq!(name("/usr/lib/mysql/plugin/file_key_management.so"), "file_key_management");
        assert_eq!(name("/usr/lib/mysql/plugin/keyward.so"), "keyward");
        #[cfg(feature = "aws-kms")]
        assert_eq!(name("aws_key_management.so"), "aws_key_management");
        assert_eq!(name("kmip_key_management.so"), "kmip_key_management");
        assert_eq!(name("libkeyward.so"), "keyward");
        assert_eq!(name(""), "keyward");
    }
}
