//! Who acts: the command run as root becomes the keystore's owner before it touches it, or the
//! server could not read what a root-owned rename leaves behind.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, geteuid, getgid, getuid, initgroups, setegid, seteuid};

use super::no_folder;
use crate::error::{Error, Kind, Result};

/// An account of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
}

/// The account called `name`, if there is one.
pub(super) fn account(name: &str) -> Result<Option<Account>> {
    let user = User::from_name(name)
        .map_err(|e| Error::new(Kind::Io, format!("cannot look up the user {name:?}: {e}")))?;
    Ok(user.map(|user| Account { uid: user.uid, gid: user.gid }))
}

/// Where we are root: becomes whoever owns the folder of `keystore`.
pub(super) fn become_owner_of(keystore: &Path) -> Result<()> {
    match owner_of(keystore)? {
        Some(owner) => become_account(owner),
        None => Ok(()),
    }
}

/// Where we are root: whoever owns the folder of `keystore`.
pub(super) fn owner_of(keystore: &Path) -> Result<Option<Account>> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let folder = keystore.parent().ok_or_else(|| no_folder(keystore))?;
    let owner = std::fs::metadata(folder).map_err(|e| {
        Error::io("cannot look at", folder, &e).advise("`keyward init` makes a keystore")
    })?;
    Ok(Some(Account { uid: owner.uid().into(), gid: owner.gid().into() }))
}

/// Does `work` as `account`, then becomes ourselves again.
pub(super) fn acting_as<T>(
    account: Option<Account>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(account) = account else { return work() };
    become_account(account)?;
    let outcome = work();
    seteuid(Uid::from_raw(0))
        .and_then(|()| setegid(Gid::from_raw(0)))
        .map_err(|e| Error::new(Kind::Internal, format!("cannot become root again: {e}")))?;
    outcome
}

/// Takes on `account`'s rights until we become ourselves again; nothing happens where we have them.
pub(super) fn become_account(account: Account) -> Result<()> {
    if account.uid.is_root() || account.uid == geteuid() {
        return Ok(());
    }
    let refused = |e| {
        Error::new(Kind::Denied, format!("cannot become user {}: {e}", account.uid))
            .advise("run the command as root, or as the keystore's owner")
    };
    if let Ok(Some(user)) = User::from_uid(account.uid)
        && let Ok(name) = std::ffi::CString::new(user.name)
    {
        initgroups(&name, account.gid).map_err(refused)?;
    }
    setegid(account.gid).map_err(refused)?;
    seteuid(account.uid).map_err(refused)
}

/// Takes on our own rights again: a server knows us by our account.
pub(super) fn become_ourselves() -> Result<()> {
    seteuid(getuid())
        .and_then(|()| setegid(getgid()))
        .map_err(|e| Error::new(Kind::Internal, format!("cannot become ourselves again: {e}")))
}

/// The person at the keyboard, for history and audit: `root on db1`, `alice (sudo, uid 0) on db1`.
pub(super) fn actor() -> String {
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
