//! The second command's first step: it becomes the account, for good, before it does anything else.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::OnceLock;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, User, close, getresgid, getresuid, getuid, setgroups, setresgid, setresuid, setsid,
};

use super::account::Account;
use super::{door, kernel};
use crate::error::{Error, Kind, Result};

/// Its first word; whoever else says it has not the rights for what follows.
const WORD: &str = "@account";

/// Who called the first command.
static ACTOR: OnceLock<String> = OnceLock::new();

/// Whether we are root's second command.
pub(in crate::cli) fn is_second() -> bool {
    ACTOR.get().is_some()
}

/// What the second command is called with, before the call proper.
pub(super) fn words(account: &Account) -> [OsString; 3] {
    let groups: Vec<_> = account.groups().iter().map(ToString::to_string).collect();
    let ids = format!("{}:{}:{}", account.uid, account.gid, groups.join(","));
    [WORD.into(), ids.into(), actor().into()]
}

/// Takes on what the first command said, if we are the second one; says whether we are. `call` has
/// the program's name first and afterwards the call proper.
pub(in crate::cli) fn enter(call: &mut Vec<OsString>) -> Result<bool> {
    kernel::keep_ends_of_children();
    if call.get(1).is_none_or(|word| word != WORD) {
        alone();
        return Ok(false);
    }
    let mut words = call.drain(1..4.min(call.len())).skip(1);
    let (ids, actor) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    drop(words);
    become_account(&ids)?;
    door::find();
    // Said once.
    let _ = ACTOR.set(actor.to_string_lossy().into_owned());
    Ok(true)
}

/// Nothing that we start gets more rights than we have, and nobody looks into our memory. A kernel
/// without the calls is none that we run on.
fn alone() {
    let _ = prctl::set_no_new_privs();
    let _ = prctl::set_dumpable(false);
}

fn become_account(ids: &OsStr) -> Result<()> {
    let failed = |what: &str| {
        let what = format!("cannot become user {}: {what}", ids.to_string_lossy());
        Error::new(Kind::Denied, what)
            .advise("run the command as root with all capabilities, or as the keystore's owner")
    };
    let (uid, gid, groups) = parse(ids).ok_or_else(|| failed("no ids"))?;
    close_others().map_err(|cause| failed(&format!("cannot close files: {cause}")))?;
    leave_keyring().map_err(|cause| failed(&format!("cannot leave the keyring: {cause}")))?;
    // It is none where we lead a group already, which only somebody else's call can bring about.
    let _ = setsid();
    umask(Mode::from_bits_truncate(0o077));
    setgroups(&groups)
        .and_then(|()| setresgid(gid, gid, gid))
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(|cause| failed(&cause.to_string()))?;
    let all_gone = getresuid().is_ok_and(|now| [now.real, now.effective, now.saved] == [uid; 3])
        && getresgid().is_ok_and(|now| [now.real, now.effective, now.saved] == [gid; 3])
        && !uid.is_root()
        && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err()
        && has_no_capability();
    if !all_gone {
        return Err(failed("it would not last"));
    }
    alone();
    // Whoever stops the first command means this one.
    let _ = prctl::set_pdeathsig(Signal::SIGTERM);
    Ok(())
}

fn parse(ids: &OsStr) -> Option<(Uid, Gid, Vec<Gid>)> {
    let mut parts = ids.to_str()?.split(':');
    let mut number = || parts.next()?.parse::<u32>().ok();
    let (uid, gid) = (number()?, number()?);
    let groups = parts.next()?.split(',').map(|group| group.parse().map(Gid::from_raw));
    Some((Uid::from_raw(uid), Gid::from_raw(gid), groups.collect::<Result<_, _>>().ok()?))
}

/// Files that the caller's shell had open are none of the account's.
fn close_others() -> io::Result<()> {
    let mut open: Vec<i32> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for file in open.into_iter().filter(|file| *file > 2) {
        // The listing's own is closed already.
        let _ = close(file);
    }
    Ok(())
}

/// Keys of the caller's session are none of the account's. Where there are no keyrings, or none for
/// anybody in this container, nothing can be read from one.
fn leave_keyring() -> io::Result<()> {
    match kernel::leave_session_keyring() {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        left => left,
    }
}

/// What the kernel says of our capabilities; without new privileges the inheritable ones are void.
fn has_no_capability() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let sets = ["CapPrm:", "CapEff:", "CapAmb:"];
    let empty = |set: &&str| {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        line.is_some_and(|value| value.trim().bytes().all(|digit| digit == b'0'))
    };
    sets.iter().all(empty)
}

/// The person at the keyboard, for history and audit: `root on db1`, `alice (sudo, uid 0) on db1`.
pub(in crate::cli) fn actor() -> String {
    if let Some(actor) = ACTOR.get() {
        return actor.clone();
    }
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.unwrap_or_else(|| "localhost".to_owned());
    let known = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid);
    let person = sudoer(getuid(), |name| std::env::var(name).ok(), known)
        .or_else(|| User::from_uid(getuid()).ok().flatten().map(|user| user.name));
    format!("{} on {host}", person.unwrap_or_else(|| format!("uid {}", getuid())))
}

/// Who ran sudo, as its environment says. That is believed where root runs: anybody else can write into
/// his environment what he likes. `uid` is the one that the kernel knows for certain.
fn sudoer(
    uid: Uid,
    variable: impl Fn(&str) -> Option<String>,
    known: impl Fn(&str) -> Option<Uid>,
) -> Option<String> {
    let name = variable("SUDO_USER").filter(|_| uid.is_root())?;
    let said: u32 = variable("SUDO_UID")?.parse().ok()?;
    (known(&name)? == Uid::from_raw(said)).then(|| format!("{name} (sudo, uid {uid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let account = Account {
            name: "nobody".into(),
            uid: 65_534.into(),
            gid: 65_534.into(),
            home: "/".into(),
        };
        let [word, ids, _] = words(&account);
        assert_eq!(word, WORD);
        let (uid, gid, groups) = parse(&ids).unwrap();
        assert_eq!((uid, gid), (account.uid, account.gid));
        assert!(groups.contains(&account.gid));
        for wrong in ["", "1", "1:2", "1:2:", "x:2:3", "1:2:3,x"] {
            assert!(parse(OsStr::new(wrong)).is_none(), "{wrong}");
        }
    }

    #[test]
    fn sudo_is_believed_of_root_alone_and_of_accounts_that_are_there() {
        let known = |name: &str| (name == "alice").then(|| Uid::from_raw(1000));
        let says = |uid: u32, name: &str, said: &str| {
            let (name, said) = (name.to_owned(), said.to_owned());
            let variable = move |variable: &str| match variable {
                "SUDO_USER" => Some(name.clone()),
                "SUDO_UID" => Some(said.clone()),
                _ => None,
            };
            sudoer(Uid::from_raw(uid), variable, known)
        };
        assert_eq!(says(0, "alice", "1000").as_deref(), Some("alice (sudo, uid 0)"));
        for (uid, name, said) in [
            (1000, "alice", "1000"),
            (1001, "alice", "1000"),
            (0, "alice", "1001"),
            (0, "alice", ""),
            (0, "mallory", "1000"),
            (0, "", "1000"),
            (0, "alice on db1\n", "1000"),
        ] {
            assert_eq!(says(uid, name, said), None, "{uid} {name:?} {said}");
        }
        assert_eq!(sudoer(Uid::from_raw(0), |_| None, known), None);
    }
}
