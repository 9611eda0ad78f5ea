//! What can happen, and sequences of it: made from a seed, shown, and shrunk.

use std::fmt;

/// The two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Server,
    Command,
}

impl Who {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Server => Self::Command,
            Self::Command => Self::Server,
        }
    }
}

/// A change of the keystore that a process makes. Numbers that are too large begin again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create(u32),
    Rotate(u32),
    RotateAll,
    Undo(u32),
    Compromise(u32, usize),
    Retire(u32, usize),
    Plan(u32, usize),
    CarryOut,
    Cancel,
    NewStoreKey,
    Rewrap,
}

/// A file of the keystore's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Keystore,
    Guard,
    Trail,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Do(Who, Change),
    /// The machine loses power at this call of the change, keeping of what was not synced the names or
    /// not, and so much of the bytes in percent.
    Crash(Who, Change, usize, bool, usize),
    /// This call of the change fails.
    Fail(Who, Change, usize),
    /// The other process makes its change at this call of the first one's; where that has the lock, it was
    /// removed.
    During(Who, Change, usize, Change),
    /// The other process makes its change at this call of the first one's reading.
    ReadDuring(Who, usize, Change),
    /// The other process makes its change while this one starts again.
    RestartDuring(Who, usize, Change),
    /// An older copy of the file takes its place, of so many changes ago.
    PutBack(Which, usize),
    /// Older copies of all files take their places.
    PutAllBack(usize),
    Vanish(Which),
    Alter(Which, usize),
    /// An older keystore, and a guard that was written by hand for it as if another store key had made it.
    Forge(usize),
    AcceptRollback,
    /// The newest copies of all files are put back.
    PutRight,
    /// Days.
    Clock(u32),
    Restart(Who),
    Read(Who),
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 26;

impl Op {
    /// The kind, from 0 on.
    pub(crate) fn kind(self) -> usize {
        match self {
            Self::Do(_, change) => match change {
                Change::Create(_) => 0,
                Change::Rotate(_) => 1,
                Change::RotateAll => 2,
                Change::Undo(_) => 3,
                Change::Compromise(..) => 4,
                Change::Retire(..) => 5,
                Change::Plan(..) => 6,
                Change::CarryOut => 7,
                Change::Cancel => 8,
                Change::NewStoreKey => 9,
                Change::Rewrap => 10,
            },
            Self::Crash(..) => 11,
            Self::Fail(..) => 12,
            Self::During(..) => 13,
            Self::ReadDuring(..) => 14,
            Self::RestartDuring(..) => 15,
            Self::PutBack(..) => 16,
            Self::PutAllBack(_) => 17,
            Self::Vanish(_) => 18,
            Self::Alter(..) => 19,
            Self::Forge(_) => 20,
            Self::AcceptRollback => 21,
            Self::Clock(_) => 22,
            Self::Restart(_) => 23,
            Self::Read(_) => 24,
            Self::PutRight => 25,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Repeatable numbers (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `below` - 1.
    fn below(&mut self, below: usize) -> usize {
        (self.next() % below as u64) as usize
    }

    fn id(&mut self) -> u32 {
        1 + self.below(3) as u32
    }

    fn who(&mut self) -> Who {
        if self.below(2) == 0 { Who::Server } else { Who::Command }
    }

    fn which(&mut self) -> Which {
        [Which::Keystore, Which::Keystore, Which::Guard, Which::Guard, Which::Trail][self.below(5)]
    }

    fn change(&mut self) -> Change {
        match self.below(11) {
            0 => Change::Create(self.id()),
            1 => Change::Rotate(self.id()),
            2 => Change::RotateAll,
            3 => Change::Undo(self.id()),
            4 => Change::Compromise(self.id(), self.below(3)),
            5 => Change::Retire(self.id(), self.below(3)),
            6 => Change::Plan(self.id(), 2 + self.below(3)),
            7 => Change::CarryOut,
            8 => Change::Cancel,
            9 => Change::NewStoreKey,
            _ => Change::Rewrap,
        }
    }

    fn op(&mut self) -> Op {
        let who = self.who();
        match self.below(KINDS) {
            0 => Op::Do(who, Change::Create(self.id())),
            1..=10 => Op::Do(who, self.change()),
            11 => Op::Crash(
                who,
                self.change(),
                self.below(24),
                self.below(2) == 0,
                self.below(3) * 50,
            ),
            12 => Op::Fail(who, self.change(), self.below(24)),
            13 => Op::During(who, self.change(), self.below(24), self.change()),
            14 => Op::ReadDuring(who, self.below(8), self.change()),
            15 => Op::RestartDuring(who, self.below(8), self.change()),
            16 => Op::PutBack(self.which(), self.below(6)),
            17 => Op::PutAllBack(self.below(6)),
            18 => Op::Vanish(self.which()),
            19 => Op::Alter(self.which(), self.below(4000)),
            20 => Op::Forge(self.below(6)),
            21 => Op::AcceptRollback,
            22 => Op::Clock(1 + self.below(20) as u32),
            23 => Op::Restart(who),
            24 => Op::Read(who),
            _ => Op::PutRight,
        }
    }
}

/// The sequence of a seed.
pub(crate) fn sequence(seed: u64, steps: usize) -> Vec<Op> {
    let mut dice = Dice::new(seed);
    (0..steps).map(|_| dice.op()).collect()
}

/// The shortest sequence that is found from `ops` on for which `fails` holds.
pub(crate) fn shrunk(ops: Vec<Op>, fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let mut ops = ops;
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
        for simpler in simpler(ops[at]) {
            let mut other = ops.clone();
            other[at] = simpler;
            if fails(&other) {
                ops = other;
                break;
            }
        }
    }
    ops
}

/// What says less than `op`, the least first.
fn simpler(op: Op) -> Vec<Op> {
    match op {
        Op::Crash(who, change, ..)
        | Op::Fail(who, change, _)
        | Op::During(who, change, ..)
        | Op::Do(who, change) => {
            let mut all = vec![Op::Do(who, Change::RotateAll), Op::Do(who, change)];
            all.retain(|one| *one != op);
            all
        }
        Op::ReadDuring(who, _, change) => vec![Op::Read(who), Op::Do(who.other(), change)],
        Op::RestartDuring(who, _, change) => vec![Op::Restart(who), Op::Do(who.other(), change)],
        Op::PutAllBack(age) => vec![Op::PutBack(Which::Keystore, age)],
        _ => Vec::new(),
    }
}
