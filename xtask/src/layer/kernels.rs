//! The page cipher's kernels as they are released, those too that this CPU cannot run.

use test_kit::{Result, artefacts};

use crate::kernels;

use super::{Report, Run};

/// An entry point is compiled for its kernel's instruction set, and so is what is inlined into it. A
/// function that it calls is not: registers go to it through memory.
pub(super) fn run(_run: &Run) -> Result<Report> {
    let mut report = Report::default();
    if !cfg!(target_arch = "x86_64") {
        report.notes.push("the kernels are x86-64's".to_owned());
        return Ok(report);
    }
    for (name, calls) in kernels::entry_points(&artefacts::library())? {
        report.add(&Report::step(calls.is_empty(), &format!("{name}: {}", calls.join(", "))));
    }
    Ok(report)
}
