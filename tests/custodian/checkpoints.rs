//! Checkpoints that the audit trail gets by itself.

use keyward::event::checkpoint::Signed;
use keyward::event::{Event, Trail};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Long enough for the worker to have looked.
fn let_the_worker_look() {
    std::thread::sleep(Duration::from_millis(1_300));
}

impl Bench {
    /// The line of the newest checkpoint, which must be one of this keystore's.
    fn signed(&self, custodian: &Custodian) -> Option<u64> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.checkpoint")).ok()?;
        let checkpoint = Signed::parse(&text, &custodian.keystore_id()).unwrap();
        Some(checkpoint.verified(&custodian.epoch_keys()).unwrap().line)
    }

    /// The reasons of the trail's lines about checkpoints.
    fn checkpoints(&self) -> Vec<String> {
        let lines = Trail::beside(&self.path()).read().unwrap();
        let of = lines.into_iter().filter(|line| line.event == Event::Checkpointed);
        of.map(|line| line.reason).collect()
    }
}

fn anchored(custodian: &Custodian) -> Option<u64> {
    custodian.known_of_trail().anchor.map(|head| head.line)
}

#[test]
fn a_server_signs_the_trail_each_day_in_which_something_was_done() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    bench.clock.advance(DAY - Duration::from_secs(1));
    let_the_worker_look();
    assert_eq!(bench.signed(&server), None);
    bench.clock.advance(Duration::from_secs(1));
    assert!(in_time(|| bench.signed(&server).is_some()));
    let first = bench.signed(&server);
    assert_eq!(first, anchored(&server));
    assert!(in_time(|| bench.checkpoints().len() == 1));
    // Its own line alone is no reason for another one.
    bench.clock.advance(2 * DAY);
    let_the_worker_look();
    assert_eq!((bench.signed(&server), bench.checkpoints().len()), (first, 1));
    // The change of a command, which the day's checkpoint comes with at once.
    bench.custodian(Role::Command).rotate(Which::One(key(1)), REASON).unwrap();
    let text = std::fs::read_to_string(bench.folder.path().join("audit.checkpoint")).unwrap();
    assert_eq!(bench.checkpoints()[1..], [text]);
    assert!(bench.signed(&server) > first);
    // One that comes to less than a day after it waits for that.
    bench.custodian(Role::Command).rotate(Which::One(key(1)), REASON).unwrap();
    let second = bench.signed(&server);
    let_the_worker_look();
    assert_eq!(bench.signed(&server), second);
    bench.clock.advance(DAY);
    assert!(in_time(|| bench.signed(&server) > second));
    assert!(in_time(|| bench.checkpoints().len() == 3));
    server.stop();
    // It is known after a restart.
    let again = bench.custodian(Role::Server);
    bench.clock.advance(2 * DAY);
    let_the_worker_look();
    assert_eq!(bench.checkpoints().len(), 3);
    assert!(again.status().degraded.is_none());
}

#[test]
fn one_that_is_gone_or_forged_is_made_again() {
    let bench = Bench::new();
    bench.clock.advance(DAY);
    let command = bench.custodian(Role::Command);
    command.rotate(Which::One(key(1)), REASON).unwrap();
    let file = bench.folder.path().join("audit.checkpoint");
    let first = std::fs::read_to_string(&file).unwrap();
    // Of a line that is far away, so that no other one would come.
    let number = bench.signed(&command).unwrap().to_string();
    for text in ["", &first.replacen(&format!("\n{number}\n"), "\n999999\n", 1)] {
        std::fs::write(&file, text).unwrap();
        let command = bench.custodian(Role::Command);
        command.rotate(Which::One(key(1)), REASON).unwrap();
        assert_eq!(bench.signed(&command), anchored(&command), "instead of {text:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let command = bench.custodian(Role::Command);
    command.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!(bench.signed(&command), anchored(&command));
}

#[test]
fn a_folder_in_its_place_hinders_no_change() {
    let bench = Bench::new();
    bench.clock.advance(DAY);
    std::fs::create_dir(bench.folder.path().join("audit.checkpoint")).unwrap();
    let command = bench.custodian(Role::Command);
    command.rotate(Which::One(key(1)), REASON).unwrap();
    let told = bench.log.lines();
    let is_told = |(_, line): &(Level, String)| {
        line.starts_with("the audit trail has no new checkpoint: cannot write ")
    };
    assert_eq!(told.iter().filter(|line| is_told(line)).count(), 1, "{told:?}");
    command.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!(bench.log.lines(), told, "it is tried again later");
}

#[test]
fn a_process_that_only_reads_signs_nothing() {
    let bench = Bench::new();
    bench.clock.advance(DAY);
    let reader = bench.custodian(Role::Reader);
    reader.refresh().unwrap();
    assert_eq!(bench.signed(&reader), None);
}
