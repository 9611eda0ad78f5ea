//! `keyward audit verify`: whether the trail is whole, and up to where that is proven.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::helpers;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::custodian::Custodian;
use crate::error::{Error, Result};
use crate::event::checkpoint::{self, Signed};
use crate::event::{Fault, Head, Known, Trail, Verdict};

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// A checkpoint that was kept elsewhere: the trail must still have its line
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

/// The verdict, and what speaks against it.
#[derive(Serialize)]
struct Judged {
    #[serde(flatten)]
    verdict: Verdict,
    checkpoints: Vec<AgainstCheckpoint>,
}

/// How the trail stands to one checkpoint.
#[derive(Serialize)]
struct AgainstCheckpoint {
    file: PathBuf,
    line: u64,
    /// Whether the policy had that line removed: there is nothing to compare with.
    removed: bool,
    faults: Vec<Fault>,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let trail = Trail::beside(&config.keystore.path);
    let verdict = helpers::trail::verify(&config, &custodian)?;
    let mut judged = Judged { verdict, checkpoints: Vec::new() };
    for file in &options.checkpoint {
        let head = checkpoint(file, &custodian).map_err(|bad| bad.within(file.display()))?;
        let floor = custodian.known_of_trail().floor;
        let removed = floor.is_some_and(|floor| head.line < floor.line);
        let faults = if removed { Vec::new() } else { against(head, floor, &trail)? };
        let file = file.clone();
        judged.checkpoints.push(AgainstCheckpoint { file, line: head.line, removed, faults });
    }
    printer.show(&judged, &plain_lines(&judged.text()))?;
    Ok(if judged.is_whole() { Exit::Success } else { Exit::Failure })
}

/// How the trail, which begins behind `floor`, stands to the line `head`.
fn against(head: Head, floor: Option<Head>, trail: &Trail) -> Result<Vec<Fault>> {
    // The keystore's generation was looked at before.
    let known = Known { anchor: Some(head), generation: u64::MAX, floor };
    let mut faults = trail.verify(known)?.faults;
    faults.retain(|fault| matches!(fault, Fault::Rebuilt { .. } | Fault::Cut { .. }));
    // Its line may be gone, and what it was is known.
    if floor.is_some_and(|floor| floor.line == head.line && floor != head) && faults.is_empty() {
        faults.push(Fault::Rebuilt { line: head.line });
    }
    Ok(faults)
}

/// The line of the checkpoint in `file`, which a key of this keystore has signed.
fn checkpoint(file: &Path, custodian: &Custodian) -> Result<Head> {
    let mut text = String::new();
    let opened = File::open(file).map_err(|e| Error::io("cannot open", file, &e))?;
    let read = opened.take(checkpoint::MAX_LEN).read_to_string(&mut text);
    read.map_err(|e| Error::io("cannot read", file, &e))?;
    Signed::parse(&text, &custodian.keystore_id())?.verified(&custodian.epoch_keys())
}

impl Judged {
    fn is_whole(&self) -> bool {
        self.verdict.faults.is_empty() && self.checkpoints.iter().all(|one| one.faults.is_empty())
    }

    fn text(&self) -> String {
        let mut text = text(&self.verdict);
        for AgainstCheckpoint { file, line, removed, faults } in &self.checkpoints {
            let file = file.display();
            match faults.is_empty() {
                true if *removed => {
                    text += &format!(
                        "line {line}, of which {file} is a checkpoint, was removed by policy: compare with a \
                         copy of it\n"
                    );
                }
                true => text += &format!("it has line {line}, of which {file} is a checkpoint\n"),
                false => {
                    let lines = faults.iter().map(|fault| format!("WRONG  by {file}: {fault}\n"));
                    text += &lines.collect::<String>();
                }
            }
        }
        text
    }
}

fn text(verdict: &Verdict) -> String {
    let Verdict { lines, last, anchored, not_anchored, removed, unfinished, faults } = verdict;
    let mut text: String = faults.iter().map(|fault| format!("WRONG  {fault}\n")).collect();
    text += &match (faults.is_empty(), lines) {
        (_, 0) => "there is no line\n".to_owned(),
        (true, _) => format!("{lines} lines, up to {last}, each chained to the one before\n"),
        (false, _) => format!("{lines} lines, up to {last}\n"),
    };
    if let Some(line) = removed {
        text += &format!("up to line {line}, lines were removed by policy\n");
    }
    text += &match anchored {
        Some(line) => {
            let beyond = match not_anchored {
                1 => "1 line after it is".to_owned(),
                many => format!("{many} lines after it are"),
            };
            format!(
                "the keystore knows line {line}; {beyond} not anchored yet: a change there need not be \
                 noticed\n"
            )
        }
        None => "no keystore of keyward's knows the trail: who may write it can make all of it \
                 again unnoticed\n"
            .to_owned(),
    };
    if *unfinished {
        text += "it ends within a line, as a crash leaves it; the next change takes that away\n";
    }
    text
}
