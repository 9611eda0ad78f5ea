//! What is under test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::{Result, files};

/// The library as it was built; tests copy it as `keyward.so`.
#[must_use]
pub fn library() -> PathBuf {
    std::env::var_os("KEYWARD_LIBRARY")
        .map_or_else(|| repository().join("target/release/libkeyward.so"), PathBuf::from)
}

/// The command as it was built.
#[must_use]
pub fn command() -> PathBuf {
    std::env::var_os("KEYWARD_COMMAND")
        .map_or_else(|| repository().join("target/release/keyward"), PathBuf::from)
}

/// Fills `folder` with links to a server's own `plugins`, and with the library as `name`.
pub fn fill_plugins(folder: &Path, plugins: &Path, name: &str) -> Result<()> {
    for plugin in files::list(plugins) {
        if let Some(name) = plugin.file_name() {
            symlink(&plugin, folder.join(name))?;
        }
    }
    let library = library();
    fs::copy(&library, folder.join(name)).map_err(|error| {
        format!("{}: {error}; `cargo build --release` makes it", library.display())
    })?;
    Ok(())
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .unwrap_or_default()
}
