//! What root's command does to a folder that the server's user owns, seen from outside: every system
//! call of it, and somebody who swaps what is in the folder between any two of them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use test_kit::account::server_user;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::Site;

/// The calls that take a path.
const BY_NAME: &str = "open,openat,openat2,creat,chown,lchown,fchownat,chmod,fchmodat,rename,\
                       renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,unlink,\
                       unlinkat,truncate";

/// How much longer each of them takes, so that a swap falls between any two.
const DELAY: &str = ":delay_enter=5000";

#[test]
fn root_touches_nothing_by_name_in_the_accounts_folder() -> Result<()> {
    let Some(user) = server_user() else { return Ok(()) };
    let site = Site::new("root-trace")?;
    let (config, keys) = (site.path("etc/keyward.toml"), site.path("keys"));
    fs::create_dir(&keys)?;
    chown(&keys, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    files::chmod(&keys, 0o755)?;
    let keystore = keys.join("own/keystore.json").display().to_string();
    let words: [&[&str]; 5] = [
        &["init", "--keystore", &keystore],
        &["rotate", "1"],
        &["migrate", "--from", "local", "--to", "second"],
        &["doctor"],
        &["status"],
    ];
    let mut calls = 0;
    for call in words {
        if call[0] == "migrate" {
            second_provider(&site, &config)?;
        }
        let log = site.path("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "--string-limit=4096", "--decode-fds=path", "--output"]).arg(&log);
        strace.arg(test_kit::artefacts::command()).arg("--config").arg(&config).args(call);
        let said = test_kit::command::answer(&mut strace)?;
        // Whatever `doctor` thinks of a server that does not run.
        ensure!(said.code == 0 || call[0] == "doctor", "{call:?}: {}", said.text());
        let found = by_root(&files::text(&log)?, &keys)?;
        ensure!(found.by_root.is_empty(), "{call:?}, as root:\n{}", found.by_root.join("\n"));
        ensure!(found.by_account > 0, "{call:?}: the trace shows nobody in {}", keys.display());
        calls += found.by_account;
    }
    seen!(
        "root's init, rotate, migrate, doctor, status: {calls} calls by name in the account's folder, 0 by root"
    );
    Ok(())
}

#[test]
fn no_swap_at_any_step_gains_anything() -> Result<()> {
    let Some(user) = server_user() else { return Ok(()) };
    let site = Site::new("root-swap")?;
    let roots = site.path("roots");
    fs::create_dir(&roots)?;
    files::chmod(&roots, 0o700)?;
    let victim = roots.join("secret");
    let (mut rounds, swaps) = (0, AtomicU32::new(0));
    for (name, call) in [
        ("keystore.json", "init"),
        ("audit.jsonl", "init"),
        ("keystore.json.lock", "init"),
        ("audit.jsonl", "rotate"),
        ("keystore.json", "rotate"),
        ("keystore.json.witness", "rotate"),
    ] {
        let keys = site.path(&format!("keys{rounds}"));
        let config = site.path(&format!("etc{rounds}/keyward.toml"));
        rounds += 1;
        fs::create_dir(&keys)?;
        chown(&keys, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        files::write(&victim, "root's")?;
        files::chmod(&victim, 0o600)?;
        let own = keys.join("own");
        let keystore = own.join("keystore.json").display().to_string();
        let run = |words: &[&str], traced: bool| -> Result<()> {
            let mut command = Command::new(if traced { "strace" } else { "env" });
            if traced {
                command.args(["-f", "--quiet=all", "--output=/dev/null"]);
                // Not every architecture has them all.
                command.arg(format!("--inject=?{}{DELAY}", BY_NAME.replace(',', ",?")));
            }
            command.arg(test_kit::artefacts::command()).arg("--config").arg(&config);
            // It may fail: what matters is what it leaves.
            command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status()?;
            Ok(())
        };
        let init = ["init", "--keystore", keystore.as_str()];
        if call == "rotate" {
            run(&init, false)?;
        }
        let done = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    swap(&own, name, &victim, &roots, &swaps);
                }
            });
            let outcome =
                if call == "init" { run(&init, true) } else { run(&["rotate", "1"], true) };
            done.store(true, Ordering::Relaxed);
            outcome
        });
        outcome?;
        let found = fs::symlink_metadata(&victim)?;
        let (text, mode, owner) = (files::text(&victim)?, found.mode() & 0o7777, found.uid());
        ensure!(
            (text.as_str(), mode, owner) == ("root's", 0o600, 0),
            "{call} with {name} swapped: {text:?}, {mode:o}, user {owner}"
        );
        let made: Vec<PathBuf> = files::list(&roots);
        ensure!(made == [victim.clone()], "{call} with {name} swapped made {made:?}");
    }
    seen!(
        "{rounds} races, every call by name delayed: {} swaps, 0 won",
        swaps.load(Ordering::Relaxed)
    );
    Ok(())
}

/// A second provider to move to.
fn second_provider(site: &Site, config: &Path) -> Result<()> {
    let second = site.path("etc/second.key");
    files::write(&second, "0123456789abcdef".repeat(4))?;
    site.only_for_server(&second)?;
    let more =
        format!("[[provider]]\nname = \"second\"\ntype = \"local\"\nkey_file = {second:?}\n");
    files::write(config, files::text(config)? + &more)
}

/// Puts a link to root's file in the place of `name`, then one to root's folder in that of the whole
/// folder, and takes both away again.
fn swap(own: &Path, name: &str, victim: &Path, roots: &Path, swaps: &AtomicU32) {
    let (file, aside) = (own.join(name), own.with_extension("aside"));
    let kept = own.join("kept");
    // Each may come too early or too late.
    let _ = fs::rename(&file, &kept);
    if symlink(victim, &file).is_ok() {
        swaps.fetch_add(1, Ordering::Relaxed);
    }
    std::thread::sleep(Duration::from_millis(2));
    let _ = fs::remove_file(&file);
    let _ = fs::rename(&kept, &file);
    if fs::rename(own, &aside).is_ok() {
        if symlink(roots, own).is_ok() {
            swaps.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(2));
        let _ = fs::remove_file(own);
        let _ = fs::rename(&aside, own);
    }
    std::thread::sleep(Duration::from_millis(1));
}

/// What a trace shows of calls by name in a folder.
struct Found {
    by_root: Vec<String>,
    by_account: usize,
}

fn by_root(trace: &str, folder: &Path) -> Result<Found> {
    let folder = folder.display().to_string();
    let lines =
        || trace.lines().filter_map(|line| line.split_once(' ')).map(|(t, c)| (t, c.trim()));
    let starts = |call: &str| ["clone", "fork"].iter().any(|name| call.contains(name));
    // Of which thread each began; its first lines may come before that one's.
    let parents: HashMap<&str, &str> = lines()
        .filter(|(_, call)| starts(call))
        .filter_map(|(thread, call)| Some((call.rsplit_once(" = ")?.1.trim(), thread)))
        .collect();
    let mut dropped = HashSet::new();
    let mut found = Found { by_root: Vec::new(), by_account: 0 };
    for (thread, call) in lines() {
        if call.contains("setresuid") && call.ends_with(" = 0") {
            ensure!(!call.contains("(0, 0, 0)"), "root came back: {call}");
            dropped.insert(thread);
        }
        let name = call.split('(').next().unwrap_or_default();
        let arguments = call.rsplit_once(" = ").map_or(call, |(before, _)| before);
        let from = arguments.contains(&format!("<{folder}>"))
            || arguments.contains(&format!("<{folder}/"));
        let named = arguments.split('"').skip(1).step_by(2).any(|path| {
            path.starts_with(&format!("{folder}/")) || (from && !path.starts_with('/'))
        });
        if !named || !BY_NAME.split(',').any(|one| one == name) {
            continue;
        }
        let mut ancestors = std::iter::successors(Some(thread), |one| parents.get(one).copied());
        match ancestors.any(|one| dropped.contains(one)) {
            true => found.by_account += 1,
            false => found.by_root.push(format!("{thread} {call}")),
        }
    }
    Ok(found)
}
