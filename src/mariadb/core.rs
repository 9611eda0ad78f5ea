//! What the door takes from the rest of the house.

pub(super) use crate::assemble::{
    Hashicorp, HashicorpLogin, KeyFile, from_file, from_hashicorp, from_key_file,
};
pub(super) use crate::custodian::{Custodian, Reason, Role, Status, Terms, Which};
