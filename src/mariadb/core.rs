//! What the door takes from the rest of the house.

pub(super) use crate::assemble::{KeyFile, KmipOptions, from_file, from_key_file, from_kmip};
pub(super) use crate::custodian::{Custodian, Reason, Role, Status, Which};
