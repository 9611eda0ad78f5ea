//! Fetching each served key once a day: which is next, and which of them were not right.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::key::KeyRef;

/// In how long each version is fetched once.
const ROUND: Duration = Duration::from_secs(24 * 3600);

/// How many are fetched at a time. The worker comes twice a second: so at most four calls a second.
const AT_A_TIME: u32 = 2;

/// How many wrong keys are fetched again with each check.
const BAD_AT_A_TIME: usize = 8;

/// The keys in the order of their turns.
#[derive(Default)]
pub(super) struct Round {
    waiting: VecDeque<KeyRef>,
    /// Those that were not right, with the reason.
    bad: BTreeMap<KeyRef, String>,
    /// When the last turn was to be.
    last: Option<Instant>,
}

impl Round {
    /// Goes on with `keys`: the new ones come first.
    pub(super) fn follow(&mut self, keys: &[KeyRef]) {
        let wanted: BTreeSet<_> = keys.iter().collect();
        self.waiting.retain(|key| wanted.contains(key));
        self.bad.retain(|key, _| wanted.contains(key));
        let known: BTreeSet<_> = self.waiting.iter().cloned().collect();
        for key in keys.iter().rev().filter(|key| !known.contains(key)) {
            self.waiting.push_front(key.clone());
        }
    }

    /// The keys whose turn it is.
    pub(super) fn due(&mut self, now: Instant) -> Vec<KeyRef> {
        let Some(pause) = u32::try_from(self.waiting.len()).ok().and_then(|n| ROUND.checked_div(n))
        else {
            return Vec::new();
        };
        let last = *self.last.get_or_insert(now);
        let turns = now.saturating_duration_since(last).as_nanos() / pause.as_nanos().max(1);
        let turns = u32::try_from(turns).unwrap_or(AT_A_TIME).min(AT_A_TIME);
        let next = last + pause * turns;
        // What was missed, asleep or behind a slow key store, is not made up for in a rush.
        self.last = Some(if now.saturating_duration_since(next) > pause { now } else { next });
        let due: Vec<_> = self.waiting.iter().take(turns as usize).cloned().collect();
        self.waiting.rotate_left(due.len());
        due
    }

    pub(super) fn is_good(&mut self, key: &KeyRef) {
        self.bad.remove(key);
    }

    pub(super) fn is_bad(&mut self, key: KeyRef, reason: String) {
        self.bad.insert(key, reason);
    }

    /// Some of those that were not right.
    pub(super) fn bad_ones(&self) -> Vec<KeyRef> {
        self.bad.keys().take(BAD_AT_A_TIME).cloned().collect()
    }

    pub(super) fn first_bad(&self) -> Option<&str> {
        self.bad.values().next().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyId, KeyVersion};

    fn keys(n: u32) -> Vec<KeyRef> {
        let key = |id| KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::FIRST);
        (1..=n).map(key).collect()
    }

    /// How often each key is fetched in 24 hours of ticks, and the most in any one tick.
    fn a_day(n: u32) -> (BTreeMap<KeyRef, u32>, usize) {
        let (mut round, start) = (Round::default(), Instant::now());
        round.follow(&keys(n));
        let (mut fetched, mut most) = (BTreeMap::new(), 0);
        for tick in 0..=2 * 24 * 3600 {
            let due = round.due(start + Duration::from_millis(500 * tick));
            most = most.max(due.len());
            due.into_iter().for_each(|key| *fetched.entry(key).or_insert(0) += 1);
        }
        (fetched, most)
    }

    #[test]
    fn each_version_is_fetched_once_a_day_and_never_many_at_a_time() {
        for n in [1, 7, 1000, 10_000] {
            let (fetched, most) = a_day(n);
            assert_eq!(fetched.len(), n as usize, "{n}");
            assert!(fetched.values().all(|times| *times == 1), "{n}");
            assert!(most <= 1, "{n}: {most} in half a second");
        }
        let (fetched, most) = a_day(1_000_000);
        assert_eq!((fetched.len(), most), (2 * 2 * 24 * 3600 / 2 * 2, 2), "four a second at most");
    }

    #[test]
    fn what_was_missed_is_not_made_up_for_in_a_rush() {
        let (mut round, start) = (Round::default(), Instant::now());
        round.follow(&keys(24));
        round.due(start);
        assert_eq!(round.due(start + Duration::from_secs(20 * 3600)).len(), 2);
        assert_eq!(round.due(start + Duration::from_secs(20 * 3600 + 1)).len(), 0);
    }

    #[test]
    fn a_key_that_is_gone_is_forgotten_and_a_new_one_comes_first() {
        let (mut round, all) = (Round::default(), keys(3));
        round.follow(&all[..2]);
        round.is_bad(all[0].clone(), "lost".to_owned());
        assert_eq!(round.first_bad(), Some("lost"));
        round.follow(&all[1..]);
        assert_eq!(round.first_bad(), None);
        assert_eq!(round.waiting, [all[2].clone(), all[1].clone()]);
    }
}
