//! What the door takes from the rest of the house.

#[cfg(feature = "aws-kms")]
pub(super) use crate::assemble::{AwsKeyFiles, from_aws_key_files};
pub(super) use crate::assemble::{
    Hashicorp, HashicorpLogin, Keeper, KeyFile, KmipOptions, Marked, from_file_for, from_hashicorp,
    from_key_file, from_kmip,
};
pub(super) use crate::custodian::{Answer, Custodian, Status};
pub(super) use crate::source::{LookupOptions, Reason, Role, Which};
