//! `keyward keystore fork`: a copied keystore goes its own way.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{privilege, scan};
use crate::error::Result;
use crate::source::Reason;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The data directory of the server that is to use it, which must not run yet
    #[arg(long, value_name = "DIR", required = true)]
    datadir: Vec<PathBuf>,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward keystore fork", value_name = "TEXT")]
    reason: String,
}

/// What was done, for machines.
#[derive(Serialize)]
struct Done {
    path: PathBuf,
    former: String,
    id: String,
    revision: String,
    fingerprint: String,
    versions: usize,
    aside: Option<PathBuf>,
    /// Whether the configuration names the former one's fingerprint.
    pinned: bool,
}

pub(super) fn run(path: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    // Nobody else would have its keys, and go on with the former keystore in memory.
    scan::refuse_running(&options.datadir, "stop it first: it has the keys of the former one")?;
    let (config, custodian) = open(path)?;
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let forked = custodian.manager()?.fork(reason)?;
    let done = Done {
        path: forked.path,
        former: forked.former,
        id: forked.id,
        revision: forked.revision.to_string(),
        fingerprint: forked.fingerprint.to_string(),
        versions: forked.versions,
        aside: forked.aside,
        pinned: config.keystore.fingerprint.is_some(),
    };
    printer.show(&done, &plain_lines(&done.text()))?;
    Ok(Exit::Success)
}

impl Done {
    fn text(&self) -> String {
        let Self { path, former, id, revision, fingerprint, versions, aside, pinned } = self;
        let mut text = format!(
            "{} is keystore {id} now, {revision}, with the {versions} key versions of {former}\n",
            path.display()
        );
        if let Some(aside) = aside {
            text += &format!("the copy that was there is {} now\n", aside.display());
        }
        text += &match pinned {
            true => format!(
                "in the configuration, under [keystore], it must be: fingerprint = \"{fingerprint}\"\n"
            ),
            false => format!("its fingerprint, to be noted on paper: {fingerprint}\n"),
        };
        text + "its backups are its own: back it up\n"
    }
}
