//! Why the system does not let us read a file, and what to do about it: which account it is that may not,
//! and at which folder of the path or at the file itself.

#![forbid(unsafe_code)]

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Gid, Group, Uid, User, eaccess, getegid, geteuid, getgroups};

/// Folders that are a person's own, which no other account is to enter: a server's unit hides them, too.
const HOMES: [&str; 2] = ["/root", "/home"];

/// What to do where the file at `path` was to be read and "Permission denied" came back; nothing where it
/// cannot be found out.
pub(super) fn advice(path: &Path) -> Option<String> {
    let user = user_name(geteuid());
    let Some((place, found)) = first_closed(path) else {
        return Some(format!(
            "its mode lets user {user} read it, so a security module forbids it, such as AppArmor or \
             SELinux: journalctl -k -g 'apparmor|avc' shows that; `keyward help packaging` has the lines for both"
        ));
    };
    let home = HOMES.iter().find(|home| place.starts_with(home));
    if let Some(home) = home.filter(|_| found.is_dir()) {
        return Some(format!(
            "user {user} may not enter {home}: put it into a folder that it may, such as /etc/keyward"
        ));
    }
    let shown = place.display();
    let (owner, group) = (user_name(Uid::from_raw(found.uid())), group_name(found.gid()));
    let may_not = match found.is_dir() {
        true => format!("user {user} may not enter {shown}"),
        false => format!("user {user} may not read it"),
    };
    let state = format!("{may_not} ({owner}:{group} {:04o})", found.mode() & 0o7777);
    let ours = group_name(getegid().as_raw());
    let group_may = mode_has(&found, 3);
    let then = match (found.uid(), found.is_dir()) {
        // It is meant for others than us.
        (0, _) if group_may && found.gid() != 0 => {
            format!("run this as root, or as an account of the group {group}")
        }
        (0, true) => format!("run chgrp {ours} {shown} && chmod g+rx {shown}"),
        (0, false) => format!("run chown root:{ours} {shown} && chmod 0640 {shown}"),
        // Most likely it is the server's, and we are somebody else.
        _ => format!("run this as root or as {owner}"),
    };
    Some(format!("{state}: {then}"))
}

/// The first folder on the way, or else the file, of which mode, owner and group forbid us to go on.
fn first_closed(path: &Path) -> Option<(PathBuf, Metadata)> {
    let path = std::path::absolute(path).ok()?;
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    let closed = ways.into_iter().find(|place| {
        let wanted = if *place == path { AccessFlags::R_OK } else { AccessFlags::X_OK };
        eaccess(*place, wanted).is_err()
    })?;
    let found = closed.metadata().ok()?;
    (!mode_allows(&found)).then(|| (closed.to_owned(), found))
}

/// Whether owner, group and mode let us enter the folder or read the file.
fn mode_allows(found: &Metadata) -> bool {
    let in_group = || {
        let group = Gid::from_raw(found.gid());
        getegid() == group || getgroups().is_ok_and(|all| all.contains(&group))
    };
    let shift = match found.uid() == geteuid().as_raw() {
        true => 6,
        false if in_group() => 3,
        false => 0,
    };
    mode_has(found, shift)
}

/// Whether those whose bits are `shift` higher than everybody's may enter the folder or read the file.
fn mode_has(found: &Metadata, shift: u32) -> bool {
    let wanted = if found.is_dir() { 0o1 } else { 0o4 };
    (found.mode() >> shift) & wanted == wanted
}

fn user_name(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

fn group_name(group: u32) -> String {
    let found = Group::from_gid(Gid::from_raw(group)).ok().flatten();
    found.map_or_else(|| group.to_string(), |group| group.name)
}
