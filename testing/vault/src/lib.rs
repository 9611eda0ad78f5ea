//! A real Vault or OpenBao to try keyward on, in a folder of its own that goes with it: with TLS, on a
//! port of the loopback that the system picked, its storage on disk (raft), unsealed.
//!
//! `cargo xtask` builds or installs the program once and tells the tests where it is. Its name says
//! whose it is, and all in which the two differ is in [`Product`].

pub mod cluster;
pub mod dev;
pub mod gateway;
pub mod product;
pub mod proxy;
pub mod shared;
pub mod vault;

use std::path::PathBuf;

use test_kit::{Result, cache};

pub use cluster::Cluster;
pub use dev::DevVault;
pub use gateway::{Namespaced, Tunnel};
pub use product::{Product, Secret};
pub use proxy::{Fault, Proxy};
pub use shared::Shared;
pub use vault::Vault;

/// Where `cargo xtask` tells the tests that the program is.
pub const PROGRAM_VARIABLE: &str = "KEYWARD_VAULT";

/// The program; nothing where there is none.
#[must_use]
pub fn program() -> Option<PathBuf> {
    cache::find(PROGRAM_VARIABLE, "vault-1.21.2/vault")
}

/// Where `cargo xtask` tells the tests that Kubernetes' API server, its command and its store are.
pub const KUBERNETES_VARIABLE: &str = "KEYWARD_KUBERNETES";

/// Where `cargo xtask` tells the tests that MariaDB's own `hashicorp_key_management.so` is.
pub const ORIGINAL_VARIABLE: &str = "KEYWARD_ORIGINAL_VAULT_PLUGIN";

/// MariaDB's own plugin, which `cargo xtask` unpacks and nobody installs.
pub fn original_plugin() -> Result<PathBuf> {
    let plugin = std::env::var_os(ORIGINAL_VARIABLE).map(PathBuf::from);
    Ok(plugin.ok_or("`cargo xtask test vault` unpacks the original plugin and names it")?)
}
