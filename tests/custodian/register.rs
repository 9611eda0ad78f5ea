//! Servers that enter their data directories in the keystore.

use keyward::event::{Event, Trail};
use keyward::manager::Home;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

fn home(mark: Option<&'static str>) -> Home {
    let mark = Box::new(move || mark.map(str::to_owned));
    Home { host: "db1".to_owned(), path: "/var/lib/mysql".to_owned(), mark }
}

/// Long enough for the worker to have looked.
fn let_the_worker_look() {
    std::thread::sleep(Duration::from_millis(1_300));
}

#[test]
fn a_server_registers_its_data_directory_after_a_minute_and_then_daily() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    server.register(home(Some("mark-1")));
    let first = server.status().generation;
    bench.clock.advance(MINUTE - SECOND);
    let_the_worker_look();
    assert_eq!(server.status().generation, first);
    bench.clock.advance(SECOND);
    assert!(in_time(|| server.status().generation == first + 1));
    let [entry] = &server.data_directories()[..] else { panic!("no entry, or several") };
    assert_eq!((entry.mark.as_str(), entry.host.as_str()), ("mark-1", "db1"));
    assert_eq!(entry.path, "/var/lib/mysql");
    assert_eq!(entry.last_seen, Timestamp::from_unix(1_700_000_060));
    let trail = Trail::beside(&bench.path()).read().unwrap();
    let line = trail.iter().find(|line| line.event == Event::DataDirectoryRegistered).unwrap();
    assert_eq!(line.reason, "data directory /var/lib/mysql on db1, mark mark-1");
    bench.clock.advance(DAY - SECOND);
    let_the_worker_look();
    assert_eq!(server.status().generation, first + 1);
    bench.clock.advance(SECOND);
    assert!(in_time(|| server.status().generation == first + 2));
    server.stop();
    // A start the same day changes nothing.
    let again = bench.custodian(Role::Server);
    again.register(home(Some("mark-1")));
    bench.clock.advance(2 * MINUTE);
    let_the_worker_look();
    assert_eq!(again.status().generation, first + 2);
}

#[test]
fn a_change_that_a_server_makes_anyway_registers_it() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.register(home(Some("mark-1")));
    let first = server.status().generation;
    let seen = || server.data_directories().first().map(|one| one.last_seen.as_unix());
    server.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!((server.status().generation, seen()), (first + 1, Some(1_700_000_000)));
    bench.clock.advance(MINUTE);
    server.create(key(9), None, REASON).unwrap();
    assert_eq!((server.status().generation, seen()), (first + 2, Some(1_700_000_000)));
    bench.clock.advance(DAY);
    server.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!((server.status().generation, seen()), (first + 3, Some(1_700_086_460)));
}

#[test]
fn nobody_else_is_registered() {
    let bench = Bench::new();
    let command = bench.custodian(Role::Command);
    command.register(home(Some("mark-1")));
    command.rotate(Which::One(key(1)), REASON).unwrap();
    assert!(command.data_directories().is_empty());
    let unmarked = bench.custodian(Role::Daemon);
    unmarked.register(home(None));
    unmarked.rotate(Which::One(key(1)), REASON).unwrap();
    assert!(unmarked.data_directories().is_empty());
}

#[test]
fn a_server_that_cannot_be_registered_says_so_once_and_serves() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    server.register(home(Some("mark-1")));
    let trail = bench.folder.path().join("audit.jsonl");
    let aside = bench.folder.path().join("aside");
    std::fs::rename(&trail, &aside).unwrap();
    std::fs::create_dir(&trail).unwrap();
    let told = || {
        let lines = bench.log.lines();
        let lines = lines.iter().filter(|(level, _)| *level == Level::Warning);
        lines.filter(|(_, line)| line.starts_with("this server could not be registered")).count()
    };
    bench.clock.advance(MINUTE);
    assert!(in_time(|| told() == 1));
    for _ in 0..2 {
        bench.clock.advance(60 * MINUTE);
        let_the_worker_look();
    }
    assert_eq!(told(), 1);
    assert_eq!(server.latest(key(1)), Some(version(1)));
    std::fs::remove_dir(&trail).unwrap();
    std::fs::rename(&aside, &trail).unwrap();
    bench.clock.advance(60 * MINUTE);
    assert!(in_time(|| server.data_directories().len() == 1));
}
