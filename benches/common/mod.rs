//! What the benches share: candidates that take turns in one process, and what they say of the machine.
//!
//! All candidates run in every round, in rotating order, for a slice of about 40 microseconds each, so
//! that whatever else the machine does hits all of them alike. What is reported is the median of the
//! rounds' ratios, and how far the medians of several passes lie apart.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::expect_used)]

pub mod evp;
pub mod floor;
pub mod random;

use std::time::{Duration, Instant};

/// How long one candidate runs at a stretch.
const SLICE: Duration = Duration::from_micros(40);

/// Passes, each with a median of its own.
const PASSES: usize = 5;

/// Something to be measured: its name and one operation.
pub struct Candidate<'a> {
    pub name: String,
    pub run: Box<dyn FnMut() + 'a>,
}

impl<'a> Candidate<'a> {
    pub fn new(name: impl Into<String>, run: impl FnMut() + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// What came out for one candidate.
pub struct Outcome {
    pub name: String,
    /// Median over all rounds, nanoseconds an operation.
    pub ns: f64,
    /// For each round of each pass, nanoseconds an operation.
    rounds: Vec<Vec<f64>>,
}

impl Outcome {
    /// How many times faster than `other`: the median, then the least and the greatest of the passes.
    pub fn times_faster_than(&self, other: &Self) -> (f64, f64, f64) {
        let ratio = |(ours, theirs): (&Vec<f64>, &Vec<f64>)| {
            ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours).collect::<Vec<_>>()
        };
        let passes: Vec<Vec<f64>> = self.rounds.iter().zip(&other.rounds).map(ratio).collect();
        let medians: Vec<f64> = passes.iter().map(|pass| median(pass.clone())).collect();
        let least = medians.iter().copied().fold(f64::MAX, f64::min);
        let most = medians.iter().copied().fold(0.0, f64::max);
        (median(passes.concat()), least, most)
    }
}

/// Seconds for one cell: `KEYWARD_BENCH_SECONDS`, or as much as 5 passes of 200 rounds take.
fn limit() -> Option<Duration> {
    let text = std::env::var("KEYWARD_BENCH_SECONDS").ok()?;
    Some(Duration::from_secs_f64(text.parse().expect("KEYWARD_BENCH_SECONDS is a number")))
}

/// Whether the cell called `name` was asked for: without arguments every one is.
pub fn wanted(name: &str) -> bool {
    let mut asked = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
    asked.peek().is_none() || asked.any(|part| name.contains(&*part))
}

/// Runs the candidates against each other.
pub fn paired(mut candidates: Vec<Candidate<'_>>) -> Vec<Outcome> {
    let counts: Vec<u32> = candidates.iter_mut().map(calibrate).collect();
    let count = candidates.len();
    let mut rounds = vec![Vec::new(); count];
    let pushed = |rounds: &mut Vec<Vec<Vec<f64>>>, at: usize, ns| {
        if let Some(pass) = rounds[at].last_mut() {
            pass.push(ns);
        }
    };
    for _ in 0..PASSES {
        rounds.iter_mut().for_each(|passes| passes.push(Vec::new()));
        let start = Instant::now();
        for round in 0.. {
            let enough = match limit() {
                Some(limit) => round >= 5 && start.elapsed() >= limit / PASSES as u32,
                None => round >= 200,
            };
            if enough {
                break;
            }
            for turn in 0..count {
                let at = (turn + round) % count;
                let ns = slice(&mut candidates[at], counts[at]);
                pushed(&mut rounds, at, ns);
            }
        }
    }
    let named = candidates.into_iter().zip(rounds);
    named
        .map(|(candidate, rounds)| Outcome {
            name: candidate.name,
            ns: median(rounds.concat()),
            rounds,
        })
        .collect()
}

/// How many operations fill a slice.
fn calibrate(candidate: &mut Candidate<'_>) -> u32 {
    slice(candidate, 10);
    let ns = (0..5).map(|_| slice(candidate, 5)).fold(f64::MAX, f64::min);
    ((SLICE.as_nanos() as f64 / ns) as u32).max(1)
}

fn slice(candidate: &mut Candidate<'_>, count: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        (candidate.run)();
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The CPU's name and those of its flags that matter here, from the kernel.
pub fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let flags = field("flags").unwrap_or_default();
    let known = ["aes", "pclmulqdq", "avx2", "vaes", "vpclmulqdq", "avx512f", "avx512vl"];
    let has: Vec<_> =
        known.iter().filter(|flag| flags.split(' ').any(|word| word == **flag)).copied().collect();
    format!(
        "{} (family {}, model {}), flags {}",
        field("model name").unwrap_or("unknown CPU"),
        field("cpu family").unwrap_or("?"),
        field("model\t").unwrap_or("?"),
        has.join(" ")
    )
}
