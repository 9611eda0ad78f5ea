//! Who runs what. Root starts the command a second time as the server's account, and that one does
//! all the work: it reads the account's files, calls key stores and loads their modules. Root itself
//! works in root's folders alone, asks the server (which knows root by its account) on the other's
//! behalf, and takes what the other prints as text of a stranger. ADR 87 has the picture.

mod account;
mod door;
mod relay;
mod stage;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::geteuid;

pub(super) use account::{Account, find, no_user};
pub(super) use door::ask;
pub(super) use stage::{actor, enter};

use super::Exit;
use crate::assemble;
use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// How long the output of the other may still come after its end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the second command ended with.
pub(super) enum Said {
    /// It is done, and printed this.
    Text(Vec<u8>),
    /// It failed, and has told why.
    Failed(Exit),
}

/// As whom `command` is to run: the account that the second command runs as, none where we are it.
pub(super) fn account_for(config: &Path, user: Option<&str>) -> Result<Option<Account>> {
    if geteuid().is_root() {
        return account::of_server(config, user).map(|found| found.filter(|one| !one.is_root()));
    }
    let Some(name) = user else { return Ok(None) };
    if find(name)?.is_some_and(|one| one.uid == geteuid()) {
        return Ok(None);
    }
    let what = format!("cannot act as user {name:?}");
    Err(Error::new(Kind::Denied, what).advise("run the command as root, or as that user"))
}

/// Runs this very call as `account`, shows what it prints, and asks the server for it.
pub(super) fn run_as(account: &Account, config: &Path, call: &[OsString]) -> Result<Exit> {
    let (mut child, door) = start(account, config, call, &[])?;
    let printed = relay::show(&mut child);
    door::serve(door);
    let exit = end(&mut child)?;
    printed.wait(LAST_WORDS);
    Ok(exit)
}

/// The same for a step of ours, whose output we read: `call` with `more` in its environment.
pub(super) fn step_as(
    account: &Account,
    config: &Path,
    call: &[OsString],
    more: &[(&str, OsString)],
) -> Result<Said> {
    let (mut child, door) = start(account, config, call, more)?;
    let (text, printed) = relay::keep(&mut child);
    door::serve(door);
    let exit = end(&mut child)?;
    printed.wait(LAST_WORDS);
    match exit {
        Exit::Success => relay::text(&text, LAST_WORDS).map(Said::Text),
        failed => Ok(Said::Failed(failed)),
    }
}

fn start(
    account: &Account,
    config: &Path,
    call: &[OsString],
    more: &[(&str, OsString)],
) -> Result<(Child, UnixStream)> {
    let failed = |e: std::io::Error| {
        Error::new(Kind::Internal, format!("cannot start the command as {}: {e}", account.name))
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let child = Command::new("/proc/self/exe")
        .args(stage::words(account))
        .args(call)
        .env_clear()
        .envs(environment(config))
        .envs(more.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    Ok((child, ours))
}

fn end(child: &mut Child) -> Result<Exit> {
    let status = child
        .wait()
        .map_err(|e| Error::new(Kind::Internal, format!("the command was lost: {e}")))?;
    match status.code() {
        Some(0) => Ok(Exit::Success),
        Some(2) => Ok(Exit::Usage),
        Some(3) => Ok(Exit::Unfinished),
        Some(74) => Ok(Exit::Unknown),
        Some(75) => Ok(Exit::TryAgain),
        Some(_) => Ok(Exit::Failure),
        None => {
            let what = format!("the account's part of the command was ended by {status}");
            Err(Error::new(Kind::Unknown, what).advise("look with `keyward status` first"))
        }
    }
}

/// What the account's command learns of root's environment: how to print, where its libraries have
/// their configuration, and what root's own configuration names as `*_env`.
fn environment(config: &Path) -> Vec<(OsString, OsString)> {
    let named = Config::load(config).map_or_else(|_| Vec::new(), |config| config.variables());
    let known = || NAMES.iter().copied().chain(assemble::variables_of_key_stores());
    let is = |name: &str, pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    let wanted = |name: &str| {
        known().any(|pattern| is(name, pattern)) || named.iter().any(|one| one == name)
    };
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(wanted)).collect()
}

/// By name or, with a `*` at the end, by how the name begins.
const NAMES: &[&str] = &[
    "KEYWARD_*",
    "LC_*",
    "PATH",
    "LANG",
    "LANGUAGE",
    "TERM",
    "TZ",
    "HOME",
    "TMPDIR",
    "COLUMNS",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "CREDENTIALS_DIRECTORY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];
