//! Following a rotation through the running server's tablespaces.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::helpers::server::{self, Options, Question};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyName, KeyRef};

/// How often the server is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// How often a line tells how far it is where nobody watches a terminal.
const TELL: Duration = Duration::from_secs(30);

/// How long the server may take to use a new version.
const PATIENCE: Duration = Duration::from_secs(15);

/// The encrypted tablespaces of a running server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Spaces {
    rotate_key_age: u32,
    threads: u32,
    /// Whether `innodb_encrypt_tables` is ON or FORCE.
    encrypt_tables: bool,
    all: Vec<Space>,
}

/// What is left to re-encrypt.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Left {
    #[serde(rename = "pages_left")]
    pages: u64,
    #[serde(rename = "tablespaces_left")]
    tablespaces: usize,
    #[serde(skip)]
    such_as: String,
}

impl Left {
    pub(in crate::cli) fn is_nothing(&self) -> bool {
        self.tablespaces == 0
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, tablespaces, such_as } = self;
        write!(
            f,
            "{pages} pages are left to re-encrypt, of {tablespaces} tablespaces, such as {such_as}"
        )
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Space {
    name: String,
    key: u32,
    oldest: u32,
    latest: u32,
    pages: u64,
    /// How many pages the scan that runs has before it.
    scanning: Option<u64>,
}

impl Spaces {
    /// Asks the server; `Err` holds the client's own words.
    pub(in crate::cli) fn ask(options: &Options) -> Result<Self, String> {
        server::query(options, Question::Spaces).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut spaces = Self::default();
        for line in text.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            match cells.as_slice() {
                ["age", age] => spaces.rotate_key_age = age.parse().unwrap_or(0),
                ["threads", threads] => spaces.threads = threads.parse().unwrap_or(0),
                ["tables", value] => spaces.encrypt_tables = *value != "OFF",
                ["space", key, oldest, latest, pages, scanning, name] => {
                    spaces.all.push(Space {
                        name: (*name).to_owned(),
                        key: key.parse().unwrap_or(0),
                        oldest: oldest.parse().unwrap_or(0),
                        latest: latest.parse().unwrap_or(0),
                        pages: pages.parse().unwrap_or(0),
                        scanning: scanning.parse().ok(),
                    });
                }
                _ => {}
            }
        }
        spaces
    }

    /// The tablespaces that are not yet wholly encrypted with these versions or later ones.
    fn behind(&self, wanted: &BTreeMap<u32, u32>) -> impl Iterator<Item = (&Space, u32)> {
        let wanted = wanted.clone();
        self.all.iter().filter_map(move |space| {
            let version = *wanted.get(&space.key)?;
            (space.oldest < version).then_some((space, version))
        })
    }

    /// Why what is behind will stay behind, where it will.
    fn stuck(&self, wanted: &BTreeMap<u32, u32>) -> Result<()> {
        let refused = |what: &str, advice: &str| {
            Err(Error::new(Kind::State, format!("the server re-encrypts nothing: {what}"))
                .advise(advice))
        };
        let Some((space, version)) = self.behind(wanted).next() else { return Ok(()) };
        if self.threads == 0 {
            let advice = "SET GLOBAL innodb_encryption_threads = 4, and put it into my.cnf";
            return refused("innodb_encryption_threads = 0", advice);
        }
        if !self.encrypt_tables {
            let advice = "SET GLOBAL innodb_encrypt_tables = ON, which encrypts all other tables, \
                          too, and put it into my.cnf";
            return refused("innodb_encrypt_tables = OFF", advice);
        }
        if self.rotate_key_age == 0 {
            let advice = "SET GLOBAL innodb_encryption_rotate_key_age = 1";
            return refused("innodb_encryption_rotate_key_age = 0", advice);
        }
        if space.oldest.saturating_add(self.rotate_key_age) >= version {
            let (age, oldest) = (self.rotate_key_age, space.oldest);
            let what = format!(
                "version {oldest} and innodb_encryption_rotate_key_age = {age} reach {version}"
            );
            return refused(
                &what,
                "lower that variable, or `keyward rotate` once more, not waiting",
            );
        }
        Ok(())
    }

    fn left(&self, wanted: &BTreeMap<u32, u32>) -> Left {
        let mut left = Left::default();
        for (space, _) in self.behind(wanted) {
            left.pages += space.scanning.unwrap_or(space.pages).min(space.pages).max(1);
            left.tablespaces += 1;
            left.such_as.clone_from(&space.name);
        }
        left
    }

    /// Checks that no tablespace is encrypted with `key` or on its way there.
    pub(in crate::cli) fn refuse_use_of(&self, key: &KeyRef) -> Result<()> {
        let KeyName::Id(id) = key.name else { return Ok(()) };
        let version = key.version.get();
        let uses = |space: &&Space| {
            let moving = space.scanning.is_some() && space.latest >= version;
            space.key == id.get() && (space.oldest >= version || moving)
        };
        let using: Vec<_> = self.all.iter().filter(uses).collect();
        let Some(first) = using.first() else { return Ok(()) };
        let what = format!(
            "{key} is in use already, by {} tablespaces, such as {}",
            using.len(),
            first.name
        );
        Err(Error::new(Kind::State, what).advise("rotate once more instead"))
    }
}

/// Checks that the server, as it answered, will re-encrypt every page once `keys` are the active
/// versions.
pub(in crate::cli) fn check(spaces: Result<Spaces, String>, keys: &[KeyRef]) -> Result<()> {
    spaces.map_err(|words| unanswered(&words))?.stuck(&wanted(keys))
}

/// What the server, as it answered, has left to re-encrypt with the versions `keys`: pages and tablespaces.
pub(in crate::cli) fn left(spaces: &Spaces, keys: &[KeyRef]) -> (u64, u64) {
    let left = spaces.left(&wanted(keys));
    (left.pages, left.tablespaces as u64)
}

/// Waits until the server has no page left that an older version than one of `keys` encrypts, or
/// until `limit` has passed: what is left.
pub(in crate::cli) fn wait(
    keys: &[KeyRef],
    options: &Options,
    limit: Option<Duration>,
) -> Result<Left> {
    let wanted = wanted(keys);
    let start = Instant::now();
    let mut progress = Progress::new();
    loop {
        let spaces = Spaces::ask(options).map_err(|words| unanswered(&words))?;
        spaces.stuck(&wanted)?;
        let left = spaces.left(&wanted);
        if left.is_nothing() {
            progress.end();
            return Ok(left);
        }
        let asleep = spaces.behind(&wanted).any(|(space, version)| space.latest < version);
        if asleep && start.elapsed() > PATIENCE {
            progress.end();
            let what = "the server does not use the new version";
            return Err(Error::new(Kind::State, what)
                .advise("see Keyward_degraded_reason in SHOW GLOBAL STATUS"));
        }
        progress.tell(&left);
        if limit.is_some_and(|limit| start.elapsed() >= limit) {
            progress.end();
            return Ok(left);
        }
        std::thread::sleep(PERIOD);
    }
}

/// The version that each key's pages are to have at least.
fn wanted(keys: &[KeyRef]) -> BTreeMap<u32, u32> {
    let number = |key: &KeyRef| match key.name {
        KeyName::Id(id) => Some((id.get(), key.version.get())),
        KeyName::Named { .. } => None,
    };
    keys.iter().filter_map(number).collect()
}

/// What is true once no page is left that has to follow `keys`. All that is no tablespace has key 1, and
/// stays as it was written.
pub(in crate::cli) fn reached(keys: &[KeyRef]) -> &'static str {
    match keys.iter().any(|key| key.name == KeyId::SYSTEM.into()) {
        true => {
            "every page of InnoDB's tablespaces has it; Aria tables (until ALTER TABLE t FORCE), binary \
             logs and the redo log keep the version that they were written with\n"
        }
        false => "every page of InnoDB's tablespaces has it\n",
    }
}

/// How to go on waiting for `keys`.
pub(in crate::cli) fn advice(keys: &[KeyRef]) -> String {
    match keys {
        [key] => format!("`keyward keys wait {}` follows without rotating", key.name),
        _ => "`keyward keys wait` follows without rotating".to_owned(),
    }
}

/// The error where the server could not be asked.
pub(in crate::cli) fn unanswered(words: &str) -> Error {
    Error::new(Kind::State, format!("cannot ask the server: {words}")).advise(server::advice(words))
}

/// One line that is written over on a terminal, or a line now and then.
struct Progress {
    terminal: bool,
    first: Option<(Instant, u64)>,
    told: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), first: None, told: None }
    }

    fn tell(&mut self, left: &Left) {
        let Left { pages, tablespaces, .. } = left;
        let (start, most) = *self.first.get_or_insert((Instant::now(), *pages));
        let time = match time_to_go(start.elapsed(), most, *pages) {
            Some(time) => format!("about {}", crate::cli::helpers::print::age(time)),
            None => "the time is not known yet".to_owned(),
        };
        let line = format!("{pages} pages left, of {tablespaces} tablespaces, {time}");
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            // A progress line that cannot be shown is no failure.
            let _ = std::io::stderr().flush();
        } else if self.told.is_none_or(|at| at.elapsed() >= TELL) {
            eprintln!("{line}");
            self.told = Some(Instant::now());
        }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// How long the rest takes at the speed so far; none before there is any.
fn time_to_go(took: Duration, most: u64, left: u64) -> Option<Duration> {
    let done = most.checked_sub(left).filter(|done| *done > 0)?;
    let millis = took.as_millis().checked_mul(u128::from(left))? / u128::from(done);
    Some(Duration::from_millis(u64::try_from(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyVersion;

    const TABLE: &str = "age\t1\nthreads\t4\ntables\tFORCE\nspace\t1\t1\t3\t5000\t-1\tinnodb_system\n\
        space\t1\t3\t3\t700\t-1\tdb/new\nspace\t7\t1\t3\t900\t400\tdb/half\n";

    fn wanted(key: u32, version: u32) -> BTreeMap<u32, u32> {
        [(key, version)].into()
    }

    fn key(id: u32, version: u32) -> KeyRef {
        KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
    }

    #[test]
    fn counts_the_pages_left_key_by_key() {
        let spaces = Spaces::parse(TABLE);
        let left = spaces.left(&wanted(1, 3));
        assert_eq!((left.pages, left.tablespaces), (5000, 1), "what is new counts no more");
        assert_eq!(spaces.left(&wanted(7, 3)).pages, 400, "what the scan has before it");
        assert!(spaces.left(&wanted(2, 3)).is_nothing());
        assert_eq!(
            left.to_string(),
            "5000 pages are left to re-encrypt, of 1 tablespaces, such as innodb_system"
        );
        assert!(spaces.stuck(&wanted(1, 3)).is_ok());
    }

    #[test]
    fn tells_why_nothing_moves() {
        let told = |text: &str, version| {
            Spaces::parse(text).stuck(&wanted(1, version)).unwrap_err().to_string()
        };
        let threads = told(&TABLE.replace("threads\t4", "threads\t0"), 3);
        assert!(threads.contains("innodb_encryption_threads = 0;"), "{threads}");
        let tables = told(&TABLE.replace("FORCE", "OFF"), 3);
        assert!(tables.contains("innodb_encrypt_tables = OFF;"), "{tables}");
        let age = told(&TABLE.replace("age\t1", "age\t0"), 3);
        assert!(age.contains("innodb_encryption_rotate_key_age = 0;"), "{age}");
        let step = told(TABLE, 2);
        assert!(step.contains("version 1 and innodb_encryption_rotate_key_age = 1 reach 2"));
        let nothing = Spaces::parse("threads\t0\n");
        assert!(nothing.stuck(&wanted(1, 3)).is_ok(), "nothing is encrypted, nothing to wait for");
    }

    #[test]
    fn what_a_rotation_would_wait_for_in_vain_is_known_before() {
        let next = [key(1, 3)];
        let asked = |text: &str| Ok::<_, String>(Spaces::parse(text));
        assert!(check(asked(TABLE), &next).is_ok());
        assert!(check(asked(&TABLE.replace("threads\t4", "threads\t0")), &next).is_err());
        let away = check(Err("ERROR 2002 (HY000): nobody".to_owned()), &next).unwrap_err();
        assert_eq!(
            away.to_string(),
            "cannot ask the server: ERROR 2002 (HY000): nobody; start it, or name its socket with \
             --socket"
        );
        assert_eq!(advice(&next), "`keyward keys wait 1` follows without rotating");
    }

    #[test]
    fn a_version_in_use_is_named_with_a_tablespace() {
        let spaces = Spaces::parse(TABLE);
        assert_eq!(
            spaces.refuse_use_of(&key(1, 3)).unwrap_err().to_string(),
            "key 1 version 3 is in use already, by 1 tablespaces, such as db/new; rotate once more \
             instead"
        );
        assert!(spaces.refuse_use_of(&key(7, 3)).is_err(), "being moved");
        assert!(spaces.refuse_use_of(&key(1, 5)).is_ok());
        assert!(spaces.refuse_use_of(&key(2, 3)).is_ok());
    }

    #[test]
    fn the_rest_takes_as_long_as_the_part_before() {
        let second = Duration::from_secs(1);
        assert_eq!(time_to_go(second, 100, 100), None);
        assert_eq!(time_to_go(second, 100, 50), Some(second));
        assert_eq!(time_to_go(10 * second, 100, 25), Some(Duration::from_millis(3333)));
        assert_eq!(time_to_go(second, 100, 200), None, "there can be more than at first");
    }
}
