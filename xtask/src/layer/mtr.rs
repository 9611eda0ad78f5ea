//! MariaDB's own suites as a layer: what passes with the original must pass with ours.

use mariadb_test::Result;

use crate::mtr::{self, Place, Whose, baseline_of, measure, summary, worse};
use crate::root118;

use super::{Report, Run};

/// Suites that take long and touch encryption less.
const EXTENDED: &[&str] = &["binlog_encryption", "mariabackup"];

pub(super) fn run(run: &Run) -> Result<Report> {
    let mut report = suite(mtr::SUITE, &Place::Here, run)?;
    if run.extended {
        for name in EXTENDED {
            report.add(&suite(name, &Place::Here, run)?);
        }
    }
    Ok(report)
}

/// The same library in MariaDB 11.8.
pub(super) fn on_11_8(run: &Run) -> Result<Report> {
    suite(mtr::SUITE, &Place::Root(root118::root()?), run)
}

fn suite(name: &str, place: &Place, run: &Run) -> Result<Report> {
    let baseline = baseline_of(name, place)?;
    let outcome = measure(name, Whose::Ours, place, &run.log()?)?;
    let worse = worse(&baseline, &outcome.results);
    let count = |end: &str| outcome.results.values().filter(|is| *is == end).count();
    let notes = vec![
        format!("{name} with file_key_management: {}", summary(&baseline)),
        format!("{name} with keyward:             {}", summary(&outcome.results)),
    ];
    let complaint = if worse.is_empty() {
        String::new()
    } else {
        format!("{}\n\n{}", worse.join("\n"), details(&outcome.text, 150))
    };
    Ok(Report {
        passed: count("pass"),
        failed: worse.len(),
        skipped: count("skipped"),
        notes,
        complaint,
    })
}

/// The first lines from the first failed test on.
fn details(text: &str, lines: usize) -> String {
    let from = text.lines().skip_while(|line| !line.contains("[ fail ]"));
    from.take(lines).map(|line| format!("{line}\n")).collect()
}
