//! MySQL as a layer: our own suite on a real server, and MySQL's suite for keyring components.

use mariadb_test::Result;
use mysql_test::root::ROOT_VARIABLE;

use crate::mtr::{summary, worse};
use crate::mysql::{self, Whose};

use super::{Report, Run, rust};

/// Tests that end otherwise with ours, and why that is meant.
const MEANT: &[(&str, &str)] =
    &[("keyring_udf_invalid_args", "it stores an empty key, which we refuse")];

pub(super) fn run(run: &Run) -> Result<Report> {
    let root = mysql::server_root()?;
    let mut report = rust::suite_of("mysql-test", run, &[(ROOT_VARIABLE, &root)])?;
    report.notes.insert(0, format!("on {}", mysql::version(&root)?));
    Ok(report)
}

/// Measures the stock component and ours in the same run, and compares.
pub(super) fn mtr(run: &Run) -> Result<Report> {
    let root = mysql::suite_root()?;
    let log = run.log()?;
    let stock = mysql::measure(&root, Whose::Stock, &log)?;
    let ours = mysql::measure(&root, Whose::Ours, &log)?;
    let is_meant =
        |line: &String| MEANT.iter().any(|(test, _)| line.starts_with(&format!("{test}:")));
    let (meant, worse): (Vec<_>, Vec<_>) = worse(&stock, &ours).into_iter().partition(is_meant);
    let count = |end: &str| ours.values().filter(|is| *is == end).count();
    let mut notes = vec![
        format!("on {}", mysql::version(&root)?),
        format!("with component_keyring_file:    {}", summary(&stock)),
        format!("with component_keyring_keyward: {}", summary(&ours)),
    ];
    if !meant.is_empty() {
        notes.extend(MEANT.iter().map(|(test, why)| format!("{test}: {why}")));
    }
    Ok(Report {
        passed: count("pass"),
        failed: worse.len(),
        skipped: count("skipped"),
        notes,
        complaint: worse.join("\n"),
    })
}
