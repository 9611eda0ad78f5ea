//! What a report says, as values. JSON is exactly this.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::env::Timestamp;
use crate::key::KeyState;

/// What a report of this form calls itself.
const FORMAT: &str = "keyward report 1";

/// A report of one server or of many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// `keyward report 1`.
    pub format: String,
    /// When it was made.
    pub made: Timestamp,
    /// The version of keyward that made it.
    pub keyward: String,
    /// Sums over all servers.
    pub totals: Totals,
    /// The servers, in the order in which they were named.
    pub servers: Vec<Server>,
}

/// Sums over servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many servers.
    pub servers: u64,
    /// How many keys there are that were not destroyed: `keys` of `keyward status`.
    pub keys: u64,
    /// How many versions of them: `key_versions` of `keyward status`.
    pub key_versions: u64,
    /// Versions by state, destroyed ones too: the lines of `keyward keys list`.
    pub by_state: BTreeMap<String, u64>,
    /// Keys whose rotation is overdue.
    pub overdue: u64,
    /// Files with data in them that are not encrypted, of all data directories that were read.
    pub unencrypted_files: u64,
    /// Requirements by verdict: `met`, `not-met`, `not-ours`.
    pub verdicts: BTreeMap<String, u64>,
    /// What `keyward doctor` found, by mark: `ok`, `warning`, `failed`, `skipped`.
    pub findings: BTreeMap<String, u64>,
}

/// All that is known of one server's keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Where it was read from; none in the report that the server itself made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// When it was looked at.
    pub made: Timestamp,
    /// The version of keyward that looked.
    pub keyward: String,
    /// The machine.
    pub host: String,
    /// Who had the report made.
    pub actor: String,
    /// The configuration file.
    pub configuration: String,
    /// Who answers for the keys.
    pub owner: Option<String>,
    /// What the server is for.
    pub environment: Option<String>,
    /// When the ciphers in use were last reviewed.
    pub ciphers_reviewed: Option<Timestamp>,
    /// Who looks after the keys.
    pub custodians: Vec<Custodian>,
    /// What `keyward status --json` says.
    pub status: Map<String, Value>,
    /// Whether the configuration names the keystore's fingerprint.
    pub pinned: bool,
    /// When and how keys change.
    pub policy: PolicyFacts,
    /// The keys, as `keyward keys list` has them.
    pub keys: Vec<Key>,
    /// When which version encrypted.
    pub lanes: Vec<Lane>,
    /// What data files need; none where none were looked at.
    pub data: Option<Data>,
    /// The configured key stores, in order of preference.
    pub key_stores: Vec<KeyStore>,
    /// How many approvers must agree; 0 while nothing needs approval.
    pub approvals_needed: u32,
    /// The approvers' public keys.
    pub approvers: Vec<String>,
    /// What they were asked for, what they approved, and who they were before, oldest first.
    #[serde(default)]
    pub approvals: Vec<Record>,
    /// For whom backups are encrypted.
    pub backup_recipients: Vec<String>,
    /// Backups, oldest first.
    pub backups: Vec<Record>,
    /// Drills, restores, rescues and accepted rollbacks, oldest first.
    pub recoveries: Vec<Record>,
    /// What was planned, called off and destroyed, oldest first.
    pub destructions: Vec<Record>,
    /// What left the keystore or came into it: exports, imports, binary logs that were decrypted.
    pub transfers: Vec<Record>,
    /// The audit trail.
    pub trail: TrailFacts,
    /// What `keyward doctor` finds.
    pub findings: Vec<Finding>,
    /// What comes of it, requirement by requirement.
    pub rules: Vec<Judged>,
}

/// A report that this one was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file.
    pub file: String,
    /// SHA-256 of all of it, in hex.
    pub sha256: String,
    /// What its signature proved, in words.
    pub signature: String,
}

/// Somebody who looks after keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custodian {
    /// The name.
    pub name: String,
    /// When they acknowledged what that means.
    pub acknowledged: Timestamp,
}

/// The policy, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFacts {
    /// How long a version encrypts; none: until somebody rotates.
    pub rotate_after: Option<u64>,
    /// How long a retired version is kept at least; older reports call it `retire_after`.
    #[serde(alias = "retire_after")]
    pub keep_retired: Option<u64>,
    /// How long a version waits for its destruction.
    pub destroy_wait: u64,
    /// How many of the newest versions stay.
    pub keep_versions: u32,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its number or name.
    pub key: String,
    /// What it is for, in the words of `[report]`.
    pub purpose: Option<String>,
    /// Whether files of the server may be encrypted with it; else it is a secret of a client's.
    pub for_files: bool,
    /// Whether it rotates by policy.
    pub rotates: bool,
    /// When the policy gives it its next version.
    pub next_rotation: Option<Timestamp>,
    /// Whether that time has passed.
    pub overdue: bool,
    /// Its versions, by number.
    pub versions: Vec<Version>,
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number.
    pub version: u32,
    /// Its state.
    pub state: KeyState,
    /// What it encrypts with.
    pub cipher: String,
    /// Its length in bits.
    pub bits: u64,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
    /// Its check value.
    pub check: Option<String>,
    /// It may not be destroyed before.
    pub retain_until: Option<Timestamp>,
    /// Its next change of state.
    pub planned: Option<Planned>,
    /// Every state that it took on, oldest first.
    pub history: Vec<Step>,
}

/// A change of state that is to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// To which state.
    pub state: KeyState,
    /// When.
    pub at: Timestamp,
}

/// A state that a version took on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The state.
    pub state: KeyState,
    /// When.
    pub at: Timestamp,
    /// Who saw to it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// When the versions of a key, or the master keys of a MySQL server, encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Of what.
    pub key: String,
    /// One after the other.
    pub periods: Vec<Period>,
    /// When the policy ends the last.
    pub next_rotation: Option<Timestamp>,
}

/// A time in which a version encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Which version, or which key of MySQL's.
    pub version: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when; none while it does.
    pub to: Option<Timestamp>,
    /// Whether that is longer than the policy of today allows.
    pub late: bool,
}

/// What data files need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The data directories that were read.
    pub directories: Vec<String>,
    /// How many files are in there.
    pub files: u64,
    /// What they need, by key and version.
    pub needs: Vec<DataNeed>,
    /// Files with data in them that are not encrypted.
    pub unencrypted: Vec<PlainFile>,
    /// Files that were not understood: they may need any version.
    pub unclear: Vec<Unclear>,
}

/// What needs a key version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataNeed {
    /// The key.
    pub key: String,
    /// The version; none for a key of MySQL's, which wraps the file's own.
    pub version: Option<u32>,
    /// Its cipher; none where the keystore has no such version.
    pub cipher: Option<String>,
    /// Its state in the keystore; `missing` where it has none.
    pub state: String,
    /// How many tablespaces need it.
    pub tablespaces: u64,
    /// How many redo, binary and relay logs.
    pub logs: u64,
    /// How many other files.
    pub others: u64,
    /// How many pages or logs in use.
    pub in_use: u64,
    /// How many pages that InnoDB has freed carry it still.
    pub freed: u64,
}

/// A file whose data is not encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainFile {
    /// Which.
    pub file: String,
    /// What it is, as `keyward inspect` has it.
    pub kind: String,
    /// How many of its pages hold data that is not encrypted; 0 where it has no pages.
    pub pages: u64,
}

/// A file that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclear {
    /// Which.
    pub file: String,
    /// Why.
    pub why: String,
}

/// A configured key store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStore {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// `wraps` the keystore, `serves` the keys, or `unusable`.
    pub role: String,
    /// Whether the keystore is wrapped by it.
    pub in_use: bool,
    /// Where its keys are: `this machine`, `a token`, `a service`, or `unknown`.
    pub custody: String,
    /// Whether that is the machine whose data the keys encrypt, where it can be told.
    pub beside_the_data: Option<bool>,
    /// What it says of itself, in its own order.
    pub facts: Vec<(String, String)>,
    /// Why it does not answer.
    pub failure: Option<String>,
    /// What of its log-ins ends by itself.
    pub ends: Vec<Ending>,
}

/// A certificate or a token that ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// What.
    pub what: String,
    /// When.
    pub at: Timestamp,
    /// Whether a running server renews it.
    pub renewed: bool,
}

/// Something that was done, by the audit trail or a register of the keystore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: String,
    /// To which keys, or by what name.
    pub what: String,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// The state of the audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailFacts {
    /// How many lines it has.
    pub lines: u64,
    /// Up to which line the keystore proves it.
    pub anchored: Option<u64>,
    /// How many lines come after that.
    pub not_anchored: u64,
    /// What is wrong with it.
    pub faults: Vec<String>,
    /// When its last line was written.
    pub last: Option<Timestamp>,
    /// How many lines of each event it has.
    pub events: BTreeMap<String, u64>,
    /// How many places its lines are copied to.
    pub sinks: u64,
    /// A checkpoint of it, signed as `keyward audit checkpoint` signs one.
    pub checkpoint: Option<String>,
}

/// Something that `keyward doctor` looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How it turned out.
    pub mark: Mark,
    /// What it is.
    pub what: String,
    /// What to do.
    pub advice: Option<String>,
}

/// How a checked thing turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Does not work.
    Failed,
    /// Works, but should be corrected.
    Warning,
    /// Could not be looked at.
    Skipped,
    /// As it should be.
    Ok,
}

/// A requirement that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The standard.
    pub standard: String,
    /// The number there.
    pub number: String,
    /// What it asks for, in own words.
    pub requirement: String,
    /// Whether it is so.
    pub verdict: Verdict,
    /// What that is seen by.
    pub evidence: Vec<String>,
}

/// Whether a requirement is met, as far as keyward can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Met,
    /// It is not.
    NotMet,
    /// Keyward cannot see it.
    NotOurs,
}

/// The colour of a traffic light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Light {
    /// All is well.
    Green,
    /// To be looked at.
    Amber,
    /// To be put right.
    Red,
    /// It cannot be told.
    Grey,
}

impl Document {
    /// A report of `servers`, each of which was judged.
    #[must_use]
    pub fn new(made: Timestamp, servers: Vec<Server>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            made,
            keyward: env!("CARGO_PKG_VERSION").to_owned(),
            totals: Totals::of(&servers),
            servers,
        }
    }

    /// Whether it is of a form that this release reads.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.format == FORMAT
    }
}

impl Totals {
    /// The sums over `servers`.
    #[must_use]
    pub fn of(servers: &[Server]) -> Self {
        let mut totals = Self { servers: servers.len() as u64, ..Self::default() };
        for server in servers {
            totals.keys = totals.keys.saturating_add(server.number("keys"));
            totals.key_versions = totals.key_versions.saturating_add(server.number("key_versions"));
            for version in server.keys.iter().flat_map(|key| &key.versions) {
                *totals.by_state.entry(version.state.to_string()).or_default() += 1;
            }
            totals.overdue += server.overdue().count() as u64;
            totals.unencrypted_files += server.unencrypted() as u64;
            for judged in &server.rules {
                *totals.verdicts.entry(judged.verdict.name().to_owned()).or_default() += 1;
            }
            for finding in &server.findings {
                *totals.findings.entry(finding.mark.name().to_owned()).or_default() += 1;
            }
        }
        totals
    }
}

impl Server {
    /// A number of `keyward status`; 0 where it has none.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.status.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    /// A text of `keyward status`; nothing where it has none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.status.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether there is a keystore of keyward's; else a key store serves the keys.
    #[must_use]
    pub fn has_keystore(&self) -> bool {
        !self.text("keystore_id").is_empty()
    }

    /// Its name for people: the machine, and the keystore where there are several.
    #[must_use]
    pub fn name(&self) -> String {
        match self.text("keystore_id").get(..8) {
            Some(id) => format!("{} ({id})", self.host),
            None => self.host.clone(),
        }
    }

    /// The keys that encrypt files.
    pub fn file_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.for_files)
    }

    /// Keys whose rotation is overdue.
    pub fn overdue(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.overdue)
    }

    /// How many files are not encrypted.
    #[must_use]
    pub fn unencrypted(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.unencrypted.len())
    }

    /// How many requirements have that verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rules.iter().filter(|judged| judged.verdict == verdict).count()
    }
}

impl Verdict {
    /// Its word in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "not-met",
            Self::NotOurs => "not-ours",
        }
    }

    /// It for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "not met",
            Self::NotOurs => "not ours to say",
        }
    }

    /// Its colour.
    #[must_use]
    pub fn light(self) -> Light {
        match self {
            Self::Met => Light::Green,
            Self::NotMet => Light::Red,
            Self::NotOurs => Light::Grey,
        }
    }
}

impl Mark {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::Skipped => "skipped",
            Self::Ok => "ok",
        }
    }
}

#[cfg(test)]
mod tests;
