//! Vault as a layer: our own suites on a real one.

use test_kit::Result;
use test_vault::{ORIGINAL_VARIABLE, PROGRAM_VARIABLE};

use super::mtr::details;
use super::{Report, Run, rust};
use crate::mtr::{Whose, summary, worse};
use crate::{vault, vault_mtr};

pub(super) fn run(run: &Run) -> Result<Report> {
    let (program, original) = (vault::program()?, vault_mtr::original()?);
    let places = [(PROGRAM_VARIABLE, &*program), (ORIGINAL_VARIABLE, &*original)];
    rust::suites_of(&["vault", "outage"], run, &places)
}

/// MariaDB's suite for its own plugin, with that one and with ours.
pub(super) fn mtr(run: &Run) -> Result<Report> {
    let original = vault_mtr::measure(Whose::Original, &run.log()?)?;
    let ours = vault_mtr::measure(Whose::Ours, &run.log()?)?;
    let mut worse = worse(&original.results, &ours.results);
    // What fails with the original shows nothing of ours.
    let broken = original.results.iter().filter(|(_, end)| *end == "fail");
    worse.extend(broken.map(|(name, _)| format!("{name}: fails with the original")));
    let count = |end: &str| ours.results.values().filter(|is| *is == end).count();
    let complaint = match worse.is_empty() {
        true => String::new(),
        false => format!("{}\n\n{}", worse.join("\n"), details(&ours.text, 150)),
    };
    Ok(Report {
        passed: count("pass"),
        failed: worse.len(),
        skipped: count("skipped"),
        notes: vec![
            format!("with the original: {}", summary(&original.results)),
            format!("with keyward:      {}", summary(&ours.results)),
        ],
        complaint,
    })
}
