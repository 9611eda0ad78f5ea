//! What a section may say, the messages' words, and the trail as a queue.

#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use super::cursor::{Cursor, Place};
use super::*;
use crate::config::Config;
use crate::env::Env;
use crate::env::fake::{FakeClock, FakeLog, FakeRng};
use crate::error::{Error, Kind};
use crate::event::{Backlog, Event, Limits, Record, Trail};
use crate::key::{KeyId, KeyVersion};

const REST: &str = "[[provider]]\ntype = \"local\"\nkey_file = \"/k\"\n";

fn refused(section: &str) -> String {
    let text = format!("[[sink]]\n{section}\n{REST}");
    let config = Config::parse(Path::new("/c.toml"), &text);
    config.and_then(|config| check(&config.sinks)).unwrap_err().to_string()
}

#[test]
fn a_section_is_read_to_its_end() {
    for right in [
        "type = \"journald\"",
        "type = \"syslog\"",
        "type = \"syslog\"\naddress = \"tls://[::1]:6514\"\nca_file = \"/ca\"",
        "type = \"webhook\"\nurl = \"https://siem.example/k\"\nevents = [\"rotated\"]\nmax_waiting = 7",
        "type = \"webhook\"\nurl_file = \"/u\"\ntoken_file = \"/t\"\ntimeout = \"2s\"",
    ] {
        let text = format!("[[sink]]\n{right}\n{REST}");
        check(&Config::parse(Path::new("/c.toml"), &text).unwrap().sinks).unwrap();
    }
    for (wrong, words) in [
        ("type = \"pager\"", "is no kind of sink; use journald or syslog or webhook"),
        ("name = \"a\"", "lacks \"type\""),
        ("type = \"journald\"\nname = \"../x\"", "is part of a file's name"),
        ("type = \"syslog\"\naddress = \"loghost\"", "is no address of a syslog daemon"),
        ("type = \"syslog\"\naddress = \"tcp://loghost\"", "is no address of a syslog daemon"),
        ("type = \"syslog\"\nfacility = 1", "unknown key \"facility\""),
        ("type = \"webhook\"", "lacks \"url\""),
        ("type = \"webhook\"\nurl = \"http://siem.example/\"", "is not https"),
        (
            "type = \"webhook\"\nurl = \"https://ops:pa55@siem.example/\"",
            "url: has a user name or a password in it; put a token into token_file instead",
        ),
        ("type = \"webhook\"\nurl = \"https://a/\"\nurl_file = \"/u\"", "is named twice"),
        (
            "type = \"webhook\"\nurl = \"https://a/\"\ntoken = \"x\"",
            "may not stand in the configuration",
        ),
        ("type = \"journald\"\nmax_waiting = 0", "must be from 1 to 1000000"),
        ("type = \"journald\"\n[[sink]]\ntype = \"journald\"", "two sinks have this name"),
    ] {
        let text = refused(wrong);
        assert!(text.contains(words), "{wrong}: {text}");
        assert!(text.starts_with("/c.toml:"), "{text}");
    }
}

#[test]
fn a_sentence_says_what_to_which_keys_by_whom_and_why() {
    let key = |version| KeyRef::new(KeyId::SYSTEM, KeyVersion::new(version).unwrap());
    let told = |keys: Vec<KeyRef>, reason: &str| {
        let line = Line {
            number: 7,
            at: Timestamp::from_unix(0),
            event: "destruction-planned".to_owned(),
            keys,
            generation: 4,
            actor: "root on db1".to_owned(),
            reason: reason.to_owned(),
        };
        let told = Told { line, text: "", keystore: Path::new("/k"), host: "db1" };
        told.sentence()
    };
    assert_eq!(
        told(vec![key(1), key(3)], "old"),
        "destruction planned: key 1 version 1, key 1 version 3, by root on db1: old"
    );
    assert_eq!(told(Vec::new(), ""), "destruction planned, by root on db1");
    let many = told((1..2000).map(key).collect(), "");
    assert!(many.len() < 4300 && many.contains(" more, by root"), "{} bytes", many.len());
}

/// Takes lines, unless it is away.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<(Vec<u64>, bool)>>);

impl Sink for Taken {
    fn deliver(&mut self, told: &Told<'_>, _: Deadline) -> Result<()> {
        let mut taken = self.0.lock().unwrap();
        if taken.1 {
            return Err(Error::new(Kind::Unavailable, "it is away"));
        }
        taken.0.push(told.line.number);
        Ok(())
    }
}

/// A trail in a folder, and one sink.
struct Bench {
    folder: tempfile::TempDir,
    taken: Taken,
    backlog: Arc<Backlog>,
}

impl Bench {
    fn new() -> Self {
        let (taken, backlog) = (Taken::default(), Arc::default());
        Self { folder: tempfile::tempdir().unwrap(), taken, backlog }
    }

    fn keystore(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    fn write(&self, lines: usize) {
        let clock = FakeClock::at(Timestamp::from_unix(1));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 1, actor: "me", reason: "" };
        let trail = Trail::beside(&self.keystore());
        (0..lines).for_each(|_| trail.append(&clock, &record).unwrap());
    }

    /// The same in files of four lines.
    fn write_in_segments(&self, lines: usize) {
        let clock = FakeClock::at(Timestamp::from_unix(1));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 1, actor: "me", reason: "" };
        let limits = Limits { size: 600, age: std::time::Duration::from_secs(1_000) };
        let trail = Trail::beside(&self.keystore()).with_limits(limits);
        (0..lines).for_each(|_| trail.append(&clock, &record).unwrap());
    }

    fn courier(&self, max_waiting: u64) -> Courier {
        let clock = Arc::new(FakeClock::at(Timestamp::from_unix(1)));
        let env = Env { clock, rng: Arc::new(FakeRng::new(1)), log: Arc::<FakeLog>::default() };
        let sink = Configured {
            name: "s".to_owned(),
            timeout: std::time::Duration::from_secs(1),
            max_waiting,
            events: Vec::new(),
            sink: Box::new(self.taken.clone()),
        };
        Courier::of(vec![sink], &self.keystore(), "db1".to_owned(), self.backlog.clone(), env)
    }

    fn taken(&self) -> Vec<u64> {
        std::mem::take(&mut self.taken.0.lock().unwrap().0)
    }

    fn away(&self, away: bool) {
        self.taken.0.lock().unwrap().1 = away;
    }
}

fn all(courier: &mut Courier) {
    while courier.deliver() {}
}

#[test]
fn a_new_sink_gets_what_happens_from_then_on_once_and_in_order() {
    let bench = Bench::new();
    bench.write(3);
    let mut courier = bench.courier(1000);
    all(&mut courier);
    assert!(bench.taken().is_empty());
    bench.write(250);
    all(&mut courier);
    assert_eq!(bench.taken(), (4..=253).collect::<Vec<_>>());
    // Another process goes on where this one stopped.
    bench.write(1);
    all(&mut bench.courier(1000));
    all(&mut courier);
    assert_eq!((bench.taken(), bench.backlog.counts()), (vec![254], (0, 0)));
    // While one delivers, another does not.
    bench.write(1);
    let held = Cursor::lock(&cursor_path(&bench.keystore(), "s")).unwrap().unwrap();
    all(&mut courier);
    assert!(bench.taken().is_empty());
    drop(held);
    all(&mut courier);
    assert_eq!(bench.taken(), [255]);
}

#[test]
fn what_waits_is_counted_in_a_pause_too() {
    let bench = Bench::new();
    let mut courier = bench.courier(1000);
    all(&mut courier);
    bench.away(true);
    for waiting in [3, 6, 9] {
        bench.write(3);
        all(&mut courier);
        assert_eq!(bench.backlog.counts(), (waiting, 0));
    }
}

#[test]
fn what_waits_is_bounded_and_what_is_given_up_is_counted() {
    let bench = Bench::new();
    all(&mut bench.courier(10));
    bench.away(true);
    bench.write(25);
    all(&mut bench.courier(10));
    assert_eq!((bench.taken(), bench.backlog.counts()), (vec![], (10, 15)));
    bench.away(false);
    all(&mut bench.courier(10));
    assert_eq!((bench.taken(), bench.backlog.counts()), ((16..=25).collect(), (0, 15)));
}

#[test]
fn a_trail_that_was_moved_goes_on() {
    let bench = Bench::new();
    let mut courier = bench.courier(1000);
    all(&mut courier);
    bench.write(5);
    all(&mut courier);
    std::fs::remove_file(bench.folder.path().join("audit.jsonl")).unwrap();
    bench.write(2);
    all(&mut courier);
    assert_eq!(bench.taken(), [1, 2, 3, 4, 5, 1, 2]);
    // A half-written line is no line yet.
    use std::io::Write as _;
    let trail = bench.folder.path().join("audit.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(trail).unwrap();
    file.write_all(b"{\"number\":3").unwrap();
    all(&mut courier);
    assert!(bench.taken().is_empty());
    bench.write(1);
    all(&mut courier);
    assert_eq!(bench.taken(), [3]);
}

#[test]
fn lines_are_delivered_across_the_files_of_a_trail() {
    let bench = Bench::new();
    let mut courier = bench.courier(1000);
    all(&mut courier);
    // One after the other, so that the place is at every line of a file.
    for line in 1..=30 {
        bench.write_in_segments(1);
        all(&mut courier);
        assert_eq!(bench.taken(), [line]);
    }
    // All at once, from the middle of a file, in another process.
    bench.away(true);
    bench.write_in_segments(250);
    all(&mut courier);
    assert_eq!((bench.taken(), bench.backlog.counts()), (vec![], (250, 0)));
    bench.away(false);
    all(&mut bench.courier(1000));
    assert_eq!((bench.taken(), bench.backlog.counts()), ((31..=280).collect(), (0, 0)));
    all(&mut courier);
    assert!(bench.taken().is_empty());
}

#[test]
fn what_was_removed_before_it_was_delivered_is_lost() {
    let bench = Bench::new();
    let mut courier = bench.courier(1000);
    all(&mut courier);
    bench.write_in_segments(6);
    all(&mut courier);
    assert_eq!(bench.taken().len(), 6);
    bench.write_in_segments(24);
    let trail = Trail::beside(&bench.keystore());
    let first = trail.files().len();
    // Four lines are a file: 1 to 16 go, of which 7 to 16 were not delivered.
    assert_eq!((first, trail.remove_through(17).unwrap()), (8, 4));
    all(&mut bench.courier(1000));
    assert_eq!((bench.taken(), bench.backlog.counts()), ((17..=30).collect(), (0, 10)));
}

#[test]
fn a_cursor_that_somebody_wrote_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.sink-s");
    let (cursor, place) = Cursor::lock(&path).unwrap().unwrap();
    assert_eq!(place, None);
    let place = Place { line: u64::MAX, offset: 0, lost: 7 };
    cursor.note(place).unwrap();
    drop(cursor);
    assert_eq!(Cursor::look(&path).unwrap(), Some(place));
    for text in ["1 2 3\n", &"x".repeat(63), &format!("{:063}", 1)] {
        std::fs::write(&path, text).unwrap();
        assert!(Cursor::look(&path).is_err() && Cursor::lock(&path).is_err(), "{text}");
    }
}
