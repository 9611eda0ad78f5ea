//! What can happen to a keystore.

use std::fmt;

use crate::dice::Dice;

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

/// What a guard that somebody wrote by hand pretends to be made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A store key that is gone, in format 1.
    StoreKey,
    /// The keystore's secret.
    Secret,
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
    /// An older keystore, and a guard that was written by hand for it.
    Forge(usize, By),
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
            Self::Forge(..) => 20,
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

impl Dice {
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

    pub(crate) fn op(&mut self) -> Op {
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
            20 => Op::Forge(self.below(6), [By::StoreKey, By::Secret][self.below(2)]),
            21 => Op::AcceptRollback,
            22 => Op::Clock(1 + self.below(20) as u32),
            23 => Op::Restart(who),
            24 => Op::Read(who),
            _ => Op::PutRight,
        }
    }
}

/// What says less than `op`, the least first.
pub(crate) fn simpler(op: Op) -> Vec<Op> {
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
