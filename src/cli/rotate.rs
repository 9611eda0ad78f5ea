//! `keyward rotate`: a new version of a key, or of all.

use std::path::Path;

use super::keys::parse_id;
use super::print::Printer;
use super::{Exit, open, user};
use crate::custodian::{Reason, Which};
use crate::error::Result;
use crate::key::KeyId;

#[derive(clap::Args)]
pub(super) struct Options {
    /// The key to rotate
    #[arg(value_name = "ID", value_parser = parse_id, required_unless_present = "all")]
    id: Option<KeyId>,
    /// Rotate every key, in one commit
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Why, for the history
    #[arg(long, default_value = "keyward rotate", value_name = "TEXT")]
    reason: String,
}

pub(super) fn run(config: &Path, options: Options, printer: &Printer) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    let which = options.id.map_or(Which::All, Which::One);
    let actor = user::actor();
    let rotated = custodian.rotate(which, Reason { actor: &actor, text: &options.reason })?;
    let mut text = String::new();
    for key in &rotated {
        text += &format!("key {} has version {} now\n", key.name, key.version);
    }
    text += "a running server uses it within a second; pages follow by innodb_encryption_threads\n";
    printer.show(&rotated, &text)?;
    Ok(Exit::Success)
}
