//! Layers that `cargo test` runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_kit::{Result, artefacts, files, scratch};
use test_vault::PROGRAM_VARIABLE;

use crate::build::cargo;
use crate::{age, job, kryoptic, python, vault};

use super::{Report, Run};

pub(super) const LIMIT: Duration = Duration::from_secs(1800);

/// The test that every provider is put through; a layer of its own.
const CONTRACT: &str = "provider_contract";

/// The tests that are worth little unoptimised: one promises that nothing of a key is left in a finished
/// context, one takes ten times as long. No provider has a part in them, and some take minutes to optimise.
const OPTIMISED: &[&str] = &["cipher_vectors", MODEL];

/// The model test, which is in no other part of `unit`.
const MODEL: &str = "model";

/// Everything of the root package but the contract, and what the tools test of themselves.
pub(super) fn unit(run: &Run) -> Result<Report> {
    let mut words = ["--lib", "--bins"].map(str::to_owned).to_vec();
    for name in targets(&artefacts::repository().join("tests")) {
        if ![CONTRACT, MODEL].contains(&name.as_str()) {
            words.extend(["--test".into(), name]);
        }
    }
    let age = age::folder()?;
    let mut report = tests(of_workspace(&borrowed(&words)).env("KEYWARD_AGE", age), run)?;
    report.add(&tests(&mut of_workspace(&["--doc"]), run)?);
    report.add(&tests(&mut optimised(OPTIMISED), run)?);
    Ok(report)
}

/// The model test on as many sequences as a release is worth; unit's run takes 2,000.
pub(super) fn model(run: &Run) -> Result<Report> {
    tests(optimised(&[MODEL]).env("KEYWARD_EXTENDED", "1"), run)
}

/// `cargo test` of these targets, optimised and without any provider of a library's.
fn optimised(names: &[&str]) -> Command {
    let mut command = cargo(&["test", "--release", "--no-default-features", "--no-fail-fast"]);
    command.args(names.iter().flat_map(|name| ["--test", name])).args(["--", "--show-output"]);
    command
}

/// The contract suite, on every key store: a missing one is a failure here.
pub(super) fn contract(run: &Run) -> Result<Report> {
    let mut command = of_workspace(&["--test", CONTRACT]);
    command.env(scratch::ROOT_VARIABLE, scratch::root()).env("KEYWARD_REQUIRE_ALL", "1");
    command.env(kryoptic::VARIABLE, kryoptic::module()?).env(PROGRAM_VARIABLE, vault::program()?);
    command.env(test_cloud::PYTHON_VARIABLE, python::localstack()?);
    tests(&mut command, run)
}

/// The contract of the providers that have these words in their names, on the Vault that `program` is.
pub(super) fn contract_of(words: &[&str], run: &Run, program: &Path) -> Result<Report> {
    let mut command = of_workspace(&["--test", CONTRACT, "--"]);
    command
        .args(words)
        .env(scratch::ROOT_VARIABLE, scratch::root())
        .env("KEYWARD_REQUIRE_ALL", "1");
    tests(command.env(PROGRAM_VARIABLE, program), run)
}

/// The suite of the layer's name, with a second PKCS#11 module.
pub(super) fn pkcs11(run: &Run) -> Result<Report> {
    suite_of(run, &[(kryoptic::VARIABLE, &kryoptic::module()?)])
}

/// The suite of the layer's name, on a real server.
pub(super) fn suite(run: &Run) -> Result<Report> {
    suite_of(run, &[])
}

/// The same with more variables in its environment.
pub(super) fn suite_of(run: &Run, environment: &[(&str, &Path)]) -> Result<Report> {
    suites_of(&[run.name], run, environment)
}

/// Several suites, one after the other.
pub(super) fn suites_of(
    names: &[&str],
    run: &Run,
    environment: &[(&str, &Path)],
) -> Result<Report> {
    let words: Vec<_> = names.iter().flat_map(|name| ["--test", name]).collect();
    let mut command = of_workspace(&words);
    command.args(["--", "--show-output"]).env(scratch::ROOT_VARIABLE, scratch::root());
    command.env(scratch::DISK_ROOT_VARIABLE, scratch::disk_root());
    command.envs(environment.iter().copied());
    if run.extended {
        command.env("KEYWARD_EXTENDED", "1");
    }
    tests(&mut command, run)
}

/// `cargo test` with these words. Always of the whole workspace: of one package alone, cargo would
/// build the dependencies again, with that package's choice of their features.
fn of_workspace(words: &[&str]) -> Command {
    // Without the last flag cargo stops at the first target with a failure, and the count is short.
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(words);
    command
}

/// Runs `cargo test` and reads what it counted.
pub(super) fn tests(command: &mut Command, run: &Run) -> Result<Report> {
    let done = job::logged(command, &run.log()?, LIMIT)?;
    let mut report = Report { notes: evidence(&done.text), ..Report::default() };
    for line in done.text.lines().filter(|line| line.starts_with("test result:")) {
        report.passed += counted(line, "passed");
        // A test that is ignored shows nothing and looks as if it did.
        report.failed += counted(line, "failed") + counted(line, "ignored");
    }
    if report.failed > 0 || !done.ok {
        report.failed = report.failed.max(1);
        report.complaint = failures(&done.text);
    }
    Ok(report)
}

/// The number before `word` in `test result: ok. 3 passed; 0 failed; ...`.
pub(super) fn counted(line: &str, word: &str) -> usize {
    let number = line
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(word))
        .and_then(|number| number.trim().parse().ok());
    number.unwrap_or(0)
}

/// The lines that tests printed for the reader.
fn evidence(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("| ")).map(str::to_owned).collect()
}

/// The part of the output that tells why; all of it where that cannot be found.
fn failures(text: &str) -> String {
    let start = text.find("\nfailures:\n").or_else(|| text.find("\nerror"));
    start.map_or(text, |start| &text[start..]).to_owned()
}

/// The test targets of a folder: a file or a folder with a `main.rs` each.
fn targets(folder: &Path) -> Vec<String> {
    let is_target = |path: &&std::path::PathBuf| {
        path.extension().is_some_and(|is| is == "rs") || path.join("main.rs").exists()
    };
    let name = |path: &std::path::PathBuf| {
        path.file_stem().map(|stem| stem.to_string_lossy().into_owned())
    };
    files::list(folder).iter().filter(is_target).filter_map(name).collect()
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}
