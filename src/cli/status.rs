//! `keyward status`: how things stand.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::standing::Report;
use crate::error::Result;

pub(super) fn run(config: &Path, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let report = Report::of(&config, &custodian);
    printer.show(&report, &plain_lines(&report.text()))?;
    Ok(Exit::Success)
}
