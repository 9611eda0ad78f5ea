//! Whose keystore it is: the account that the server runs as.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::assemble;
use crate::compat::my_cnf;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::trust::{self, Folder, Refusal};

/// What a server's packages call its account.
const DEFAULT: &str = "mysql";

/// An account of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Account {
    pub(in crate::cli) name: String,
    pub(in crate::cli) uid: Uid,
    pub(in crate::cli) gid: Gid,
    pub(in crate::cli) home: PathBuf,
}

/// The account called `name`, or of that number, if there is one.
pub(in crate::cli) fn find(name: &str) -> Result<Option<Account>> {
    let failed = |e| Error::new(Kind::Io, format!("cannot look up the user {name:?}: {e}"));
    let user = match name.parse().map(Uid::from_raw) {
        Ok(uid) => User::from_uid(uid).map_err(failed)?,
        Err(_) => User::from_name(name).map_err(failed)?,
    };
    Ok(user.map(|user| Account { name: user.name, uid: user.uid, gid: user.gid, home: user.dir }))
}

/// The account of the server that `config` is for: `user`, else what the option files say, else
/// mysql. The keystore's folder must be its own, or root's, and then it is root.
pub(super) fn of_server(config: &Path, user: Option<&str>) -> Result<Option<Account>> {
    let name = user.map(str::to_owned).or_else(my_cnf::server_user);
    let name = name.unwrap_or_else(|| DEFAULT.to_owned());
    let account = find(&name)?;
    // Only root's own is read as root; another is read by the account itself.
    let roots = Config::load(config);
    if roots.is_err() && user.is_none() && trust::open(config).is_ok() {
        // Root's own, and wrong: nothing in it counts, and root is told what is.
        return Ok(None);
    }
    let owner = roots.as_ref().ok().and_then(|config| {
        let folder = config.keystore.path.parent()?;
        Some((folder.to_owned(), folder.symlink_metadata().ok()?.uid()))
    });
    match (owner, account) {
        (Some((folder, 0)), _) if user.is_none() => roots_own(&folder).map(|()| None),
        (Some((folder, owner)), Some(account)) if owner != account.uid.as_raw() => {
            let folder = folder.display();
            let what = format!("{folder} belongs to user {owner}, and the server's user is {name}");
            Err(Error::new(Kind::Config, what)
                .advise(format!("name its account with --user, or run chown {name} {folder}")))
        }
        (Some((folder, 0)), Some(account)) => roots_own(&folder).map(|()| Some(account)),
        (_, Some(account)) => Ok(Some(account)),
        (_, None) => match roots {
            Err(error) if user.is_none() => Err(error),
            _ => Err(no_user(&name)),
        },
    }
}

/// Refuses a `folder` of root's below one of somebody else's, who can put another folder of root's, such
/// as `lost+found`, in its place.
fn roots_own(folder: &Path) -> Result<()> {
    let refused = |refusal: Refusal| refusal.of("cannot open the folder", folder);
    Folder::open(folder).map(drop).map_err(refused)
}

/// The error where there is no user `name`.
pub(in crate::cli) fn no_user(name: &str) -> Error {
    Error::new(Kind::Config, format!("there is no user {name:?}"))
        .advise("install the server first, or name its account with --user")
}

impl Account {
    pub(super) fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Its groups, and those that its token is for where root's units give it them.
    pub(super) fn groups(&self) -> Vec<Gid> {
        let own = CString::new(self.name.as_str()).ok();
        let own = own.and_then(|name| getgrouplist(&name, self.gid).ok());
        let mut groups = own.unwrap_or_else(|| vec![self.gid]);
        for name in units_groups() {
            if let Ok(Some(group)) = Group::from_name(&name)
                && !groups.contains(&group.gid)
            {
                groups.push(group.gid);
            }
        }
        groups
    }
}

/// The token groups that `SupplementaryGroups=` of a server's unit names.
fn units_groups() -> Vec<String> {
    let mut groups = Vec::new();
    for folder in ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"] {
        for unit in ["mariadb", "mysql", "mysqld"] {
            let unit = Path::new(folder).join(format!("{unit}.service"));
            let drop_ins = std::fs::read_dir(unit.with_extension("service.d"));
            let drop_ins = drop_ins.into_iter().flatten().flatten().map(|entry| entry.path());
            for file in std::iter::once(unit).chain(drop_ins) {
                let text = trust::read_text(&file, 1 << 16).unwrap_or_default();
                let lines =
                    text.lines().filter_map(|line| line.strip_prefix("SupplementaryGroups="));
                groups.extend(lines.flat_map(str::split_whitespace).map(str::to_owned));
            }
        }
    }
    groups.retain(|name| assemble::groups_of_key_stores().any(|group| group == name));
    groups
}
