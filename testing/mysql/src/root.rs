//! The root folder with MySQL's programs, and how they run from there.

use std::path::{Path, PathBuf};
use std::process::Command;

use test_kit::{Process, cache};

/// Where `cargo xtask` tells the tests that the root folder is.
pub const ROOT_VARIABLE: &str = "KEYWARD_MYSQL_ROOT";

/// The root folder; empty where there is none.
#[must_use]
pub fn path() -> PathBuf {
    cache::find(ROOT_VARIABLE, "mysql-sid").unwrap_or_default()
}

/// The distribution's plugins and components.
#[must_use]
pub fn plugins() -> PathBuf {
    path().join("usr/lib/mysql/plugin")
}

/// A program of the root, such as `usr/bin/mysql`, to be run with the root's own loader, and gone
/// with the thread that started it.
#[must_use]
pub fn program(name: &str) -> Command {
    let program = path().join(name);
    program_as(&program, &program)
}

/// The program at `program`, which finds `name` as what it was called by.
#[must_use]
pub fn program_as(program: &Path, name: &Path) -> Command {
    let root = path();
    let mut command = Process::command(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu"));
    command.arg("--argv0").arg(name).arg(program);
    command
}
