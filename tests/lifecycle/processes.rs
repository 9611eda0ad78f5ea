//! A server and commands that change one keystore at once, while others look at it and start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use keyward::Kind;
use keyward::assemble;
use keyward::custodian::Custodian;
use keyward::env::Env;
use keyward::env::fake::FakeLog;
use keyward::source::{Role, Which};

use crate::bench::{REASON, key};
use crate::command::Shell;

/// How a command ends that did not get the lock.
const LOCKED: &str = ".lock is locked by another process: no answer in time\n";

#[test]
fn nothing_fails_raises_an_alarm_or_is_lost() {
    let extended = std::env::var_os("KEYWARD_EXTENDED").is_some();
    let (rotations, looks, starts) = if extended { (1000, 200, 20) } else { (100, 20, 4) };
    let (shell, log) = (Shell::new(), Arc::new(FakeLog::default()));
    let start = || -> Custodian {
        assemble::from_file(&shell.config(), Role::Server, Env::system(log.clone())).unwrap()
    };
    // On a machine with much else to do, the lock may not come within its time. That changes nothing, as
    // the count of the generations proves, and is to be tried again.
    let late = AtomicUsize::new(0);
    let command = |words: &[&str]| loop {
        let ended = shell.run(words);
        if ended.code == 75 && ended.err.ends_with(LOCKED) {
            late.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{words:?}");
        break;
    };
    let (server, began) = (start(), Instant::now());
    let by_command = rotations / 3;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..by_command).for_each(|_| command(&["rotate", "1"])));
        }
        scope.spawn(|| {
            for _ in 0..rotations - 2 * by_command {
                // Nobody is next in line for the lock: without a pause, others would wait long.
                let began = Instant::now();
                while let Err(error) = server.rotate(Which::One(key(1)), REASON) {
                    assert_eq!(error.kind(), Kind::Timeout, "{error}");
                    late.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(began.elapsed());
            }
        });
        scope.spawn(|| (0..looks).for_each(|_| command(&["status"])));
        scope.spawn(|| (0..starts).for_each(|_| drop(start())));
    });
    let took = began.elapsed();
    println!(
        "{rotations} rotations, {looks} status and {starts} starts in {took:?}: 0 failures, 0 alarms; \
         the lock came late {} times",
        late.into_inner()
    );
    server.refresh().unwrap();
    for custodian in [server, start()] {
        let versions = custodian.keys().into_iter().filter(|info| info.key.name == key(1).into());
        assert_eq!(versions.count(), rotations + 1);
        assert_eq!(custodian.status().generation, 3 + rotations as u64);
        assert_eq!(custodian.status().degraded, None);
    }
    assert_eq!(log.lines(), []);
}
