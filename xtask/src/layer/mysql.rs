//! MySQL as a layer: our own suite on a real server, and MySQL's suite for keyring components.

use std::collections::BTreeSet;
use std::path::Path;

use test_kit::Result;
use test_mysql::root::ROOT_VARIABLE;
use test_vault::PROGRAM_VARIABLE;

use crate::mtr::{Results, summary, worse};
use crate::mysql::{self, Suite};
use crate::vault;

use super::{Report, Run, rust, suite};

pub(super) fn run(run: &Run) -> Result<Report> {
    let root = mysql::server_root()?;
    let variables = [(ROOT_VARIABLE, &*root), (PROGRAM_VARIABLE, &*vault::program()?)];
    let mut report = rust::suite_of(run, &variables)?;
    report.notes.insert(0, format!("on {}", mysql::version(&root)?));
    Ok(report)
}

/// MySQL's suite with the stock component and with ours, compared; and our own suite.
pub(super) fn mtr(run: &Run) -> Result<Report> {
    let root = mysql::suite_root()?;
    let log = run.log()?;
    let mut report = Report::default();
    report.notes.push(format!("on {}", mysql::version(&root)?));
    let own = mysql::measure(&root, Suite::Own, &log)?;
    report.add(&suite::report(Suite::Own.name(), &own));
    report.add(&compared(&root, &log)?);
    Ok(report)
}

/// The stock component's suite, with it and with ours in the same run.
fn compared(root: &Path, log: &Path) -> Result<Report> {
    let stock = mysql::measure(root, Suite::Stock, log)?.results;
    let ours = mysql::measure(root, Suite::ByOurs, log)?.results;
    let worse = worse(&stock, &ours);
    let count = |end: &str| ours.values().filter(|is| *is == end).count();
    let mut notes = vec![
        format!("component_keyring_file:              {}", summary(&stock)),
        format!("component_keyring_file with keyward: {}", summary(&ours)),
    ];
    let ran = |results: &Results, name: &str| {
        results.get(name).filter(|end| *end != "skipped").map_or("-", String::as_str).to_owned()
    };
    let names: BTreeSet<_> = stock.keys().chain(ours.keys()).collect();
    let ends = names.into_iter().map(|name| (name, ran(&stock, name), ran(&ours, name)));
    let ran = ends.filter(|(_, stock, ours)| stock != "-" || ours != "-");
    notes.extend(ran.map(|(name, stock, ours)| format!("{name}: {stock}, with ours {ours}")));
    Ok(Report {
        passed: count("pass"),
        failed: worse.len(),
        skipped: count("skipped"),
        notes,
        complaint: worse.join("\n"),
    })
}
