//! What a server tells the audit trail besides changes.

use std::sync::Mutex;

use keyward::event::{Event, Line, Trail};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// What a server tells by itself.
const TOLD: [Event; 8] = [
    Event::ServerStarted,
    Event::LibraryUpgraded,
    Event::ConfigurationChanged,
    Event::FirstUsed,
    Event::ProviderDown,
    Event::ProviderDenied,
    Event::ProviderUp,
    Event::TrailDamaged,
];

impl Bench {
    /// The server of a data directory, which is told at each call what its configuration holds.
    fn server(&self, configuration: &Arc<Mutex<&'static str>>) -> Custodian {
        let server = self.custodian(Role::Server);
        server.notice_for("db1".to_owned(), "/var/lib/mysql".to_owned());
        let configuration = Arc::clone(configuration);
        let read = move || Some(configuration.lock().unwrap().as_bytes().to_vec());
        server.notice_configuration(Box::new(read));
        server
    }

    /// The lines that servers wrote by themselves.
    fn told(&self) -> Vec<Line> {
        let (lines, _) = Trail::beside(&self.path()).salvage().unwrap();
        lines.into_iter().filter(|line| TOLD.contains(&line.event)).collect()
    }

    /// Waits until there are `count` of them, and gives their events.
    fn events(&self, count: usize) -> Vec<Event> {
        assert!(in_time(|| self.told().len() >= count), "{:?}", self.told());
        self.told().iter().map(|line| line.event).collect()
    }

    /// Goes on by a minute, and lets the worker look.
    fn minute(&self) {
        self.clock.advance(MINUTE);
        std::thread::sleep(Duration::from_millis(1_300));
    }
}

#[test]
fn a_server_tells_its_start_its_configuration_and_which_keys_it_uses_first() {
    let bench = Bench::new();
    let configuration = Arc::new(Mutex::new("one"));
    let server = bench.server(&configuration);
    server.key(key(1), version(1)).unwrap();
    bench.clock.advance(MINUTE - Duration::from_secs(1));
    std::thread::sleep(Duration::from_millis(1_300));
    assert_eq!(bench.told(), [], "a short start is worth no line");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.events(2), [Event::ServerStarted, Event::FirstUsed]);
    let [started, used] = &bench.told()[..] else { panic!("two lines") };
    // `printf one | sha256sum`
    let digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let library = env!("CARGO_PKG_VERSION");
    assert_eq!(
        started.reason,
        format!(
            "keyward {library} serves /var/lib/mysql on db1, its configuration has the SHA-256 {digest}"
        )
    );
    assert_eq!((used.keys.len(), used.keys[0].to_string().as_str()), (1, "key 1 version 1"));
    assert_eq!((used.actor.as_str(), used.reason.as_str()), ("server", "/var/lib/mysql on db1"));

    // Only what is new is told again.
    server.key(key(1), version(1)).unwrap();
    server.key(key(7), version(1)).unwrap();
    server.key(key(2), version(1)).unwrap();
    bench.minute();
    assert_eq!(bench.events(3)[2..], [Event::FirstUsed]);
    let named = |line: &Line| line.keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(named(&bench.told()[2]), ["key 2 version 1", "key 7 version 1"]);
    *configuration.lock().unwrap() = "two";
    bench.minute();
    assert_eq!(bench.events(4)[3..], [Event::ConfigurationChanged]);
    let reason = &bench.told()[3].reason;
    assert!(reason.starts_with(&format!("SHA-256 {digest} was followed by ")), "{reason}");
    assert!(!reason.contains("two"), "never its contents: {reason}");
    bench.minute();
    assert_eq!(bench.told().len(), 4);
    server.stop();

    // After a restart: what changed while it was down, and no key a second time.
    *configuration.lock().unwrap() = "three";
    let again = bench.server(&configuration);
    again.key(key(1), version(1)).unwrap();
    bench.minute();
    assert_eq!(bench.events(6)[4..], [Event::ServerStarted, Event::ConfigurationChanged]);
    let third = again.rotate(Which::One(key(1)), REASON).unwrap();
    again.key(key(1), third[0].version).unwrap();
    bench.minute();
    assert_eq!(bench.events(7)[6..], [Event::FirstUsed]);
    assert_eq!(bench.told()[6].keys, third);
}

#[test]
fn another_version_of_the_library_is_told() {
    let bench = Bench::new();
    let configuration = Arc::new(Mutex::new("one"));
    let server = bench.server(&configuration);
    bench.minute();
    assert_eq!(bench.events(1), [Event::ServerStarted]);
    server.stop();
    let is_of_a_server = |(path, _): &(PathBuf, Vec<u8>)| {
        path.file_name().unwrap().to_string_lossy().starts_with("audit.server-")
    };
    let (file, bytes) = bench.files().into_iter().find(is_of_a_server).unwrap();
    let library = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    let older = String::from_utf8(bytes).unwrap().replace(&library, "\"0.0.1\"");
    std::fs::write(&file, older).unwrap();
    let _server = bench.server(&configuration);
    bench.minute();
    assert_eq!(bench.events(3)[1..], [Event::LibraryUpgraded, Event::ServerStarted]);
    assert!(bench.told()[1].reason.starts_with("from keyward 0.0.1 to "));
}

#[test]
fn a_key_store_that_is_away_refuses_and_is_back_is_told_once_each() {
    let bench = Bench::new();
    let server = bench.server(&Arc::default());
    server.watch_restart(bench.next(true));
    server.check_restart();
    assert_eq!(bench.told(), []);
    bench.key_store.go_away(true);
    server.check_restart();
    server.check_restart();
    assert_eq!(bench.events(1), [Event::ProviderDown]);
    assert!(bench.told()[0].reason.contains("the key store is away"), "{:?}", bench.told());
    bench.key_store.go_away(false);
    bench.key_store.refuses.store(true, Ordering::SeqCst);
    server.check_restart();
    server.check_restart();
    assert_eq!(bench.events(2)[1..], [Event::ProviderDenied]);
    bench.key_store.refuses.store(false, Ordering::SeqCst);
    server.check_restart();
    server.check_restart();
    assert_eq!(bench.events(3)[2..], [Event::ProviderUp]);
    std::thread::sleep(Duration::from_millis(1_300));
    assert_eq!(bench.told().len(), 3);
}

#[test]
fn what_cannot_be_told_is_told_later() {
    let bench = Bench::new();
    let server = bench.server(&Arc::default());
    let trail = bench.folder.path().join("audit.jsonl");
    let aside = bench.folder.path().join("aside");
    std::fs::rename(&trail, &aside).unwrap();
    std::fs::create_dir(&trail).unwrap();
    server.key(key(1), version(1)).unwrap();
    bench.minute();
    let told = |(_, line): &(Level, String)| line.starts_with("the audit trail lacks what this");
    assert_eq!(bench.log.lines().iter().filter(|line| told(line)).count(), 1);
    bench.minute();
    assert_eq!(bench.log.lines().iter().filter(|line| told(line)).count(), 1);
    std::fs::remove_dir(&trail).unwrap();
    std::fs::rename(&aside, &trail).unwrap();
    bench.minute();
    assert_eq!(bench.events(2), [Event::ServerStarted, Event::FirstUsed]);
}

#[test]
fn nobody_else_tells_anything() {
    let bench = Bench::new();
    for role in [Role::Command, Role::Reader, Role::Daemon] {
        let process = bench.custodian(role);
        process.notice_for("db1".to_owned(), "/var/lib/mysql".to_owned());
        process.key(key(1), version(1)).unwrap();
        bench.minute();
    }
    assert_eq!(bench.told(), []);
    assert!(bench.files().iter().all(|(path, _)| !path.to_string_lossy().contains("audit.server")));
}

#[test]
fn a_trail_that_somebody_changed_is_told_by_the_server() {
    let bench = Bench::new();
    let server = bench.server(&Arc::default());
    bench.minute();
    assert_eq!(bench.events(1), [Event::ServerStarted]);
    let trail = bench.folder.path().join("audit.jsonl");
    let change = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&trail).unwrap();
        assert!(text.contains(from));
        std::fs::write(&trail, text.replacen(from, to, 1)).unwrap();
    };
    let damaged = || {
        let told = bench.told().into_iter().filter(|line| line.event == Event::TrailDamaged);
        told.map(|line| line.reason).collect::<Vec<_>>()
    };
    // The first line, which it has looked at: the day's whole pass finds it.
    change("because", "BECAUSE");
    server.rotate(Which::One(key(1)), REASON).unwrap();
    bench.minute();
    assert!(damaged().is_empty(), "{:?}", damaged());
    bench.clock.advance(Duration::from_secs(86_400));
    assert!(in_time(|| damaged().len() == 1));
    let (told, error) = (&damaged()[0], |(level, line): &(Level, String)| {
        *level == Level::Error && line.starts_with("the audit trail is not whole: line 2 ")
    });
    assert!(told.starts_with("line 2 of audit.jsonl does not follow the one before"), "{told}");
    assert_eq!(bench.log.lines().iter().filter(|line| error(line)).count(), 1);
    server.rotate(Which::One(key(1)), REASON).unwrap();
    bench.minute();
    assert_eq!(damaged().len(), 1, "once");
    change("BECAUSE", "because");
    bench.clock.advance(Duration::from_secs(86_400));
    bench.minute();
    // The end is cut off: at once.
    let text = std::fs::read_to_string(&trail).unwrap();
    let kept: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
    std::fs::write(&trail, kept).unwrap();
    server.rotate(Which::One(key(1)), REASON).unwrap();
    bench.minute();
    assert!(in_time(|| !damaged().is_empty()));
    assert!(damaged()[0].contains(" are missing"), "{:?}", damaged());
}
