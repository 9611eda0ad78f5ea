//! SHA-256 of files that belong to a backup.

#![forbid(unsafe_code)]

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::config;
use crate::hex::Hex;
use crate::trust;

/// The SHA-256 of the configuration that a backup goes with.
pub(super) fn of_configuration(config: &Path) -> Option<Hex<32>> {
    trust::read(config, config::MAX_LEN).ok().map(|bytes| sha256(&bytes))
}

/// The SHA-256 of an encrypted backup, by which it is known.
pub(super) fn sha256(file: &[u8]) -> Hex<32> {
    Hex(Sha256::digest(file).into())
}

/// How the trail notes a backup of this SHA-256.
pub(super) fn noted_as(sha256: &Hex<32>) -> String {
    format!("(SHA-256 {sha256})")
}
