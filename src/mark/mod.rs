//! The mark: the file `keyward.mark` in a data directory, which tells whose keys encrypted it.
//!
//! A keystore and a data directory are two things that backups, restores and copies part from each
//! other. The mark lists every version that may have encrypted a page, each with a keyed hash that
//! proves the key and says nothing of it. A start compares it with the keys that were opened; where
//! the two differ, the data files decide: see ADR 79.

#![forbid(unsafe_code)]

mod data;
mod file;
mod format;
mod keeper;

pub use data::{Findings, Place, examine, is_encrypted};
pub use file::{MARK_NAME, MarkFile, Read};
pub use format::{Difference, MAX_LEN, Mark};
pub use keeper::{Keeper, Setting, evidence, host, id_of, keystore_of, named_in, whose};
