//! Our own tests in the format of MariaDB's test driver, run by it.

use test_kit::Result;

use crate::mtr::{Outcome, Place, measure_own, summary};

use super::mtr::details;
use super::{Report, Run};

/// The suite's name, and its folder's.
const SUITE: &str = "keyward";

pub(super) fn run(run: &Run) -> Result<Report> {
    on(&Place::Here, run)
}

/// The suite on the server of `place`.
pub(super) fn on(place: &Place, run: &Run) -> Result<Report> {
    Ok(report(SUITE, &measure_own(SUITE, place, &run.log()?)?))
}

/// What a suite of ours showed: none of its tests may fail.
pub(super) fn report(name: &str, outcome: &Outcome) -> Report {
    let count = |end: &str| outcome.results.values().filter(|is| *is == end).count();
    let failed = count("fail");
    let complaint = if failed == 0 { String::new() } else { details(&outcome.text, 150) };
    let notes = vec![format!("{name}: {}", summary(&outcome.results))];
    let (passed, skipped) = (count("pass"), count("skipped"));
    Report { passed, failed, skipped, notes, complaint }.or_empty()
}
