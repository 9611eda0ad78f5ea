//! The configuration: one TOML file for the server and the command.
//!
//! What is wrong in it is told as `file:line:column: what; how to correct it`. A key that nobody asked
//! for is an error, so a misspelt option can never be silently without effect.

#![forbid(unsafe_code)]

mod audit;
mod backup;
pub mod component;
mod document;
mod place;
mod policy;
mod report;
mod sink;
mod stash;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use audit::Audit;
pub use backup::BackupConfig;
use document::{Document, Origin};
use place::Place;
pub use report::{Custodian, ReportConfig};
pub use sink::SinkConfig;
pub use stash::Stash;

use crate::error::{Error, Kind, Result};
use crate::key::Cipher;
use crate::policy::Policy;
use crate::secret::source::SecretSource;
use crate::trust::{self, Refusal};

/// Where the server and the command look when they are told nothing.
pub const DEFAULT_PATH: &str = "/etc/keyward/keyward.toml";
/// Where the keystore lies when the configuration does not say.
pub const DEFAULT_KEYSTORE: &str = "/var/lib/keyward/keystore.json";
/// How long a key store may take to answer when the configuration does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that anything may take or wait: a clock can show its end.
const LONGEST_TIME: Duration = Duration::from_secs(1000 * 365 * 86_400);
/// Largest accepted configuration, in bytes.
pub const MAX_LEN: u64 = 1 << 16;

/// The whole configuration, checked but for what only the providers know.
pub struct Config {
    /// Where our own keystore lies, and what new keys are for.
    pub keystore: Keystore,
    /// Where the keys of a key store that serves are kept for its outages, if at all.
    pub stash: Option<Stash>,
    /// When and how keys change.
    pub policy: Policy,
    /// The key stores, in order of preference; at least one.
    pub providers: Vec<ProviderConfig>,
    /// The audit trail's checkpoints and files.
    pub audit: Box<Audit>,
    /// Where lines of the audit trail are copied to.
    pub sinks: Vec<SinkConfig>,
    /// What a report says of the organisation.
    pub report: Box<ReportConfig>,
    /// Where backups of the keys go by themselves, if they do.
    pub backup: Option<Box<BackupConfig>>,
}

/// The section `[keystore]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keystore {
    /// The keystore file.
    pub path: PathBuf,
    /// The cipher of new key versions; each version keeps its own.
    pub cipher: Cipher,
    /// Of the keystore's signing key, 64 hex digits in lower case: no other keystore is opened.
    pub fingerprint: Option<String>,
    /// Whether a server does not start whose data need other keys.
    pub check_data: bool,
}

/// One `[[provider]]`. Its own options stay in `section`, for the backend to read.
pub struct ProviderConfig {
    /// Its name, for people and for the keystore's wrappings.
    pub name: String,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// All of it, for the backend that its `type` chooses.
    pub section: Section,
}

impl Config {
    /// Reads and checks the file at `path`; one that ends in `.cnf` is a MySQL component's.
    pub fn load(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|ending| ending == "cnf") {
            return component::Component::load(path)?.config(path);
        }
        Self::parse(path, &read(path)?)
    }

    /// The same for a file that a call of the command has made and takes away again where it fails: errors name
    /// the option that has written a line, of `options`, one a line and the last for all that follow.
    pub fn load_made(path: &Path, options: Vec<&'static str>) -> Result<Self> {
        Self::of(Document::parse(path, &read(path)?, options)?, path)
    }

    /// The same before there is a file.
    pub fn parse_made(path: &Path, text: &str, options: Vec<&'static str>) -> Result<Self> {
        Self::of(Document::parse(path, text, options)?, path)
    }

    /// The variables of the environment that it names as `*_env`.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let providers = self.providers.iter().map(|provider| &provider.section);
        let sections = providers.chain(self.sinks.iter().map(|sink| &sink.section));
        let entries = sections.flat_map(|section| &section.entries);
        let named = entries.filter_map(|entry| match &entry.value {
            Value::Text(name) if entry.key.ends_with("_env") => Some(name.clone()),
            _ => None,
        });
        named.collect()
    }

    /// The configuration of a keystore alone: its wrapping key is in [`key_file_beside`] it.
    pub fn of_keystore(keystore: &Path) -> Result<Self> {
        let key_file = key_file_beside(keystore);
        // A text of JSON is a text of TOML.
        let text = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
        let (path, key_file) = (text(keystore), text(&key_file));
        let toml = format!(
            "[keystore]\npath = {path}\n[[provider]]\ntype = \"local\"\nkey_file = {key_file}\n"
        );
        Self::parse(keystore, &toml)
    }

    /// Checks `text`, which came from `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        Self::of(Document::parse(path, text, Vec::new())?, path)
    }

    fn of(mut document: Document, path: &Path) -> Result<Self> {
        let keystore = Keystore::read(document.section("keystore")?)?;
        let stash = document.optional_section("stash")?;
        let stash = stash.map(|section| Stash::read(section, &keystore.path)).transpose()?;
        let policy = policy::read(document.section("policy")?)?;
        let providers = document.list("provider")?;
        let sinks = document.list("sink")?;
        let audit = Box::new(Audit::read(&document.section("audit")?)?);
        let report = Box::new(ReportConfig::read(&document.section("report")?)?);
        let backup = document.optional_section("backup")?;
        let backup =
            backup.map(|section| BackupConfig::read(&section).map(Box::new)).transpose()?;
        document.done()?;
        if providers.is_empty() {
            return Err(Error::new(Kind::Config, format!("{}: no [[provider]]", path.display()))
                .advise("`keyward init` writes a configuration with one"));
        }
        let providers = providers.into_iter().map(ProviderConfig::read).collect::<Result<_>>()?;
        let sinks = sinks.into_iter().map(SinkConfig::read).collect::<Result<_>>()?;
        let config = Self { keystore, stash, policy, providers, audit, sinks, report, backup };
        config.refuse_same_names()?;
        sink::refuse_same_names(&config.sinks)?;
        Ok(config)
    }

    fn refuse_same_names(&self) -> Result<()> {
        for (n, provider) in self.providers.iter().enumerate() {
            if self.providers[..n].iter().any(|other| other.name == provider.name) {
                return Err(provider.section.wrong("name", "two providers have this name"));
            }
        }
        Ok(())
    }
}

/// Where the wrapping key of a keystore lies that has no configuration: `<keystore>.key`.
#[must_use]
pub fn key_file_beside(keystore: &Path) -> PathBuf {
    let mut path = keystore.as_os_str().to_owned();
    path.push(".key");
    path.into()
}

fn read(path: &Path) -> Result<String> {
    trust::read_text(path, MAX_LEN).map_err(|refusal| unreadable(path, refusal))
}

fn unreadable(path: &Path, refusal: Refusal) -> Error {
    let missing = refusal.is_missing();
    let error = refusal.of("cannot read the configuration", path);
    if missing { error.advise("`keyward init` writes one") } else { error }
}

impl Keystore {
    fn read(section: Section) -> Result<Self> {
        let keystore = Self {
            path: section.path("path")?.unwrap_or_else(|| DEFAULT_KEYSTORE.into()),
            cipher: section.parsed("cipher")?.unwrap_or(Cipher::DEFAULT),
            fingerprint: section.parsed("fingerprint")?.map(|Fingerprint(text)| text),
            check_data: section.boolean("check_data")?.unwrap_or(true),
        };
        section.done()?;
        Ok(keystore)
    }
}

struct Fingerprint(String);

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(Error::new(Kind::Config, "is not 64 hex digits")
            .advise("`keyward status --json` shows the keystore's"))
    }
}

impl ProviderConfig {
    fn read(section: Section) -> Result<Self> {
        let kind = section.required("type")?;
        let name = section.text("name")?.unwrap_or(kind);
        let timeout = section.duration("timeout")?.unwrap_or(DEFAULT_TIMEOUT);
        Ok(Self { name, timeout, section })
    }
}

/// A table of the configuration that remembers where each entry stands and which were asked for.
pub struct Section {
    origin: Arc<Origin>,
    title: String,
    at: Place,
    entries: Vec<Entry>,
    asked: RefCell<Vec<&'static str>>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    at: Place,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    TextList(Vec<String>),
    TextTable(Vec<(String, String)>),
    Other(&'static str),
}

impl Section {
    /// The text at `key`, if it is there.
    pub fn text(&self, key: &'static str) -> Result<Option<String>> {
        self.get(key, "a string in quotes", |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// Whether there is a `key` at all, whatever it holds.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The text at `key`, which must be there.
    pub fn required(&self, key: &'static str) -> Result<String> {
        self.text(key)?.ok_or_else(|| self.lacks(key))
    }

    /// The error that there is no `key`, or that it, or another that was asked for, is misspelt.
    pub fn lacks(&self, key: &str) -> Error {
        let asked = self.asked.borrow();
        let unasked = self.entries.iter().filter(|entry| !asked.contains(&entry.key.as_str()));
        let mut misspelt = unasked.filter_map(|entry| {
            // What nobody has asked for yet may be right.
            let near = |name: &&&str| strsim::damerau_levenshtein(&entry.key, name) <= 2;
            asked.iter().find(near).map(|name| (entry, *name))
        });
        if let Some((entry, name)) = misspelt.next() {
            let what = format!("unknown key {:?} in {}", entry.key, self.title);
            return self.error_at(entry.at, &what).advise(format!("did you mean {name:?}?"));
        }
        let what = format!("{} lacks {key:?}", self.title);
        self.error_at(self.at, &what).advise(match self.origin.is_file() {
            true => format!("add a line `{key} = \"...\"`"),
            false => format!("give --set {key}=..."),
        })
    }

    /// How somebody gives `key` this value where the section came from.
    #[must_use]
    pub fn entry(&self, key: &str, value: &str) -> String {
        self.origin.entry(key, value)
    }

    /// A text that is the same for the same entries. A configuration holds no secret.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:?}", self.entries)
    }

    /// The file or folder named at `key`: an absolute path.
    pub fn path(&self, key: &'static str) -> Result<Option<PathBuf>> {
        let path = self.text(key)?.map(PathBuf::from);
        match path {
            Some(path) if path.is_relative() => {
                Err(self.wrong(key, "is not an absolute path").advise("begin it with /"))
            }
            path => Ok(path),
        }
    }

    /// The whole number at `key`.
    pub fn number(&self, key: &'static str) -> Result<Option<i64>> {
        self.get(key, "a whole number", |value| match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        })
    }

    /// The `true` or `false` at `key`.
    pub fn boolean(&self, key: &'static str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| match value {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        })
    }

    /// The text at `key`, or the list of them.
    pub fn texts(&self, key: &'static str) -> Result<Option<Vec<String>>> {
        self.get(key, "a string in quotes, or a list of them", |value| match value {
            Value::Text(text) => Some(vec![text.clone()]),
            Value::TextList(list) => Some(list.clone()),
            _ => None,
        })
    }

    /// The names and texts of the table at `key`, in the order of the names.
    pub fn table(&self, key: &'static str) -> Result<Vec<(String, String)>> {
        let table = self.get(key, "a table of strings in quotes", |value| match value {
            Value::TextTable(table) => Some(table.clone()),
            _ => None,
        })?;
        Ok(table.unwrap_or_default())
    }

    /// The length of time at `key`, written as people write it: `5s`, `90d`, `1h 30m`.
    pub fn duration(&self, key: &'static str) -> Result<Option<Duration>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match humantime::parse_duration(&text) {
            Ok(time) if time > LONGEST_TIME => {
                Err(self.wrong(key, "is longer than a thousand years"))
            }
            Ok(time) if !time.is_zero() => Ok(Some(time)),
            _ => {
                Err(self.wrong(key, "is not a length of time").advise("write it as 5s, 30m or 90d"))
            }
        }
    }

    /// The text at `key` as a `T`.
    pub fn parsed<T: std::str::FromStr<Err = Error>>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: Error| {
            let here = self.wrong(key, error.what());
            match error.advice() {
                Some(advice) => here.advise(advice),
                None => here,
            }
        })
    }

    /// Where a secret is to be read from: of `keys`, which end in `_file`, `_env` and
    /// `_credential`, at most one may be there; `inline` is what people try instead, and refused.
    pub fn secret(
        &self,
        inline: &'static str,
        keys: [&'static str; 3],
    ) -> Result<Option<SecretSource>> {
        if self.has(inline) {
            return Err(self.wrong(inline, "a secret may not stand in the configuration").advise(
                format!("put it into a file of mode 0600 and name that file as `{}`", keys[0]),
            ));
        }
        let [file, env, credential] = keys;
        let found = [
            self.path(file)?.map(SecretSource::File),
            self.text(env)?.map(SecretSource::Env),
            self.text(credential)?.map(SecretSource::Credential),
        ];
        let mut found = found.into_iter().flatten();
        match (found.next(), found.next()) {
            (_, Some(_)) => {
                let what = format!("{} names the secret {inline:?} twice", self.title);
                Err(self
                    .error_at(self.at, &what)
                    .advise(format!("keep one of {}", keys.join(", "))))
            }
            (source, None) => Ok(source),
        }
    }

    /// Ends the reading: any entry that was never asked for is an error.
    pub fn done(&self) -> Result<()> {
        let asked = self.asked.borrow();
        let Some(unknown) = self.entries.iter().find(|e| !asked.contains(&e.key.as_str())) else {
            return Ok(());
        };
        let what = format!("unknown key {:?} in {}", unknown.key, self.title);
        Err(self.error_at(unknown.at, &what).advise(nearest(&unknown.key, &asked)))
    }

    /// The error that the entry at `key` is wrong: what it is, without what it holds.
    pub fn wrong(&self, key: &str, what: &str) -> Error {
        let at = self.entries.iter().find(|e| e.key == key).map_or(self.at, |e| e.at);
        self.error_at(at, &format!("{key}: {what}"))
    }

    fn get<T>(
        &self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.asked.borrow_mut().push(key);
        let Some(entry) = self.entries.iter().find(|e| e.key == key) else { return Ok(None) };
        read(&entry.value).map(Some).ok_or_else(|| {
            let what = format!("{key} must be {wanted}, not {}", entry.value.type_name());
            self.error_at(entry.at, &what)
        })
    }

    fn error_at(&self, at: Place, what: &str) -> Error {
        self.origin.error_at(at, what)
    }
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::TextList(_) => "a list of strings",
            Self::TextTable(_) => "a table of strings",
            Self::Other(name) => name,
        }
    }
}

/// A size as people write it, in bytes: `512KiB`, `64 MiB`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim_start() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// "did you mean", or the names there are.
pub(crate) fn nearest(key: &str, known: &[&'static str]) -> String {
    let close = known.iter().map(|name| (strsim::damerau_levenshtein(key, name), *name)).min();
    match close {
        Some((distance, name)) if distance <= 3 => format!("did you mean {name:?}?"),
        _ => {
            let mut known = known.to_vec();
            known.sort_unstable();
            known.dedup();
            format!("known are: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
