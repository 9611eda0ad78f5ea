//! Looks at everything that can be wrong, before it hurts: what `keyward doctor` shows. One file a kind of
//! thing; `catalogue` has the ids.

#![forbid(unsafe_code)]

mod backup;
mod catalogue;
mod component;
mod data;
mod down;
mod findings;
mod keys;
mod places;
mod server;
mod trail;

use std::path::{Path, PathBuf};

use catalogue::SERVER;
pub(in crate::cli) use catalogue::{Check, explain};
use findings::Findings;
pub(in crate::cli) use findings::{Finding, exit, lines};

use crate::assemble::Probed;
use crate::cli::helpers::print::Mark;
use crate::cli::helpers::running;
use crate::cli::helpers::server as client;
use crate::config::Config;
use crate::custodian::Custodian;
use crate::mark;

/// All that was looked at, and what was asked and opened for it.
#[derive(Default)]
pub(in crate::cli) struct Examined {
    pub(in crate::cli) findings: Vec<Finding>,
    pub(in crate::cli) config: Option<Config>,
    pub(in crate::cli) providers: Vec<Probed>,
    pub(in crate::cli) custodian: Option<Custodian>,
}

/// Which data files are read.
#[derive(Clone, Copy)]
pub(in crate::cli) enum DataFiles<'a> {
    /// All in this data directory.
    All(&'a Path),
    /// Small ones in the server's own, as far as ten seconds go.
    Some,
    /// None: the caller reads them.
    None,
}

/// Looks at everything that belongs to the server that the configuration at `path` is for.
pub(in crate::cli) fn examine(
    path: &Path,
    options: &client::Options,
    files: DataFiles<'_>,
) -> Examined {
    let mut findings = Findings::default();
    // A file of MySQL's component tells which server it is.
    let (config, opened) = match path.extension().is_some_and(|ending| ending == "cnf") {
        true => of_mysql(&mut findings, path, options),
        false => of_mariadb(&mut findings, path, options, files),
    };
    let Opened { providers, custodian } = opened;
    Examined { findings: findings.0, config, providers, custodian }
}

/// What a server's start goes through.
#[derive(Default)]
struct Opened {
    providers: Vec<Probed>,
    custodian: Option<Custodian>,
}

fn of_mysql(
    findings: &mut Findings,
    path: &Path,
    options: &client::Options,
) -> (Option<Config>, Opened) {
    let server = component::ask(options);
    let config = keys::configuration(findings, path);
    let opened = match &config {
        Some(config) if !component::is_to_be_made(findings, path) => open(findings, config),
        _ => Opened::default(),
    };
    let keystore = config.as_ref().map(|config| &*config.keystore.path);
    component::check(findings, path, keystore, server);
    (config, opened)
}

fn of_mariadb(
    findings: &mut Findings,
    path: &Path,
    options: &client::Options,
    files: DataFiles<'_>,
) -> (Option<Config>, Opened) {
    let running = running::ask(options);
    let config = keys::configuration(findings, path);
    let opened = config.as_ref().map(|config| open(findings, config)).unwrap_or_default();
    let custodian = opened.custodian.as_ref();
    let its_own = match &running {
        Ok(running) => {
            if let (Some(custodian), Some(seen)) = (custodian, running.generation()) {
                keys::generation(findings, custodian, seen, options);
            }
            server::check(findings, running);
            running.datadir()
        }
        Err(words) => {
            let advice = client::advice(words);
            findings.add(&SERVER, Mark::Skipped, format!("server: {words}"), Some(advice));
            client::is_away(words).then(|| down::check(findings, path)).flatten()
        }
    };
    let asked = match files {
        DataFiles::All(folder) => Some(folder.to_owned()),
        DataFiles::Some | DataFiles::None => None,
    };
    let is_asked = asked.is_some();
    let Some(folder) = asked.or(its_own).or_else(|| registered(custodian?)) else {
        return (config, opened);
    };
    if let Some(config) = &config {
        places::key_beside_data(findings, config, &folder);
    }
    if !matches!(files, DataFiles::None) {
        data::check(findings, &folder, is_asked, running.is_ok(), custodian);
    }
    (config, opened)
}

/// Goes through it, whichever server it is.
fn open(findings: &mut Findings, config: &Config) -> Opened {
    let providers = keys::providers(findings, config);
    places::keystore_folder(findings, config);
    let custodian = keys::keys(findings, config);
    if let Some(custodian) = &custodian {
        backup::check(findings, config, custodian);
        trail::trail(findings, config, custodian);
        trail::sinks(findings, config, custodian);
    }
    Opened { providers, custodian }
}

/// The data directory of this machine's that the keystore has seen last.
fn registered(custodian: &Custodian) -> Option<PathBuf> {
    let all = custodian.data_directories().into_iter().filter(|one| one.host == mark::host());
    Some(PathBuf::from(all.max_by_key(|one| one.last_seen)?.path))
}
