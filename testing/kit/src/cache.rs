//! The programs that `cargo xtask` installs once, outside of the system's folders.

use std::path::{Path, PathBuf};

/// The cache of the user's (XDG base directory specification); nothing without a home.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    Some(cache.join("keyward"))
}

/// A file or folder of the cache: where `variable` says, or `within` it; nothing where there is none.
#[must_use]
pub fn find(variable: &str, within: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(named.into());
    }
    folder().map(|cache| cache.join(within)).filter(|found| found.exists())
}
