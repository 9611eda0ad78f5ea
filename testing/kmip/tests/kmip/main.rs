//! keyward and a real KMIP server: by itself, and with MariaDB on it.

mod backup;
mod continuity;
mod dropin;
mod front;
mod life;
mod load;
mod python;
mod recovery;
mod start;
mod trouble;
mod trust;
mod versions;

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use keyward::backend::kmip::Settings;
use keyward::env::Deadline;
use keyward::error::Kind;
use test_kit::{Result, ensure};
use test_kmip::Kmip;

use common::{at, context, data, key, said, server, settings_of, soon, works, wrapper, wrapper_of};

fn shortly() -> Deadline {
    Deadline::after(Duration::from_secs(2))
}

/// How to reach `kmip`.
fn settings(kmip: &Kmip) -> Settings {
    settings_of(kmip.certificates(), kmip.port())
}

/// The text of the error that was due.
fn refused<T>(result: keyward::Result<T>, kind: Kind) -> Result<String> {
    match result {
        Ok(_) => Err(format!("it went through, and {kind:?} was due").into()),
        Err(error) => {
            ensure!(error.kind() == kind, "{:?} for {kind:?}: {error}", error.kind());
            Ok(error.to_string())
        }
    }
}
