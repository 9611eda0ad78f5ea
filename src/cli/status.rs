//! `keyward status`: how things stand, from the keystore itself.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::age;
use crate::cli::helpers::print::{Printer, plain, plain_lines};
use crate::env::{Clock, System, Timestamp};
use crate::error::Result;
use crate::key::KeyState;
use crate::source::StashState;
use crate::store::DataDirectory;

#[derive(Serialize)]
struct Report {
    keystore: String,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    opened_by: String,
    wrapped_by: Vec<String>,
    keys: usize,
    versions: usize,
    oldest_active: Option<Timestamp>,
    restart_safe: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    restart_safe_reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stash: Option<Stash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data_directories: Vec<DataDirectory>,
}

#[derive(Serialize)]
struct Stash {
    path: String,
    taken: Option<Timestamp>,
    in_use: bool,
    failure: Option<String>,
}

pub(super) fn run(config: &Path, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let status = custodian.status();
    let (epoch, fingerprint) = custodian.epoch().unzip();
    let active = custodian.keys().into_iter().filter(|info| info.state == KeyState::Active);
    let report = Report {
        keystore: config.keystore.path.display().to_string(),
        generation: status.generation,
        epoch,
        fingerprint,
        opened_by: status.provider,
        wrapped_by: custodian.wrappings().into_iter().map(|(provider, _)| provider).collect(),
        keys: status.keys,
        versions: status.versions,
        oldest_active: active.filter_map(|info| info.created).min(),
        restart_safe: status.restart.answer.to_string(),
        restart_safe_reason: status.restart.reason,
        degraded: status.degraded.map(|degraded| degraded.cause),
        stash: status.stash.map(Stash::from),
        data_directories: custodian.data_directories(),
    };
    printer.show(&report, &plain_lines(&report.text()))?;
    Ok(Exit::Success)
}

impl Report {
    fn text(&self) -> String {
        let oldest = match self.oldest_active {
            Some(at) => format!("{} ({at})", age(System.now().since(at))),
            None => "-".to_owned(),
        };
        let wrapped_by = match self.wrapped_by.as_slice() {
            [] => String::new(),
            names => format!("wrapped by  {}\n", names.join(", ")),
        };
        let line = |name: &str, text: &String| format!("{name:<11} {text}\n");
        let degraded = self.degraded.as_ref().map(|cause| line("degraded", cause));
        let stash = self.stash.as_ref().map(|stash| line("stash", &stash.text()));
        let restart = match self.restart_safe_reason.as_str() {
            "" => format!("safe: {}", self.restart_safe),
            reason => format!("safe: {}, {reason}", self.restart_safe),
        };
        let restart = Some(line("restart", &restart));
        let used_by =
            self.data_directories.iter().map(|DataDirectory { mark, host, path, last_seen }| {
                line("used by", &format!("{path} on {host}, mark {mark}, last seen {last_seen}"))
            });
        let more: String =
            restart.into_iter().chain(degraded).chain(stash).chain(used_by).collect();
        format!(
            "keystore    {} (generation {})\nopened by   {}\n{wrapped_by}keys        {}, {} \
             versions\noldest key  {oldest}\n{more}",
            plain(&self.keystore),
            self.generation,
            self.opened_by,
            self.keys,
            self.versions
        )
    }
}

impl From<StashState> for Stash {
    fn from(state: StashState) -> Self {
        let StashState { path, taken, in_use, failure } = state;
        Self { path: path.display().to_string(), taken, in_use, failure }
    }
}

impl Stash {
    fn text(&self) -> String {
        let taken = match (self.taken, &self.failure) {
            (_, Some(failure)) => failure.clone(),
            (Some(at), None) => format!("taken {} ago ({at})", age(System.now().since(at))),
            (None, None) => "none yet: the server takes it".to_owned(),
        };
        let in_use = if self.in_use { ", in use" } else { "" };
        format!("{}, {taken}{in_use}", plain(&self.path))
    }
}
