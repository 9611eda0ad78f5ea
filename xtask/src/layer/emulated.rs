//! The cipher's tests on a processor with AVX-512, which an emulator has where the machine has not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts};

use crate::build::cargo;
use crate::{bochs, job};

use super::rust::counted;
use super::{Report, Run};

const TESTS: &[&str] = &["cipher_vectors", "cipher_cavp", "cipher_differential", "cipher_bounds"];

/// What `cipher_cavp` reads, where it was compiled.
const VECTORS: &str = "tests/golden/cavp";

/// The kernel that hardly a machine of ours can run.
const KERNEL: &str = "vaes512";

/// The lines by which `cipher_differential` says what it did with one kernel: against OpenSSL, and
/// against the crates.
const COMPARISONS: usize = 2;

/// Messages for each kernel and comparison, unless `KEYWARD_CASES` says otherwise.
const CASES: u64 = 500;

const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// Minutes on an idle core; others may use it, too.
const LIMIT: Duration = Duration::from_secs(5400);

pub(super) fn run(run: &Run) -> Result<Report> {
    let mut build = cargo(&["test", "--release", "--no-default-features", "--no-run"]);
    build.args(TESTS.iter().flat_map(|name| ["--test", name]));
    let built = job::logged(&mut build, &run.log()?, BUILD_LIMIT)?;
    if !built.ok {
        return Ok(Report::failure(&built.text));
    }
    let tree = Scratch::new("emulated")?;
    pack(&programs(&built.text), tree.path())?;
    let said = bochs::run(tree.path(), &script()?, &run.log()?, LIMIT)?;
    Ok(judge(&said))
}

/// Where cargo says it put the tests: `Executable tests/NAME.rs (target/release/deps/NAME-HASH)`.
fn programs(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("Executable "));
    let path = |line: &str| Some(line.split_once('(')?.1.strip_suffix(')')?.to_owned());
    lines.filter_map(path).map(|path| artefacts::repository().join(path)).collect()
}

/// Puts the tests into `tree` with all that they open, each at the place where it is looked for.
fn pack(programs: &[PathBuf], tree: &Path) -> Result<()> {
    let tests = tree.join("tests");
    fs::create_dir(&tests)?;
    for program in programs {
        let name = program.file_name().ok_or("a program without a name")?;
        let mut strip = Command::new("strip");
        answer(strip.arg("-o").arg(tests.join(name)).arg(program))?.ok()?;
        let libraries = answer(Command::new("ldd").arg(program))?.ok()?;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(library), tree)?;
        }
    }
    for file in test_kit::files::list(&artefacts::repository().join(VECTORS)) {
        copy(&file, tree)?;
    }
    Ok(())
}

/// Copies a file to where it will be if `tree` is the root.
fn copy(file: &Path, tree: &Path) -> Result<()> {
    let to = tree.join(file.strip_prefix("/").unwrap_or(file));
    fs::create_dir_all(to.parent().unwrap_or(tree))?;
    fs::copy(file, &to).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(())
}

/// What the emulated machine does: every test, one after the other.
fn script() -> Result<String> {
    let cases: u64 = match std::env::var("KEYWARD_CASES") {
        Ok(text) => text.parse().map_err(|_| format!("KEYWARD_CASES={text}: no number"))?,
        Err(_) => CASES,
    };
    Ok(format!(
        "/bin/busybox grep -m 1 'model name' /proc/cpuinfo\nexport KEYWARD_CASES={cases}\n\
         for test in /tests/*; do $test --test-threads=1 --show-output; done"
    ))
}

/// Counts what the tests said of themselves. That they ran the kernel has to be among it.
fn judge(said: &str) -> Report {
    let mut report = Report::default();
    let results: Vec<&str> = said.lines().filter(|line| line.starts_with("test result:")).collect();
    for line in &results {
        report.passed += counted(line, "passed");
        report.failed += counted(line, "failed") + counted(line, "ignored");
    }
    // A test that dies says nothing at its end.
    report.failed += TESTS.len().saturating_sub(results.len());
    let compared: Vec<&str> =
        said.lines().filter(|line| line.contains(", no difference")).collect();
    let ours = compared.iter().filter(|line| line.starts_with(&format!("{KERNEL}: "))).count();
    if ours != COMPARISONS || said.contains(&format!("{KERNEL}: NOT RUN")) {
        report.failed += 1;
    }
    let model = said.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    report.notes.extend(model.map(|(_, model)| format!("on an emulated {model}")));
    // The clock of the emulated machine says nothing about ours.
    let untimed =
        |line: &&str| line.split(" difference").next().map(|head| format!("{head} difference"));
    report.notes.extend(compared.iter().filter_map(untimed));
    if report.failed > 0 {
        report.complaint = said.to_owned();
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str =
        "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";

    fn said(kernel: &str) -> String {
        format!(
            "model name\t: Some CPU\n{kernel}: 9 cases, no difference\n\
             {kernel}: 9 cases, 2 of them errors, no difference, 5.2ms\n{}",
            RESULT.repeat(TESTS.len())
        )
    }

    #[test]
    fn passes_where_the_kernel_ran() {
        let report = judge(&said(KERNEL));
        assert_eq!((report.passed, report.failed), (3 * TESTS.len(), 0));
        let expected = [
            "on an emulated Some CPU",
            "vaes512: 9 cases, no difference",
            "vaes512: 9 cases, 2 of them errors, no difference",
        ];
        assert_eq!(report.notes, expected);
    }

    #[test]
    fn fails_where_the_kernel_did_not_run_or_a_test_died() {
        assert_eq!(judge(&said("vaes256")).failed, 1);
        let text = said(KERNEL);
        assert_eq!(judge(&format!("{text}{KERNEL}: NOT RUN, this CPU has not ...")).failed, 1);
        assert_eq!(judge(text.trim_end_matches(RESULT)).failed, TESTS.len());
        assert_eq!(judge(&text.replacen("0 failed", "1 failed", 1)).failed, 1);
    }

    #[test]
    fn finds_the_programs() {
        let text = "  Executable tests/a.rs (target/release/deps/a-0f)\n  Executable tests/b.rs (/t/b-1)\n";
        let expected = [artefacts::repository().join("target/release/deps/a-0f"), "/t/b-1".into()];
        assert_eq!(programs(text), expected);
    }
}
