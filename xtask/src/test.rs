//! `cargo xtask test`: the layers, one after the other, a line each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use test_kit::Result;

use crate::build;
use crate::layer::{LAYERS, Layer, Report, Run};

/// The lines at most that the end of the output says again of what failed.
const DIGEST_LINES: usize = 60;

/// `cargo xtask test [LAYER...] [--extended] [--list]`.
pub(crate) fn task(words: &[String]) -> Result<()> {
    let (flags, names): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|flag| !["--extended", "--list"].contains(flag)) {
        return Err(format!("{unknown} is none of --extended, --list").into());
    }
    let extended = flags.contains(&"--extended");
    if flags.contains(&"--list") {
        return list();
    }
    let total = run_all(&chosen(&names, extended)?, extended)?;
    if total.failed > 0 {
        println!("\n{}", digest(&total.complaint));
    }
    println!("\n{}", total.closing_line());
    if total.failed == 0 { Ok(()) } else { Err("some tests failed".into()) }
}

/// Shows every layer with what it took last time.
fn list() -> Result<()> {
    let times = Times::load()?;
    for layer in LAYERS {
        let took = times.0.get(layer.name).map_or("-".into(), |took| readable(*took));
        let extended = if layer.extended { " (--extended)" } else { "" };
        println!("{:12} {took:>8}  {}{extended}", layer.name, layer.about);
    }
    Ok(())
}

/// The layers that `names` name; without names, all but the long ones.
fn chosen(names: &[&str], extended: bool) -> Result<Vec<&'static Layer>> {
    if names.is_empty() {
        return Ok(LAYERS.iter().filter(|layer| extended || !layer.extended).collect());
    }
    let find = |name: &&str| {
        LAYERS.iter().find(|layer| layer.name == *name).ok_or_else(|| {
            let known: Vec<_> = LAYERS.iter().map(|layer| layer.name).collect();
            format!("no layer {name:?}; there are {}", known.join(", ")).into()
        })
    };
    names.iter().map(find).collect()
}

fn run_all(layers: &[&Layer], extended: bool) -> Result<Report> {
    let since = Instant::now();
    let mut total = Report::default();
    for layer in layers {
        print!("{:12} ", layer.name);
        stdout().flush()?;
        let start = Instant::now();
        let run = Run { name: layer.name, extended };
        let report = layer.run(&run).unwrap_or_else(|error| Report::failure(&error.to_string()));
        let report = report.or_empty();
        let took = start.elapsed();
        show(&report, took);
        Times::remember(layer.name, took)?;
        total.add(&report);
    }
    println!("{:12} {:>8}", "together", readable(since.elapsed()));
    Ok(total)
}

fn show(report: &Report, took: Duration) {
    let word = if report.failed == 0 { "ok" } else { "FAILED" };
    println!("{:>8}  {word}: {}", readable(took), report.closing_line());
    for note in &report.notes {
        println!("{:12}   {note}", "");
    }
    if report.failed > 0 {
        println!("\n{}\n", report.complaint.trim_end());
    }
}

/// The lines of `complaint` that name what failed: the end of a long log is all that some readers get.
fn digest(complaint: &str) -> String {
    const SIGNS: &[&str] =
        &["... FAILED", "panicked at ", "didn't exit successfully", "error: ", "error["];
    let mut lines = Vec::new();
    let mut follows = false;
    for line in complaint.lines() {
        let named = SIGNS.iter().any(|sign| line.contains(sign));
        if named || follows {
            lines.push(line);
        }
        // What a panic says is the line after its place.
        follows = line.contains("panicked at ");
    }
    if lines.is_empty() {
        lines = complaint.lines().take(DIGEST_LINES).collect();
    }
    lines.truncate(DIGEST_LINES);
    lines.join("\n")
}

fn readable(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60)
    }
}

/// What each layer took last time on this machine, kept beside the build.
struct Times(BTreeMap<String, Duration>);

impl Times {
    fn load() -> Result<Self> {
        let text = fs::read_to_string(build::notes()?.join("times")).unwrap_or_default();
        let entry = |line: &str| {
            let (name, seconds) = line.split_once(' ')?;
            Some((name.to_owned(), Duration::from_secs_f64(seconds.parse().ok()?)))
        };
        Ok(Self(text.lines().filter_map(entry).collect()))
    }

    fn remember(name: &str, took: Duration) -> Result<()> {
        let mut times = Self::load()?;
        times.0.insert(name.to_owned(), took);
        let lines = times.0.iter().map(|(name, took)| format!("{name} {}\n", took.as_secs_f64()));
        Ok(fs::write(build::notes()?.join("times"), lines.collect::<String>())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_names_the_tests_that_failed() {
        let complaint = "failures:\n\n---- a::b stdout ----\nthread 'a::b' panicked at src/a.rs:1:2:\n\
            left is not right\nnote: more\n\nerror: test failed, to rerun pass `-p keyward --lib`\n\
            process didn't exit successfully: `x` (signal: 6, SIGABRT)\n";
        assert_eq!(
            digest(complaint),
            "thread 'a::b' panicked at src/a.rs:1:2:\nleft is not right\n\
             error: test failed, to rerun pass `-p keyward --lib`\n\
             process didn't exit successfully: `x` (signal: 6, SIGABRT)"
        );
        assert_eq!(digest("no test was run"), "no test was run");
    }
}
