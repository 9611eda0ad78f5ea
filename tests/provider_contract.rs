//! Every provider behaves as the joint says. A new provider is one line in one of these lists.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

mod contract;

use contract::fixtures;

server_contract! {
    #[cfg(feature = "aws-kms")]
    aws_key_files: super::fixtures::aws_kms::Files,
    file_plain: super::fixtures::file::PlainFile,
    file_encrypted: super::fixtures::file::EncryptedFile,
    kmip_1_0_served: super::fixtures::kmip::Served10,
    kmip_2_0_served: super::fixtures::kmip::Served20,
    vault_kv: super::fixtures::vault::Kv,
}

wrapper_contract! {
    #[cfg(feature = "aws-kms")]
    aws_kms: super::fixtures::aws_kms::Key,
    #[cfg(feature = "aws-kms")]
    aws_kms_alias: super::fixtures::aws_kms::Alias,
    #[cfg(feature = "azure-keyvault")]
    azure_keyvault_rsa: super::fixtures::azure_keyvault::Rsa,
    #[cfg(feature = "azure-keyvault")]
    azure_keyvault_kw: super::fixtures::azure_keyvault::KeyWrap,
    #[cfg(feature = "azure-keyvault")]
    azure_keyvault_gcm: super::fixtures::azure_keyvault::Gcm,
    #[cfg(feature = "gcp-kms")]
    gcp_kms: super::fixtures::gcp_kms::Key,
    #[cfg(feature = "gcp-kms")]
    gcp_kms_of_a_machine: super::fixtures::gcp_kms::OfMachine,
    kmip_1_0_get: super::fixtures::kmip::Get10,
    kmip_1_2_cbc: super::fixtures::kmip::Cbc12,
    kmip_1_4_gcm: super::fixtures::kmip::Gcm14,
    kmip_2_0_gcm: super::fixtures::kmip::Gcm20,
    local_key_file: super::fixtures::local::KeyFile,
    local_passphrase: super::fixtures::local::Passphrase,
    #[cfg(feature = "pkcs11")]
    pkcs11_gcm: super::fixtures::pkcs11::Gcm,
    #[cfg(feature = "pkcs11")]
    pkcs11_kwp: super::fixtures::pkcs11::Kwp,
    #[cfg(feature = "pkcs11")]
    pkcs11_kw: super::fixtures::pkcs11::Kw,
    #[cfg(feature = "pkcs11")]
    pkcs11_kryoptic: super::fixtures::pkcs11::Kryoptic,
    #[cfg(feature = "pkcs11")]
    pkcs11_kryoptic_oaep: super::fixtures::pkcs11::KryopticOaep,
    #[cfg(feature = "pkcs11")]
    pkcs11_oaep: super::fixtures::pkcs11::Oaep,
    vault_transit: super::fixtures::vault::Transit,
    vault_transit_derived: super::fixtures::vault::DerivedTransit,
}
