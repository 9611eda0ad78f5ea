//! What a plugin of MariaDB's is: its variables, how it starts and how it words its errors.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::sync::Arc;

use crate::assemble::{Keeper, Marked};
use crate::custodian::Custodian;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::key::KeyId;
use crate::source::{Reason, Role, Which};

/// How the library shows itself to the server under one name.
pub struct Plugin {
    /// The plugin's name, and the file's without `.so`.
    pub name: &'static CStr,
    /// What `INFORMATION_SCHEMA.PLUGINS` tells of it.
    pub description: &'static CStr,
    /// Whether it is declared stable; otherwise gamma, the least that a stable server loads.
    pub stable: bool,
    /// Its system variables.
    pub variables: &'static [Variable],
    /// Reads the variables and gets the keys.
    pub start: fn(&dyn Values, Role, Env) -> Result<Started>,
    /// Under which number a client learns of a failed start.
    pub error_number: fn(&Error) -> u32,
    /// Whether a failed start has texts of its own that other programs look for.
    pub original_texts: bool,
}

/// What starting gives.
pub struct Started {
    /// Who serves the keys.
    pub custodian: Custodian,
    /// Who keeps the mark in the data directory; none in another plugin's place.
    pub mark: Option<Arc<Keeper>>,
    /// Takes over the values of dynamic variables after a SET. The server holds its lock on all
    /// system variables meanwhile: it must neither wait nor call a key store.
    pub changed: Option<Changed>,
}

/// See [`Started::changed`].
pub type Changed = Box<dyn Fn(&dyn Values) + Send + Sync>;

/// A system variable. Its name in the server has the plugin's name before it. Set at start-up only,
/// unless it says otherwise.
pub struct Variable {
    /// The name.
    pub name: &'static CStr,
    /// The line of `--help`.
    pub comment: &'static CStr,
    /// What it holds or does.
    pub kind: VariableKind,
    /// Whether SET GLOBAL changes it, and by [`Started::changed`] the plugin that runs.
    pub dynamic: bool,
    /// Whether it is an option alone: SHOW VARIABLES does not show it, and `mariadb-backup`, which is
    /// given what that shows, does not learn of it.
    pub hidden: bool,
    /// Whether the server warns who sets it.
    pub deprecated: bool,
}

/// What a system variable holds or does.
pub enum VariableKind {
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
pub enum Size {
    /// `INT`.
    Int,
    /// `INT UNSIGNED`.
    UnsignedInt,
    /// `BIGINT`.
    BigInt,
}

/// The release of a server: `Release(11, 8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

/// The values of a plugin's variables, and the server that has them. A name that it does not have, or
/// has as another kind, is empty, 0, false or `None`.
pub trait Values {
    /// The text of a `Text`.
    fn text(&self, name: &CStr) -> String;
    /// The number of a `Number`.
    fn number(&self, name: &CStr) -> i64;
    /// Whether a `Switch` is on.
    fn switch(&self, name: &CStr) -> bool;
    /// The word of a `Choice`.
    fn choice(&self, name: &CStr) -> Option<&'static CStr>;
    /// Sets a variable of the environment, unless it is set, for the programs that the server starts.
    fn hand_on(&self, name: &str, value: &str);
    /// The oldest release that the server can be.
    fn release(&self) -> Release;
    /// Notes something for the client that is being served, and in the error log, under a number.
    fn note(&self, number: u32, text: &str);
}

impl Variable {
    /// A variable that is set at start-up only, and shown.
    pub const fn new(name: &'static CStr, comment: &'static CStr, kind: VariableKind) -> Self {
        Self { name, comment, kind, dynamic: false, hidden: false, deprecated: false }
    }

    /// The same, changed by SET GLOBAL.
    pub const fn dynamic(self) -> Self {
        Self { dynamic: true, ..self }
    }

    /// The same as an option that no statement shows.
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The same, with the server's warning for who sets it.
    pub const fn deprecated(self) -> Self {
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

/// What SETting a variable called `variable` does that rotates: a key id, or -1 for every key.
pub fn rotate_by(custodian: &Custodian, number: i64, actor: &str, variable: &str) -> Result<()> {
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
