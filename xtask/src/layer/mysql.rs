//! MySQL as a layer: our own suite on a real server, and MySQL's suite for keyring components.

use mariadb_test::Result;
use mysql_test::root::ROOT_VARIABLE;

use crate::mtr::{summary, worse};
use crate::mysql::{self, Whose};

use super::{Report, Run, rust};

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
    let worse = worse(&stock, &ours);
    let count = |end: &str| ours.values().filter(|is| *is == end).count();
    let notes = vec![
        format!("on {}", mysql::version(&root)?),
        format!("with component_keyring_file:    {}", summary(&stock)),
        format!("with component_keyring_keyward: {}", summary(&ours)),
    ];
    Ok(Report {
        passed: count("pass"),
        failed: worse.len(),
        skipped: count("skipped"),
        notes,
        complaint: worse.join("\n"),
    })
}
