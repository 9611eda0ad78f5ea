//! What the door takes from the rest of the house.

#[cfg(feature = "aws-kms")]
pub(super) use crate::assemble::{AwsKeyFiles, from_aws_key_files};
pub(super) use crate::assemble::{
    Hashicorp, HashicorpLogin, KeyFile, KmipOptions, from_file, from_hashicorp, from_key_file,
    from_kmip,
};
pub(super) use crate::custodian::{Custodian, Reason, Role, Status, Terms, Which};
