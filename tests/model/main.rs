//! The whole life of a keystore, at random: two processes change it, crash and start again, disks fail,
//! files are put back, vanish and change, and a simple reference says what must hold all the while.
//!
//! What a process gave out to encrypt with while its state was well, or reported as made, can be read after
//! every start, unless the start is refused or warns. A number is one key for ever. A compromised version
//! never encrypts again. An error means that the keystore did not change. Nobody raises an alarm over a
//! folder that nobody tampered with.
//!
//! `KEYWARD_CASES` says how many sequences (500; 100,000 with `KEYWARD_EXTENDED`), `KEYWARD_SEED` which is
//! the first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod sequence;
#[path = "../common/sim_disk.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod sim_disk;
mod stage;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sequence::{KINDS, Op, sequence, shrunk};
use world::World;

/// How many sequences there are unless somebody asks for more: less than a minute of them.
const FEW: u64 = 500;

/// How many things happen in a sequence.
const STEPS: usize = 40;

/// Runs `ops`; the step that broke something, what, and the steps' outcomes.
fn run(ops: &[Op]) -> Result<(), (usize, String, Vec<String>)> {
    let mut world = World::new();
    let mut shown = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let outcome = world.apply(*op);
        shown.push(format!("{:>3}  {op}  {}", at + 1, world.told.join("; ")));
        world.told.clear();
        outcome.map_err(|broken| (at, broken, shown.clone()))?;
    }
    world.end().map_err(|broken| {
        shown.push(format!("end  {}", world.told.join("; ")));
        (ops.len(), broken, shown)
    })
}

/// What was broken, without the numbers and words that differ from one sequence to the next.
fn class(broken: &str) -> String {
    let what = broken.split(": ").next().unwrap_or(broken);
    what.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The sequence as short as can be while it breaks the same, with what came of each step.
fn report(seed: u64, ops: &[Op], broken: &str) -> String {
    let breaks_so = |ops: &[Op]| run(ops).is_err_and(|(_, what, _)| class(&what) == class(broken));
    let short = shrunk(ops.to_vec(), breaks_so);
    let (_, now, shown) = run(&short).unwrap_err();
    format!(
        "KEYWARD_SEED={seed}, {} steps: {broken}\nshrunk to {}: {now}\n{}",
        ops.len(),
        short.len(),
        shown.join("\n")
    )
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What all threads find.
#[derive(Default)]
struct Found {
    next: AtomicU64,
    /// Each kind of what was broken: how often, and in which sequence first.
    broken: Mutex<BTreeMap<String, (u64, u64, String)>>,
}

#[test]
fn whatever_happens_nothing_is_lost_in_silence() {
    let extended = std::env::var_os("KEYWARD_EXTENDED").is_some();
    let cases = setting("KEYWARD_CASES").unwrap_or(if extended { 100_000 } else { FEW });
    let first = setting("KEYWARD_SEED").unwrap_or(0);
    let found = Found { next: AtomicU64::new(first), ..Found::default() };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| work(&found, first + cases))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let broken = found.broken.into_inner().unwrap();
    let reports: Vec<_> = broken
        .iter()
        .map(|(class, (count, seed, broken))| {
            let report = report(*seed, &sequence(*seed, STEPS), broken);
            format!("{count} times: {class}\n{report}")
        })
        .collect();
    assert!(reports.is_empty(), "\n{}", reports.join("\n\n"));
    let mut pairs = vec![0_u64; KINDS * KINDS];
    for count in &counts {
        pairs.iter_mut().zip(count).for_each(|(sum, one)| *sum += one);
    }
    let rarest = pairs.iter().min().unwrap();
    let steps = cases * STEPS as u64;
    println!(
        "| {cases} sequences, {steps} steps, each pair of {KINDS} kinds at least {rarest} times"
    );
    assert!(*rarest > 0 || cases < 2_000, "a pair never happened");
}

/// Runs sequences until `end`; how often each pair of kinds followed each other.
fn work(found: &Found, end: u64) -> Vec<u64> {
    let mut pairs = vec![0; KINDS * KINDS];
    loop {
        let seed = found.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return pairs;
        }
        let ops = sequence(seed, STEPS);
        for pair in ops.windows(2) {
            pairs[pair[0].kind() * KINDS + pair[1].kind()] += 1;
        }
        if let Err((_, broken, _)) = run(&ops) {
            let mut all = found.broken.lock().unwrap();
            all.entry(class(&broken)).or_insert((0, seed, broken)).0 += 1;
        }
    }
}
