//! Whether a restart would succeed, where a key store serves the keys.

use std::time::{Duration, Instant};

use keyward::custodian::{Custodian, NextSource, NextStart};
use keyward::event::Answer;
use keyward::key::KeyState;
use keyward::source::{NamedServer, Stash};
use keyward::{Kind, Result};

use crate::bench::{Bench, key, version};

/// The next start finds what the bench has.
struct Next(Box<dyn Fn() -> (NamedServer, Option<Stash>) + Send>);

impl NextStart for Next {
    fn open(&mut self) -> Result<NextSource> {
        let (server, stash) = (self.0)();
        Ok(NextSource::Served { server, stash: stash.map(Box::new) })
    }
}

fn watched(bench: &Bench) -> Custodian {
    let custodian = bench.start(bench.source()).unwrap();
    let server = bench.named_server();
    custodian.watch_restart(Box::new(Next(Box::new(move || (server(), None)))));
    custodian
}

#[test]
fn a_key_that_vanished_or_changed_is_lost_at_the_next_start() {
    let bench = Bench::new();
    let custodian = watched(&bench);
    assert_eq!(custodian.status().restart.answer, Answer::Unknown);
    assert_eq!(custodian.check_restart().answer, Answer::Yes);
    bench.server.forget(1, 1);
    let found = custodian.check_restart();
    assert_eq!(found.answer, Answer::No);
    assert_eq!(
        found.reason,
        "provider \"vault\" no longer has key 1 version 1 as it is in use; put it back there"
    );
    assert_eq!(custodian.status().restart, found);
    bench.server.put_bytes(1, 1, KeyState::Active, &[7; 32]);
    assert_eq!(custodian.check_restart().answer, Answer::No);
    bench.server.set(1, 1, KeyState::Active);
    assert_eq!(custodian.check_restart().answer, Answer::Yes);
    let told: Vec<_> = bench.log.lines().into_iter().map(|(_, line)| line).collect();
    let told: Vec<_> = told.iter().filter(|line| line.contains("restart would")).collect();
    assert_eq!(told.len(), 2, "once when it begins and once when it ends: {told:?}");
}

#[test]
fn a_key_store_that_is_away_fails_a_restart_unless_a_stash_helps() {
    let bench = Bench::new();
    let custodian = watched(&bench);
    bench.server.fail(Kind::Unavailable);
    let found = custodian.check_restart();
    assert_eq!(
        (found.answer, &*found.reason),
        (Answer::No, "provider \"vault\": the key store is away")
    );
    bench.server.fail(None);

    let with_stash = bench.with_stash().unwrap();
    let (server, stash) = (bench.named_server(), bench.stash_maker());
    let next = Next(Box::new(move || (server(), Some(stash()))));
    with_stash.watch_restart(Box::new(next));
    bench.server.fail(Kind::Unavailable);
    let found = with_stash.check_restart();
    assert_eq!(found.answer, Answer::Yes, "{}", found.reason);
    assert!(found.reason.starts_with("with the stash: "), "{}", found.reason);
    // A denial is an answer, and the stash is only for outages.
    bench.server.fail(Kind::Denied);
    assert_eq!(with_stash.check_restart().answer, Answer::No);
    bench.server.fail(Kind::Unavailable);
    std::fs::remove_file(bench.path()).unwrap();
    let found = with_stash.check_restart();
    assert!(found.answer == Answer::No && found.reason.contains("the stash does not help"));
}

#[test]
fn each_key_is_fetched_once_a_day_though_the_listing_says_nothing() {
    let bench = Bench::new();
    bench.server.hide_checks();
    let custodian = watched(&bench);
    custodian.check_restart();
    bench.server.put_bytes(2, 1, KeyState::Active, &[9; 32]);
    assert_eq!(custodian.check_restart().answer, Answer::Yes, "a listing cannot tell");
    bench.server.calls();
    let start = Instant::now();
    let minute = Duration::from_secs(60);
    for n in 0..=24 * 60 + 1 {
        custodian.check_restart_in_time(start + minute * n);
    }
    let found = custodian.status().restart;
    assert_eq!(
        (found.answer, &*found.reason),
        (
            Answer::No,
            "provider \"vault\": key 2 version 1 is another key than the one in use; put the former one back \
             there: data was encrypted with it"
        )
    );
    bench.server.set(2, 1, KeyState::Active);
    custodian.check_restart_in_time(start + minute * (24 * 60 + 4));
    assert_eq!(custodian.status().restart.answer, Answer::Yes);
    assert_eq!(custodian.latest(key(2)), Some(version(1)));
}
