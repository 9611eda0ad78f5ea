//! `keyward audit verify`: whether the trail is whole, and up to where that is proven.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::error::Result;
use crate::event::{Trail, Verdict};

pub(super) fn run(config: &Path, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let verdict = Trail::beside(&config.keystore.path).verify(custodian.known_of_trail())?;
    printer.show(&verdict, &plain_lines(&text(&verdict)))?;
    Ok(if verdict.faults.is_empty() { Exit::Success } else { Exit::Failure })
}

fn text(verdict: &Verdict) -> String {
    let Verdict { lines, last, anchored, not_anchored, unfinished, faults } = verdict;
    let mut text: String = faults.iter().map(|fault| format!("WRONG  {fault}\n")).collect();
    text += &match (faults.is_empty(), lines) {
        (_, 0) => "there is no line\n".to_owned(),
        (true, _) => format!("{lines} lines, up to {last}, each chained to the one before\n"),
        (false, _) => format!("{lines} lines, up to {last}\n"),
    };
    text += &match anchored {
        Some(line) => format!(
            "the keystore knows line {line}; {not_anchored} after it are not anchored yet: a change of \
             these would not be noticed\n"
        ),
        None => "no keystore of keyward's knows the trail: who may write it can make all of it \
                 again unnoticed\n"
            .to_owned(),
    };
    if *unfinished {
        text += "it ends within a line, as a crash leaves it; the next change takes that away\n";
    }
    text
}
