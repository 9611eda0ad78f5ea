//! The audit trail's files, and the lines that the policy no longer keeps.

use keyward::env::Clock as _;
use keyward::event::{Event, Fault, Line, Trail};
use keyward::policy::TrailPolicy;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

impl Bench {
    /// Opened with a file of the trail a month, kept for 90 days.
    fn keeping(&self, role: Role) -> Custodian {
        let env = Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() };
        let file = StoreFile::at(self.path());
        let source = Manager::new(file, vec![self.wrapper()], Cipher::DEFAULT, 2, env.clone())
            .with_trail_policy(TrailPolicy::new(None, None, Some(90 * DAY)));
        Custodian::start(source, role, env).unwrap()
    }

    /// A rotation every ten days for most of a year.
    fn most_of_a_year(&self) -> Custodian {
        let command = self.keeping(Role::Command);
        for _ in 0..30 {
            self.clock.advance(10 * DAY);
            command.rotate(Which::One(key(1)), REASON).unwrap();
        }
        command
    }

    fn lines(&self) -> Vec<Line> {
        Trail::beside(&self.path()).salvage().unwrap().0
    }

    fn trail_files(&self) -> usize {
        Trail::beside(&self.path()).files().len()
    }

    fn faults(&self, custodian: &Custodian) -> Vec<Fault> {
        custodian.refresh().unwrap();
        Trail::beside(&self.path()).verify(custodian.known_of_trail()).unwrap().faults
    }
}

fn floor(custodian: &Custodian) -> Option<u64> {
    custodian.known_of_trail().floor.map(|head| head.line)
}

fn shorten(custodian: &Custodian) {
    custodian.manager().unwrap().run_policy().unwrap();
}

#[test]
fn lines_go_by_policy_and_the_keystore_knows_where_the_trail_begins() {
    let bench = Bench::new();
    let command = bench.most_of_a_year();
    let all = bench.lines();
    let files = bench.trail_files();
    assert!(files > 8, "{files}");
    assert_eq!((floor(&command), bench.faults(&command)), (None, vec![]));
    shorten(&command);
    let floor = floor(&command).unwrap();
    let left = bench.lines();
    assert_eq!((left[0].number, bench.faults(&command)), (floor + 1, vec![]));
    assert!(bench.trail_files() < files);
    // What is newer than the time is there, as it was.
    let limit = Timestamp::from_unix(bench.clock.now().as_unix() - (90 * DAY).as_secs());
    let kept: Vec<_> = all.iter().filter(|line| line.at > limit).cloned().collect();
    assert!(kept.len() > 15 && left.windows(kept.len()).any(|part| *part == kept));
    // And at most a file's time of what is older.
    let oldest = Timestamp::from_unix(limit.as_unix() - (40 * DAY).as_secs());
    assert!(left[0].at >= oldest, "{} is there still", left[0].at);
    let told: Vec<_> = left.iter().filter(|line| line.event == Event::TrailShortened).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].reason, format!("lines 1 to {floor} are older than 90d"));
    assert_eq!(told[0].actor, "policy");
    // Nothing more is due.
    let generation = command.status().generation;
    shorten(&command);
    assert_eq!((command.status().generation, bench.lines()), (generation, left));
    assert_eq!(bench.log.lines(), []);
    // Whoever opens the keystore without such a policy knows it, too.
    let other = bench.custodian(Role::Command);
    other.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!(bench.faults(&other), []);
}

#[test]
fn what_somebody_else_removes_is_missing() {
    let bench = Bench::new();
    let command = bench.most_of_a_year();
    shorten(&command);
    let floor = floor(&command).unwrap();
    let first = Trail::beside(&bench.path()).files().remove(0);
    std::fs::remove_file(first).unwrap();
    let begins = bench.lines()[0].number;
    let missing = Fault::Missing { from: floor + 1, to: begins - 1 };
    assert_eq!(bench.faults(&command), [missing]);
}

/// Whatever of it a crash has left is removed by the next who keeps the policy.
#[test]
fn a_removal_that_was_cut_off_is_ended_by_the_next() {
    let bench = Bench::new();
    let command = bench.most_of_a_year();
    let before = bench.files();
    shorten(&command);
    let (floor, generation) = (floor(&command).unwrap(), command.status().generation);
    let gone: Vec<_> = before.iter().filter(|(path, _)| !path.exists()).cloned().collect();
    assert!(gone.len() > 3, "{gone:?}");
    // They are removed the oldest first.
    for left in 0..gone.len() {
        for (path, bytes) in &gone[left..] {
            std::fs::write(path, bytes).unwrap();
        }
        assert_eq!(bench.faults(&command), [], "{left}");
        shorten(&command);
        assert!(gone.iter().all(|(path, _)| !path.exists()));
        assert_eq!(bench.faults(&command), []);
        assert_eq!(bench.lines()[0].number, floor + 1);
    }
    assert_eq!(command.status().generation, generation);
}

#[test]
fn a_server_keeps_the_policy_by_itself() {
    let bench = Bench::new();
    bench.most_of_a_year();
    let server = bench.keeping(Role::Server);
    let begins = || bench.lines()[0].number;
    assert!(in_time(|| begins() > 1));
    assert!(in_time(|| bench.faults(&server).is_empty()));
    server.stop();
}

#[test]
fn a_file_that_is_not_whole_stays_and_the_log_says_so_once() {
    let bench = Bench::new();
    let command = bench.most_of_a_year();
    let files = Trail::beside(&bench.path()).files();
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let kept: Vec<_> = text.split_inclusive('\n').collect();
    std::fs::write(&files[0], kept[..kept.len() - 1].concat()).unwrap();
    for _ in 0..2 {
        shorten(&command);
        let log = bench.log.lines();
        let is_told = |(_, line): &&(Level, String)| {
            line.starts_with("the audit trail stays longer: ")
                && line.contains("has not the lines that its name says; it stays")
        };
        assert_eq!((log.iter().filter(is_told).count(), log.len()), (1, 1), "{log:?}");
    }
    assert_eq!((bench.trail_files(), floor(&command)), (files.len(), None));
    // As it says, it is moved elsewhere.
    std::fs::rename(&files[0], bench.folder.path().join("elsewhere")).unwrap();
    shorten(&command);
    assert!(bench.trail_files() < files.len() - 1 && floor(&command).is_some());
    assert_eq!(bench.faults(&command), []);
}

#[test]
fn without_a_time_or_for_a_reader_nothing_goes() {
    let bench = Bench::new();
    bench.most_of_a_year();
    let files = bench.files();
    shorten(&bench.custodian(Role::Command));
    let reader = bench.keeping(Role::Reader);
    assert!(reader.manager().unwrap().run_policy().is_err());
    assert_eq!(bench.files(), files);
}
