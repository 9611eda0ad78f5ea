//! `keyward status`: how things stand, from the keystore itself.

use std::path::Path;

use serde::Serialize;

use super::keys::age;
use super::print::{Printer, plain};
use super::{Exit, open};
use crate::env::{Clock, System, Timestamp};
use crate::error::Result;
use crate::key::KeyState;

#[derive(Serialize)]
struct Report {
    keystore: String,
    generation: u64,
    opened_by: String,
    wrapped_by: Vec<String>,
    keys: usize,
    versions: usize,
    oldest_active: Option<Timestamp>,
}

pub(super) fn run(config: &Path, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let status = custodian.status();
    let active = custodian.keys().into_iter().filter(|info| info.state == KeyState::Active);
    let report = Report {
        keystore: config.keystore.path.display().to_string(),
        generation: status.generation,
        opened_by: status.provider,
        wrapped_by: custodian.wrappings().into_iter().map(|(provider, _)| provider).collect(),
        keys: status.keys,
        versions: status.versions,
        oldest_active: active.filter_map(|info| info.created).min(),
    };
    printer.show(&report, &plain(&report.text()))?;
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
        format!(
            "keystore    {} (generation {})\nopened by   {}\n{wrapped_by}keys        {}, {} \
             versions\noldest key  {oldest}\n",
            self.keystore, self.generation, self.opened_by, self.keys, self.versions
        )
    }
}
