//! `keyward accept-rollback`: an older copy of the keystore is the one to go on with.

use std::path::Path;

use serde::Serialize;

use super::print::{Printer, plain_lines};
use super::{Exit, env, user};
use crate::assemble;
use crate::audit::{Event, Line, Trail};
use crate::config::Config;
use crate::custodian::Reason;
use crate::error::Result;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Why the newer copy cannot be had, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What was accepted, for machines.
#[derive(Serialize)]
struct Accepted {
    refused: String,
    generation: u64,
    lost: Vec<Line>,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let config = Config::load(config)?;
    user::become_owner_of(&config.keystore.path)?;
    let actor = user::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let (refused, generation) = assemble::accept_rollback(&config, reason, &env())?;
    // The trail knows what was done after the copy was made; where it is gone, too, nobody does.
    let lines = Trail::beside(&config.keystore.path).read().unwrap_or_default();
    let accepted = Accepted { lost: lost(lines, generation), refused, generation };
    printer.show(&accepted, &plain_lines(&accepted.text()))?;
    Ok(Exit::Success)
}

/// What is told of generations that are gone.
fn lost(lines: Vec<Line>, generation: u64) -> Vec<Line> {
    let told = |line: &Line| line.generation > generation && line.event != Event::Intended;
    lines.into_iter().filter(told).collect()
}

impl Accepted {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.refused);
        text += &format!("generation {} is in force now\n", self.generation);
        for line in &self.lost {
            for key in &line.keys {
                text += &format!("lost: {key}, of generation {}\n", line.generation);
            }
        }
        text + "start the servers and read every table: what a lost version encrypted is gone\n"
    }
}
