//! MySQL as a layer: our own suite on a real server, and MySQL's suite for keyring components.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use test_kit::{Result, artefacts, files};
use test_mysql::root::ROOT_VARIABLE;
use test_vault::PROGRAM_VARIABLE;

use crate::mtr::{Outcome, Results, said_of, summary, worse};
use crate::mysql::{self, Suite};
use crate::vault;

use super::{Report, Run, rust, suite};

/// The tests of the stock component that keyward refuses by design.
const REFUSED: &str = "mysql-component_keyring_file-refused.txt";

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
    let mut stock = mysql::measure(root, Suite::Stock, log)?.results;
    let Outcome { results: mut ours, text } = mysql::measure(root, Suite::ByOurs, log)?;
    let mut notes = vec![
        format!("component_keyring_file:              {}", summary(&stock)),
        format!("component_keyring_file with keyward: {}", summary(&ours)),
    ];
    let (refused, mut wrong) = Refused::load()?.judge(&ours, &text);
    for name in &refused {
        stock.remove(name);
        ours.remove(name);
        notes.push(format!("{name}: refused, as baseline/{REFUSED} says"));
    }
    wrong.extend(worse(&stock, &ours));
    notes.extend(ends(&stock, &ours));
    let count = |end: &str| ours.values().filter(|is| *is == end).count();
    Ok(Report {
        passed: count("pass") + refused.len(),
        failed: wrong.len(),
        skipped: count("skipped"),
        notes,
        complaint: wrong.join("\n"),
    })
}

/// How each test that ran ended, with the stock component and with ours.
fn ends(stock: &Results, ours: &Results) -> Vec<String> {
    let ran = |results: &Results, name: &str| {
        results.get(name).filter(|end| *end != "skipped").map_or("-", String::as_str).to_owned()
    };
    let names: BTreeSet<_> = stock.keys().chain(ours.keys()).collect();
    let ends = names.into_iter().map(|name| (name, ran(stock, name), ran(ours, name)));
    let ran = ends.filter(|(_, stock, ours)| stock != "-" || ours != "-");
    ran.map(|(name, stock, ours)| format!("{name}: {stock}, with ours {ours}")).collect()
}

/// The tests that must fail with keyward, by their names, each with words of its failure.
struct Refused(BTreeMap<String, String>);

impl Refused {
    fn load() -> Result<Self> {
        let path = artefacts::repository().join("mariadb-test/baseline").join(REFUSED);
        Ok(Self::parse(&files::text(&path)?))
    }

    /// Lines `SUITE.TEST: WORDS`.
    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (name, words) = line.split_once(": ")?;
            Some((name.split_once('.')?.1.to_owned(), words.to_owned()))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect())
    }

    /// The tests of the list that failed as it says, and a complaint of each other one.
    fn judge(&self, ours: &Results, text: &str) -> (Vec<String>, Vec<String>) {
        let (mut refused, mut wrong) = (Vec::new(), Vec::new());
        for (name, words) in &self.0 {
            let end = ours.get(name).map_or("not run", String::as_str);
            if end == "fail" && said_of(text, name).contains(words) {
                refused.push(name.clone());
            } else {
                wrong.push(format!("{name}: {end}, and not for {words:?}, as {REFUSED} says"));
            }
        }
        (refused, wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtr::results;

    #[test]
    fn a_refusal_is_a_failure_with_its_words() {
        let list =
            Refused::parse("# why\ns.a: ERROR 1\ns.b: ERROR 1\ns.c: ERROR 1\ns.d: ERROR 1\n");
        let text = "s.a w1 [ fail ]\nERROR 1\ns.b [ fail ]\nERROR 2\ns.c [ pass ] 9\nERROR 1\n";
        let ours = results(text);
        let ours = ours.into_iter().map(|(name, end)| (name.replace("s.", ""), end)).collect();
        let (refused, wrong) = list.judge(&ours, text);
        assert_eq!(refused, ["a"]);
        let ends: Vec<_> = wrong.iter().filter_map(|line| line.split(',').next()).collect();
        assert_eq!(ends, ["b: fail", "c: pass", "d: not run"]);
    }
}
