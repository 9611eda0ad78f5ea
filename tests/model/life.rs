//! Runs lives at random: many sequences of what can happen, and of those that break something the shortest
//! that break the same.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::dice::Dice;

/// How many things happen in a sequence.
const STEPS: usize = 40;

/// What is wrong, in words.
pub(crate) type Broken = String;

/// What can happen, and what must hold all the while.
pub(crate) trait Life {
    type Op: Copy + Display + PartialEq;
    /// How many kinds of `Op` there are.
    const KINDS: usize;

    fn op(dice: &mut Dice) -> Self::Op;

    /// The kind, from 0 on.
    fn kind(op: Self::Op) -> usize;

    /// What says less than `op`, the least first.
    fn simpler(op: Self::Op) -> Vec<Self::Op>;

    /// Runs `ops`, with a line for each in `told`; the step that broke something, and what.
    fn run(ops: &[Self::Op], told: &mut Vec<String>) -> Result<(), (usize, Broken)>;
}

/// What all threads find.
#[derive(Default)]
struct Found {
    next: AtomicU64,
    /// Each kind of what was broken: how often, and in which sequence first.
    broken: Mutex<BTreeMap<String, (u64, u64, Broken)>>,
}

/// Runs `cases` sequences of which each seed from `first` on makes one. Where something broke, a report of
/// each kind; else a line of what was done.
pub(crate) fn live<L: Life>(first: u64, cases: u64) -> Result<String, String> {
    let found = Found { next: AtomicU64::new(first), ..Found::default() };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| work::<L>(&found, first + cases))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let broken = found.broken.into_inner().unwrap();
    let reports: Vec<_> = broken
        .iter()
        .map(|(class, (count, seed, broken))| {
            format!("{count} times: {class}\n{}", report::<L>(*seed, broken))
        })
        .collect();
    if !reports.is_empty() {
        return Err(reports.join("\n\n"));
    }
    let mut pairs = vec![0_u64; L::KINDS * L::KINDS];
    for count in &counts {
        pairs.iter_mut().zip(count).for_each(|(sum, one)| *sum += one);
    }
    let rarest = *pairs.iter().min().unwrap();
    assert!(rarest > 0 || cases < 2_000, "a pair never happened");
    let (steps, kinds) = (cases * STEPS as u64, L::KINDS);
    Ok(format!(
        "{cases} sequences, {steps} steps, each pair of {kinds} kinds at least {rarest} times"
    ))
}

/// Runs sequences until `end`; how often each pair of kinds followed each other.
fn work<L: Life>(found: &Found, end: u64) -> Vec<u64> {
    let mut pairs = vec![0; L::KINDS * L::KINDS];
    loop {
        let seed = found.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return pairs;
        }
        let ops = sequence::<L>(seed);
        for pair in ops.windows(2) {
            pairs[L::kind(pair[0]) * L::KINDS + L::kind(pair[1])] += 1;
        }
        if let Err((_, broken)) = L::run(&ops, &mut Vec::new()) {
            let mut all = found.broken.lock().unwrap();
            let entry = all.entry(class(&broken)).or_insert((0, seed, broken.clone()));
            entry.0 += 1;
            if seed < entry.1 {
                (entry.1, entry.2) = (seed, broken);
            }
        }
    }
}

/// The sequence of a seed.
fn sequence<L: Life>(seed: u64) -> Vec<L::Op> {
    let mut dice = Dice::new(seed);
    (0..STEPS).map(|_| L::op(&mut dice)).collect()
}

/// What was broken, without the numbers and words that differ from one sequence to the next.
fn class(broken: &str) -> String {
    let what = broken.split(": ").next().unwrap_or(broken);
    what.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The sequence as short as can be while it breaks the same, with what came of each step.
fn report<L: Life>(seed: u64, broken: &str) -> String {
    let breaks_so = |ops: &[L::Op]| {
        L::run(ops, &mut Vec::new()).is_err_and(|(_, what)| class(&what) == class(broken))
    };
    let short = shrunk::<L>(sequence::<L>(seed), breaks_so);
    let mut told = Vec::new();
    let (_, now) = L::run(&short, &mut told).unwrap_err();
    format!("KEYWARD_SEED={seed}: {broken}\nshrunk to {}: {now}\n{}", short.len(), told.join("\n"))
}

/// The shortest sequence that is found from `ops` on for which `fails` holds.
fn shrunk<L: Life>(mut ops: Vec<L::Op>, fails: impl Fn(&[L::Op]) -> bool) -> Vec<L::Op> {
    loop {
        let before = ops.clone();
        let mut chunk = ops.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < ops.len() {
                let mut fewer = ops.clone();
                fewer.drain(at..(at + chunk).min(ops.len()));
                match fails(&fewer) {
                    true => ops = fewer,
                    false => at += chunk,
                }
            }
            chunk /= 2;
        }
        for at in 0..ops.len() {
            for simpler in L::simpler(ops[at]) {
                let mut other = ops.clone();
                other[at] = simpler;
                if fails(&other) {
                    ops = other;
                    break;
                }
            }
        }
        if ops == before {
            return ops;
        }
    }
}
