//! Every fuzz target for a time, on the compiler that the project has: libFuzzer comes with its
//! crate, and the instrumentation is the compiler's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::{Result, artefacts, files};

use crate::build::{self, cargo};
use crate::job;

use super::{Report, Run};

/// Seconds for each target, unless `KEYWARD_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 600;
const BUILD_LIMIT: Duration = Duration::from_secs(3600);
const HOST: &str = "x86_64-unknown-linux-gnu";

/// What `cargo fuzz` gives the compiler (its README, "How it works").
const INSTRUMENTED: &str = "--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions -Ccodegen-units=1";

/// Where the target of a name finds its first inputs, beside `fuzz/seeds/NAME`.
const SEEDS: &[(&str, &str)] = &[
    ("approval", "tests/golden/approval"),
    ("inspect_tablespace", "tests/golden/inspect"),
    ("keyfile_parse", "tests/golden/keyfile"),
    ("kmip_ttlv", "tests/golden/kmip"),
    ("keystore_parse", "tests/golden/keystore"),
    ("mark", "tests/golden/mark"),
    ("recovery_files", "tests/golden/age"),
    ("sealed_bytes", "tests/golden/keyfile"),
];

pub(super) fn run(run: &Run) -> Result<Report> {
    let built = job::logged(&mut compile(), &run.log()?, BUILD_LIMIT)?;
    if !built.ok {
        return Ok(Report::failure(&built.text));
    }
    let seconds = match std::env::var("KEYWARD_FUZZ_SECONDS") {
        Ok(text) => text.parse().map_err(|_| format!("KEYWARD_FUZZ_SECONDS={text}: no number"))?,
        Err(_) => SECONDS,
    };
    let mut report = Report::default();
    for target in targets()? {
        report.add(&fuzz(&target, seconds, run)?);
    }
    Ok(report)
}

fn compile() -> Command {
    let mut build = cargo(&["build", "--release", "--target", HOST, "--manifest-path"]);
    build.arg("fuzz/Cargo.toml").arg("--target-dir").arg("target/fuzz");
    // The sanitizers are options of a nightly compiler; a stable one has them, too.
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", INSTRUMENTED);
    build
}

/// The programs in `fuzz/fuzz_targets`; what is no program there is shared by some.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in files::list(&artefacts::repository().join("fuzz/fuzz_targets")) {
        if files::text(&path)?.contains("fuzz_target!(") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

fn fuzz(target: &str, seconds: u64, run: &Run) -> Result<Report> {
    let folder = build::notes()?.join("fuzz").join(target);
    let corpus = folder.join("corpus");
    std::fs::create_dir_all(&corpus)?;
    let mut program = Command::new(built(target));
    program.arg(format!("-max_total_time={seconds}")).args(["-timeout=20", "-rss_limit_mb=3000"]);
    // What a few bytes say of a length is not believed.
    program.arg("-malloc_limit_mb=256");
    program.arg(format!("-artifact_prefix={}/", folder.display())).arg("-print_final_stats=1");
    program.arg(&corpus).args(seeds(target)).current_dir(artefacts::repository());
    let done = job::logged(&mut program, &run.log()?, Duration::from_secs(seconds + 300))?;
    let mut report = Report::step(done.ok, &format!("{target}\n{}", tail(&done.text)));
    let inputs = counted(&done.text, "stat::number_of_executed_units:");
    report.notes.push(format!("{target}: {inputs} inputs in {seconds} s"));
    Ok(report)
}

fn built(target: &str) -> PathBuf {
    artefacts::repository().join("target/fuzz").join(HOST).join("release").join(target)
}

fn seeds(target: &str) -> impl Iterator<Item = PathBuf> {
    let golden = SEEDS.iter().filter(move |(name, _)| *name == target);
    let folders = golden.map(|(_, folder)| Path::new(folder).to_owned());
    let folders = folders.chain([Path::new("fuzz/seeds").join(target)]);
    folders.map(|folder| artefacts::repository().join(folder)).filter(|folder| folder.exists())
}

/// The number behind `word`.
fn counted<'a>(text: &'a str, word: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.map_or("no", str::trim)
}

/// The last lines, where libFuzzer says what it found and where it kept the input.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
