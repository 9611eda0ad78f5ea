//! Who runs what. Root starts the command a second time as the server's account, and that one does
//! all the work: it reads the account's files, calls key stores and loads their modules. Root itself
//! works in root's folders alone, asks the server (which knows root by its account) on the other's
//! behalf, and takes what the other prints as text of a stranger. ADR 87 has the picture.

mod account;
mod door;
mod kernel;
mod relay;
mod stage;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, User, geteuid, setgroups, setresgid, setresuid};

pub(in crate::cli) use account::{Account, find, no_user};
pub(in crate::cli) use door::ask;
pub(in crate::cli) use stage::{actor, enter, is_second};

use crate::assemble;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::outlet::Outlet;
use crate::cli::helpers::print::arrived;
use crate::cli::helpers::reach;
use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// How long more output of the other is waited for after its end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the second command ended with.
pub(in crate::cli) enum Said {
    /// It is done, and printed this.
    Text(Vec<u8>),
    /// It failed, and has told why.
    Failed(Exit),
}

/// As whom `command` is to run: the account that the second command runs as, none where we are it.
pub(in crate::cli) fn account_for(config: &Path, user: Option<&str>) -> Result<Option<Account>> {
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

/// Runs this very call as `account`, shows what it prints, and asks the server that `options` name for it.
pub(in crate::cli) fn run_as(
    account: &Account,
    config: &Path,
    call: &[OsString],
    options: reach::Options,
) -> Result<Exit> {
    let (mut child, door) = start(account, config, call, &[])?;
    let printed = relay::show(&mut child);
    door::serve(door, options);
    let exit = end(&mut child)?;
    arrived(printed.wait(LAST_WORDS))?;
    Ok(exit)
}

/// The same for a call whose output is no text, and goes to `outlet` as it is. That is root's, and the
/// account gets no hold of it.
pub(in crate::cli) fn write_as(
    account: &Account,
    config: &Path,
    call: &[OsString],
    options: reach::Options,
    mut outlet: Outlet,
) -> Result<Exit> {
    let failed = |e| Error::new(Kind::Internal, format!("cannot pass on the output: {e}"));
    let to = outlet.file().map_err(failed)?;
    let ended = start(account, config, call, &[]).and_then(|(mut child, door)| {
        let printed = relay::pass(&mut child, to);
        door::serve(door, options);
        let exit = end(&mut child)?;
        outlet.note_loss(printed.wait(LAST_WORDS));
        Ok(exit)
    });
    outlet.end(ended)
}

/// The same for a step of ours, whose output we read: `call` with `more` in its environment.
pub(in crate::cli) fn step_as(
    account: &Account,
    config: &Path,
    call: &[OsString],
    more: &[(&str, OsString)],
) -> Result<Said> {
    let (mut child, _door) = start(account, config, call, more)?;
    let (text, printed) = relay::keep(&mut child);
    let exit = end(&mut child)?;
    // All of it is complaints, and there is nowhere else to complain.
    let _ = printed.wait(LAST_WORDS);
    match exit {
        Exit::Success => relay::text(&text, LAST_WORDS).map(Said::Text),
        failed => Ok(Said::Failed(failed)),
    }
}

/// The same for a call whose output root puts where the account could not: it must be text. The server that
/// `options` name is asked for it.
pub(in crate::cli) fn text_as(
    account: &Account,
    config: &Path,
    call: &[OsString],
    options: reach::Options,
) -> Result<Said> {
    let (mut child, door) = start(account, config, call, &[])?;
    let (text, printed) = relay::keep(&mut child);
    door::serve(door, options);
    let exit = end(&mut child)?;
    let _ = printed.wait(LAST_WORDS);
    match exit {
        Exit::Success => relay::text(&text, LAST_WORDS).map(Said::Text),
        failed => Ok(Said::Failed(failed)),
    }
}

/// Has root become the owner of `folder` for good, unless that is root: what is written there afterwards
/// is written with no other rights. Nothing but writing may follow.
pub(in crate::cli) fn become_owner_of(folder: &Path) -> Result<()> {
    let found = folder.symlink_metadata().map_err(|e| Error::io("cannot look at", folder, &e))?;
    if !geteuid().is_root() || found.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    setgroups(&[group])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user))
        .map_err(|e| Error::new(Kind::Denied, format!("cannot act as user {user}: {e}")))
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
        .env("HOME", &account.home)
        .envs(more.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    Ok((child, ours))
}

fn end(child: &mut Child) -> Result<Exit> {
    let id = Pid::from_raw(child.id().cast_signed());
    let lost = |what: String| {
        let what = format!("the account's part of the command was {what}");
        Err(Error::new(Kind::Unknown, what).advise("look with `keyward status` first"))
    };
    loop {
        match waitpid(id, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(exit_of(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return lost(format!("ended by {signal}")),
            // By somebody who acts as the account: no terminal is its, and we would wait for ever.
            Ok(WaitStatus::Stopped(_, signal)) => {
                // It is ours and not waited for yet, so both can be done.
                let _ = child.kill().and_then(|()| child.wait());
                return lost(format!("stopped by {signal}, and then ended by root's"));
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(cause) => return lost(format!("lost: {cause}")),
        }
    }
}

fn exit_of(code: i32) -> Exit {
    match code {
        0 => Exit::Success,
        2 => Exit::Usage,
        3 => Exit::Unfinished,
        74 => Exit::Unknown,
        75 => Exit::TryAgain,
        _ => Exit::Failure,
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

/// Leaves a program that root starts nothing of an environment that whoever called root by `sudo` may
/// have kept: clients load libraries and read passwords where `HOME` and other variables say.
pub(in crate::cli) fn own_environment(program: &mut Command) {
    if !geteuid().is_root() {
        return;
    }
    let kept = std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| name.starts_with("LC_") || CLIENTS.contains(&name))
    });
    let kept: Vec<_> = kept.collect();
    let home = User::from_uid(geteuid()).ok().flatten().map(|root| root.dir);
    program.env_clear().envs(kept).envs(home.map(|home| ("HOME", home)));
}

/// What a client of the server's needs, and how it finds the server.
const CLIENTS: [&str; 7] =
    ["PATH", "LANG", "TZ", "MYSQL_HOST", "MYSQL_PWD", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT"];

/// By name or, with a `*` at the end, by how the name begins.
const NAMES: &[&str] = &[
    "KEYWARD_*",
    "LC_*",
    "PATH",
    "LANG",
    "LANGUAGE",
    "TERM",
    "TZ",
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
