//! Every provider behaves as the joint says. A new provider is one line in one of these lists.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

mod contract;

use contract::fixtures;

server_contract! {
    file_plain: super::fixtures::file::PlainFile,
    file_encrypted: super::fixtures::file::EncryptedFile,
}

wrapper_contract! {
    local_key_file: super::fixtures::local::KeyFile,
    local_passphrase: super::fixtures::local::Passphrase,
}
