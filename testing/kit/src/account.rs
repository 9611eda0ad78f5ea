//! The account that a server under test runs as.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::{Result, files};

/// Who the server runs as, where that is not ourselves.
#[must_use]
pub fn server_user() -> Option<User> {
    if Uid::effective().is_root() { User::from_name("mysql").ok().flatten() } else { None }
}

/// Hands `path` to the user the server runs as.
pub fn give_to_server(path: &Path) -> Result<()> {
    let Some(user) = server_user() else { return Ok(()) };
    let mut todo: Vec<PathBuf> = vec![path.into()];
    while let Some(path) = todo.pop() {
        std::os::unix::fs::lchown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if path.is_dir() && !path.is_symlink() {
            todo.extend(files::list(&path));
        }
    }
    Ok(())
}
