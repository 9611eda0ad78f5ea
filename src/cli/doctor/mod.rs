//! `keyward doctor`: everything that can be wrong, looked at before it hurts. One file a kind of thing;
//! `catalogue` has the ids.

#![forbid(unsafe_code)]

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

use catalogue::{Check, SERVER};
pub(in crate::cli) use findings::Finding;
use findings::Findings;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::{Mark, Printer};
use crate::cli::helpers::running;
use crate::cli::helpers::server as client;
use crate::config::Config;
use crate::custodian::Custodian;
use crate::error::Result;
use crate::mark;

#[derive(clap::Args, Default)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) server: client::Options,
    /// Read all files of this data directory [default: the server's own, as far as ten seconds go]
    #[arg(long, value_name = "DIR")]
    pub(super) datadir: Option<PathBuf>,
    /// Tell more of the check with this id, such as load-option, and look at nothing
    #[arg(long, value_name = "ID")]
    pub(super) explain: Option<String>,
}

impl Options {
    /// What `--explain` is answered, if it was given; nothing is read for that.
    pub(super) fn explained(&self, printer: &Printer) -> Option<Result<Exit>> {
        let shown = catalogue::explain(self.explain.as_deref()?).and_then(|(check, text)| {
            let Check { id, what, .. } = check;
            let value = serde_json::json!({ "id": id, "what": what, "text": text });
            printer.show(&value, &text)
        });
        Some(shown.map(|()| Exit::Success))
    }
}

pub(super) fn run(path: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let findings = findings(path, options);
    printer.show(&findings, &findings::lines(&findings))?;
    Ok(findings::exit(&findings))
}

/// All that is to be said of the server that the configuration at `path` is for.
pub(in crate::cli) fn findings(path: &Path, options: &Options) -> Vec<Finding> {
    let mut findings = Findings::default();
    // A file of MySQL's component tells which server it is.
    match path.extension().is_some_and(|ending| ending == "cnf") {
        true => of_mysql(&mut findings, path, &options.server),
        false => of_mariadb(&mut findings, path, options),
    }
    findings.0
}

fn of_mysql(findings: &mut Findings, path: &Path, options: &client::Options) {
    let server = component::ask(options);
    let config = keys::configuration(findings, path);
    if let Some(config) = &config
        && !component::is_to_be_made(findings, path)
    {
        opened(findings, config);
    }
    let keystore = config.as_ref().map(|config| &*config.keystore.path);
    component::check(findings, path, keystore, server);
}

fn of_mariadb(findings: &mut Findings, path: &Path, options: &Options) {
    let running = running::ask(&options.server);
    let config = keys::configuration(findings, path);
    let custodian = config.as_ref().and_then(|config| opened(findings, config));
    let its_own = match &running {
        Ok(running) => {
            if let (Some(custodian), Some(seen)) = (&custodian, running.generation()) {
                keys::generation(findings, custodian, seen, &options.server);
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
    let named = options.datadir.clone().or(its_own);
    let Some(datadir) = named.or_else(|| registered(custodian.as_ref()?)) else { return };
    if let Some(config) = &config {
        places::key_beside_data(findings, config, &datadir);
    }
    let asked = options.datadir.is_some();
    data::check(findings, &datadir, asked, running.is_ok(), custodian.as_ref());
}

/// What a server's start goes through, whichever server it is.
fn opened(findings: &mut Findings, config: &Config) -> Option<Custodian> {
    keys::providers(findings, config);
    places::keystore_folder(findings, config);
    let custodian = keys::keys(findings, config)?;
    trail::trail(findings, config, &custodian);
    trail::sinks(findings, config, &custodian);
    Some(custodian)
}

/// The data directory of this machine's that the keystore has seen last.
fn registered(custodian: &Custodian) -> Option<PathBuf> {
    let all = custodian.data_directories().into_iter().filter(|one| one.host == mark::host());
    Some(PathBuf::from(all.max_by_key(|one| one.last_seen)?.path))
}
