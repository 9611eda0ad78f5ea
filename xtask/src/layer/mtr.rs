//! MariaDB's own suites as a layer: what passes with the original must pass with ours.

use std::path::Path;

use test_kit::{Result, files};

use crate::mtr::{self, Place, Whose, baseline_of, measure, summary, worse};

use super::{Report, Run, apparmor, suite as own};

/// Suites that take long and touch encryption less.
const EXTENDED: &[&str] = &["binlog_encryption", "mariabackup"];

/// The kernels of the page cipher, each with the CPU flags it needs.
const KERNELS: &[(&str, &[&str])] = &[
    ("soft", &[]),
    ("aesni", &["aes", "pclmulqdq", "ssse3", "sse4_1"]),
    ("vaes256", &["aes", "avx2", "vaes", "vpclmulqdq"]),
    ("vaes512", &["aes", "avx512f", "avx512bw", "avx512vl", "vaes", "vpclmulqdq"]),
];

pub(super) fn run(run: &Run) -> Result<Report> {
    let mut report = suite(mtr::SUITE, &Place::Here, None, run)?;
    if run.extended {
        for name in EXTENDED {
            report.add(&suite(name, &Place::Here, None, run)?);
        }
    }
    Ok(report)
}

/// The same library in MariaDB 11.8, with our own suite.
pub(super) fn on_11_8(run: &Run) -> Result<Report> {
    let place = Place::elsewhere("11.8")?;
    let mut report = elsewhere(&place, run)?;
    if run.extended {
        for name in [EXTENDED, &[mtr::GALERA]].concat() {
            report.add(&suite(name, &place, None, run)?);
        }
    }
    Ok(report)
}

/// The same in the newest server that Debian has, and keyward's lines in its AppArmor profile.
pub(super) fn on_sid(run: &Run) -> Result<Report> {
    let place = Place::elsewhere("sid")?;
    let mut report = elsewhere(&place, run)?;
    report.add(&Report::check("AppArmor", apparmor::run(&place.at("/"))));
    Ok(report)
}

fn elsewhere(place: &Place, run: &Run) -> Result<Report> {
    let mut report = Report::default();
    report.notes.push(format!("on MariaDB {}", place.version()?));
    report.add(&suite(mtr::SUITE, place, None, run)?);
    report.add(&own::on(place, run)?);
    Ok(report)
}

/// The same library with each kernel of the page cipher that this CPU can run.
pub(super) fn on_each_kernel(run: &Run) -> Result<Report> {
    let flags = cpu_flags()?;
    let mut report = Report::default();
    for (kernel, needs) in KERNELS {
        if needs.iter().all(|flag| flags.iter().any(|has| has == flag)) {
            report.add(&suite(mtr::SUITE, &Place::Here, Some(kernel), run)?);
        } else {
            report.notes.push(format!("kernel {kernel}: not run, this CPU has not {needs:?}"));
        }
    }
    Ok(report)
}

/// What the kernel says that this CPU can do; nothing on machines without that line.
fn cpu_flags() -> Result<Vec<String>> {
    let text = files::text(Path::new("/proc/cpuinfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

fn suite(name: &str, place: &Place, kernel: Option<&str>, run: &Run) -> Result<Report> {
    let baseline = baseline_of(name, place)?;
    let outcome = measure(name, Whose::Ours, place, kernel, &run.log()?)?;
    let worse = worse(&baseline, &outcome.results);
    let count = |end: &str| outcome.results.values().filter(|is| *is == end).count();
    let ours = kernel.map_or_else(|| "keyward".to_owned(), |name| format!("keyward, {name}"));
    let notes = vec![
        format!("{name} with {:19}: {}", "file_key_management", summary(&baseline)),
        format!("{name} with {ours:19}: {}", summary(&outcome.results)),
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
pub(super) fn details(text: &str, lines: usize) -> String {
    let from = text.lines().skip_while(|line| !line.contains("[ fail ]"));
    from.take(lines).map(|line| format!("{line}\n")).collect()
}
