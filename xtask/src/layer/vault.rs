//! Vault and OpenBao as layers: our own suites on a real one, and MariaDB's for its own plugin.

use std::path::Path;

use test_kit::Result;
use test_vault::{KUBERNETES_VARIABLE, ORIGINAL_VARIABLE, PROGRAM_VARIABLE};

use super::mtr::details;
use super::{Report, Run, rust};
use crate::mtr::{Whose, summary, worse};
use crate::{kubernetes, openbao, vault, vault_mtr};

pub(super) fn run(run: &Run) -> Result<Report> {
    suites(run, &vault::program()?)
}

pub(super) fn mtr(run: &Run) -> Result<Report> {
    driver(run, &vault::program()?)
}

/// The suite of the layer's name, which needs OpenBao.
pub(super) fn namespaces(run: &Run) -> Result<Report> {
    rust::suite_of(run, &[(PROGRAM_VARIABLE, &openbao::program()?)])
}

/// The suite of the layer's name, which needs an API server of Kubernetes that OpenBao asks.
pub(super) fn kubernetes(run: &Run) -> Result<Report> {
    let (bao, kubernetes) = (openbao::program()?, kubernetes::programs()?);
    rust::suite_of(run, &[(PROGRAM_VARIABLE, &bao), (KUBERNETES_VARIABLE, &kubernetes)])
}

/// All that runs on Vault, on OpenBao.
pub(super) fn on_openbao(run: &Run) -> Result<Report> {
    let program = openbao::program()?;
    let mut report = suites(run, &program)?;
    report.add(&rust::contract_of(&["vault_kv", "vault_transit"], run, &program)?);
    report.add(&driver(run, &program)?);
    Ok(report)
}

fn suites(run: &Run, program: &Path) -> Result<Report> {
    let original = vault_mtr::original()?;
    let places = [(PROGRAM_VARIABLE, program), (ORIGINAL_VARIABLE, &*original)];
    rust::suites_of(&["vault", "outage"], run, &places)
}

/// MariaDB's suite for its own plugin, with that one and with ours.
fn driver(run: &Run, program: &Path) -> Result<Report> {
    let original = vault_mtr::measure(Whose::Original, program, &run.log()?)?;
    let ours = vault_mtr::measure(Whose::Ours, program, &run.log()?)?;
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
