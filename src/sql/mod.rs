//! The SQL functions `keyward_keys()`, `keyward_status()`, `keyward_verify()` and `keyward_rescue()`, which
//! both servers find by their symbols once somebody has said `CREATE FUNCTION`: docs/sql.md.
//!
//! The symbols are in `ffi`, the only place with unsafe code. Who may call them is in ADR 134.

mod answers;
mod ffi;

use crate::custodian::Custodian;
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result};
use crate::event::metrics::Shown;
use crate::{mariadb, mysql};

/// What a function is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Keys,
    Status,
    Verify,
    Rescue,
}

/// What a function answers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// JSON.
    Text(String),
    /// A count.
    Number(usize),
}

impl Question {
    /// The function's name.
    fn name(self) -> &'static str {
        match self {
            Self::Keys => "keyward_keys",
            Self::Status => "keyward_status",
            Self::Verify => "keyward_verify",
            Self::Rescue => "keyward_rescue",
        }
    }

    /// Refuses a statement of whoever may not ask, or cannot have an answer here, before it begins.
    fn admit(self) -> Result<()> {
        if mysql::is_loaded() {
            return mysql::admit_client();
        }
        match self {
            Self::Rescue => {
                let what = "this function is for MySQL";
                Err(Error::new(Kind::Unsupported, what).advise("SET GLOBAL keyward_rescue = ON"))
            }
            Self::Keys | Self::Status | Self::Verify => mariadb::serving(|_| ()),
        }
    }

    /// The answer to a client that was admitted. What failed is in the server's log.
    fn answer(self) -> Result<Answer> {
        let text = match self {
            Self::Rescue => return mysql::rescue().map(Answer::Number),
            Self::Keys => serving(|custodian| answers::keys(custodian, System.now()))?,
            Self::Status => answers::status(&metrics()),
            Self::Verify => serving(|custodian| answers::verify(&custodian.prove()))?,
        };
        Ok(Answer::Text(text))
    }
}

/// Asks the keys of the server that this process is.
fn serving<T>(ask: impl FnOnce(&Custodian) -> T) -> Result<T> {
    if mysql::is_loaded() { mysql::serving(ask) } else { mariadb::serving(ask) }
}

fn metrics() -> Vec<Shown> {
    if mysql::is_loaded() { mysql::metrics() } else { mariadb::metrics() }
}

/// Tells the log that a function met a defect of ours.
fn defect(call: &str) {
    if mysql::is_loaded() { mysql::defect(call) } else { mariadb::defect(call) }
}
