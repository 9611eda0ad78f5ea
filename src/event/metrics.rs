//! The metrics: one table, which MariaDB's status variables, MySQL's `keyring_component_status`,
//! `keyward status` and `keyward metrics` render. A new metric is one entry here and one row in `docs/metrics.md`.

#![forbid(unsafe_code)]

use std::ffi::CStr;

use serde::Serialize;

use super::library;
use super::status::{Answer, StashState, Status};
use crate::env::Timestamp;
use crate::{cipher, secret};
use Kind::{Counter, Gauge, Text};
use Source::{Asked, Keys, Keystore, Library, Server};

/// One metric.
pub struct Metric {
    /// Its name, which MariaDB shows after `Keyward_`, MySQL with a capital, JSON as it is, and Prometheus
    /// after `keyward_` and before its unit.
    pub name: &'static CStr,
    /// How its value moves.
    pub kind: Kind,
    /// What is counted; `flag` and `time` are written in each renderer's own way.
    pub unit: &'static str,
    /// Who shows it.
    pub shown_by: &'static [Renderer],
    /// What it says.
    pub help: &'static str,
    value: Source,
}

/// How the value of a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that goes up and down.
    Gauge,
    /// A number that only grows while the process lives.
    Counter,
    /// No number.
    Text,
}

/// Who shows metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renderer {
    /// `SHOW GLOBAL STATUS`.
    MariaDb,
    /// `performance_schema.keyring_component_status`.
    MySql,
    /// `keyward status`.
    Command,
    /// `keyward metrics`, for Prometheus: numbers alone.
    Prometheus,
}

/// What a value is taken from. Without that there is no such metric.
enum Source {
    Keys(fn(&Status) -> Value),
    Server(fn(&ServerFacts) -> Value),
    Keystore(fn(&KeystoreFacts) -> Value),
    Asked(fn(&AskedFacts) -> Value),
    Library(fn() -> Value),
}

/// What the values are taken from.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// How the keys stand.
    pub keys: Option<&'a Status>,
    /// What a server knows of its process.
    pub server: Option<&'a ServerFacts>,
    /// What the command reads in the keystore.
    pub keystore: Option<&'a KeystoreFacts>,
    /// What the command asked providers and server for.
    pub asked: Option<&'a AskedFacts>,
}

/// What a server knows of its process.
#[derive(Default)]
pub struct ServerFacts {
    /// How the mark in the data directory stands; empty where none is kept.
    pub mark: String,
    /// Why the last load or change of a key failed; empty after one that succeeded.
    pub last_error: String,
}

/// What the command reads in the keystore.
#[derive(Default)]
pub struct KeystoreFacts {
    /// Where it is.
    pub path: String,
    /// Its id; empty where a key store serves the keys.
    pub id: String,
    /// The epoch and the fingerprint; none where a key store serves the keys.
    pub epoch: Option<(u64, String)>,
    /// The providers that wrap it.
    pub wrapped_by: Vec<String>,
    /// When the oldest version that encrypts was made.
    pub oldest_active: Option<Timestamp>,
    /// How many versions are to be destroyed.
    pub destructions: usize,
    /// When the first of them is.
    pub next_destruction: Option<Timestamp>,
    /// What is wrong with the audit trail, counted; none where nobody has looked.
    pub trail_faults: Option<usize>,
    /// How scheduled backups stand; none where there are to be none.
    pub backups: Option<BackupFacts>,
}

/// What the command knows of scheduled backups.
#[derive(Default)]
pub struct BackupFacts {
    /// When the last was made.
    pub last: Option<Timestamp>,
    /// Whether it lacks a key that it should have by now.
    pub stale: bool,
    /// Why there is no newer one, or why it was not taken elsewhere.
    pub failure: Option<String>,
}

/// What the command asks providers and server for; none or nothing where it did not.
#[derive(Default)]
pub struct AskedFacts {
    /// Whether the keystore opens.
    pub opens: Option<bool>,
    /// Whether each provider answers, by name.
    pub providers: Vec<(String, bool)>,
    /// When certificates end: of which provider, in which file.
    pub certificates: Vec<(String, String, Timestamp)>,
    /// When tokens end that a provider was given: whose, and whether it can be renewed.
    pub tokens: Vec<(String, bool, Timestamp)>,
    /// Whether the server answers and has keyward in use.
    pub server: Option<bool>,
    /// How many pages, of how many tablespaces, are left to re-encrypt.
    pub left: Option<(u64, u64)>,
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A moment.
    Time(Timestamp),
    /// A text, which is not empty.
    Text(String),
    /// Names.
    Names(Vec<String>),
    /// Several numbers, told apart by labels.
    Each(Vec<Sample>),
    /// No error, no date, nobody.
    Nothing,
}

/// One of several numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub number: u64,
}

/// A value as a server shows it: a number wherever it can be one, so that a program that collects
/// status variables needs to know nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A number.
    Number(u64),
    /// A text, maybe empty.
    Text(String),
}

/// A metric with its value.
pub struct Shown {
    /// The metric.
    pub metric: &'static Metric,
    /// Its value.
    pub value: Value,
}

const MARIADB: &[Renderer] = &[Renderer::MariaDb];
const MYSQL: &[Renderer] = &[Renderer::MySql];
const COMMAND: &[Renderer] = &[Renderer::Command];
const COMMAND_NUMBER: &[Renderer] = &[Renderer::Command, Renderer::Prometheus];
const PROMETHEUS: &[Renderer] = &[Renderer::Prometheus];
const SERVERS: &[Renderer] = &[Renderer::MariaDb, Renderer::MySql];
const NOT_MYSQL: &[Renderer] = &[Renderer::MariaDb, Renderer::Command, Renderer::Prometheus];
const ALL_TEXT: &[Renderer] = &[Renderer::MariaDb, Renderer::MySql, Renderer::Command];
const ALL: &[Renderer] =
    &[Renderer::MariaDb, Renderer::MySql, Renderer::Command, Renderer::Prometheus];

/// All metrics, in the order in which they are shown.
#[rustfmt::skip]
pub static METRICS: &[Metric] = &[
    metric(c"build_info", Gauge, "labels", PROMETHEUS, Library(build_info),
        "1, with the version that writes the metrics"),
    metric(c"keystore_info", Gauge, "labels", PROMETHEUS, Keystore(keystore_info),
        "1, with the keystore's id, its fingerprint and the providers that wrap it"),
    metric(c"keystore_opens", Gauge, "flag", PROMETHEUS, Asked(|asked| asked.opens.map_or(Value::Nothing, Value::Flag)),
        "whether the command could open the keystore, or have the key store list its keys"),
    metric(c"provider_up", Gauge, "flag", PROMETHEUS, Asked(|asked| each(&asked.providers, |(name, up)| sample([("provider", name.clone())], u64::from(*up)))),
        "whether each provider answers and has what is wanted of it"),
    metric(c"certificate_expires", Gauge, "time", PROMETHEUS, Asked(|asked| each(&asked.certificates, |(provider, file, at)| sample([("provider", provider.clone()), ("file", file.clone())], at.as_unix()))),
        "when the certificates end that `ca_file` and `client_certificate_file` of a provider name: the last authority, the first of our own chain"),
    metric(c"token_expires", Gauge, "time", PROMETHEUS, Asked(|asked| each(&asked.tokens, |(provider, renewable, at)| sample([("provider", provider.clone()), ("renewable", renewable.to_string())], at.as_unix()))),
        "when the token ends that a provider was given in its configuration"),
    metric(c"server_up", Gauge, "flag", PROMETHEUS, Asked(|asked| asked.server.map_or(Value::Nothing, Value::Flag)),
        "whether the server answers and keyward is in use there; without it there are no metrics of the server"),
    metric(c"reencryption_pages", Gauge, "pages", PROMETHEUS, Asked(|asked| asked.left.map_or(Value::Nothing, |left| Value::Number(left.0))),
        "pages that a MariaDB server has left to re-encrypt with the active versions"),
    metric(c"reencryption_tablespaces", Gauge, "tablespaces", PROMETHEUS, Asked(|asked| asked.left.map_or(Value::Nothing, |left| Value::Number(left.1))),
        "tablespaces that they are of"),
    metric(c"state", Text, "word", ALL_TEXT, Keys(|keys| text(state(keys))),
        "`ok`; `restart_unsafe`: all is served, but a restart would fail; `degraded`: keys in memory are served, but the key store cannot be read, or lacks or changed keys in use"),
    metric(c"degraded", Gauge, "flag", ALL, Keys(|keys| Value::Flag(keys.degraded.is_some())),
        "whether the state is `degraded`"),
    metric(c"degraded_since", Gauge, "time", ALL, Keys(|keys| time(keys.degraded.as_ref().map(|degraded| degraded.since))),
        "since when it is"),
    metric(c"degraded_reason", Text, "text", ALL_TEXT, Keys(|keys| text(keys.degraded.as_ref().map_or("", |degraded| &degraded.cause))),
        "why it is; empty when it is not"),
    metric(c"restart_safe", Text, "word", ALL_TEXT, Keys(|keys| text(keys.restart.answer.to_string())),
        "`yes`, `no` or `unknown`: whether a restart would succeed"),
    metric(c"restart_safe_reason", Text, "text", ALL_TEXT, Keys(|keys| text(&*keys.restart.reason)),
        "why not, why that is unknown, or with whose help it would"),
    metric(c"restart_unsafe", Gauge, "flag", SERVERS, Keys(|keys| Value::Flag(keys.restart.answer == Answer::No)),
        "whether a restart would fail: `restart_safe` is `no`"),
    metric(c"restart_unknown", Gauge, "flag", SERVERS, Keys(|keys| Value::Flag(keys.restart.answer == Answer::Unknown)),
        "whether that cannot be told, or was not tried yet: `restart_safe` is `unknown`"),
    metric(c"provider_answered", Gauge, "time", SERVERS, Keys(|keys| time(keys.provider_answered)),
        "when a provider last did what it was asked: an unwrapping, which a server tries each hour, or a listing of keys"),
    metric(c"last_error", Text, "text", MYSQL, Server(|server| text(&*server.last_error)),
        "why the last load or change of a key failed; empty after one that succeeded"),
    metric(c"keystore", Text, "path", COMMAND, Keystore(|keystore| text(&*keystore.path)),
        "the keystore; MySQL has it as `Data_file`"),
    metric(c"keystore_id", Text, "id", COMMAND, Keystore(|keystore| text(&*keystore.id)),
        "its id, which a wrapping key's policy can name; empty where a key store serves the keys"),
    metric(c"generation", Gauge, "generation", ALL, Keys(|keys| Value::Number(keys.generation)),
        "the keystore's generation: one more with each change"),
    metric(c"epoch", Gauge, "epoch", COMMAND_NUMBER, Keystore(|keystore| keystore.epoch.as_ref().map_or(Value::Nothing, |epoch| Value::Number(epoch.0))),
        "the keystore's epoch: it rises where generations may have been lost, after a rescue or an accepted older copy"),
    metric(c"trail_line", Gauge, "line", ALL, Keys(|keys| Value::Number(keys.trail_line)),
        "the newest line of the audit trail that the keystore knows; 0 where there is none"),
    metric(c"sinks_waiting", Gauge, "lines", ALL, Keys(|keys| Value::Number(keys.sinks_waiting)),
        "lines of the audit trail that wait to be delivered, of all sinks"),
    metric(c"sinks_lost", Counter, "lines", ALL, Keys(|keys| Value::Number(keys.sinks_lost)),
        "lines that were given up, of all sinks, because more than `max_waiting` waited or the trail no longer had them"),
    metric(c"trail_faults", Gauge, "faults", PROMETHEUS, Keystore(|keystore| keystore.trail_faults.map_or(Value::Nothing, count)),
        "what `keyward audit verify` finds wrong with the trail"),
    metric(c"fingerprint", Text, "hex", COMMAND, Keystore(|keystore| text(keystore.epoch.as_ref().map_or("", |epoch| &epoch.1))),
        "the fingerprint by which `[keystore] fingerprint` pins it"),
    metric(c"provider", Text, "name", ALL_TEXT, Keys(|keys| text(&*keys.provider)),
        "the provider that opened the keystore, or that serves the keys"),
    metric(c"wrapped_by", Text, "names", COMMAND, Keystore(|keystore| Value::Names(keystore.wrapped_by.clone())),
        "the providers that wrap the keystore"),
    metric(c"keys", Gauge, "keys", ALL, Keys(|keys| count(keys.keys)),
        "how many keys there are that were not destroyed"),
    metric(c"key_versions", Gauge, "versions", ALL, Keys(|keys| count(keys.versions)),
        "how many versions of them that were not destroyed"),
    metric(c"oldest_active", Gauge, "time", COMMAND_NUMBER, Keystore(|keystore| time(keystore.oldest_active)),
        "when the oldest version that encrypts was made"),
    metric(c"destructions_planned", Gauge, "versions", COMMAND_NUMBER, Keystore(|keystore| count(keystore.destructions)),
        "versions that are to be destroyed once their waiting time has passed"),
    metric(c"next_destruction", Gauge, "time", COMMAND_NUMBER, Keystore(|keystore| time(keystore.next_destruction)),
        "when the first of them may be"),
    metric(c"last_backup", Gauge, "time", COMMAND_NUMBER, Keystore(|keystore| time(backups(keystore).and_then(|backups| backups.last))),
        "when `[backup]` had the last backup of the keys made"),
    metric(c"backup_stale", Gauge, "flag", COMMAND_NUMBER, Keystore(|keystore| backups(keystore).map_or(Value::Nothing, |backups| Value::Flag(backups.stale))),
        "whether it lacks a key that it should have by now; none without `[backup]`"),
    metric(c"backup_failing", Gauge, "flag", COMMAND_NUMBER, Keystore(|keystore| backups(keystore).map_or(Value::Nothing, |backups| Value::Flag(backups.failure.is_some()))),
        "whether the last attempt failed; none without `[backup]`"),
    metric(c"backup_error", Text, "text", COMMAND, Keystore(|keystore| text(backups(keystore).and_then(|backups| backups.failure.as_deref()).unwrap_or_default())),
        "why it did"),
    metric(c"rotations", Counter, "rotations", MARIADB, Keys(|keys| Value::Number(keys.rotations)),
        "rotations by this server since it started: one for each call, whatever the number of keys, and one for each change by policy"),
    metric(c"next_rotation", Gauge, "time", ALL, Keys(|keys| time(keys.next_rotation)),
        "when the policy rotates next; none without `rotate_after`"),
    metric(c"rotation_due", Gauge, "flag", ALL, Keys(|keys| Value::Flag(keys.rotation_due)),
        "set from `notify_before` ahead of a rotation until it is done"),
    metric(c"stash", Text, "path", COMMAND, Keys(|keys| text(stash(keys).map_or_else(String::new, |stash| stash.path.display().to_string()))),
        "the stash of the key store that serves"),
    metric(c"stash_taken", Gauge, "time", NOT_MYSQL, Keys(|keys| time(stash(keys).and_then(|stash| stash.taken))),
        "when the key store said last that the stash's keys are its own"),
    metric(c"stash_in_use", Gauge, "flag", NOT_MYSQL, Keys(|keys| Value::Flag(stash(keys).is_some_and(|stash| stash.in_use))),
        "whether the keys came from the stash, because the key store was away at the start"),
    metric(c"stash_error", Text, "text", COMMAND, Keys(|keys| text(stash(keys).and_then(|stash| stash.failure.as_deref()).unwrap_or_default())),
        "why the stash cannot be read or written"),
    metric(c"mark", Text, "words", SERVERS, Server(|server| text(&*server.mark)),
        "how the mark in the data directory stands: `written`, `none`, `of a newer keyward`, or why it cannot be written; empty where none is kept"),
    metric(c"memory_locked", Gauge, "flag", SERVERS, Server(|_| Value::Flag(secret::lock_state().unlocked == 0)),
        "whether all memory that holds keys is locked; if not, some of it may reach swap"),
    metric(c"cipher_kernel", Text, "word", MARIADB, Server(|_| text(cipher::kernel().name())),
        "the instructions that encrypt pages on this processor"),
    metric(c"started", Gauge, "time", SERVERS, Keys(|keys| Value::Time(keys.started)),
        "when keyward started"),
    metric(c"version", Text, "version", MARIADB, Server(|_| text(env!("CARGO_PKG_VERSION"))),
        "keyward's version; MySQL has it as `Version`"),
    metric(c"library_replaced", Gauge, "flag", SERVERS, Server(|_| Value::Flag(library::is_replaced())),
        "whether the library's file was replaced or removed after the server had loaded it: an upgrade takes effect with a restart"),
];

/// The metrics that `renderer` shows of `facts`.
#[must_use]
pub fn shown(renderer: Renderer, facts: Facts<'_>) -> Vec<Shown> {
    let applies = |metric: &&Metric| metric.shown_by.contains(&renderer);
    let shown = |metric: &'static Metric| Some(Shown { metric, value: metric.value.of(facts)? });
    METRICS.iter().filter(applies).filter_map(shown).collect()
}

/// The metric that is called `name`, in a server's own spelling.
#[must_use]
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name().eq_ignore_ascii_case(name))
}

impl Metric {
    /// Its name as text.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name.to_str().unwrap_or_default()
    }
}

impl Shown {
    /// The value as a server shows it.
    #[must_use]
    pub fn cell(&self) -> Cell {
        match &self.value {
            Value::Flag(is) => Cell::Number(u64::from(*is)),
            Value::Number(number) => Cell::Number(*number),
            Value::Time(at) => Cell::Number(at.as_unix()),
            Value::Text(text) => Cell::Text(text.clone()),
            Value::Names(names) => Cell::Text(names.join(", ")),
            // No server has one.
            Value::Each(samples) => Cell::Number(samples.len() as u64),
            Value::Nothing if self.metric.kind == Text => Cell::Text(String::new()),
            Value::Nothing => Cell::Number(0),
        }
    }
}

impl Source {
    fn of(&self, facts: Facts<'_>) -> Option<Value> {
        match self {
            Keys(value) => facts.keys.map(value),
            Server(value) => facts.server.map(value),
            Keystore(value) => facts.keystore.map(value),
            Asked(value) => facts.asked.map(value),
            Library(value) => Some(value()),
        }
    }
}

const fn metric(
    name: &'static CStr,
    kind: Kind,
    unit: &'static str,
    shown_by: &'static [Renderer],
    value: Source,
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, shown_by, help, value }
}

fn state(keys: &Status) -> &'static str {
    match (&keys.degraded, keys.restart.answer) {
        (Some(_), _) => "degraded",
        (None, Answer::No) => "restart_unsafe",
        (None, Answer::Yes | Answer::Unknown) => "ok",
    }
}

fn build_info() -> Value {
    Value::Each(vec![sample([("version", env!("CARGO_PKG_VERSION").to_owned())], 1)])
}

fn keystore_info(keystore: &KeystoreFacts) -> Value {
    let fingerprint = keystore.epoch.as_ref().map_or("", |epoch| &epoch.1);
    let labels = [
        ("id", keystore.id.clone()),
        ("fingerprint", fingerprint.to_owned()),
        ("wrapped_by", keystore.wrapped_by.join(",")),
    ];
    Value::Each(vec![sample(labels, 1)])
}

fn sample<const N: usize>(labels: [(&'static str, String); N], number: u64) -> Sample {
    Sample { labels: labels.into(), number }
}

fn each<T>(all: &[T], of: impl Fn(&T) -> Sample) -> Value {
    Value::Each(all.iter().map(of).collect())
}

fn stash(keys: &Status) -> Option<&StashState> {
    keys.stash.as_ref()
}

fn backups(keystore: &KeystoreFacts) -> Option<&BackupFacts> {
    keystore.backups.as_ref()
}

fn text(text: impl Into<String>) -> Value {
    Some(text.into()).filter(|text| !text.is_empty()).map_or(Value::Nothing, Value::Text)
}

fn count(n: usize) -> Value {
    Value::Number(u64::try_from(n).unwrap_or(u64::MAX))
}

fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Nothing, Value::Time)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::event::{Degraded, RestartSafe};

    const RENDERERS: [Renderer; 4] =
        [Renderer::MariaDb, Renderer::MySql, Renderer::Command, Renderer::Prometheus];

    /// Keys that are well, of a keystore without a policy.
    fn well() -> Status {
        Status {
            degraded: None,
            generation: 3,
            provider: "kms".to_owned(),
            keys: 1,
            versions: 2,
            stash: None,
            rotations: 4,
            next_rotation: None,
            rotation_due: false,
            restart: RestartSafe { answer: Answer::Yes, reason: String::new() },
            provider_answered: None,
            trail_line: 0,
            sinks_waiting: 0,
            sinks_lost: 0,
            started: Timestamp::from_unix(5),
        }
    }

    /// Keys of a key store that is away.
    fn degraded() -> Status {
        Status {
            degraded: Some(Degraded {
                since: Timestamp::from_unix(7),
                cause: "no answer".to_owned(),
            }),
            stash: Some(StashState {
                path: "/var/lib/keyward/stash.json".into(),
                taken: Some(Timestamp::from_unix(6)),
                in_use: true,
                failure: Some("no space".to_owned()),
            }),
            next_rotation: Some(Timestamp::from_unix(9)),
            rotation_due: true,
            restart: RestartSafe { answer: Answer::No, reason: "no key file".to_owned() },
            provider_answered: Some(Timestamp::from_unix(4)),
            trail_line: 12,
            ..well()
        }
    }

    fn with_all_facts(renderer: Renderer, keys: &Status) -> Vec<Shown> {
        let server = ServerFacts { mark: "none".to_owned(), last_error: "no space".to_owned() };
        let keystore = KeystoreFacts {
            path: "/var/lib/keyward/keystore.json".to_owned(),
            id: "c15c0289".to_owned(),
            epoch: Some((1, "ab".repeat(32))),
            wrapped_by: vec!["kms".to_owned(), "local".to_owned()],
            oldest_active: Some(Timestamp::from_unix(8)),
            destructions: 1,
            next_destruction: Some(Timestamp::from_unix(10)),
            trail_faults: Some(0),
            backups: Some(BackupFacts {
                last: Some(Timestamp::from_unix(9)),
                stale: true,
                failure: Some("full".to_owned()),
            }),
        };
        let at = Timestamp::from_unix(11);
        let asked = AskedFacts {
            opens: Some(true),
            providers: vec![("kms".to_owned(), true)],
            certificates: vec![("kms".to_owned(), "/etc/ca.pem".to_owned(), at)],
            tokens: vec![("kms".to_owned(), false, at)],
            server: Some(true),
            left: Some((3, 1)),
        };
        let (server, keystore, asked) = (Some(&server), Some(&keystore), Some(&asked));
        shown(renderer, Facts { keys: Some(keys), server, keystore, asked })
    }

    #[test]
    fn an_outage_shows_as_text_and_as_numbers() {
        let all = with_all_facts(Renderer::MariaDb, &degraded());
        let cell = |name| all.iter().find(|shown| shown.metric.name() == name).unwrap().cell();
        for (name, number) in [
            ("degraded", 1),
            ("degraded_since", 7),
            ("stash_taken", 6),
            ("stash_in_use", 1),
            ("next_rotation", 9),
            ("rotation_due", 1),
            ("restart_unsafe", 1),
            ("restart_unknown", 0),
            ("provider_answered", 4),
            ("trail_line", 12),
        ] {
            assert_eq!(cell(name), Cell::Number(number), "{name}");
        }
        for (name, text) in [
            ("state", "degraded"),
            ("degraded_reason", "no answer"),
            ("restart_safe", "no"),
            ("restart_safe_reason", "no key file"),
            ("mark", "none"),
        ] {
            assert_eq!(cell(name), Cell::Text(text.to_owned()), "{name}");
        }
    }

    #[test]
    fn each_has_a_name_of_its_own_a_unit_and_help() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            let name = metric.name();
            let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(!name.is_empty() && name.chars().all(is_plain), "{name:?}");
            assert!(names.insert(name), "{name} twice");
            assert!(!metric.unit.is_empty() && !metric.help.is_empty(), "{name}");
            assert!(!metric.shown_by.is_empty(), "nobody shows {name}");
        }
    }

    /// Whatever is known, and where nothing is: a collector must not meet a text one day.
    #[test]
    fn values_are_of_their_kind_and_unit() {
        for (keys, renderer) in RENDERERS.into_iter().flat_map(|r| [(well(), r), (degraded(), r)]) {
            for shown in with_all_facts(renderer, &keys) {
                let (metric, name) = (shown.metric, shown.metric.name());
                let is_text = matches!(shown.cell(), Cell::Text(_));
                assert_eq!(is_text, metric.kind == Kind::Text, "{name}");
                match shown.value {
                    Value::Flag(_) => assert_eq!(metric.unit, "flag", "{name}"),
                    Value::Time(_) => assert_eq!(metric.unit, "time", "{name}"),
                    Value::Each(_) => assert_eq!(metric.shown_by, PROMETHEUS, "{name}"),
                    _ => assert_ne!(metric.unit, "flag", "{name}"),
                }
            }
        }
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        for renderer in RENDERERS {
            let names: Vec<_> =
                shown(renderer, Facts::default()).iter().map(|shown| shown.metric.name()).collect();
            assert_eq!(
                names,
                if renderer == Renderer::Prometheus { &["build_info"][..] } else { &[] }
            );
        }
        let server = ServerFacts::default();
        let of_a_closed_keyring = Facts { server: Some(&server), ..Facts::default() };
        let names: Vec<_> = shown(Renderer::MySql, of_a_closed_keyring)
            .iter()
            .map(|shown| shown.metric.name())
            .collect();
        assert_eq!(names, ["last_error", "mark", "memory_locked", "library_replaced"]);
    }

    /// The page's rows are these, in this order; a new metric fails here with the row to add.
    #[test]
    fn they_are_documented() {
        let page = include_str!("../../docs/metrics.md");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let wanted: Vec<_> = METRICS.iter().map(row).collect();
        assert_eq!(rows, wanted, "left: docs/metrics.md, right: the table");
    }

    fn row(metric: &Metric) -> String {
        let by = metric.shown_by.iter().map(|renderer| match renderer {
            Renderer::MariaDb => "MariaDB",
            Renderer::MySql => "MySQL",
            Renderer::Command => "command",
            Renderer::Prometheus => "Prometheus",
        });
        let by = by.collect::<Vec<_>>().join(", ");
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let Metric { unit, help, .. } = metric;
        format!("| `{}` | {kind} | {unit} | {by} | {help} |", metric.name())
    }
}
