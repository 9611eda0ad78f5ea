//! `keyward audit checkpoint`: how far the trail has come, signed by the keystore's key.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::Printer;
use crate::error::{Error, Kind, Result};
use crate::event::checkpoint::verifier_key;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// Print the key that verifies checkpoints instead, as verifiers of signed notes take it
    #[arg(long)]
    key: bool,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    let text = match options.key {
        false => custodian.manager()?.checkpoint()?,
        true => {
            let keys = custodian.epoch_keys();
            let key = keys.last().ok_or_else(|| {
                Error::new(Kind::State, "the keystore has no key that signs")
                    .advise("the next change brings it to format 2")
            })?;
            verifier_key(&custodian.keystore_id(), key) + "\n"
        }
    };
    printer.export(&text)?;
    Ok(Exit::Success)
}
