//! Which process this is: the server, or a tool beside it.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::source::Role;

/// A backup program loads the plugin beside the running server, to read what that one wrote. It
/// must change nothing, and so must a program that we cannot name.
pub(super) fn role() -> Role {
    match std::fs::read_link("/proc/self/exe") {
        Ok(program) => role_of(&program),
        Err(_) => Role::Reader,
    }
}

/// The name may have words behind it: a replaced program's ends in ` (deleted)`.
fn role_of(program: &Path) -> Role {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if name.contains("backup") { Role::Reader } else { Role::Server }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_only_reads() {
        let may_write = |program| matches!(role_of(Path::new(program)), Role::Server);
        assert!(may_write("/usr/sbin/mariadbd"));
        assert!(may_write("/usr/sbin/mysqld (deleted)"));
        assert!(!may_write("/usr/bin/mariadb-backup"));
        assert!(!may_write("/usr/bin/mariadb-backup (deleted)"));
        assert!(!may_write("/usr/bin/mariabackup"));
    }
}
